// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce load`: asks the daemon. Nothing is inserted here: the loader only says what it would do.

mod common;

use common::fixture::Fixture;
use common::namespace::alone;
use common::running::{Running, addonce};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_daemon_that_starts_takes_over_and_is_asked() {
    alone("a_daemon_that_starts_takes_over_and_is_asked", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let output = running.ask(&["load", "fx_top"]);
        assert_eq!(text(&output.stdout), "fx_top: live\n");
        assert!(!text(&output.stderr).contains("add_once"), "the daemon's work is the daemon's: {output:?}");
    });
}

#[test]
fn without_a_daemon_and_where_none_can_be_started_it_says_so() {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut command = addonce();
    command.args(["load", "fx_top", "--socket"]).arg(directory.path().join("io.addonce"));
    let output = command.output().expect("addonce");
    // Here are no modules to load, or we may not: what is told is no way that ends in the same.
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(!text(&output.stderr).contains("start one with"), "{output:?}");
    assert!(text(&output.stderr).lines().count() > 1, "it says why, too: {output:?}");
}
