// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Arguments: the command line, and what else speaks in its place
//!
//! Owns the order in which flags are believed: the program's own command line, then the environment, then, for the commands
//! that load at boot, the kernel's command line, then the defaults. Promises that nothing but the first can keep the program
//! from running: what the others say is tried, and where a flag does not take it, that is a complaint.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use super::Cli;
use super::cmdline::{self, Cmdline};
use crate::escape::escape;

/// The level of the log, for who does not say it on the command line.
const LOG: &str = "ADDONCE_LOG";
/// What makes an initramfs one: os-release(5).
const INITRAMFS: &str = "/etc/initrd-release";

/// What is to be done.
#[derive(Debug)]
pub struct Arguments {
    /// The command line, completed.
    pub cli: Cli,
    /// The word of the kernel command line that leaves modules to others.
    pub off: Option<&'static str>,
    /// What was not understood of the rest.
    pub complaints: Vec<String>,
}

impl Arguments {
    /// Reads all of it. A command line that makes no sense ends the program here, as clap has it.
    pub fn read() -> Self {
        let line: Vec<OsString> = std::env::args_os().collect();
        let matches = Cli::command().get_matches_from(&line);
        let loads = matches!(matches.subcommand_name(), Some("daemon" | "scan"));
        let kernel = match loads {
            true => Cmdline::parse(&cmdline::read(), Path::new(INITRAMFS).exists()),
            false => Cmdline::default(),
        };
        Self::complete(line, matches, std::env::var_os(LOG), kernel)
    }

    fn complete(line: Vec<OsString>, matches: ArgMatches, log: Option<OsString>, kernel: Cmdline) -> Self {
        let mut complaints = kernel.complaints;
        let mut completed = Completed { line, matches };
        if let Some(level) = log.filter(|level| !completed.takes("log", level)) {
            let level = escape(level.as_bytes());
            complaints.push(format!("{LOG}={level}: --log does not take this: it is ignored"));
        }
        for (flag, value) in &kernel.flags {
            if !completed.takes(flag, value) {
                complaints.push(cmdline::bad_value(flag, value));
            }
        }
        let cli = Cli::from_arg_matches(&completed.matches).unwrap_or_else(|error| error.exit());
        Self { cli, off: kernel.off, complaints }
    }
}

/// A command line that makes sense, and what clap makes of it.
struct Completed {
    line: Vec<OsString>,
    matches: ArgMatches,
}

impl Completed {
    /// Sets a flag, unless the command has none of this name or it was given. False where the value is wrong.
    fn takes(&mut self, flag: &str, value: &OsStr) -> bool {
        let Some((name, matches)) = self.matches.subcommand() else { return true };
        if !has(name, flag) || matches.value_source(&flag.replace('-', "_")) == Some(ValueSource::CommandLine)
        {
            return true;
        }
        let mut line = self.line.clone();
        let mut word = OsString::from(format!("--{flag}="));
        word.push(value);
        line.push(word);
        match Cli::command().try_get_matches_from(&line) {
            Ok(matches) => *self = Self { line, matches },
            Err(_) => return false,
        }
        true
    }
}

/// Whether a command has a flag of this name.
fn has(command: &str, flag: &str) -> bool {
    let mut program: Command = Cli::command();
    program.build();
    let command = program.find_subcommand(command);
    command.is_some_and(|command| command.get_arguments().any(|argument| argument.get_long() == Some(flag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str, log: Option<&str>, kernel: &str) -> Arguments {
        let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let matches = Cli::command().try_get_matches_from(&line).expect("a command line");
        Arguments::complete(line, matches, log.map(OsString::from), Cmdline::parse(kernel.as_bytes(), false))
    }

    fn shown(arguments: &Arguments) -> String {
        assert!(arguments.complaints.is_empty(), "{:?}", arguments.complaints);
        format!("{:?}", arguments.cli)
    }

    #[test]
    fn every_name_of_the_kernel_command_line_is_a_limit_and_every_limit_has_one() {
        let mut program = Cli::command();
        program.build();
        let daemon = program.find_subcommand("daemon").expect("daemon");
        let limits = daemon.get_arguments().filter(|argument| {
            let values = argument.get_value_names().unwrap_or_default();
            values.first().is_some_and(|value| ["N", "SECONDS", "BYTES", "LEVEL"].contains(&value.as_str()))
        });
        let mut limits: Vec<&str> = limits.filter_map(clap::Arg::get_long).collect();
        limits.sort_unstable();
        assert_eq!(limits, cmdline::NAMES);
    }

    #[test]
    fn the_kernel_sets_what_the_command_line_leaves_open() {
        let arguments = complete("addonce daemon --jobs=3", None, "addonce.jobs=2 addonce.clients=7");
        let shown = shown(&arguments);
        assert!(shown.contains("jobs: Some(3)") && shown.contains("clients: 7"), "{shown}");
    }

    #[test]
    fn the_level_of_the_log_is_the_command_lines_then_the_environments_then_the_kernels() {
        for (line, log, kernel, expected) in [
            ("addonce --log=warn daemon", Some("trace"), "addonce.log=debug", "Warn"),
            ("addonce daemon --log=warn", Some("trace"), "addonce.log=debug", "Warn"),
            ("addonce daemon", Some("trace"), "addonce.log=debug", "Trace"),
            ("addonce daemon", None, "addonce.log=debug", "Debug"),
            ("addonce daemon", None, "", "Info"),
        ] {
            let shown = shown(&complete(line, log, kernel));
            assert!(shown.contains(&format!("log: {expected}")), "{line} {log:?} {kernel}: {shown}");
        }
    }

    #[test]
    fn a_limit_of_another_command_is_passed_over() {
        let shown = shown(&complete("addonce scan", None, "addonce.clients=7 addonce.memo=5"));
        assert!(shown.contains("memo: 5"), "{shown}");
    }

    #[test]
    fn a_value_that_makes_no_sense_is_a_complaint_and_the_default_holds() {
        let arguments =
            complete("addonce daemon", Some("loud"), "addonce.jobs=many addonce.memo=0 addonce.bars=9");
        let complaints = arguments.complaints.join("\n");
        for word in ["ADDONCE_LOG=loud", "addonce.jobs=many", "addonce.memo=0"] {
            assert!(complaints.contains(word), "{complaints}");
        }
        assert_eq!(arguments.complaints.len(), 3);
        let shown = format!("{:?}", arguments.cli);
        assert!(shown.contains("memo: 1024") && shown.contains("bars: 9"), "{shown}");
    }
}
