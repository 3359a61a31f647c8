// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process that does one piece of work, reports what came of it through a pipe, and ends.
//!
//! It is a fork without exec: the work needs what the daemon has in memory, and an exec would cost more than most loads. That is
//! sound because the daemon has one thread. Of the daemon's descriptors the process keeps standard input, output and error;
//! whatever else it held (the lock, sockets, clients) would outlive a killed daemon in a process that hangs in the kernel.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, close, fork, pipe2, setpgid};

/// The longest report, in bytes: an error and a module's name.
const LONGEST: u64 = 4096;

/// A process that was started here.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    report: File,
}

/// How a process ended: with this report, or without one, by this signal (0: by none).
pub type End = Result<Vec<u8>, i32>;

impl Process {
    /// Starts a process that reports what `work` returns; SIGCHLD tells when. `ps` shows 15 bytes of the name.
    pub fn start(name: &str, work: impl FnOnce() -> Vec<u8>) -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Whoever started us may ignore it, and then nobody is told and nothing can be waited for.
        // SAFETY: no handler is installed.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
        // SAFETY: the daemon has no second thread, so the child finds every lock and every structure in order and may do what
        // the parent may. It never returns from here.
        match unsafe { fork() }? {
            ForkResult::Child => run(name, File::from(writer), work),
            ForkResult::Parent { child } => Ok(Self { pid: child, report: File::from(reader) }),
        }
    }

    /// How it ended, if it has. Afterwards nothing is left of it in the process table.
    pub fn end(&mut self) -> Option<End> {
        let status = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
        if status == Ok(WaitStatus::StillAlive) {
            return None;
        }
        let mut report = Vec::new();
        // A pipe that cannot be read has no report either.
        let _ = Read::by_ref(&mut self.report).take(LONGEST).read_to_end(&mut report);
        Some(match status {
            _ if !report.is_empty() => Ok(report),
            Ok(WaitStatus::Signaled(_, signal, _)) => Err(signal as i32),
            _ => Err(0),
        })
    }
}

/// The child's whole life.
fn run(name: &str, mut report: File, work: impl FnOnce() -> Vec<u8>) -> ! {
    // An unwinding panic must not reach the loop, of which this process has a copy.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        close_others(report.as_raw_fd());
        // A process group of its own: what is typed at the daemon's terminal is not for a load. A session would do that, too, and
        // have the scheduler make an autogroup with structures for every CPU (kernel/sched/autogroup.c).
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        // The daemon's priority is its own. A driver's init runs as it would in udev's process.
        // SAFETY: takes three numbers, and concerns this process alone. Where the daemon's is lower, it stays so.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
        // Names have no NUL; one that had would only not be shown.
        let _ = prctl::set_name(&CString::new(name).unwrap_or_default());
        // The daemon reads signals from a descriptor and blocks them for that.
        let _ = SigSet::empty().thread_set_mask();
        let _ = report.write_all(&work());
    }));
    // SAFETY: ends the process at once. Nothing that the daemon would do at its end is this process's to do.
    unsafe { libc::_exit(0) }
}

fn close_others(keep: RawFd) {
    close_those(|descriptor| descriptor != keep);
}

/// Closes what whoever started us has left open: all of ours closes on exec.
pub fn close_inherited() {
    close_those(|descriptor| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_CLOEXEC == 0)
    });
}

/// But for standard input, output and error.
fn close_those(is_meant: impl Fn(RawFd) -> bool) {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let descriptors: Vec<RawFd> =
        names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in descriptors.into_iter().filter(|&descriptor| descriptor > 2 && is_meant(descriptor)) {
        // The one that read the directory is closed already.
        let _ = close(descriptor);
    }
}
