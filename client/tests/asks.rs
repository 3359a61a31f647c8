// SPDX-License-Identifier: MIT OR Apache-2.0
//! # addonce-load against a listener that does as it is told
//!
//! What it asks, and what becomes of it when the answer does not come: the program beside it is then a script.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// A file that is still open for writing in a child of another test's cannot be executed: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A directory with the program, a script in addonce's place, and a socket.
struct Place(PathBuf, #[allow(dead_code)] MutexGuard<'static, ()>);

impl Place {
    fn new(name: &str, script: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("mkdir");
        fs::copy(env!("CARGO_BIN_EXE_addonce-load"), directory.join("addonce-load")).expect("copy");
        let addonce = directory.join("addonce");
        fs::write(&addonce, format!("#!/bin/sh\ncd {}\n{script}\n", directory.display())).expect("write");
        fs::set_permissions(&addonce, fs::Permissions::from_mode(0o755)).expect("chmod");
        Self(directory, alone)
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.0.join("socket")).expect("bind")
    }

    fn run(&self) -> Output {
        let mut command = Command::new(self.0.join("addonce-load"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("ADDONCE_SOCKET", self.0.join("socket"));
        command.env("MODALIAS", "acpi:LNXCPU:").env("DEVPATH", "/devices/cpu0").env("ACTION", "add");
        command.output().expect("it runs")
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.0.join("calls")).unwrap_or_default().lines().count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn message(stream: &mut UnixStream) -> String {
    let (mut message, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).expect("read") == 1 && byte[0] != 0 {
        message.push(byte[0]);
    }
    String::from_utf8(message).expect("JSON")
}

#[test]
fn it_asks_for_its_device_and_goes_when_it_is_answered() {
    let place = Place::new("answered", "echo called >>calls");
    let listener = place.listen();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let asked = message(&mut stream);
        let reply = r#"{"parameters":{"answers":[{"module":"a","state":"failed","error":"ENODEV"}]}}"#;
        stream.write_all(format!("{reply}\0").as_bytes()).expect("write");
        asked
    });
    assert_eq!(place.run().status.code(), Some(0), "a module's failure is none of udev's business");
    let asked = daemon.join().expect("a daemon");
    assert!(asked.contains(r#""alias":"acpi:LNXCPU:","devpath":"/devices/cpu0","genuine":true"#), "{asked}");
    assert_eq!(place.calls(), 0);
}

#[test]
fn where_nobody_listens_or_the_daemon_goes_addonce_does_the_work() {
    let place = Place::new("alone", "echo called >>calls; exit 1");
    assert_eq!(place.run().status.code(), Some(0));
    assert_eq!(place.calls(), 1);
    let listener = place.listen();
    let daemon = thread::spawn(move || drop(listener.accept().map(|(mut stream, _)| message(&mut stream))));
    assert_eq!(place.run().status.code(), Some(0));
    daemon.join().expect("a daemon");
    assert_eq!(place.calls(), 2);
}

#[test]
fn who_does_the_work_may_be_killed_and_is_begun_anew() {
    let place = Place::new("killed", "echo called >>calls; [ $(wc -l <calls) -ge 3 ] || kill -9 $$");
    assert_eq!(place.run().status.code(), Some(0));
    assert_eq!(place.calls(), 3);
}

#[test]
fn without_addonce_or_a_modalias_it_says_so() {
    let place = Place::new("nothing", "");
    fs::remove_file(place.0.join("addonce")).expect("remove");
    let output = place.run();
    assert_eq!(output.status.code(), Some(5));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("install addonce beside this program"),
        "{output:?}"
    );
    let output = Command::new(place.0.join("addonce-load")).env_clear().output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no MODALIAS"), "{output:?}");
}
