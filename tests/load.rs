// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Load: the rule program, without a daemon
//!
//! udev runs one process per event. Without a daemon the first of them does a daemon's work and the others are its
//! clients; nothing is loaded twice, and nobody is left without an answer. Nothing is inserted here: the loader only
//! says what it would do.

mod common;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::fixture::Fixture;
use common::namespace::alone;
use common::running::{Running, addonce};

struct Place {
    fixture: Fixture,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { fixture: Fixture::build("semantics"), directory: tempfile::tempdir().expect("tempdir") }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("io.addonce")
    }

    fn load(&self, alias: &str) -> Command {
        let mut command = addonce();
        command.args(["load", alias, "--dry-run", "--socket"]).arg(self.socket()).args(self.fixture.flags());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_a_daemon_it_does_the_work_itself_and_leaves_nothing_behind() {
    alone("without_a_daemon_it_does_the_work_itself_and_leaves_nothing_behind", || {
        let place = Place::new();
        let output = place.load("fx_top").output().expect("addonce");
        assert_eq!(text(&output.stdout), "fx_top: live\n", "{output:?}");
        assert!(text(&output.stderr).contains("add_once fx_base live"), "{output:?}");
        assert!(!place.socket().exists());
        let output = place.load("fx_gone").output().expect("addonce");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stdout).contains("fx_gone: failed: its file cannot be read"), "{output:?}");
    });
}

#[test]
fn forty_at_once_load_each_module_once() {
    alone("forty_at_once_load_each_module_once", || {
        let place = Place::new();
        let children: Vec<_> = (0..40)
            .map(|n| {
                let mut load = place.load("fxbus:topmost");
                load.env("ACTION", "add").env("DEVPATH", format!("/devices/cpu{n}")).env("SYNTH_UUID", "0");
                load.spawn().expect("addonce")
            })
            .collect();
        let outputs: Vec<Output> =
            children.into_iter().map(|child| child.wait_with_output().expect("addonce")).collect();
        for output in &outputs {
            assert!(output.status.success(), "{output:?}");
            assert!(text(&output.stdout).contains("fx_top: live"), "{output:?}");
        }
        // However many of them served one after the other, each knows what is live only from the kernel, and nothing
        // is inserted here: so the landings are as many as the servers, and no server landed a module twice.
        for output in &outputs {
            let landings =
                text(&output.stderr).lines().filter(|line| line.contains("add_once fx_top ")).count();
            assert!(landings <= 1, "{output:?}");
        }
    });
}

#[test]
fn a_daemon_that_starts_takes_over_and_is_asked() {
    alone("a_daemon_that_starts_takes_over_and_is_asked", || {
        let place = Place::new();
        let running = Running::start(&place.fixture.flags());
        let output = running.ask(&["load", "fx_top"]);
        assert_eq!(text(&output.stdout), "fx_top: live\n");
        assert!(!text(&output.stderr).contains("add_once"), "the daemon's work is the daemon's: {output:?}");
    });
}

#[test]
fn who_is_not_root_is_told_that_there_is_no_daemon() {
    common::namespace::as_user("who_is_not_root_is_told_that_there_is_no_daemon", || {
        let place = Place::new();
        let output = place.load("fx_top").output().expect("addonce");
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains("no daemon listens here"), "{output:?}");
    });
}
