// SPDX-License-Identifier: MIT OR Apache-2.0
//! One daemon at a time, and `addonce serve`: a daemon for the occasion. Nothing is inserted: the loader only says what it would do.

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use addonce::control::lock;
use addonce::fatal::Fatal;
use addonce::uevent::message::parse;
use addonce::uevent::netlink::{BUFFER, Netlink, Received};
use common::devices::Devices;
use common::fixture::{Fixture, TOOLS};
use common::flood::event;
use common::namespace::{alone, with_udev};
use common::running::addonce;
use common::sender::Sender;
use common::tool::have;
use common::udev::Udevd;
use nix::fcntl::Flock;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(30);

struct Place {
    fixture: Fixture,
    devices: Devices,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let devices = Devices::none();
        std::fs::create_dir_all(devices.path().join("module/kernel")).unwrap();
        std::fs::write(devices.path().join("module/kernel/uevent"), "").unwrap();
        Self { fixture: Fixture::build("semantics"), devices, directory: tempfile::tempdir().unwrap() }
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut addonce = addonce();
        addonce.args(command).arg("--socket").arg(self.directory.path().join("io.addonce"));
        addonce.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        addonce
    }

    fn serve(&self) -> Command {
        let mut serve = self.command(&["serve", "--dry-run"]);
        serve.args(self.fixture.flags()).arg(self.devices.flag()).env_remove("SEQNUM");
        serve
    }

    fn wait_for_socket(&self) {
        let socket = self.directory.path().join("io.addonce");
        until("somebody listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }

    fn status(&self) -> serde_json::Value {
        let output = self.command(&["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of a process that has to end well, and returns what it said.
fn ended(mut child: Child) -> String {
    until("it ends", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_is_at_its_path_and_no_socket_is_left_alone() {
    let place = Place::new();
    let path = place.directory.path().join("io.addonce");
    std::fs::write(&path, "precious").unwrap();
    let output = place.serve().output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("io.addonce: cannot listen here: there is something that is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

/// A lock, say: it outlives whoever started it.
#[test]
fn what_its_starter_has_open_it_does_not_keep() {
    alone("what_its_starter_has_open_it_does_not_keep", || {
        let place = Place::new();
        let theirs = place.directory.path().join("theirs");
        let serve = place.serve();
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 9>$0 \"$@\""]).arg(&theirs).arg(serve.get_program()).args(serve.get_args());
        let mut serve =
            shell.env_remove("SEQNUM").stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        place.wait_for_socket();
        let open = std::fs::read_dir(format!("/proc/{}/fd", serve.id())).unwrap();
        let open: Vec<_> = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
        assert!(open.len() > 5 && !open.contains(&theirs), "{open:?}");
        serve.kill().unwrap();
        serve.wait().unwrap();
    });
}

#[test]
fn whatever_umask_it_is_started_with_everybody_may_read_its_status_and_nobody_else_may_write_beside_it() {
    for umask in ["000", "077"] {
        let place = Place::new();
        let directory = place.directory.path().join("addonce");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "umask $0; exec \"$@\"", umask])
            .arg(addonce().get_program())
            .args(["serve", "--dry-run"]);
        shell.args(place.fixture.flags()).arg(place.devices.flag());
        shell.arg("--socket").arg(directory.join("io.addonce")).env_remove("SEQNUM");
        let mut serve = shell.stdin(Stdio::null()).spawn().unwrap();
        let status = directory.join("status.json");
        until("there is a status", || status.exists());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&status)), (0o755, 0o644), "{umask}");
        serve.kill().unwrap();
        serve.wait().unwrap();
    }
}

#[test]
fn it_answers_whoever_comes_and_ends_when_nothing_is_left() {
    alone("it_answers_whoever_comes_and_ends_when_nothing_is_left", || {
        let place = Place::new();
        let serve = place.serve().spawn().unwrap();
        place.wait_for_socket();
        let output = place.command(&["load", "fx_top"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fx_top: live\n", "{output:?}");
        assert!(ended(serve).contains("add_once fx_top live"));
        let left = std::fs::read_dir(place.directory.path()).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).filter(|name| *name == "io.addonce").collect();
        assert!(left.is_empty(), "{left:?}");
        // What it remembers is the next one's.
        let output = place.command(&["load", "fx_top"]).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "nothing listens: {output:?}");
    });
}

#[test]
fn of_many_that_start_at_once_one_serves_and_the_others_end() {
    alone("of_many_that_start_at_once_one_serves_and_the_others_end", || {
        let place = Place::new();
        let all: Vec<Child> = (0..12).map(|_| place.serve().spawn().unwrap()).collect();
        place.wait_for_socket();
        // While a client is there, nobody ends, so that no second one can have its turn.
        let _client =
            std::os::unix::net::UnixStream::connect(place.directory.path().join("io.addonce")).unwrap();
        let mut all = all;
        until("eleven have ended", || {
            all.iter_mut().map(|child| child.try_wait().unwrap()).filter(Option::is_none).count() == 1
        });
        drop(_client);
        let served = all.into_iter().map(ended).filter(|said| said.contains("listening for uevents")).count();
        assert_eq!(served, 1);
    });
}

#[test]
fn where_there_can_be_no_lock_it_says_so_at_once() {
    if !have(&TOOLS) {
        return;
    }
    // As on a full /run, nothing comes of another try: whoever started it is to turn to modprobe.
    for is_link in [false, true] {
        let place = Place::new();
        let (lock, target) = (place.directory.path().join("lock"), place.directory.path().join("target"));
        let made = if is_link { symlink(&target, &lock) } else { std::fs::create_dir(&lock) };
        made.unwrap();
        let began = Instant::now();
        let output = place.serve().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains("/lock: there is something that is no file: remove it"), "{said}");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert!(!target.exists(), "what the link leads to");
    }
}

#[test]
fn what_was_announced_before_its_socket_was_open_is_on_its_way() {
    with_udev("what_was_announced_before_its_socket_was_open_is_on_its_way", || {
        let place = Place::new();
        let (mut kernel, udevd) = (Sender::open().unwrap(), Udevd::new());
        let mut heard = Netlink::open(1 << 20).unwrap();
        let mut seqnums = Vec::new();
        for n in 0..3 {
            kernel.inject(&event(&format!("/devices/x{n}"), b"fxopt:1")).unwrap();
            let mut buffer = vec![0; BUFFER];
            let Received::Kernel(datagram) = heard.receive(&mut buffer) else { panic!("not heard") };
            seqnums.push(parse(datagram).unwrap().seqnum);
        }
        // The program of the first starts it.
        let serve = place.serve().env("SEQNUM", seqnums[0].to_string()).spawn().unwrap();
        place.wait_for_socket();
        // Other events of this machine have numbers, too, which nobody will announce here.
        until("two are outstanding", || place.status()["outstanding"].as_u64() >= Some(2));
        for (n, seqnum) in seqnums.iter().enumerate().skip(1) {
            let text = format!("ACTION=add\0DEVPATH=/devices/x{n}\0SEQNUM={seqnum}\0MODALIAS=fxopt:1\0");
            udevd.broadcast(text.as_bytes());
        }
        until("both are requests", || place.status()["requests"] == 2);
        assert!(ended(serve).contains("add_once fx_opt live"));
    });
}

/// Where a daemon would listen.
/// A program that was killed between the start of a daemon and its question is a device without its modules.
#[test]
fn what_it_was_started_for_it_asks_for_itself_should_nobody_come() {
    with_udev("what_it_was_started_for_it_asks_for_itself_should_nobody_come", || {
        let place = Place::new();
        let start = || {
            let mut serve = place.serve();
            serve.env("MODALIAS", "fxopt:1").env("DEVPATH", "/devices/x").env("SEQNUM", "4294967296");
            serve.spawn().unwrap()
        };
        let said = ended(start());
        assert!(said.contains("add_once fx_opt live") && said.contains("seqnum=4294967296"), "{said}");
        // It comes.
        let serve = start();
        place.wait_for_socket();
        let call = r#"{"method":"io.addonce.Load","parameters":{"alias":"fxopt:1","devpath":"/devices/x","seqnum":4294967296}}"#;
        let mut program = UnixStream::connect(place.directory.path().join("io.addonce")).unwrap();
        program.write_all(format!("{call}\0").as_bytes()).unwrap();
        program.read_exact(&mut [0; 1]).unwrap();
        drop(program);
        assert_eq!(place.status()["requests"], 1);
        let said = ended(serve);
        assert!(!said.contains("has not asked"), "{said}");
    });
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    (directory, socket)
}

fn take(socket: &Path, patience: Duration) -> Result<Flock<File>, Fatal> {
    lock::take(socket, patience, || false).map(|lock| lock.expect("there is need of it"))
}

#[test]
fn one_holds_it_and_the_next_is_told_who_in_time() {
    let (_directory, socket) = place();
    let lock = take(&socket, Duration::ZERO).expect("free");
    let began = Instant::now();
    let error = take(&socket, Duration::from_millis(100)).expect_err("held").to_string();
    assert!(began.elapsed() >= Duration::from_millis(100));
    let pid = std::process::id();
    assert!(error.contains(&format!("another daemon (PID {pid}) listens here")), "{error}");
    drop(lock);
    take(&socket, Duration::ZERO).expect("free again");
}

#[test]
fn who_need_not_serve_any_more_waits_no_longer() {
    let (_directory, socket) = place();
    let _lock = take(&socket, Duration::ZERO).expect("free");
    let lock = lock::take(&socket, Duration::from_secs(1000), || true).expect("no error");
    assert!(lock.is_none());
}

#[test]
fn a_holder_that_is_about_to_end_is_waited_for() {
    let (_directory, socket) = place();
    let lock = take(&socket, Duration::ZERO).expect("free");
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(lock);
    });
    take(&socket, Duration::from_secs(20)).expect("free in a moment");
    ends.join().expect("ended");
}

#[test]
fn a_file_that_was_removed_is_not_the_lock_any_more() {
    let (_directory, socket) = place();
    let _lost = take(&socket, Duration::ZERO).expect("free");
    std::fs::remove_file(socket.with_file_name("lock")).expect("remove");
    let _lock = take(&socket, Duration::ZERO).expect("another file");
    assert!(take(&socket, Duration::ZERO).is_err(), "and that one is held");
}

#[test]
fn a_daemon_whose_socket_somebody_else_has_ends_with_the_next_event_whatever_it_loads() {
    alone("a_daemon_whose_socket_somebody_else_has_ends_with_the_next_event_whatever_it_loads", || {
        let place = Place::new();
        let fifo = place.fixture.file("fx_opt");
        std::fs::remove_file(&fifo).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let socket = place.directory.path().join("io.addonce");
        let mut kernel = Sender::open().unwrap();
        let mut serve = place.serve().spawn().unwrap();
        place.wait_for_socket();
        kernel.inject(&event("/devices/x", b"fxopt:1")).unwrap();
        until("it loads", || place.status()["loading"] == 1);
        // As the service does whose daemon an initramfs has left behind.
        std::fs::remove_file(&socket).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        until("it ends", || {
            kernel.inject(&event("/devices/x", b"fxopt:1")).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            serve.try_wait().unwrap().is_some()
        });
        assert!(socket.exists(), "it is another's");
        // The load goes on, and has our end of the pipe.
        std::fs::OpenOptions::new().write(true).open(fifo).unwrap();
        let output = serve.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("nobody can reach this daemon any more"), "{said}");
    });
}
