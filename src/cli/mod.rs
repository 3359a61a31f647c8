// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands; those that have their flags in common share a file. Every command returns its exit code (0 done, 1 the module's
//! answer is a failure) or a [`Fatal`], which has one of its own.

mod blame;
mod daemon;
mod explain;
mod failed;
mod load;
mod logger;
mod monitor;
mod options;
mod plot;
mod query;
mod record;
pub mod replay;
pub mod settings;
mod settle;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use log::LevelFilter;
use nix::sys::signal::{SigSet, Signal};

use crate::fatal::Fatal;
use query::Query;
use settings::Settings;

/// Loads each kernel module once: collapses the storm of uevents into one load per module, and remembers failed
/// loads such that a storm never repeats them while whoever fixed the cause can always retry.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80)]
pub struct Cli {
    /// What is said on standard error: error, warn, info, debug or trace [default: info; daemon, serve and scan: addonce.log
    /// of the kernel command line, then info].
    #[arg(long, global = true, value_name = "LEVEL", value_parser = settings::level)]
    log: Option<LevelFilter>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load each module that devices need once: those of udev's events, or without udev those of the kernel's and of /sys.
    Daemon(daemon::Command),
    /// Do the daemon's work until nothing is left to do: what udev's program starts where no daemon listens.
    Serve(daemon::DaemonOptions),
    Scan(daemon::ScanOptions),
    Explain(explain::Command),
    Load(load::Load),
    Retry(load::Retry),
    Settle(settle::Command),
    Status(status::Command),
    Failed(failed::Command),
    /// List the loads since the boot, the longest first.
    ///
    /// How long they took, what they came to, and who asked. No daemon is needed.
    Blame(Query),
    /// Print each load as it ends.
    ///
    /// Until interrupted: a line of a table for each, or with --json an object.
    Monitor(Query),
    Plot(plot::Command),
    Record(record::Command),
    Replay(replay::Command),
}

/// Does what was asked for.
pub fn run() -> Result<ExitCode, Fatal> {
    // What is larger than RLIMIT_FSIZE is to fail where it is written.
    let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
    let cli = Cli::parse();
    let settings = match cli.command {
        Command::Daemon(_) | Command::Serve(_) | Command::Scan(_) => Settings::of_this_boot(),
        // Who asks for a module by hand is not the boot.
        _ => Settings::default(),
    };
    logger::start(cli.log.or(settings.log).unwrap_or(LevelFilter::Info));
    settings.complaints.iter().for_each(|complaint| log::warn!("{complaint}"));
    if let Some(word) = settings.off {
        log::info!("kernel command line: {word}: nothing is done");
        return Ok(ExitCode::SUCCESS);
    }
    let done = match cli.command {
        Command::Daemon(command) => daemon::daemon(&command),
        Command::Serve(options) => daemon::serve(&options),
        Command::Scan(options) => daemon::scan(&options),
        Command::Explain(command) => command.run(),
        Command::Load(command) => command.run(),
        Command::Retry(command) => command.run(),
        Command::Settle(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Failed(command) => command.run(),
        Command::Blame(query) => blame::run(&query),
        Command::Monitor(query) => monitor::monitor(&query),
        Command::Plot(command) => command.run(),
        Command::Record(command) => command.run(),
        Command::Replay(command) => command.run(),
    };
    done.map_err(Settings::explaining)
}
