// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Install: a command of modprobe.d in the place of an insert
//!
//! Owns how such a command is run: by the shell, with the module's name in the environment, as modprobe does. Promises that
//! it cannot tell a daemon from modprobe: no signal is blocked and SIGPIPE is not ignored (std sees to both), none of our
//! descriptors is there (each closes on exec), a supervisor's words to us are not in the environment, and it may open as
//! many files as whoever started us. Bounded by nothing: it takes as long as it takes.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::insert::refusal;
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

/// Puts back how many files may be open before the command begins. A limit cannot be set between fork and exec without
/// code that runs there; a shell can set it.
const LIMITED: &str = "ulimit -S -n \"$1\"; exec /bin/sh -c \"$2\"";

/// Runs a module's install command. Exit status 0 counts as success, whatever was loaded. Unlike kmod 30, a command that was
/// killed has failed. It may open so many files, if a number is given, and else as many as we.
pub(super) fn install(module: &str, command: &CStr, open_files: Option<u64>) -> Result<(), LoadError> {
    let command = OsStr::from_bytes(command.to_bytes());
    let mut shell = Command::new("/bin/sh");
    match open_files {
        Some(number) => shell.args(["-c", LIMITED, "/bin/sh", &number.to_string()]).arg(command),
        None => shell.arg("-c").arg(command),
    };
    for name in MEANT_FOR_US {
        shell.env_remove(name);
    }
    shell.env("MODPROBE_MODULE", module).stdin(Stdio::null());
    let status = shell.status().map_err(|error| {
        log::error!("{module}: /bin/sh cannot be run for its install command: {error}");
        refusal(Stage::Install(127), error.raw_os_error().unwrap_or(libc::EIO))
    })?;
    match status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) {
        0 => Ok(()),
        code => Err(refusal(Stage::Install(code), libc::EINVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, getrlimit};
    use nix::sys::signal::{SigSet, Signal};

    fn command(command: &CStr) -> Result<(), LoadError> {
        let answer = install("addonce_test", command, None);
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        assert_eq!(install("addonce_test", command, Some(limit)), answer, "with a limit and without");
        answer
    }

    fn failed(code: i32) -> Result<(), LoadError> {
        Err(refusal(Stage::Install(code), libc::EINVAL))
    }

    #[test]
    fn an_install_command_answers_with_its_exit_status() {
        assert_eq!(command(c"exit 0"), Ok(()));
        assert_eq!(command(c"exit 7"), failed(7));
        assert_eq!(command(c"kill -9 $$"), failed(137));
    }

    #[test]
    fn an_install_command_is_told_the_module_and_reads_nothing() {
        assert_eq!(command(c"test \"$MODPROBE_MODULE $#\" = 'addonce_test 0' && ! read line"), Ok(()));
    }

    #[test]
    fn an_install_command_starts_with_no_signal_blocked_and_heeds_sigpipe() {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.thread_block().expect("sigmask");
        let mask = command(c"grep -qx 'SigBlk:[[:space:]]*0*' /proc/self/status");
        // The thirteenth bit, which std's runtime sets in us.
        let pipe = command(c"grep -qx 'SigIgn:[[:space:]]*[0-9a-f]*[02468ace]...' /proc/self/status");
        blocked.thread_unblock().expect("sigmask");
        assert_eq!((mask, pipe), (Ok(()), Ok(())));
    }

    #[test]
    fn an_install_command_may_open_as_many_files_as_is_said() {
        assert_eq!(install("addonce_test", c"test $(ulimit -S -n) = 99", Some(99)), Ok(()));
    }
}
