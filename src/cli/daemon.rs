// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that load modules: `addonce daemon`, for as long as it is let; `addonce serve`, a daemon for the occasion; and `addonce
//! scan`, which has no clients and asks no udev.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use super::options::{BufferOption, CoreOptions, SocketOption, milliseconds, number, seconds};
use crate::control::listener::{self, Listener};
use crate::control::lock;
use crate::control::process::has_capability;
use crate::control::protocol::Load;
use crate::control::server::Bounds;
use crate::daemon::fork::close_inherited;
use crate::daemon::modprobe::Switch;
use crate::daemon::{Config, Daemon};
use crate::escape::escape;
use crate::fatal::Fatal;
use crate::kmod::{Loader, Resolver, Tree};
use crate::uevent::activation::{self, Given};
use crate::uevent::netlink::Netlink;

/// So long another daemon may have the lock, because it begins or ends.
const PATIENCE: Duration = Duration::from_secs(3);
/// So long a daemon for the occasion stays when nothing is left: udev's next event would have to begin anew.
const LINGER: Duration = Duration::from_secs(1);
/// Where udevd listens: it exists from udevd's start on.
const UDEV: &str = "/run/udev/control";
/// The SEQNUM of the newest uevent.
const NEWEST: &str = "/sys/kernel/uevent_seqnum";

/// What whoever loads modules may be told.
#[derive(Args, Debug)]
struct LoadOptions {
    /// Load nothing: say what would be loaded, and take it for live.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    core: CoreOptions,
    #[command(flatten)]
    buffer: BufferOption,
    /// So long running loads are waited for once addonce is to stop: seconds, or with ms, s, min. They go on without it.
    #[arg(long, value_name = "TIME", default_value = "90", value_parser = seconds)]
    stop_timeout: Duration,
    #[command(flatten)]
    tree: Tree,
}

/// What a daemon may be told, started by hand or on demand.
#[derive(Args, Debug)]
pub struct DaemonOptions {
    /// Clients served at a time, who are udev's programs most of all; more of them wait.
    #[arg(long, value_name = "N", default_value = "4096", value_parser = number::<usize>)]
    clients: usize,
    /// So long a client may leave its replies unread: seconds, or with ms, s, min.
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = seconds)]
    client_timeout: Duration,
    #[command(flatten)]
    socket: SocketOption,
    #[command(flatten)]
    load: LoadOptions,
}

/// What the daemon may be told that is started by hand or at boot.
#[derive(Args, Debug)]
pub struct Command {
    /// Answer the kernel's own requests (request_module), too: kernel.modprobe is addonce-modprobe while the daemon runs.
    // The kernel sets no environment, so its helper asks at the default socket.
    #[arg(long, conflicts_with_all = ["dry_run", "socket"])]
    kernel_requests: bool,
    #[command(flatten)]
    options: DaemonOptions,
}

/// Load what the devices in /sys need, follow the devices that appear because of it, and exit when nothing is left. For systems
/// without udev: rules are not asked.
#[derive(Args, Debug)]
pub struct ScanOptions {
    /// A time without any news that counts as "nothing is left", for devices are discovered in the background: milliseconds, or
    /// with ms, s, min.
    #[arg(long, value_name = "TIME", default_value = "200", value_parser = milliseconds)]
    idle: Duration,
    #[command(flatten)]
    load: LoadOptions,
}

/// Runs until a signal ends it.
pub fn daemon(command: &Command) -> Result<ExitCode, Fatal> {
    let options = &command.options;
    // Before anything is opened: descriptors that were handed over go by their numbers.
    let given = activation::take(&options.socket.socket)?;
    options.run(given, || false, Load::default(), command.kernel_requests, Config::default())
}

/// Serves until nothing is left, unless somebody does. `addonce-load` and `addonce load` start it where no daemon listens. Many may do so
/// at once: all but one of them find that somebody has the lock, wait until he listens, and end.
pub fn serve(options: &DaemonOptions) -> Result<ExitCode, Fatal> {
    // Of whoever started us neither the end nor the terminal is ours. It fails where we lead a group already.
    let _ = nix::unistd::setsid();
    // A lock of his, say, or a pipe that somebody reads to its end.
    close_inherited();
    // As udev has it in the environment of a program, which hands it down to us.
    let variable = |name| std::env::var_os(name).map(|value| escape(value.as_bytes()));
    let starter = Load {
        alias: variable("MODALIAS").unwrap_or_default(),
        devpath: variable("DEVPATH"),
        seqnum: variable("SEQNUM").and_then(|seqnum| seqnum.parse().ok()),
        synthetic: Some(variable("SYNTH_UUID").is_some()),
        again: variable("SYNTH_ARG_ADDONCE").map(|argument| argument == "again"),
    };
    let is_needless = || listener::is_open(&options.socket.socket);
    let is_awaited = variable("SYNTH_UUID").is_some_and(|uuid| uuid.contains('-'));
    let config = Config { linger: Some(LINGER), is_awaited, ..Config::default() };
    options.run(Given::default(), is_needless, starter, false, config)
}

/// Scans and follows.
pub fn scan(options: &ScanOptions) -> Result<ExitCode, Fatal> {
    let load = &options.load;
    let loader = load.loader(None)?;
    let resolver = Resolver::open(load.tree.clone())?;
    let sysfs = &load.tree.sysfs;
    std::fs::metadata(sysfs.join("bus"))
        .map_err(Fatal::at(format!("{}: no sysfs is mounted here: bus", sysfs.display())))?;
    // Nothing appears because of loads that are not performed.
    let (netlink, idle) = match load.dry_run {
        true => (None, Duration::ZERO),
        false => (Some(Netlink::open(load.buffer.receive_buffer)?), options.idle),
    };
    let config = Config { linger: Some(idle), ..load.config(loader, netlink) };
    let core = Daemon::new(resolver, config)?.run()?;
    let stats = core.stats();
    let came_in = if load.dry_run { "would be loaded" } else { "loaded" };
    log::info!(
        "scan: {} requests, {} duplicates, {} modules {came_in}, {} failed",
        stats.requests,
        stats.duplicates(),
        stats.live,
        stats.failed
    );
    Ok(ExitCode::SUCCESS)
}

impl DaemonOptions {
    /// Runs a daemon, unless somebody else's makes it needless. `starter` is what the program that wants it is about to ask, as far as
    /// there is one and it asks for something.
    fn run(
        &self,
        given: Given,
        is_needless: impl Fn() -> bool,
        starter: Load,
        kernel_requests: bool,
        config: Config,
    ) -> Result<ExitCode, Fatal> {
        let (load, path) = (&self.load, &self.socket.socket);
        // Everybody may read what is published beside the socket, and nobody else may put anything there.
        umask(Mode::from_bits_truncate(0o022));
        let loader = load.loader(make_room(self.clients)?)?;
        let Some(lock) = lock::take(path, PATIENCE, is_needless)? else { return Ok(ExitCode::SUCCESS) };
        // The socket first: what happens while the rest is set up waits there.
        let netlink = given.netlink.map_or_else(|| Netlink::open(load.buffer.receive_buffer), Ok)?;
        let newest = std::fs::read_to_string(NEWEST).ok().and_then(|number| number.trim().parse().ok());
        let with_udev = Path::new(UDEV).exists();
        let bounds = Bounds { clients: self.clients, patience: self.client_timeout };
        let resolver = Resolver::open(load.tree.clone())?;
        let config = Config {
            with_udev,
            presumed: starter.seqnum.zip(newest),
            starter: Some(starter).filter(|starter| !starter.alias.is_empty()),
            control: Some((Listener::new(given.control, path, lock)?, bounds)),
            linger: config.linger,
            // It is the lock's holder who may switch it off.
            switch: kernel_requests.then(|| Switch::beside(path)).transpose()?,
            is_awaited: config.is_awaited,
            ..load.config(loader, Some(netlink))
        };
        let daemon = Daemon::new(resolver, config)?;
        let from = if with_udev { "udev" } else { "the kernel and /sys, for there is no udev" };
        log::info!("listening for uevents, requests come from {from}; ask me at {}", path.display());
        daemon.run()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl LoadOptions {
    fn config(&self, loader: Loader, netlink: Option<Netlink>) -> Config {
        let (limits, stop_timeout) = (self.core.limits(), self.stop_timeout);
        Config { limits, netlink, loader, stop_timeout, ..Config::default() }
    }

    /// Who performs loads: the kernel, if it can and we may. What is executed may open so many files, where that is another
    /// number than ours. To be asked for first, for without one nothing is done.
    fn loader(&self, open_files: Option<u64>) -> Result<Loader, Fatal> {
        let loader = Loader { dry_run: self.dry_run, open_files };
        // Made by every kernel that has module support: kernel/module/procfs.c.
        let has_modules = Path::new("/proc/modules").exists();
        let why = if self.dry_run {
            return Ok(loader);
        } else if !self.tree.is_this_machine() {
            let why = "--sysfs names another machine's devices: nothing is loaded for those, add --dry-run";
            return Err(Fatal::Usage(why.into()));
        } else if !has_modules {
            "/proc/modules: not there: this kernel was built without module support (CONFIG_MODULES): there is nothing to load; \
             `addonce scan --dry-run` shows what would be"
        } else if !has_capability("/proc/self") {
            "loading modules takes CAP_SYS_MODULE, which this process lacks: run it as root; \
             `addonce scan --dry-run` shows what would be"
        } else {
            return Ok(loader);
        };
        Err(Fatal::System(why.into()))
    }
}

/// Sees to it that so many clients may connect, as far as the system lets us: beyond that they are turned away. Returns the
/// limit that held before, where it is another one now: what we execute is to have that.
fn make_room(clients: usize) -> Result<Option<u64>, Fatal> {
    // What the daemon itself has open, loads included.
    const OURS: u64 = 256;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Fatal::at("RLIMIT_NOFILE"))?;
    let wanted = (clients as u64 + OURS).min(hard);
    if wanted <= soft {
        return Ok(None);
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).map_err(Fatal::at("RLIMIT_NOFILE"))?;
    Ok(Some(soft))
}
