// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Settings: what a daemon is made of
//!
//! Owns what the commands that run the loop decide about it: where it hears, listens and remembers, who loads, and when it
//! ends.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use super::notify::Notifier;
use super::state_file::StateFile;
use crate::control::listener::Listener;
use crate::control::server::Bounds;
use crate::fatal::Fatal;
use crate::kmod::Loader;
use crate::once::Limits;
use crate::uevent::netlink::Netlink;

/// What a daemon is made of.
pub struct Settings {
    /// The core's bounds.
    pub limits: Limits,
    /// The socket the kernel speaks through; none for a tree that is not this machine's.
    pub netlink: Option<Netlink>,
    /// The control socket; none for a one-shot.
    pub control: Option<Control>,
    /// Where the failures come from and go to; none where they end with us.
    pub state_file: Option<StateFile>,
    /// Who performs loads.
    pub loader: Box<dyn Loader>,
    /// The loader loads nothing.
    pub dry_run: bool,
    /// Whether to begin with a scan.
    pub scan: bool,
    /// How long loads that run may take to land once addonce is to stop.
    pub landing_time: Duration,
    /// When to end.
    pub until: Until,
    /// Who wants to be told how we are; none where nobody does.
    pub notifier: Option<Notifier>,
}

/// The control socket.
pub struct Control {
    /// Where it is.
    pub path: PathBuf,
    /// The socket there, where a supervisor listens at it.
    pub listener: Option<UnixListener>,
    /// How clients are bounded.
    pub bounds: Bounds,
}

impl Control {
    /// Listens, or takes over who listens.
    ///
    /// # Errors
    /// As [`Listener::open`].
    pub fn listen(self) -> Result<Listener, Fatal> {
        match self.listener {
            Some(listener) => Listener::adopt(listener, &self.path),
            None => Listener::open(&self.path),
        }
    }
}

/// When the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A signal says so.
    Stopped,
    /// Nothing is left: the socket is drained, no scan is going on, no flight is in the air, and all that for this
    /// long.
    Quiet(Duration),
}
