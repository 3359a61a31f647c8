// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process for one piece of work: its report or the signal that ended it, and what it has of the daemon's.

mod common;

use std::time::{Duration, Instant};

use addonce::daemon::fork::{End, Process};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::unistd::Pid;

/// Waits until it has ended.
fn end(mut process: Process) -> End {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match process.end() {
            Some(end) => return end,
            None => assert!(Instant::now() < deadline, "it does not end"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_process_reports_what_its_work_returns_and_leaves_nothing() {
    let process = Process::start("+work", || std::process::id().to_string().into()).expect("forked");
    let report = String::from_utf8(end(process).expect("a report")).expect("text");
    let pid = report.parse().expect("the PID that it reports");
    assert_eq!(kill(Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH), "no zombie");
}

#[test]
fn a_process_that_dies_says_by_what() {
    let abort = Process::start("+abort", || std::process::abort()).expect("forked");
    assert_eq!(end(abort), Err(libc::SIGABRT));
    let killed = Process::start("+killed", || {
        std::thread::sleep(Duration::from_millis(500));
        let _ = raise(Signal::SIGKILL);
        b"still there".to_vec()
    });
    let mut killed = killed.expect("forked");
    assert_eq!(killed.end(), None, "still there");
    assert_eq!(end(killed), Err(libc::SIGKILL));
    assert_eq!(end(Process::start("+mute", Vec::new).expect("forked")), Err(0));
}

#[test]
fn a_process_has_a_name_a_process_group_and_no_blocked_signals() {
    let work = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
        };
        let leader = nix::unistd::getpgrp() == nix::unistd::getpid();
        format!("{} {} {leader}", line("Name:"), line("SigBlk:")).into_bytes()
    };
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.thread_block().expect("blocked");
    let process = Process::start("+a_name_of_more_than_15_bytes", work).expect("forked");
    blocked.thread_unblock().expect("unblocked");
    let report = end(process).expect("a report");
    assert_eq!(String::from_utf8_lossy(&report), "+a_name_of_more 0000000000000000 true");
}

#[test]
fn a_load_has_the_priority_of_udevs_workers_whatever_the_daemons_is() {
    let thread = nix::unistd::gettid().to_string();
    let lowered = std::process::Command::new("renice").args(["-n", "-7", "-p", &thread]).output();
    if !lowered.is_ok_and(|output| output.status.success()) {
        return common::left_out::left_out("renice may not go below 0 here");
    }
    let nice = || {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("proc");
        // proc_pid_stat(5): the name is in parentheses, and this is the field 19.
        stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(16).map(str::to_owned))
    };
    assert_eq!(nice().as_deref(), Some("-7"));
    let process = Process::start("+nice", move || nice().unwrap_or_default().into()).expect("forked");
    assert_eq!(end(process), Ok(b"0".to_vec()));
}
