// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce scan`: load what the devices that are there need, follow those that appear, exit.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::daemon::loader;
use super::options::LimitOptions;
use crate::daemon::{Config, Daemon};
use crate::fatal::Fatal;
use crate::kmod::{Resolver, Tree};
use crate::uevent::netlink::Netlink;

/// Load what the devices in /sys need, follow the devices that appear because of it, and exit when nothing is left. For systems
/// without udev: rules are not asked.
#[derive(Args, Debug)]
pub struct Command {
    /// Load nothing: say what would be loaded.
    #[arg(long)]
    dry_run: bool,
    /// Milliseconds without any news that count as "nothing is left": devices are discovered in the background.
    #[arg(long, value_name = "MS", default_value = "200")]
    idle: u64,
    #[command(flatten)]
    limits: LimitOptions,
    #[command(flatten)]
    tree: Tree,
}

impl Command {
    /// Scans and follows.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let loader = loader(self.dry_run, &self.tree, None)?;
        // Nothing appears because of loads that are not performed.
        let (netlink, idle) = match self.dry_run {
            true => (None, 0),
            false => (Some(Netlink::open(self.limits.buffer.receive_buffer.get())?), self.idle),
        };
        let config = Config {
            limits: self.limits.core.limits(),
            netlink,
            with_udev: false,
            holds: false,
            presumed: None,
            control: None,
            loader,
            stop_timeout: self.limits.stop_timeout,
            linger: Some(Duration::from_millis(idle)),
        };
        let core = Daemon::new(Resolver::open(self.tree)?, config)?.run()?;
        let stats = core.stats();
        log::info!(
            "scan: {} requests, {} duplicates, {} modules came in, {} failed",
            stats.requests,
            stats.duplicates(),
            stats.live,
            stats.failed
        );
        Ok(ExitCode::SUCCESS)
    }
}
