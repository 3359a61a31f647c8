// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a daemon knows of those before it.
//!
//! The module that fails is fx_gone, whose file is not there, so it fails although nothing is inserted here.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use common::fixture::Fixture;
use common::flood::event;
use common::namespace::alone;
use common::running::{Running, addonce};
use common::sender::Sender;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than the backoff after a first failure, and than the pause between two writes.
const A_WHILE: Duration = Duration::from_millis(1200);

/// `udevadm trigger`, for one device.
fn trigger(sender: &mut Sender, device: &str) {
    let event = [&event(device, b"fx_gone")[..], b"SYNTH_UUID=0\0"].concat();
    sender.inject(&event).expect("injected");
}

fn start_in(directory: TempDir, fixture: &Fixture) -> Running {
    Running::start_in(directory, addonce(), "info", &fixture.flags())
}

/// The directory of a daemon that remembers that fx_gone failed.
fn failed(fixture: &Fixture) -> TempDir {
    let running = Running::start(&fixture.flags());
    trigger(&mut Sender::open().expect("a sender"), "/devices/cpu0");
    assert_eq!(running.settled()["attempts"], 1);
    running.end(Signal::SIGKILL)
}

fn remembered(status: &Value) -> (&Value, &Value) {
    (&status["attempts"], &status["remembered"])
}

#[test]
fn a_daemon_that_was_killed_goes_on_where_it_ended() {
    alone("a_daemon_that_was_killed_goes_on_where_it_ended", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let mut sender = Sender::open().expect("a sender");
        trigger(&mut sender, "/devices/cpu0");
        running.settle();
        trigger(&mut sender, "/devices/cpu1");
        assert_eq!(running.settled()["attempts"], 1);
        std::thread::sleep(A_WHILE);
        let state = running.directory().join("state.json");
        assert_eq!(fs::metadata(&state).expect("state.json").permissions().mode() & 0o777, 0o600);
        let directory = running.end(Signal::SIGKILL);

        let running = start_in(directory, &fixture);
        assert!(running.log.iter().any(|line| line.contains("1 failed modules are remembered")));
        trigger(&mut sender, "/devices/cpu2");
        let status = running.settled();
        assert_eq!(
            remembered(&status),
            (&0.into(), &1.into()),
            "another device of the same storm: {status:#}"
        );
        assert_eq!(status["duplicates"]["failed"], 1);
        assert!(status["uptime_ms"].as_u64().is_some_and(|ms| ms < 60_000), "not since the boot: {status:#}");
        // Who asked before the restart asks again now.
        trigger(&mut sender, "/devices/cpu1");
        let status = running.settled();
        assert_eq!(remembered(&status), (&1.into(), &1.into()), "{status:#}");
        let failures = running.json(&["failed", "--json"]);
        assert_eq!(failures["failures"][0]["attempts"], 2, "in a row: {failures:#}");
    });
}

#[test]
fn a_daemon_that_was_stopped_leaves_all_it_knows() {
    alone("a_daemon_that_was_stopped_leaves_all_it_knows", || {
        let fixture = Fixture::build("semantics");
        let running = start_in(failed(&fixture), &fixture);
        let mut sender = Sender::open().expect("a sender");
        // More than are written at once.
        for cpu in 1..=9 {
            trigger(&mut sender, &format!("/devices/cpu{cpu}"));
            running.settle();
        }
        let directory = running.end(Signal::SIGTERM);
        let state = fs::read(directory.path().join("state.json")).expect("state.json");
        let state: Value = serde_json::from_slice(&state).expect("JSON");
        let [module, failure] = [0, 1].map(|at| &state["memory"]["failures"][0][at]);
        let devices = failure["requesters"]["devices"].as_object().map(serde_json::Map::len);
        assert_eq!((module, devices), (&"fx_gone".into(), Some(10)), "{state:#}");
    });
}

#[test]
fn a_fix_between_two_daemons_is_seen() {
    alone("a_fix_between_two_daemons_is_seen", || {
        let fixture = Fixture::build("semantics");
        let directory = failed(&fixture);
        fs::copy(fixture.file("fx_opt"), fixture.file("fx_gone")).expect("copy");
        let running = start_in(directory, &fixture);
        trigger(&mut Sender::open().expect("a sender"), "/devices/cpu1");
        let status = running.settled();
        assert_eq!((&status["live"], &status["remembered"]), (&1.into(), &0.into()), "{status:#}");
    });
}

/// What is in the way of a daemon, what it says of it, and whether that is worth a warning.
type InTheWay = (&'static str, fn(&Path), &'static str, bool);

#[test]
fn a_file_that_is_of_no_use_is_one_line_and_an_empty_memory() {
    alone("a_file_that_is_of_no_use_is_one_line_and_an_empty_memory", || {
        let cases: [InTheWay; 7] = [
            ("another boot", |path| edit(path, "boot", "another"), "another boot's", false),
            ("another format", |path| edit(path, "format", 1_000_000), "another boot's or version's", false),
            ("no dry run", |path| edit(path, "dry_run", false), "only one of us makes a dry run", false),
            ("garbage", |path| fs::write(path, b"\xff\0garbage").expect("write"), "expected value", true),
            ("half of it", halve, "EOF", true),
            ("a heap", |path| fs::write(path, vec![b' '; 17 << 20]).expect("write"), "larger than", true),
            ("a directory", |path| drop((fs::remove_file(path), fs::create_dir(path))), "directory", true),
        ];
        let fixture = Fixture::build("semantics");
        let mut directory = failed(&fixture);
        for (what, put, said, is_warning) in cases {
            let place = directory.path().join("state.json");
            put(&place);
            let mut sender = Sender::open().expect("a sender");
            let running = start_in(directory, &fixture);
            trigger(&mut sender, "/devices/cpu0");
            let status = running.settled();
            assert_eq!(remembered(&status), (&1.into(), &1.into()), "{what}: {status:#}");
            std::thread::sleep(Duration::from_millis(50));
            let lines: Vec<&String> = running.log.iter().filter(|line| line.contains("state.json")).collect();
            assert!(lines.len() == 1 && lines[0].contains(said), "{what}: {lines:#?}");
            assert_eq!(lines[0].contains(".broken"), is_warning, "{what}: {lines:#?}");
            let text = fs::read_to_string(&place).expect("a file again");
            assert!(text.contains("fx_gone"), "{what}: {text}");
            directory = running.end(Signal::SIGKILL);
        }
    });
}

/// Replaces one field of the file's head.
fn edit(path: &Path, field: &str, value: impl Into<Value>) {
    let mut content: Value = serde_json::from_slice(&fs::read(path).expect("state.json")).expect("JSON");
    assert!(content.get(field).is_some(), "{content:#}");
    content[field] = value.into();
    fs::write(path, content.to_string()).expect("write");
}

fn halve(path: &Path) {
    let text = fs::read(path).expect("state.json");
    fs::write(path, &text[..text.len() / 2]).expect("write");
}
