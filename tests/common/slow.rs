// SPDX-License-Identifier: MIT OR Apache-2.0
//! A load that takes its time: the module's file is a pipe that nobody has written to yet.

use std::fs;
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
        let children =
            fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).expect("children");
        let name = format!("+{}\n", self.module);
        let mut children = children.split_whitespace();
        let is_it =
            |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == name);
        let pid = children.find(is_it).unwrap_or_else(|| panic!("no process loads {}", self.module));
        Pid::from_raw(pid.parse().expect("a number"))
    }
}
