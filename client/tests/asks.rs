// SPDX-License-Identifier: MIT OR Apache-2.0
//! addonce-load against a daemon that does as it is told, a script in addonce's place, and one in modprobe's.

#[path = "../../tests/common/left_out.rs"]
#[allow(dead_code)]
mod left_out;
#[path = "../../tests/common/namespace.rs"]
#[allow(dead_code)]
mod namespace;
#[path = "../../tests/common/tool.rs"]
#[allow(dead_code)]
mod tool;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use addonce::control::protocol::{Call, Method};
use addonce::escape::unescape;
use nix::sys::ptrace::attach;
use nix::unistd::Pid;

/// A script that is still open for writing in a child of another test's cannot be executed: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const ACCEPTED: &str = "{\"parameters\":{},\"continues\":true}\0";
const ANSWER: &str =
    "{\"parameters\":{\"answers\":[{\"module\":\"a\",\"state\":\"failed\",\"error\":\"ENODEV\"}]}}\0";
/// What is bounded by five seconds ends within six.
const SIX_SECONDS: Duration = Duration::from_secs(6);

/// A directory with the program, scripts in the places of addonce and modprobe, and a socket.
struct Place(PathBuf, #[allow(dead_code)] MutexGuard<'static, ()>);

impl Place {
    /// `script` is what addonce does when it is started.
    fn new(name: &str, script: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("mkdir");
        let place = Self(directory, alone);
        fs::copy(env!("CARGO_BIN_EXE_addonce-load"), place.path("addonce-load")).expect("copy");
        place.script("addonce", script);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Each call of a script is a line of `calls`.
    fn script(&self, name: &str, does: &str) {
        let (path, at) = (self.path(name), self.0.display());
        fs::write(&path, format!("#!/bin/sh\ncd {at}\necho {name} \"$@\" >>calls\n{does}\n")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.path("socket")).expect("bind")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("addonce-load"));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("ADDONCE_SOCKET", self.path("socket")).env("MODALIAS", "acpi:LNXCPU:");
        command.env("DEVPATH", "/devices/cpu0").env("SEQNUM", "17").env("ACTION", "add");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("it runs")
    }

    /// Runs it to its end, and says how long that took.
    fn run(&self) -> (Output, Duration) {
        let begin = Instant::now();
        let output = self.command(&[]).output().expect("it runs");
        (output, begin.elapsed())
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn wait_for_calls(&self, number: usize) {
        let begin = Instant::now();
        while self.calls().len() < number {
            assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", self.calls());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the body where the place's script is the machine's modprobe.
fn with_modprobe(test: &str, script: &str, body: impl FnOnce(&Place)) {
    if namespace::depth().is_none() {
        // What is forked for it would have open what another test writes.
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        return namespace::again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    // Nothing else is of this process: a name as long as the test's may be more than the address of a socket has room for.
    let place = Place::new("modprobe", script);
    place.script("modprobe", "");
    let theirs = fs::canonicalize("/sbin/modprobe").expect("this test needs modprobe (kmod)");
    mount(&["--bind".as_ref(), &place.path("modprobe"), &theirs]);
    body(&place);
}

fn mount(arguments: &[&Path]) {
    let status = Command::new("mount").args(arguments).status();
    assert!(status.expect("this test needs the program mount (util-linux)").success(), "{arguments:?}");
}

fn message(stream: &mut UnixStream) -> String {
    let (mut message, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).expect("read") == 1 && byte[0] != 0 {
        message.push(byte[0]);
    }
    String::from_utf8(message).expect("JSON")
}

/// A daemon that takes one call, and replies.
fn replies(listener: &UnixListener, replies: &[&str]) -> String {
    let (mut stream, _) = listener.accept().expect("a client");
    let asked = message(&mut stream);
    for reply in replies {
        stream.write_all(reply.as_bytes()).expect("write");
    }
    asked
}

fn method(asked: &str) -> Method {
    let (call, method) = Call::parse(asked.as_bytes());
    assert!(call.more, "{asked}");
    method.unwrap_or_else(|reply| panic!("{asked}: {reply:?}"))
}

#[test]
fn it_asks_for_its_device_and_goes_when_it_is_answered() {
    let place = Place::new("answered", "");
    let listener = place.listen();
    for synthetic in [false, true] {
        let mut command = place.command(&[]);
        if synthetic {
            command.env("SYNTH_UUID", "0");
        }
        let program = command.spawn().expect("it runs");
        let asked = replies(&listener, &[ACCEPTED, ANSWER]);
        let output = program.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(0), "a module's failure is none of udev's business");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let Method::Load(load) = method(&asked) else { panic!("{asked}") };
        assert_eq!((load.alias.as_str(), load.devpath.as_deref()), ("acpi:LNXCPU:", Some("/devices/cpu0")));
        assert_eq!((load.seqnum, load.synthetic), (Some(17), Some(synthetic)));
    }
    assert_eq!(place.calls(), [""; 0]);
}

#[test]
fn it_says_of_an_event_that_the_daemon_asked_for_again_that_it_did() {
    let place = Place::new("again", "");
    let listener = place.listen();
    thread::scope(|scope| {
        let program = scope.spawn(|| {
            let mut command = place.command(&[]);
            command.env("SYNTH_UUID", "0").env("SYNTH_ARG_ADDONCE", "again").output().expect("it runs")
        });
        let Method::Load(load) = method(&replies(&listener, &[ACCEPTED, ANSWER])) else { panic!("no Load") };
        assert_eq!((load.synthetic, load.again), (Some(true), Some(true)));
        assert!(program.join().expect("it ends").status.success());
    });
}

#[test]
fn a_modalias_of_any_bytes_is_asked_for() {
    let place = Place::new("bytes", "");
    let listener = place.listen();
    let mut command = place.command(&[]);
    let mut program = command.env("MODALIAS", OsStr::from_bytes(b"acpi:\"\\\xff")).spawn().expect("it runs");
    let asked = replies(&listener, &[ANSWER]);
    assert_eq!(program.wait().expect("an end").code(), Some(0));
    assert!(asked.contains(r#""alias":"acpi:\"\\x5c\\xff""#), "{asked}");
    let Method::Load(load) = method(&asked) else { panic!("{asked}") };
    assert_eq!(unescape(&load.alias).as_deref(), Some(&b"acpi:\"\\\xff"[..]));
}

#[test]
fn once_it_is_accepted_a_load_may_take_its_time() {
    let place = Place::new("slow", "");
    let listener = place.listen();
    let mut program = place.spawn(&[]);
    let (mut stream, _) = listener.accept().expect("a client");
    message(&mut stream);
    stream.write_all(ACCEPTED.as_bytes()).expect("write");
    thread::sleep(SIX_SECONDS);
    assert!(program.try_wait().expect("a child").is_none(), "it waits");
    stream.write_all(ANSWER.as_bytes()).expect("write");
    assert_eq!(program.wait().expect("an end").code(), Some(0));
}

#[test]
fn where_nobody_listens_one_of_many_starts_a_daemon_and_all_are_answered() {
    let place = Place::new("many", "sleep 1");
    let mut programs: Vec<Child> = (0..16).map(|_| place.spawn(&[])).collect();
    place.wait_for_calls(1);
    thread::sleep(Duration::from_millis(300));
    let listener = place.listen();
    for _ in &programs {
        replies(&listener, &[ACCEPTED, ANSWER]);
    }
    for program in &mut programs {
        assert_eq!(program.wait().expect("an end").code(), Some(0));
    }
    let serve = format!("addonce serve --socket {}", place.path("socket").display());
    assert_eq!(place.calls(), [serve]);
}

#[test]
fn the_daemon_that_it_starts_comes_before_the_programs_that_wait_for_it() {
    let nice = |words: &str| {
        let output = Command::new("sh").args(["-c", words]).stderr(Stdio::null()).output().expect("sh");
        String::from_utf8(output.stdout).expect("a number").trim().to_owned()
    };
    // Who may not go so low stays where he is.
    let as_far_as_it_may = nice("nice -n $((-10 - $(nice))) nice");
    let place = Place::new("nice", "sleep 1; nice >>calls");
    let mut program = place.spawn(&[]);
    place.wait_for_calls(2);
    assert_eq!(place.calls()[1], as_far_as_it_may);
    replies(&place.listen(), &[ACCEPTED, ANSWER]);
    assert_eq!(program.wait().expect("an end").code(), Some(0));
}

#[test]
fn nothing_that_is_in_the_way_of_its_files_is_waited_for() {
    let place = Place::new("in-the-way", "");
    let pipe = Command::new("mkfifo").arg(place.path("starting")).status();
    assert!(pipe.expect("this test needs the program mkfifo (coreutils)").success());
    let program = place.spawn(&[]);
    place.wait_for_calls(1);
    let listener = place.listen();
    replies(&listener, &[ACCEPTED, ANSWER]);
    assert_eq!(program.wait_with_output().expect("an end").status.code(), Some(0));
}

#[test]
fn when_the_daemon_dies_with_the_request_the_next_one_is_asked() {
    let place = Place::new("dies", "exit 0");
    let listener = place.listen();
    let program = place.spawn(&[]);
    replies(&listener, &[ACCEPTED]);
    drop(listener);
    fs::remove_file(place.path("socket")).expect("remove");
    place.wait_for_calls(1);
    let listener = place.listen();
    replies(&listener, &[ACCEPTED, ANSWER]);
    let output = program.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn daemons_that_die_of_the_request_are_not_asked_for_ever() {
    with_modprobe("daemons_that_die_of_the_request_are_not_asked_for_ever", "exit 0", |place| {
        let listener = place.listen();
        let program = place.spawn(&[]);
        for _ in 0..3 {
            replies(&listener, &[ACCEPTED]);
        }
        assert_eq!(program.wait_with_output().expect("an end").status.code(), Some(0));
        assert_eq!(place.calls(), ["modprobe -b -q -- acpi:LNXCPU:"]);
    });
}

#[test]
fn a_daemon_that_will_not_is_done_without() {
    with_modprobe("a_daemon_that_will_not_is_done_without", "", |place| {
        let listener = place.listen();
        let program = place.spawn(&[]);
        replies(&listener, &["{\"parameters\":{},\"error\":\"org.varlink.service.PermissionDenied\"}\0"]);
        assert_eq!(program.wait_with_output().expect("an end").status.code(), Some(0));
        assert_eq!(place.calls(), ["modprobe -b -q -- acpi:LNXCPU:"]);
    });
}

#[test]
fn a_daemon_that_is_stopped_is_done_without_in_time() {
    with_modprobe("a_daemon_that_is_stopped_is_done_without_in_time", "", |place| {
        // The kernel takes connections for it.
        let listener = place.listen();
        let (output, took) = place.run();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(took < SIX_SECONDS, "{took:?}");
        assert_eq!(place.calls(), ["modprobe -b -q -- acpi:LNXCPU:"]);
        // Until its queue is full.
        let mut waiting = Vec::new();
        let socket = place.path("socket");
        thread::spawn(move || {
            while let Ok(stream) = UnixStream::connect(&socket) {
                waiting.push(stream);
            }
        });
        thread::sleep(Duration::from_millis(500));
        let (output, took) = place.run();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(took < SIX_SECONDS, "{took:?}");
        assert_eq!(place.calls().len(), 2);
        drop(listener);
    });
}

/// SIGSTOP of a daemon that listens, of one that a service manager listens for, and of one that has not come to listening yet.
#[test]
fn a_daemon_that_is_known_to_be_stopped_is_done_without_at_once() {
    with_modprobe("a_daemon_that_is_known_to_be_stopped_is_done_without_at_once", "kill -STOP $$", |place| {
        let mut stopped = Command::new(place.path("addonce"));
        let mut stopped = stopped.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        let state = || fs::read_to_string(format!("/proc/{}/stat", stopped.id())).expect("a process");
        while !state().contains(") T ") {
            thread::sleep(Duration::from_millis(5));
        }
        fs::write(place.path("lock"), format!("{}\n", stopped.id())).expect("write");
        let mut listener = None;
        for loaded in 1..=2 {
            let (output, took) = place.run();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(took < Duration::from_secs(1), "{took:?}");
            assert_eq!(place.calls()[1..].len(), loaded, "{:?}", place.calls());
            listener.get_or_insert_with(|| place.listen());
        }
        assert_eq!(place.calls()[1..], ["modprobe -b -q -- acpi:LNXCPU:"; 2]);
        // A hold is waited for.
        let mut hold = place.spawn(&["--hold"]);
        replies(listener.as_ref().expect("a socket"), &["{\"parameters\":{}}\0"]);
        assert_eq!(hold.wait().expect("an end").code(), Some(0));
        stopped.kill().expect("kill");
        stopped.wait().expect("an end");
        // By a debugger.
        fs::remove_file(place.path("addonce")).expect("remove");
        fs::copy("/bin/sleep", place.path("addonce")).expect("copy");
        let mut traced = Command::new(place.path("addonce"));
        let mut traced =
            traced.arg("60").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        let stat = format!("/proc/{}/stat", traced.id());
        attach(Pid::from_raw(traced.id().try_into().expect("a PID"))).expect("attach");
        while !fs::read_to_string(&stat).expect("a process").contains(" (addonce) t ") {
            thread::sleep(Duration::from_millis(5));
        }
        fs::write(place.path("lock"), format!("{}\n", traced.id())).expect("write");
        let (output, took) = place.run();
        assert!(took < Duration::from_secs(1), "{took:?}: {output:?}");
        assert_eq!(place.calls().len(), 4);
        traced.kill().expect("kill");
        traced.wait().expect("an end");
        // What is no lock is nobody's, and not waited for.
        fs::remove_file(place.path("lock")).expect("remove");
        assert!(Command::new("mkfifo").arg(place.path("lock")).status().expect("mkfifo").success());
        let mut program = place.spawn(&[]);
        replies(listener.as_ref().expect("a socket"), &[ACCEPTED, ANSWER]);
        assert_eq!(program.wait().expect("an end").code(), Some(0));
        assert_eq!(place.calls().len(), 4);
    });
}

/// It was told to: by SIGTERM, whoever listens for it.
#[test]
fn a_daemon_that_ends_is_done_without_and_its_hold_is_the_next_ones() {
    let test = "a_daemon_that_ends_is_done_without_and_its_hold_is_the_next_ones";
    with_modprobe(test, "", |place| {
        fs::copy("/bin/sleep", place.path("addonce")).expect("copy");
        let mut ends = Command::new(place.path("addonce"));
        let mut ends = ends.arg("60").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        place.script("addonce.new", "");
        fs::rename(place.path("addonce.new"), place.path("addonce")).expect("rename");
        fs::write(place.path("lock"), format!("{}\nends\n", ends.id())).expect("write");
        let mut listener = None;
        for _ in 0..2 {
            let (output, took) = place.run();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(took < Duration::from_secs(1), "{took:?}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("ends, and its loads still run: loading with modprobe"), "{said}");
            listener.get_or_insert_with(|| place.listen());
        }
        drop(listener);
        fs::remove_file(place.path("socket")).expect("remove");
        assert_eq!(place.calls(), ["modprobe -b -q -- acpi:LNXCPU:"; 2]);
        let mut hold = place.spawn(&["--hold"]);
        thread::sleep(Duration::from_millis(500));
        assert_eq!(place.calls().len(), 2, "nobody could have the lock");
        ends.kill().expect("kill");
        ends.wait().expect("an end");
        place.wait_for_calls(3);
        replies(&place.listen(), &["{\"parameters\":{}}\0"]);
        assert_eq!(hold.wait().expect("an end").code(), Some(0));
    });
}

#[test]
fn a_hold_program_outlives_as_many_daemons_as_somebody_kills() {
    let place = Place::new("outlives", "kill -KILL $$");
    let mut hold = place.spawn(&["--hold"]);
    for daemon in 1..=10 {
        // Those that are killed before they listen, too.
        place.wait_for_calls(place.calls().len() + 1);
        let listener = place.listen();
        listener.set_nonblocking(true).expect("a socket");
        let mut stream = loop {
            assert!(hold.try_wait().expect("a child").is_none(), "it has gone");
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        message(&mut stream);
        let reply = if daemon < 10 { ACCEPTED } else { "{\"parameters\":{}}\0" };
        stream.write_all(reply.as_bytes()).expect("write");
        fs::remove_file(place.path("socket")).expect("remove");
    }
    assert_eq!(hold.wait().expect("an end").code(), Some(0));
}

#[test]
fn where_addonce_cannot_run_modprobe_does_at_once() {
    with_modprobe("where_addonce_cannot_run_modprobe_does_at_once", "exit 5", |place| {
        let (output, took) = place.run();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(place.calls()[1..], ["modprobe -b -q -- acpi:LNXCPU:"]);
        // Somebody's file is in the way.
        fs::write(place.path("socket"), "").expect("write");
        assert_eq!(place.run().0.status.code(), Some(0));
        fs::remove_file(place.path("socket")).expect("remove");
        fs::remove_file(place.path("addonce")).expect("remove");
        fs::remove_file(place.path("calls")).expect("remove");
        let (output, took) = place.run();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(place.calls(), ["modprobe -b -q -- acpi:LNXCPU:"]);
    });
}

/// Where the kernel has no modules at all, that is every device.
#[test]
fn a_device_without_a_module_is_no_failure_to_udev() {
    with_modprobe("a_device_without_a_module_is_no_failure_to_udev", "exit 5", |place| {
        place.script("modprobe", "exit 1");
        let (output, _) = place.run();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(place.calls()[1..], ["modprobe -b -q -- acpi:LNXCPU:"]);
    });
}

#[test]
fn a_run_that_is_full_or_may_not_be_written_keeps_nothing_from_being_loaded() {
    let test = "a_run_that_is_full_or_may_not_be_written_keeps_nothing_from_being_loaded";
    with_modprobe(test, ": >\"${3%/*}/lock\" || exit 5", |place| {
        let run = place.path("run");
        fs::create_dir(&run).expect("mkdir");
        for (number, options) in ["ro", "rw,nr_inodes=1"].into_iter().enumerate() {
            mount(
                &["-t", "tmpfs", "-o", options, "none"]
                    .map(Path::new)
                    .iter()
                    .copied()
                    .chain([run.as_path()])
                    .collect::<Vec<_>>(),
            );
            let mut command = place.command(&[]);
            command.env("ADDONCE_SOCKET", run.join("addonce/io.addonce"));
            let output = command.output().expect("it runs");
            assert_eq!(output.status.code(), Some(0), "{options}: {output:?}");
            let modprobes = place.calls().iter().filter(|call| call.starts_with("modprobe")).count();
            assert_eq!(modprobes, number + 1, "{options}: {:?}", place.calls());
        }
    });
}

#[test]
fn a_modalias_is_no_option_of_modprobes() {
    with_modprobe("a_modalias_is_no_option_of_modprobes", "exit 5", |place| {
        place.command(&[]).env("MODALIAS", "-r vfat").output().expect("it runs");
        assert_eq!(place.calls()[1..], ["modprobe -b -q -- -r vfat"]);
    });
}

#[test]
fn after_half_a_minute_of_silence_modprobe_loads() {
    with_modprobe("after_half_a_minute_of_silence_modprobe_loads", "", |place| {
        let listener = place.listen();
        let mut program = place.spawn(&[]);
        let (mut stream, _) = listener.accept().expect("a client");
        message(&mut stream);
        stream.write_all(ACCEPTED.as_bytes()).expect("write");
        assert_eq!(program.wait().expect("an end").code(), Some(0));
        assert_eq!(place.calls(), ["modprobe -b -q -- acpi:LNXCPU:"]);
    });
}

#[test]
fn a_hold_lasts_until_it_is_answered() {
    let place = Place::new("hold", "");
    let listener = place.listen();
    let mut command = place.command(&["--hold"]);
    let mut program =
        command.env("SYNTH_UUID", "addadd00-0ace-4000-0000-000000000001").spawn().expect("it runs");
    let (mut stream, _) = listener.accept().expect("a client");
    let asked = message(&mut stream);
    let Method::Hold { uuid: Some(uuid) } = method(&asked) else { panic!("{asked}") };
    assert_eq!(addonce::daemon::hold::number(&uuid), Some(1));
    fs::write(place.path("hold"), "").expect("write");
    for _ in 0..6 {
        stream.write_all(ACCEPTED.as_bytes()).expect("write");
        thread::sleep(Duration::from_secs(1));
    }
    assert!(program.try_wait().expect("a child").is_none(), "it waits");
    assert!(place.path("hold").exists());
    stream.write_all(b"{\"parameters\":{}}\0").expect("write");
    assert_eq!(program.wait().expect("an end").code(), Some(0));
    assert_eq!(place.calls(), [""; 0]);
}

#[test]
fn a_hold_whose_daemon_dies_starts_the_next_one_and_holds_on() {
    let place = Place::new("holds-on", "sleep 1");
    let listener = place.listen();
    let mut program = place.spawn(&["--hold"]);
    replies(&listener, &[]);
    drop(listener);
    fs::remove_file(place.path("socket")).expect("remove");
    place.wait_for_calls(1);
    let listener = place.listen();
    let (mut stream, _) = listener.accept().expect("a client");
    message(&mut stream);
    assert!(program.try_wait().expect("a child").is_none(), "it waits");
    stream.write_all(b"{\"parameters\":{}}\0").expect("write");
    assert_eq!(program.wait().expect("an end").code(), Some(0));
}

#[test]
fn a_daemon_that_stands_still_while_it_holds_keeps_udev_from_nothing_for_long() {
    let place = Place::new("stands-still", "");
    let listener = place.listen();
    fs::write(place.path("hold"), "").expect("write");
    let mut program = place.spawn(&["--hold"]);
    let (mut stream, _) = listener.accept().expect("a client");
    message(&mut stream);
    thread::sleep(SIX_SECONDS);
    assert!(!place.path("hold").exists(), "rules run programs again");
    assert!(place.path("hold.released").exists(), "what a successor is to find");
    // This process listens, and is nobody's to kill.
    assert!(program.try_wait().expect("a child").is_none(), "it waits");
    stream.write_all(b"{\"parameters\":{}}\0").expect("write");
    assert_eq!(program.wait().expect("an end").code(), Some(0));
}

/// Only the daemon that is gone knew which of them waited. Not a battery's, whose `uevent` asks the hardware, nor what has no MODALIAS.
#[test]
fn a_hold_that_nobody_takes_over_is_handed_back_to_udev_with_all_devices() {
    let test = "a_hold_that_nobody_takes_over_is_handed_back_to_udev_with_all_devices";
    with_modprobe(test, "exit 5", |place| {
        let sys = place.path("sys");
        let devices = [
            ("bus/pci/devices/a", "MODALIAS=pci:a\n", true),
            ("bus/cpu/devices/cpu0", "MODALIAS=cpu:x\n", false),
            ("bus/cpu/devices/none", "DRIVER=x\n", false),
            ("class/input/input0", "NAME=x\n", true),
            ("class/power_supply/BAT0", "MODALIAS=what it does not have\n", false),
        ];
        for (link, uevent, has_modalias) in devices {
            let (link, device) = (sys.join(link), sys.join("devices").join(link));
            fs::create_dir_all(&device).expect("mkdir");
            fs::create_dir_all(link.parent().expect("a place")).expect("mkdir");
            let up = if link.starts_with(sys.join("bus")) { "../../.." } else { "../.." };
            let device_below = device.strip_prefix(&sys).expect("below");
            symlink(Path::new(up).join(device_below), &link).expect("symlink");
            fs::write(device.join("uevent"), uevent).expect("write");
            if has_modalias {
                fs::write(device.join("modalias"), "x").expect("write");
            }
        }
        mount(&["--bind".as_ref(), &sys, "/sys".as_ref()]);
        for serve in ["exit 5", ""] {
            match serve {
                "" => fs::remove_file(place.path("addonce")).expect("remove"),
                serve => place.script("addonce", serve),
            }
            for (device, uevent, _) in devices {
                fs::write(sys.join(device).join("uevent"), uevent).expect("write");
            }
            let output = place.command(&["--hold"]).output().expect("it runs");
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let written = |(device, ..): &(&str, &str, bool)| {
                let text = fs::read_to_string(sys.join(device).join("uevent")).expect("read");
                text.starts_with("add 00000000-0000-4000-8000-000000000000 ADDONCE=off")
            };
            assert_eq!(devices.iter().map(written).collect::<Vec<_>>(), [true, true, false, true, false]);
        }
        assert_eq!(
            place.calls(),
            ["addonce serve --socket ".to_owned() + &place.path("socket").to_string_lossy()]
        );
    });
}

/// It has no room for one more client, say.
#[test]
fn a_daemon_that_is_there_looks_after_its_hold_itself() {
    let place = Place::new("refuses", "");
    let listener = place.listen();
    let program = place.spawn(&["--hold"]);
    replies(&listener, &["{\"error\":\"io.addonce.TooManyClients\",\"parameters\":{}}\0"]);
    let output = program.wait_with_output().expect("an end");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn without_a_modalias_and_with_other_arguments_it_says_what_it_is_for() {
    let place = Place::new("usage", "");
    let output = place.command(&[]).env_remove("MODALIAS").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no MODALIAS"), "{output:?}");
    for arguments in [["--wait"].as_slice(), &["--hold", "x"]] {
        let output = place.command(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}
