// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process that does one piece of work, reports what came of it through a pipe, and ends.
//!
//! It is a fork without exec: the work needs what the daemon has in memory, and an exec would cost more than most loads. That is
//! sound because the daemon has one thread. Of the daemon's descriptors the process keeps standard input, output and error;
//! whatever else it held (the lock, the control socket, the clients, the uevent socket) would outlive a killed daemon in a
//! process that hangs in the kernel.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, setsid};

/// The longest report, in bytes: an error and a module's name.
const LONGEST: u64 = 4096;

/// A process that was started here.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    /// Readable once the process has ended: pidfd_open(2), Linux 5.3.
    pidfd: OwnedFd,
    report: File,
}

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It reported this.
    Report(Vec<u8>),
    /// A signal ended it before it had reported anything; the kernel sends one itself where a driver oopses.
    Signal(i32),
    /// It ended without a report and without a signal.
    Silent,
}

impl Process {
    /// Starts a process that ends with a report of what `work` returns. `ps` and the kernel's log show the first 15 bytes of the
    /// name.
    ///
    /// # Errors
    /// What fork(2), pipe(2) or pidfd_open(2) says. The work was not begun then.
    pub(super) fn start(name: &str, work: impl FnOnce() -> Vec<u8>) -> io::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Holds the place of the pidfd, which must not fail for want of a descriptor once the process runs.
        let place = reader.try_clone()?;
        // SAFETY: the daemon has no second thread, so the child finds every lock and every structure in order and may do what
        // the parent may. It never returns from here.
        match unsafe { fork() }? {
            ForkResult::Child => run(name, File::from(writer), work),
            ForkResult::Parent { child } => {
                drop(place);
                match pidfd_open(child) {
                    Ok(pidfd) => Ok(Self { pid: child, pidfd, report: File::from(reader) }),
                    Err(error) => {
                        let _ = kill(child, Signal::SIGKILL);
                        let _ = waitpid(child, None);
                        Err(error)
                    }
                }
            }
        }
    }

    /// How it ended, if it has. Afterwards nothing is left of it in the process table.
    pub(super) fn end(&mut self) -> Option<End> {
        let status = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
        if status == Ok(WaitStatus::StillAlive) {
            return None;
        }
        let mut report = Vec::new();
        // A pipe that cannot be read has no report either.
        let _ = Read::by_ref(&mut self.report).take(LONGEST).read_to_end(&mut report);
        Some(match status {
            _ if !report.is_empty() => End::Report(report),
            Ok(WaitStatus::Signaled(_, signal, _)) => End::Signal(signal as i32),
            _ => End::Silent,
        })
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

/// The child's whole life.
fn run(name: &str, mut report: File, work: impl FnOnce() -> Vec<u8>) -> ! {
    // An unwinding panic must not reach the loop, of which this process has a copy.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        close_others(report.as_raw_fd());
        // A session of its own: what is typed at the daemon's terminal is not for a load.
        let _ = setsid();
        // Names have no NUL; one that had would only not be shown.
        let _ = prctl::set_name(&CString::new(name).unwrap_or_default());
        // The daemon reads signals from a descriptor and blocks them for that.
        let _ = SigSet::empty().thread_set_mask();
        let _ = report.write_all(&work());
    }));
    // SAFETY: ends the process at once. Nothing that the daemon would do at its end is this process's to do.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor but the first three and this one.
fn close_others(keep: RawFd) {
    if !(close_range(3, keep - 1) && close_range(keep + 1, RawFd::MAX)) {
        close_one_by_one(keep);
    }
}

/// Whether the kernel has closed them: close_range(2) is there since Linux 5.9.
fn close_range(first: RawFd, last: RawFd) -> bool {
    // SAFETY: only the child calls this, and uses none of these descriptors afterwards.
    first > last || unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0
}

fn close_one_by_one(keep: RawFd) {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let descriptors: Vec<RawFd> =
        names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in descriptors.into_iter().filter(|&descriptor| descriptor > 2 && descriptor != keep) {
        // The one that read the directory is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it. It closes on exec.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    /// Waits as the loop does: for the pidfd.
    fn end(mut process: Process) -> End {
        let mut news = [PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut news, PollTimeout::from(20_000u16)), Ok(1), "it does not end");
        process.end().expect("it has ended")
    }

    fn descriptors() -> String {
        let names = std::fs::read_dir("/proc/self/fd").expect("fd").flatten();
        let mut names: Vec<i32> =
            names.map(|name| name.file_name().to_str().expect("text").parse().expect("a number")).collect();
        names.sort_unstable();
        // The last one read the directory.
        format!("{:?}", &names[..names.len() - 1])
    }

    #[test]
    fn a_process_reports_what_its_work_returns_and_leaves_nothing() {
        let process = Process::start("+work", || b"done".to_vec()).expect("forked");
        let pid = process.pid;
        assert_eq!(end(process), End::Report(b"done".to_vec()));
        assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH), "no zombie");
    }

    #[test]
    fn a_process_that_dies_says_by_what() {
        let abort = Process::start("+abort", || std::process::abort()).expect("forked");
        assert_eq!(end(abort), End::Signal(libc::SIGABRT));
        let killed = Process::start("+hang", || {
            loop {
                std::thread::sleep(std::time::Duration::MAX)
            }
        });
        let mut killed = killed.expect("forked");
        assert_eq!(killed.end(), None, "still there");
        kill(killed.pid, Signal::SIGKILL).expect("kill");
        assert_eq!(end(killed), End::Signal(libc::SIGKILL));
        assert_eq!(end(Process::start("+mute", Vec::new).expect("forked")), End::Silent);
    }

    #[test]
    fn a_process_keeps_nothing_open_but_what_it_needs() {
        let others: Vec<File> = (0..20).map(|_| File::open("/dev/null").expect("null")).collect();
        let by_range = Process::start("+fds", || descriptors().into_bytes()).expect("forked");
        let End::Report(by_range) = end(by_range) else { panic!("no report") };
        let by_range = String::from_utf8(by_range).expect("text");
        assert_eq!(by_range.matches(',').count(), 3, "0, 1, 2 and the pipe: {by_range}");
        // What an older kernel leaves open is closed, too.
        let one_by_one = Process::start("+old", || {
            let extra: Vec<File> = (0..20).map(|_| File::open("/dev/null").expect("null")).collect();
            let last = extra.last().expect("twenty").as_raw_fd();
            close_one_by_one(last);
            std::mem::forget(extra);
            // The pipe is closed as well: so the answer is the exit by a signal.
            if descriptors().matches(',').count() == 3 {
                std::process::abort()
            }
            Vec::new()
        });
        assert_eq!(end(one_by_one.expect("forked")), End::Signal(libc::SIGABRT));
        drop(others);
    }

    #[test]
    fn a_process_has_a_name_a_session_and_no_blocked_signals() {
        let work = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let line = |name: &str| {
                status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
            };
            let leader = nix::unistd::getsid(None) == Ok(nix::unistd::getpid());
            format!("{} {} {leader}", line("Name:"), line("SigBlk:")).into_bytes()
        };
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.thread_block().expect("blocked");
        let process = Process::start("+a_name_of_more_than_15_bytes", work).expect("forked");
        blocked.thread_unblock().expect("unblocked");
        let End::Report(report) = end(process) else { panic!("no report") };
        assert_eq!(String::from_utf8_lossy(&report), "+a_name_of_more 0000000000000000 true");
    }
}
