// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce serve`: a daemon for the occasion.
//!
//! `addonce-load` and `addonce load` start it where no daemon listens. Many may do so at once: all but one of them find that
//! somebody has the lock, wait until he listens, and end.

use std::process::ExitCode;
use std::time::Duration;

use super::daemon::DaemonOptions;
use crate::control::listener;
use crate::control::lock::Lock;
use crate::fatal::Fatal;
use crate::uevent::activation::Given;

/// So long it stays when nothing is left: udev's next event would have to begin anew.
const LINGER: Duration = Duration::from_secs(1);
/// So long another daemon may have the lock and not listen, because it begins or ends.
const PATIENCE: Duration = Duration::from_secs(3);

/// Serves, unless somebody does.
pub fn run(options: DaemonOptions) -> Result<ExitCode, Fatal> {
    // Of whoever started us neither the end nor the terminal is ours. It fails where we lead a group already.
    let _ = nix::unistd::setsid();
    let loader = options.loader()?;
    let socket = &options.socket.socket;
    let lock = Lock::take(socket, PATIENCE, || listener::is_open(socket))?;
    // As udev has it in the environment of a program, which hands it down to us.
    let requester = std::env::var("SEQNUM").ok().and_then(|seqnum| seqnum.parse().ok());
    options.run(lock, loader, Given::default(), requester, Some(LINGER))
}
