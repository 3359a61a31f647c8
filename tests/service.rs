// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Service: a daemon whose sockets are a supervisor's
//!
//! Both sockets outlive the daemon, so nothing that comes while it is replaced is lost; and the supervisor is told how the
//! daemon is. A load that takes its time is one whose file is a pipe that nobody has written to yet.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use common::fixture::Fixture;
use common::flood::event;
use common::namespace::alone;
use common::running::{Running, addonce};
use common::sender::Sender;
use common::slow::Slow;
use common::supervisor::Supervisor;
use nix::sys::signal::Signal;
use tempfile::TempDir;

fn appear(devpath: &str, modalias: &str) {
    Sender::open().expect("a sender").inject(&event(devpath, modalias.as_bytes())).expect("injected");
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("tempdir")
}

fn ask(socket: &Path, arguments: &[&str]) -> Child {
    let mut command = addonce();
    command.args(arguments).arg("--socket").arg(socket);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("addonce")
}

fn answer(child: Child) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = child.wait_with_output().expect("addonce");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned())
}

#[test]
fn sockets_are_told_apart_by_what_they_are_and_clients_wait_for_the_daemon() {
    alone("sockets_are_told_apart_by_what_they_are_and_clients_wait_for_the_daemon", || {
        let fixture = Fixture::build("semantics");
        for uevents_first in [true, false] {
            let directory = directory();
            let supervisor = Supervisor::listen(&directory);
            appear("/devices/x", "fxopt:1");
            // Nobody runs yet: to load by itself would be to take the supervisor's place.
            let mut early = ask(supervisor.path(), &["load", "fx_top"]);
            std::thread::sleep(Duration::from_millis(200));
            assert!(early.try_wait().expect("wait").is_none(), "it waits");
            assert!(!directory.path().join("lock").exists());
            let running =
                Running::start_in(directory, supervisor.addonce(uevents_first), "debug", &fixture.flags());
            assert_eq!(answer(early), (Some(0), "fx_top: live\n".into()));
            let status = running.settled();
            assert_eq!((&status["uevents"]["read"], &status["live"]), (&1.into(), &4.into()), "{status:#}");
            let directory = running.end(Signal::SIGTERM);
            assert!(directory.path().join("io.addonce").exists(), "it is the supervisor's");
            UnixStream::connect(supervisor.path()).expect("it still listens");
        }
    });
}

#[test]
fn what_comes_after_a_sigterm_is_the_next_daemons() {
    alone("what_comes_after_a_sigterm_is_the_next_daemons", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let directory = directory();
        let supervisor = Supervisor::listen(&directory);
        let start =
            |directory| Running::start_in(directory, supervisor.addonce(true), "debug", &fixture.flags());
        let mut running = start(directory);
        appear("/devices/x", "fxopt:1");
        slow.wait(&running);
        let waiting = ask(supervisor.path(), &["load", "fxopt:1"]);
        while running.json(&["status", "--json"])["requests"] != 2 {}
        running.signal(Signal::SIGTERM);
        running.wait_for("SIGTERM: stopping, 1 loads are still running");
        let lock = std::fs::read_to_string(running.directory().join("lock")).expect("a lock");
        assert_eq!(lock, format!("{}\nends\n", running.id()), "programs are told to do without");
        let mut beside = addonce();
        beside.args(["daemon", "--dry-run", "--socket"]).arg(supervisor.path()).args(fixture.flags());
        let said = beside.output().expect("addonce").stderr;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(&format!("another daemon (PID {}, which ends)", running.id())), "{said}");
        (0..20).for_each(|n| appear(&format!("/devices/late{n}"), "fxblack:1"));
        let late = ask(supervisor.path(), &["load", "fx_twin"]);
        std::thread::sleep(Duration::from_millis(100));
        slow.let_go();
        assert_eq!(answer(waiting), (Some(0), "fx_opt: live\n".into()), "what has landed is answered");
        let mut running = start(running.end(Signal::SIGTERM));
        assert_eq!(answer(late), (Some(0), "fx_twin: live\n".into()));
        assert_eq!(running.settled()["uevents"]["read"], 20);
        running.signal(Signal::SIGHUP);
        running.wait_for("SIGHUP: stopping, 0 loads are still running");
    });
}

/// A tree, and a supervisor that listens where no daemon runs.
fn supervised() -> (Fixture, tempfile::TempDir, Supervisor) {
    let directory = directory();
    let supervisor = Supervisor::listen(&directory);
    (Fixture::build("semantics"), directory, supervisor)
}

#[test]
fn a_daemon_by_hand_does_not_take_a_supervisors_socket() {
    alone("a_daemon_by_hand_does_not_take_a_supervisors_socket", || {
        let (fixture, _directory, supervisor) = supervised();
        let mut command = addonce();
        command.args(["daemon", "--dry-run", "--socket"]).arg(supervisor.path()).args(fixture.flags());
        let output = command.output().expect("addonce");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{error}");
        assert!(error.contains("systemctl stop addonce.socket"), "{error}");
        UnixStream::connect(supervisor.path()).expect("it still listens");
    });
}

#[test]
fn a_stop_waits_for_what_runs_and_for_nothing_that_would_come_after_it() {
    alone("a_stop_waits_for_what_runs_and_for_nothing_that_would_come_after_it", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_base");
        let running = Running::start(&fixture.flags());
        appear("/devices/x", "fxbus:topmost");
        slow.wait(&running);
        running.signal(Signal::SIGTERM);
        let began = Instant::now();
        slow.let_go();
        let log = running.stop();
        assert!(began.elapsed() < Duration::from_secs(5), "fx_mid would have been next: {log:#?}");
        assert!(!log.iter().any(|line| line.contains("is still loading")), "{log:#?}");
        let left =
            log.iter().find(|line| line.contains("asked for and not begun, left to the next daemon: "));
        assert!(left.is_some_and(|line| line.ends_with(": fx_mid fx_top fx_twin")), "{log:#?}");
    });
}

#[test]
fn a_stop_waits_no_longer_than_it_may_and_who_has_no_answer_is_disconnected() {
    alone("a_stop_waits_no_longer_than_it_may_and_who_has_no_answer_is_disconnected", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&[fixture.flags(), vec!["--stop-timeout=1".into()]].concat());
        let mut client = UnixStream::connect(running.socket()).expect("connect");
        let call = b"{\"method\":\"io.addonce.Load\",\"parameters\":{\"alias\":\"fx_opt\"}}\0";
        client.write_all(call).expect("write");
        slow.wait(&running);
        // A promise of later is nothing to stay for, either.
        appear("/devices/x", "fx_gone");
        let log = running.stop();
        assert!(log.iter().any(|line| line.contains("fx_opt is still loading")), "{log:#?}");
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).expect("the end");
        assert!(reply.is_empty());
    });
}

/// What a daemon says to the manager that started it, until it says this.
fn heard(manager: &UnixDatagram, until: &str) -> Vec<String> {
    manager.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    let (mut said, mut bytes) = (Vec::new(), [0; 512]);
    loop {
        let read = manager.recv(&mut bytes).unwrap_or_else(|error| panic!("no {until}: {error}: {said:#?}"));
        said.push(String::from_utf8_lossy(&bytes[..read]).into_owned());
        if said.last().is_some_and(|message| message.starts_with(until)) {
            return said;
        }
    }
}

#[test]
fn a_service_manager_is_told_of_every_change() {
    alone("a_service_manager_is_told_of_every_change", || {
        let (fixture, place) = (Fixture::build("semantics"), directory());
        let address = place.path().join("notify");
        let manager = UnixDatagram::bind(&address).expect("bind");
        let mut command = addonce();
        command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "400000");
        let running = Running::start_by(command, "debug", &fixture.flags());
        assert_eq!(heard(&manager, "READY=1").len(), 1, "first of all");
        running.ask(&["load", "fx_top"]);
        heard(&manager, "STATUS=3 modules live, 0 failed, 0 loading");
        let began = Instant::now();
        (0..4).for_each(|_| drop(heard(&manager, "WATCHDOG=1")));
        assert!(began.elapsed() > Duration::from_millis(500), "no more often than every 200 ms");
        running.signal(Signal::SIGTERM);
        heard(&manager, "STOPPING=1");
    });
}
