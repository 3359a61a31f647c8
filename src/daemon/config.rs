// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a daemon is made of: what the commands that run the loop decide.

use std::time::Duration;

use super::notify::Notifier;
use super::shutdown::Until;
use super::state_file::StateFile;
use crate::control::listener::Listener;
use crate::control::server::Bounds;
use crate::kmod::Loader;
use crate::once::Limits;
use crate::uevent::netlink::Netlink;

/// What a daemon is made of.
pub struct Config {
    /// The scheduler's bounds.
    pub limits: Limits,
    /// The socket of uevents; none for a tree that is not this machine's.
    pub netlink: Option<Netlink>,
    /// Requests come from udev; else from the kernel, and from /sys at the start.
    pub with_udev: bool,
    /// With udev: its queue is held while there is work.
    pub holds: bool,
    /// The SEQNUM of the event whose program has started us, and the newest when our socket was open: what was announced between
    /// them is taken to be on its way.
    pub presumed: Option<(u64, u64)>,
    /// The control socket, and how its clients are bounded; none for a one-shot.
    pub control: Option<(Listener, Bounds)>,
    /// Where failures come from and go to; none where they end with us.
    pub state_file: Option<StateFile>,
    /// Who performs loads.
    pub loader: Loader,
    /// How long loads that run are waited for once addonce is to stop.
    pub stop_timeout: Duration,
    /// When to end.
    pub until: Until,
    /// Who wants to be told how we are; none where nobody does.
    pub notifier: Option<Notifier>,
}
