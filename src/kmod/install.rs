// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command of modprobe.d in the place of an insert, run as modprobe runs it: by the shell, with the module's name in the
//! environment.
//!
//! It cannot tell a daemon from modprobe: no signal is blocked or ignored (std sees to both), none of our descriptors is there, a
//! supervisor's words to us are not in the environment, and it may open as many files as whoever started us.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::once::{LoadError, Stage};

/// What a supervisor says to the process it started and to no other: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
const MEANT_FOR_US: [&str; 7] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Runs a module's install command. Exit status 0 counts as success, whatever was loaded. Unlike kmod 30, a command that was
/// killed has failed. It may open so many files, if a number is given, and else as many as we; from then on so may we, which is a
/// process that does nothing else.
pub(super) fn install(module: &str, command: &CStr, open_files: Option<u64>) -> Result<(), LoadError> {
    let command = OsStr::from_bytes(command.to_bytes());
    if let Some(number) = open_files {
        limit(number);
    }
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command);
    for name in MEANT_FOR_US {
        shell.env_remove(name);
    }
    shell.env("MODPROBE_MODULE", module).stdin(Stdio::null());
    let status = shell.status().map_err(|error| {
        log::error!("{module}: /bin/sh cannot be run for its install command: {error}");
        LoadError { errno: error.raw_os_error().unwrap_or(libc::EIO), stage: Stage::Install(127) }
    })?;
    match status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) {
        0 => Ok(()),
        code => Err(LoadError { errno: libc::EINVAL, stage: Stage::Install(code) }),
    }
}

/// Where the limit cannot be put back the command has a higher one.
fn limit(open_files: u64) {
    let limited = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, open_files.min(hard), hard));
    if let Err(errno) = limited {
        log::debug!("RLIMIT_NOFILE: {errno}");
    }
}
