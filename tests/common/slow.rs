// SPDX-License-Identifier: MIT OR Apache-2.0
//! A load that takes its time: the module's file is a pipe that nobody has written to yet.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::fixture::Fixture;
use super::running::Running;

/// The load of a module that takes until it is let go.
pub struct Slow<'a> {
    fixture: &'a Fixture,
    module: &'a str,
}

impl<'a> Slow<'a> {
    pub fn new(fixture: &'a Fixture, module: &'a str) -> Self {
        fs::remove_file(fixture.file(module)).expect("remove");
        mkfifo(&fixture.file(module), Mode::S_IRWXU).expect("mkfifo");
        Self { fixture, module }
    }

    pub fn wait(&self, running: &Running) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while running.json(&["status", "--json"])["running"][0]["module"] != self.module {
            assert!(Instant::now() < deadline, "{} is not loading", self.module);
        }
    }

    pub fn let_go(&self) {
        fs::OpenOptions::new().write(true).open(self.fixture.file(self.module)).expect("a reader");
    }

    /// The process that loads it for this daemon.
    pub fn process(&self, daemon: u32) -> Pid {
        let name = format!("+{}\n", self.module);
        let is_it =
            |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == name);
        let deadline = Instant::now() + Duration::from_secs(20);
        let pid = loop {
            let path = format!("/proc/{daemon}/task/{daemon}/children");
            let children = fs::read_to_string(path).expect("children");
            if let Some(pid) = children.split_whitespace().find(|pid| is_it(pid)) {
                break pid.to_owned();
            }
            // It gives itself the name.
            assert!(Instant::now() < deadline, "no process loads {}", self.module);
        };
        Pid::from_raw(pid.parse().expect("a number"))
    }
}

impl Drop for Slow<'_> {
    /// Loads outlive their daemon, and are not to outlive the test.
    fn drop(&mut self) {
        let _ = fs::OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.fixture.file(self.module));
    }
}
