// SPDX-License-Identifier: MIT OR Apache-2.0
//! # addonce-load against a listener that does as it is told
//!
//! What it asks, and what becomes of it when the answer does not come: the program beside it is then a script. What it
//! finds without asking is tried in a mount namespace, with another modprobe.d and other modules in the places of the
//! machine's own.

#[path = "../../tests/common/left_out.rs"]
mod left_out;
#[path = "../../tests/common/namespace.rs"]
#[allow(dead_code)]
mod namespace;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use addonce::kmod::{Known, Tree};

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

/// Runs the body as root of a machine of its own: `modprobe.d` and `module` of the place are in /etc and /sys.
fn on_a_machine(test: &str, body: impl FnOnce(&Place)) {
    if namespace::depth().is_none() {
        return namespace::again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    let place = Place::new(test, "echo called >>calls");
    for (ours, theirs) in [("modprobe.d", "/etc/modprobe.d"), ("module", "/sys/module")] {
        let ours = place.0.join(ours);
        fs::create_dir_all(&ours).expect("mkdir");
        let mount = Command::new("mount").arg("--bind").arg(ours).arg(theirs).status();
        assert!(mount.expect("this test needs the program mount (util-linux)").success(), "{theirs}");
    }
    body(&place);
}

impl Place {
    fn set_state(&self, module: &str, state: &str) {
        let directory = self.0.join("module").join(module);
        fs::create_dir_all(&directory).expect("mkdir");
        fs::write(directory.join("initstate"), format!("{state}\n")).expect("write");
    }

    /// As who listened here would leave it.
    fn leave(&self, alias: &[u8], modules: &[&str]) {
        // What has just been changed may change again unseen.
        thread::sleep(Duration::from_millis(30));
        let stamp = Tree::new(None, None, None, Vec::new()).expect("a tree").stamp();
        let known = Known::beside(&self.0.join("socket"), &stamp).expect("nothing is being changed");
        known.add([(alias, modules.to_vec())]).expect("written");
    }

    /// Whether addonce was called for what is asked.
    fn calls_addonce(&self) -> bool {
        let before = self.calls();
        assert_eq!(self.run().status.code(), Some(0));
        self.calls() > before
    }
}

#[test]
fn where_nobody_listens_what_is_known_to_be_live_needs_nobody() {
    on_a_machine("where_nobody_listens_what_is_known_to_be_live_needs_nobody", |place| {
        place.leave(b"acpi:LNXCPU:", &["one", "two"]);
        assert!(place.calls_addonce(), "known, and not loaded");
        place.set_state("one", "live");
        assert!(place.calls_addonce(), "one of two");
        place.set_state("two", "coming");
        assert!(place.calls_addonce(), "on its way in");
        place.set_state("two", "live");
        assert!(!place.calls_addonce(), "both are live");
        fs::remove_dir_all(place.0.join("module/two")).expect("remove");
        assert!(place.calls_addonce(), "one was unloaded");
        place.leave(b"acpi:LNXCPU:", &[]);
        assert!(!place.calls_addonce(), "there is nothing to load");
    });
}

#[test]
fn what_is_not_known_or_void_is_addonces_work() {
    on_a_machine("what_is_not_known_or_void_is_addonces_work", |place| {
        assert!(place.calls_addonce(), "nothing is known");
        place.leave(b"acpi:LNXCPU", &[]);
        assert!(place.calls_addonce(), "another modalias");
        place.leave(b"acpi:LNXCPU:", &[]);
        assert!(!place.calls_addonce());
        fs::write(Path::new("/etc/modprobe.d/a.conf"), "blacklist one\n").expect("write");
        assert!(place.calls_addonce(), "the configuration changed");
        place.leave(b"acpi:LNXCPU:", &[]);
        assert!(!place.calls_addonce());
        fs::write(place.0.join("known"), b"\xff\0garbage").expect("write");
        assert!(place.calls_addonce(), "garbage");
    });
}

#[test]
fn what_is_known_by_a_strangers_file_is_not_believed() {
    namespace::as_user("what_is_known_by_a_strangers_file_is_not_believed", || {
        let place = Place::new("stranger", "echo called >>calls");
        place.leave(b"acpi:LNXCPU:", &[]);
        assert!(place.calls_addonce());
    });
}
