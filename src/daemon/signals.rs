// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals as events of a loop. They are blocked from then on; what is executed begins with none blocked.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::fatal::Fatal;

const PLACE: &str = "signalfd";

/// Blocks these signals and has them come as news, if the system lets us.
pub fn block(signals: &[Signal]) -> Result<SignalFd, Fatal> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block().map_err(Fatal::at(PLACE))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(Fatal::at(PLACE))
}

/// The next one that has come. Of one signal that came several times there may be only one.
pub fn next(signals: &SignalFd) -> Result<Option<Signal>, Fatal> {
    let Some(info) = signals.read_signal().map_err(Fatal::at(PLACE))? else { return Ok(None) };
    Signal::try_from(info.ssi_signo as i32).map(Some).map_err(Fatal::at(PLACE))
}
