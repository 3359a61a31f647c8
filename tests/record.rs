// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures on their way out of the kernel and into the core.

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use addonce::uevent::capture::{Reader, Record, Writer};
use addonce::uevent::message::parse;
use common::fixture::Fixture;
use common::flood::{Flood, event};
use common::namespace::alone;
use common::proc::uevent_socket;
use common::running::addonce;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A recorder that records, and its log from there on.
fn recorder(arguments: &[&str], out: Stdio) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child =
        addonce().arg("record").args(arguments).stdout(out).stderr(Stdio::piped()).spawn().expect("addonce");
    let mut log = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    log.read_line(&mut line).expect("a line");
    assert!(line.contains("recording uevents to"), "{line}");
    (child, log)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("kill");
}

fn rest(mut log: BufReader<std::process::ChildStderr>) -> String {
    let mut text = String::new();
    log.read_to_string(&mut text).expect("text");
    text
}

fn records(path: &Path) -> Vec<Record> {
    Reader::new(BufReader::new(File::open(path).expect("a capture")))
        .expect("a head")
        .map(Result::unwrap)
        .collect()
}

/// Waits until so many records stand in the file.
fn wait_for_records(path: &Path, count: usize) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(path).unwrap_or_default().matches(" SEQNUM=").count() < count {
        assert!(std::time::Instant::now() < deadline, "{count} records do not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn replay(arguments: &[&str]) -> Output {
    addonce().arg("replay").args(arguments).output().expect("addonce")
}

fn capture_of(path: &Path, datagrams: &[(u64, Vec<u8>)]) {
    let mut writer = Writer::new(File::create(path).expect("create")).expect("write");
    for (millis, datagram) in datagrams {
        writer.write(Duration::from_millis(*millis), datagram).expect("write");
    }
}

fn numbered(devpath: &str, modalias: &str, seqnum: u64) -> Vec<u8> {
    [event(devpath, modalias.as_bytes()), format!("SEQNUM={seqnum}\0").into_bytes()].concat()
}

#[test]
fn what_the_kernel_announces_stands_in_the_file_until_a_signal_ends_it() {
    alone("what_the_kernel_announces_stands_in_the_file_until_a_signal_ends_it", || {
        let directory = tempfile::tempdir().unwrap();
        for end in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
            let path = directory.path().join("storm.capture");
            let (mut child, log) = recorder(&[path.to_str().unwrap()], Stdio::null());
            Flood::Hostile.inject(0..20).unwrap();
            wait_for_records(&path, 20);
            signal(&child, end);
            let status = child.wait().unwrap();
            if end == Signal::SIGKILL {
                assert_eq!(status.signal(), Some(9));
            } else {
                assert!(status.success());
                assert!(rest(log).contains("20 uevents were recorded"));
            }
            let records = records(&path);
            for (n, record) in records.iter().enumerate() {
                let uevent = parse(&record.datagram).unwrap();
                assert_eq!(uevent.modalias, Some(&*Flood::Hostile.modalias(n as u64)));
            }
            assert_eq!(records.len(), 20);
            assert!(records.is_sorted_by_key(|record| record.at));
        }
    });
}

#[test]
fn a_recording_that_cannot_begin_leaves_the_last_one() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("capture");
    fs::write(&path, "precious").expect("write");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" record \"$1\""]);
    let output = shell.arg(addonce().get_program()).arg(&path).output().expect("sh");
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
}

#[test]
fn a_recording_ends_at_its_bound() {
    alone("a_recording_ends_at_its_bound", || {
        let (mut child, log) = recorder(&["-", "--count=3"], Stdio::piped());
        Flood::Cpus.inject(0..5).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(rest(log).contains("3 uevents were recorded"));
        let out = BufReader::new(child.stdout.take().unwrap());
        assert_eq!(Reader::new(out).unwrap().map(Result::unwrap).count(), 3);
    });
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_recording_without_a_word() {
    alone("a_reader_that_has_seen_enough_ends_the_recording_without_a_word", || {
        let (mut child, log) = recorder(&["-"], Stdio::piped());
        drop(child.stdout.take());
        Flood::Cpus.inject(0..2).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(!rest(log).contains("Broken pipe"));
    });
}

#[test]
fn what_a_recording_lost_is_said() {
    alone("what_a_recording_lost_is_said", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("storm.capture");
        let (mut child, log) = recorder(&[path.to_str().unwrap(), "--receive-buffer=16384"], Stdio::null());
        signal(&child, Signal::SIGSTOP);
        Flood::Cpus.inject(0..500).unwrap();
        let lost = uevent_socket(child.id()).drops;
        assert!(lost > 400);
        signal(&child, Signal::SIGCONT);
        wait_for_records(&path, 500 - lost as usize);
        signal(&child, Signal::SIGTERM);
        assert!(child.wait().unwrap().success());
        assert_eq!(records(&path).len(), 500 - lost as usize);
        let log = rest(log);
        assert!(
            log.contains(&format!("{lost} uevents were dropped")) && log.contains("--receive-buffer"),
            "{log}"
        );
    });
}

#[test]
fn a_capture_that_was_cut_off_is_replayed_as_far_as_it_goes_and_that_is_said() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("storm.capture");
    capture_of(
        &capture,
        &[(0, numbered("/devices/x", "fxopt:1", 1)), (1, numbered("/devices/y", "fxnone:1", 2))],
    );
    let whole = fs::read(&capture).unwrap();
    fs::write(&capture, &whole[..whole.len() - 3]).unwrap();
    let flags = fixture.flags();
    let arguments = [capture.to_str().unwrap()].into_iter().chain(flags.iter().map(String::as_str));
    let output = replay(&arguments.collect::<Vec<_>>());
    assert!(output.status.success(), "{output:?}");
    let [text, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(text.contains("add_once fx_opt live"), "{text}");
    assert!(said.contains("line 3, the last, does not end: the capture was cut off"), "{said}");
}

#[test]
fn a_replay_resolves_by_the_tree_and_answers_as_declared() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let directory = tempfile::tempdir().unwrap();
    let [capture, answers] = ["storm.capture", "answers"].map(|name| directory.path().join(name));
    // Out of order, with gaps, one not understood, and somebody else's loader at work.
    let mut events: Vec<(u64, Vec<u8>)> =
        (0..100).map(|n| (n, numbered(&format!("/devices/{n}"), "fxbus:topmost", 1000 - 3 * n))).collect();
    events.push((200, numbered("/devices/x", "fxnone:1", 7)));
    events.push((201, b"add@relative\0ACTION=add\0".to_vec()));
    events.push((
        202,
        b"add@/module/fx_opt\0ACTION=add\0DEVPATH=/module/fx_opt\0SUBSYSTEM=module\0SEQNUM=8\0".to_vec(),
    ));
    events.push((2500, numbered("/devices/y", "fxopt:1", 9)));
    capture_of(&capture, &events);
    fs::write(&answers, "fx_twin => ENODEV\nfx_mid takes 40\nfx_opt takes 3000\n").unwrap();
    let flags = fixture.flags();
    let run = |more: &[&str]| {
        let arguments: Vec<&str> = [capture.to_str().unwrap(), "--kernel-answers", answers.to_str().unwrap()]
            .into_iter()
            .chain(flags.iter().map(String::as_str))
            .chain(more.iter().copied())
            .collect();
        let output = replay(&arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&[]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.iter().any(|line| line
            .starts_with("add_once fx_mid live asked=40 waited=0.0ms load=40.0ms pulled_in_by=fx_top")),
        "{text}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("add_once fx_twin failed errno=ENODEV stage=insert")),
        "{text}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("add_once fx_opt live asked=1 waited=0.0ms load=3000.0ms")),
        "{text}"
    );
    // The devices are genuine: those that appeared after the failure are worth a second attempt, together.
    let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    for (key, value) in [
        ("uevents", 104),
        ("malformed", 1),
        ("requests", 102),
        ("no_module", 1),
        ("attempts", 6),
        ("live", 4),
        ("failed", 2),
    ] {
        assert_eq!(json[key], value, "{key}: {json:#}");
    }
    let landings = json["add_once"].as_array().unwrap();
    let twin = landings.iter().find(|landing| landing["module"] == "fx_twin").unwrap();
    assert_eq!((&twin["errno"], &twin["stage"]), (&libc::ENODEV.into(), &"insert".into()));
    assert!(
        lines.last().unwrap().starts_with("replay: 104 uevents in 2.5 s, 1 not understood: 102 requests"),
        "{text}"
    );
    assert_eq!(text, run(&[]), "the same every time");
}

#[test]
fn what_cannot_be_read_is_named_with_file_and_line() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, contents: &str| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = path("good", "addonce-capture 1\n");
    let flags = fixture.flags();
    let refused = |arguments: &[&str], words: &[&str]| {
        let output = replay(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error}");
        }
        assert!(output.stdout.is_empty());
    };
    let with_tree = |file: &str, words: &[&str]| {
        let arguments: Vec<&str> = [file].into_iter().chain(flags.iter().map(String::as_str)).collect();
        refused(&arguments, words);
    };
    with_tree(&path("other", "something else\n"), &["other: line 1:", "addonce-capture 1"]);
    with_tree(&path("time", "addonce-capture 1\n\nadd@/d\n"), &["time: line 3:", "time in seconds"]);
    with_tree(&path("byte", "addonce-capture 1\n\n0 add@/d X=\u{ff}\n"), &["byte: line 3:", "\\xc3"]);
    with_tree("/nowhere/x.capture", &["/nowhere/x.capture"]);
    let wrong = path("wrong", "fx-top takes 5 # ms\nfx_base => ENOSUCH\n");
    let answered = |answers: &str, words: &[&str]| {
        let answers = ["--kernel-answers", answers];
        let flags = flags.iter().map(String::as_str);
        refused(&[&good[..]].into_iter().chain(answers).chain(flags).collect::<Vec<_>>(), words);
    };
    answered(&wrong, &["wrong: line 2:", "no such errno", "ENOSUCH"]);
    answered(&path("odd", "# comment\n\na needs b\n"), &["odd: line 3: no such statement: a needs b"]);
    let unknown = path("unknown", "fx-top is live\nfx_tip is live\n");
    answered(&unknown, &["unknown: line 2: this tree has no such module: fx_tip is live"]);
    answered("/nowhere/answers", &["/nowhere/answers"]);
}
