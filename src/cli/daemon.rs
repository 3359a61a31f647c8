// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce daemon`: load each module once, for as long as it is let.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::options::{LimitOptions, SocketOption, seconds};
use crate::control::listener::Listener;
use crate::control::lock::Lock;
use crate::control::process::has_capability;
use crate::control::server::Bounds;
use crate::daemon::{Config, Daemon};
use crate::fatal::Fatal;
use crate::kmod::{Loader, Resolver, Tree};
use crate::uevent::activation::{self, Given};
use crate::uevent::netlink::Netlink;

/// So long a daemon that is about to end is waited for.
const STEP_DOWN: Duration = Duration::from_secs(3);

/// Where udevd listens: it exists from udevd's start on.
const UDEV: &str = "/run/udev/control";

/// The SEQNUM of the newest uevent.
const NEWEST: &str = "/sys/kernel/uevent_seqnum";

/// What a daemon may be told, started by hand or on demand.
#[derive(Args, Debug)]
pub struct DaemonOptions {
    /// Load nothing: say what would be loaded, and take it for live.
    #[arg(long)]
    dry_run: bool,
    /// Clients served at a time, who are udev's programs most of all; more of them wait.
    #[arg(long, value_name = "N", default_value = "4096")]
    clients: NonZeroUsize,
    /// Seconds that a client may leave its replies unread.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    patience: Duration,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    pub socket: SocketOption,
    #[command(flatten)]
    tree: Tree,
}

/// Runs until a signal ends it.
pub fn run(options: DaemonOptions) -> Result<ExitCode, Fatal> {
    // Before anything is opened: descriptors that were handed over go by their numbers.
    let socket = &options.socket.socket;
    let given = activation::take(socket, options.limits.buffer.receive_buffer.get())?;
    let loader = options.loader()?;
    let lock = Lock::take(socket, STEP_DOWN, || false)?;
    options.run(lock, loader, given, None, None)
}

impl DaemonOptions {
    /// Who performs loads: to be asked for first, for without one there is no daemon.
    pub fn loader(&self) -> Result<Loader, Fatal> {
        loader(self.dry_run, &self.tree, make_room(self.clients.get())?)
    }

    /// Runs a daemon for as long as the lock is held, or none where there is no need of one. `requester` is the SEQNUM of the event
    /// whose program wants it, where one does.
    pub fn run(
        self,
        lock: Option<Lock>,
        loader: Loader,
        given: Given,
        requester: Option<u64>,
        linger: Option<Duration>,
    ) -> Result<ExitCode, Fatal> {
        let Some(_lock) = lock else { return Ok(ExitCode::SUCCESS) };
        // The socket first: what happens while the rest is set up waits there.
        let netlink =
            given.netlink.map_or_else(|| Netlink::open(self.limits.buffer.receive_buffer.get()), Ok)?;
        let presumed = requester.zip(newest());
        let with_udev = Path::new(UDEV).exists();
        let bounds = Bounds { clients: self.clients.get(), patience: self.patience };
        let resolver = Resolver::open(self.tree.clone())?;
        let path = self.socket.socket;
        let listener = Listener::new(given.control, &path)?;
        let config = Config {
            limits: self.limits.core.limits(),
            netlink: Some(netlink),
            with_udev,
            // Who loads nothing must not keep udev from it.
            holds: !self.dry_run || !self.tree.is_this_machine(),
            presumed,
            control: Some((listener, bounds)),
            loader,
            stop_timeout: self.limits.stop_timeout,
            linger,
        };
        let daemon = Daemon::new(resolver, config)?;
        let from = if with_udev { "udev" } else { "the kernel and /sys, for there is no udev" };
        log::info!("listening for uevents, requests come from {from}; ask me at {}", path.display());
        daemon.run()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The number of the newest event there is.
fn newest() -> Option<u64> {
    std::fs::read_to_string(NEWEST).ok()?.trim().parse().ok()
}

/// Sees to it that so many clients may connect, as far as the system lets us: beyond that they are turned away. Returns the
/// limit that held before, where it is another one now: what we execute is to have that.
fn make_room(clients: usize) -> Result<Option<u64>, Fatal> {
    // What the daemon itself has open, loads included.
    const OURS: u64 = 256;
    let refused = |errno| Fatal::System(format!("RLIMIT_NOFILE: {errno}"));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(refused)?;
    let wanted = (clients as u64 + OURS).min(hard);
    if wanted <= soft {
        return Ok(None);
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map_err(refused)?;
    Ok(Some(soft))
}

/// Who performs loads: the kernel, if it can and we may. What is executed may open so many files, where that is another
/// number than ours.
pub fn loader(dry_run: bool, tree: &Tree, open_files: Option<u64>) -> Result<Loader, Fatal> {
    let loader = Loader { dry_run, open_files };
    if dry_run {
        return Ok(loader);
    }
    if !tree.is_this_machine() {
        let why = "--sysfs names another machine's devices: nothing is loaded for those, add --dry-run";
        return Err(Fatal::Usage(why.into()));
    }
    // Made by every kernel that has module support: kernel/module/procfs.c.
    let why = if !Path::new("/proc/modules").exists() {
        "/proc/modules: not there: this kernel was built without module support (CONFIG_MODULES): there is nothing to load, use \
         --dry-run to see what would be"
    } else if !has_capability("/proc/self") {
        "loading modules takes CAP_SYS_MODULE, which this process lacks: run it as root, or with --dry-run"
    } else {
        return Ok(loader);
    };
    Err(Fatal::System(why.into()))
}
