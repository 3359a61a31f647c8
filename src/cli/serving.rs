// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Serving: a daemon's work, for as long as somebody wants it
//!
//! Owns what `addonce load` does where nobody listens: it listens, serves its own order and those of everybody who comes
//! meanwhile, and ends when nobody is left. Its bounds are the daemon's defaults.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::daemon::loader;
use super::options::TreeOptions;
use crate::control::client::call;
use crate::control::lock::Lock;
use crate::control::server::Bounds;
use crate::daemon::handover::Handover;
use crate::daemon::{Control, Daemon, Settings, Until};
use crate::fatal::Fatal;
use crate::once::Limits;

/// Clients served beside ourselves: udev's workers, who are root.
const BOUNDS: Bounds = Bounds { clients: 64, root_clients: 512, patience: Duration::from_secs(10) };
/// So long we stay when nobody is left: udev's next worker would have to begin anew.
const LINGER: Duration = Duration::from_millis(50);
/// So long loads that run are waited for once we are told to stop.
const LANDING: Duration = Duration::from_secs(10);

/// Serves while the lock is held, and returns the reply to our own order, which goes over the socket like any other.
///
/// # Errors
/// What keeps a daemon from starting.
pub fn serve(
    lock: Lock,
    socket: &Path,
    dry_run: bool,
    tree: &TreeOptions,
    parameters: Value,
) -> Result<Value, Fatal> {
    let settings = Settings {
        limits: Limits::default(),
        netlink: None,
        control: Some(Control { path: socket.to_owned(), listener: None, bounds: BOUNDS }),
        handover: Some(Handover::beside(socket, dry_run)),
        loader: loader(dry_run, tree, None)?,
        scan: false,
        landing_time: LANDING,
        until: Until::Deserted(LINGER),
        notifier: None,
    };
    let daemon = Daemon::new(tree.open()?, settings)?;
    let socket = socket.to_owned();
    let order = std::thread::spawn(move || call(&socket, "Load", parameters, None));
    daemon.run()?;
    drop(lock);
    order.join().map_err(|_| Fatal::System("the order's thread panicked".into()))?
}
