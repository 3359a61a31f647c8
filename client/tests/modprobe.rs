// SPDX-License-Identifier: MIT OR Apache-2.0
//! addonce-modprobe against a daemon that does as it is told, and a script in modprobe's place.

#[path = "../../tests/common/left_out.rs"]
#[allow(dead_code)]
mod left_out;
#[path = "../../tests/common/namespace.rs"]
#[allow(dead_code)]
mod namespace;
#[path = "../../tests/common/tool.rs"]
#[allow(dead_code)]
mod tool;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use addonce::control::protocol::{Call, Method};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

/// A script that is still open for writing in a child of another test's cannot be executed: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const CONTINUES: &str = "{\"parameters\":{},\"continues\":true}\0";
const DONE: &str = "{\"parameters\":{\"answer\":\"done\"}}\0";
const FAILED: &str = "{\"parameters\":{\"answer\":\"failed\"}}\0";
const YOURS: &str = "{\"parameters\":{\"answer\":\"yours\"}}\0";

/// A directory with a socket, a lock, and a script that stood in kernel.modprobe before and exits with 3.
struct Place {
    directory: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    fn new(name: &str) -> Self {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let directory =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("mkdir");
        let place = Self { directory, _alone };
        let (real, at) = (place.path("real-modprobe"), place.directory.display());
        fs::write(&real, format!("#!/bin/sh\necho \"$@\" >>{at}/calls\nexit 3\n")).expect("write");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).expect("chmod");
        symlink(real, place.path("modprobe")).expect("symlink");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.path("io.addonce")).expect("bind")
    }

    /// What a daemon holds. It is this process that has it: not one that is stopped.
    fn lock(&self) -> Flock<File> {
        let file = File::create(self.path("lock")).expect("create");
        Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("nobody else has it")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_addonce-modprobe"));
        // As the kernel calls it.
        command.args(arguments).env_clear().env("HOME", "/").env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin");
        command.env("ADDONCE_SOCKET", self.path("io.addonce"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn(&self, name: &str) -> Child {
        self.command(&["-q", "--", name]).spawn().expect("it runs")
    }

    fn run(&self, arguments: &[&str]) -> (Output, Duration) {
        let begin = Instant::now();
        let output = self.command(arguments).output().expect("it runs");
        (output, begin.elapsed())
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status();
    assert!(status.expect("this test needs the program mount (util-linux)").success(), "{arguments:?}");
}

fn accept(listener: &UnixListener) -> (UnixStream, String) {
    let (mut stream, _) = listener.accept().expect("a client");
    let (mut message, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).expect("read") == 1 && byte[0] != 0 {
        message.push(byte[0]);
    }
    (stream, String::from_utf8(message).expect("JSON"))
}

fn say(stream: &mut UnixStream, replies: &[&str]) {
    for reply in replies {
        stream.write_all(reply.as_bytes()).expect("write");
    }
}

fn code(program: Child) -> Option<i32> {
    program.wait_with_output().expect("an end").status.code()
}

#[test]
fn the_daemons_answer_is_the_exit_code_and_no_modprobe_runs() {
    let place = Place::new("answer");
    let (listener, _lock) = (place.listen(), place.lock());
    for (answer, expected) in [(DONE, 0), (FAILED, 1)] {
        // As long as the kernel's names may be.
        let name = "x".repeat(50) + "-_\"x";
        let program = place.spawn(&(name.clone() + "\\"));
        let (mut stream, asked) = accept(&listener);
        let (call, method) = Call::parse(asked.as_bytes());
        assert!(call.more, "{asked}");
        assert_eq!(method.expect("a call"), Method::Autoload { name: name + "\\x5c" });
        say(&mut stream, &[CONTINUES, CONTINUES, answer]);
        assert_eq!(code(program), Some(expected));
    }
    assert_eq!(place.calls(), [""; 0]);
}

#[test]
fn whatever_else_it_is_told_is_modprobes() {
    let place = Place::new("yours");
    let (listener, _lock) = (place.listen(), place.lock());
    let error = "{\"parameters\":{},\"error\":\"org.varlink.service.MethodNotFound\"}\0";
    let unknown = "{\"parameters\":{\"answer\":\"perhaps\"}}\0";
    for replies in [&[CONTINUES, YOURS][..], &[error], &[unknown], &["\0"], &[], &[CONTINUES]] {
        let program = place.spawn("fs-x");
        let (mut stream, _) = accept(&listener);
        say(&mut stream, replies);
        drop(stream);
        assert_eq!(code(program), Some(3), "{replies:?}");
    }
    assert_eq!(place.calls(), ["-q -- fs-x"; 6]);
}

#[test]
fn without_a_daemon_behind_it_a_socket_is_not_waited_at() {
    let place = Place::new("no-daemon");
    let listener = place.listen();
    for lock in ["none", "a daemon's that is gone", "another helper's"] {
        if lock != "none" {
            drop(place.lock());
        }
        let _helper = lock.starts_with("another").then(|| {
            let file = File::open(place.path("lock")).expect("open");
            Flock::lock(file, FlockArg::LockSharedNonblock).expect("no daemon has it")
        });
        let (output, took) = place.run(&["-q", "--", "fs-x"]);
        assert_eq!(output.status.code(), Some(3), "{lock}");
        assert!(took < Duration::from_millis(900), "{lock}: {took:?}");
    }
    listener.set_nonblocking(true).expect("a socket");
    assert!(listener.accept().is_err(), "nobody came");
}

#[test]
fn a_daemon_that_has_no_room_is_waited_for_a_second() {
    let place = Place::new("full");
    let _lock = place.lock();
    let [listener, first] = [(); 2]
        .map(|()| socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).expect("a socket"));
    let address = UnixAddr::new(&place.path("io.addonce")).expect("an address");
    bind(listener.as_raw_fd(), &address).expect("bind");
    listen(&listener, Backlog::new(0).expect("a number")).expect("listen");
    connect(first.as_raw_fd(), &address).expect("there is room for one");
    let (output, took) = place.run(&["-q", "--", "fs-x"]);
    assert_eq!(output.status.code(), Some(3));
    assert!((950..1900).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn a_daemon_that_hangs_up_before_it_is_asked_is_done_without() {
    let place = Place::new("hangs-up");
    let (listener, _lock) = (place.listen(), place.lock());
    thread::spawn(move || listener.incoming().for_each(drop));
    for _ in 0..20 {
        assert_eq!(place.run(&["-q", "--", "fs-x"]).0.status.code(), Some(3));
    }
}

#[test]
fn a_daemon_that_is_silent_is_waited_for_a_second_and_once_it_has_accepted_three() {
    let place = Place::new("silent");
    let (listener, _lock) = (place.listen(), place.lock());
    let (output, took) = place.run(&["-q", "--", "fs-x"]);
    assert_eq!(output.status.code(), Some(3));
    assert!((950..1900).contains(&took.as_millis()), "not accepted: {took:?}");
    drop(listener.accept());
    let program = place.spawn("fs-x");
    let (mut stream, _) = accept(&listener);
    for _ in 0..2 {
        say(&mut stream, &[CONTINUES]);
        thread::sleep(Duration::from_millis(2000));
    }
    say(&mut stream, &[CONTINUES]);
    let begin = Instant::now();
    assert_eq!(code(program), Some(3));
    assert!((2900..3900).contains(&begin.elapsed().as_millis()), "accepted: {:?}", begin.elapsed());
    assert_eq!(place.calls().len(), 2);
}

#[test]
fn a_daemon_that_is_stopped_meanwhile_or_before_or_that_ends_is_done_without() {
    let place = Place::new("stopped");
    let (listener, _lock) = (place.listen(), place.lock());
    // The state of a process is looked at, with its name.
    let daemon = place.path("addonce");
    symlink("/bin/sleep", &daemon).expect("symlink");
    let mut daemon = Command::new(daemon).arg("60").spawn().expect("it runs");
    fs::write(place.path("lock"), format!("{}\n", daemon.id())).expect("write");
    let program = place.spawn("fs-x");
    let (mut stream, _) = accept(&listener);
    say(&mut stream, &[CONTINUES]);
    let begin = Instant::now();
    let pid = nix::unistd::Pid::from_raw(daemon.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("kill");
    assert_eq!(code(program), Some(3));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    drop(stream);
    listener.set_nonblocking(true).expect("a socket");
    for is_stopped in [true, false] {
        if !is_stopped {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).expect("kill");
            fs::write(place.path("lock"), format!("{pid}\nends\n")).expect("write");
        }
        let (output, took) = place.run(&["-q", "--", "fs-x"]);
        assert_eq!(output.status.code(), Some(3));
        assert!(took < Duration::from_millis(900), "stopped: {is_stopped}: {took:?}");
        assert!(listener.accept().is_err(), "nobody came");
    }
    daemon.kill().expect("kill");
    daemon.wait().expect("an end");
}

#[test]
fn an_outcome_is_waited_for_no_longer_than_a_minute() {
    if std::env::var_os("ADDONCE_TEST_LONG").is_none() {
        return;
    }
    let place = Place::new("minute");
    let (listener, _lock) = (place.listen(), place.lock());
    let (begin, program) = (Instant::now(), place.spawn("fs-x"));
    let (mut stream, _) = accept(&listener);
    while stream.write_all(CONTINUES.as_bytes()).is_ok() && begin.elapsed() < Duration::from_secs(70) {
        thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(code(program), Some(3));
    assert!((58..64).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

#[test]
fn other_arguments_and_names_that_are_none_of_the_kernels_are_modprobes() {
    let place = Place::new("arguments");
    let (listener, _lock) = (place.listen(), place.lock());
    let long = "x".repeat(56);
    let all: [&[&str]; 11] = [
        &[],
        &["ip_tables"],
        &["ip_tables", "-q"],
        &["-q", "--"],
        &["-q", "--", "a", "b"],
        &["-b", "--", "a"],
        &["-q", "-b", "a"],
        &["-q", "--", ""],
        &["-q", "--", "../x"],
        &["-q", "--", "net-pf-1"],
        &["-q", "--", &long],
    ];
    for arguments in all {
        assert_eq!(place.run(arguments).0.status.code(), Some(3), "{arguments:?}");
    }
    assert_eq!(place.calls(), all.map(|arguments| arguments.join(" ")));
    listener.set_nonblocking(true).expect("a socket");
    assert!(listener.accept().is_err(), "nobody came");
}

#[test]
fn modprobe_goes_by_its_own_name() {
    let place = Place::new("argv0");
    fs::remove_file(place.path("modprobe")).expect("remove");
    // A shell says what it was called by.
    symlink("/bin/sh", place.path("sh")).expect("symlink");
    symlink(place.path("sh"), place.path("modprobe")).expect("symlink");
    let (output, _) = place.run(&["-c", "echo $0"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{}\n", place.path("sh").display()));
}

/// A link, a link that is followed to another file of ours, and nothing else.
#[test]
fn it_never_becomes_itself_by_whatever_name_and_without_any_modprobe_it_says_so() {
    let test = "it_never_becomes_itself_by_whatever_name_and_without_any_modprobe_it_says_so";
    if namespace::depth().is_none() {
        return namespace::again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    let place = Place::new("itself");
    fs::remove_file(place.path("modprobe")).expect("remove");
    let [program, other] = ["addonce-modprobe", "other"].map(|name| place.path(name));
    fs::copy(env!("CARGO_BIN_EXE_addonce-modprobe"), &program).expect("copy");
    fs::hard_link(&program, &other).expect("link");
    let theirs = fs::canonicalize("/sbin/modprobe").expect("this test needs modprobe (kmod)");
    let run = || {
        Command::new(&program)
            .arg("--version")
            .env("ADDONCE_SOCKET", place.path("io.addonce"))
            .output()
            .expect("it runs")
    };
    for name in [&program, &other] {
        symlink(name, place.path("modprobe")).expect("symlink");
        // What the machine has in /sbin comes next.
        let output = run();
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("kmod version"), "{output:?}");
        fs::remove_file(place.path("modprobe")).expect("remove");
    }
    // A copy is another file.
    fs::copy(&program, place.path("copy")).expect("copy");
    symlink(place.path("copy"), place.path("modprobe")).expect("symlink");
    assert!(String::from_utf8_lossy(&run().stdout).starts_with("kmod version"), "what comes after the copy");
    mount(&["--bind", &place.path("copy").to_string_lossy(), &theirs.to_string_lossy()]);
    assert_eq!(run().status.code(), Some(127), "where all are copies");
    fs::remove_file(place.path("modprobe")).expect("remove");
    mount(&["--bind", &program.to_string_lossy(), &theirs.to_string_lossy()]);
    for has_proc in [true, false] {
        if !has_proc {
            mount(&["-t", "tmpfs", "none", "/proc"]);
        }
        assert_eq!(run().status.code(), Some(127), "/proc: {has_proc}");
    }
}

/// An install command may run what kernel.modprobe names, as iptables does.
#[test]
fn below_an_install_command_it_is_modprobe_and_asks_nobody() {
    let place = Place::new("below");
    let (listener, _lock) = (place.listen(), place.lock());
    let real = fs::read_link(place.path("modprobe")).expect("a link");
    let again = format!("{} -q -- fs-y", env!("CARGO_BIN_EXE_addonce-modprobe"));
    let calls = place.path("calls").display().to_string();
    let script = format!("#!/bin/sh\necho \"$@\" >>{calls}\n[ $3 = fs-y ] && exit 3\n{again}\n");
    fs::write(&real, script).expect("write");
    let status = place.command(&["-b", "--", "fs-x"]).status().expect("it runs");
    assert_eq!(
        (status.code(), &place.calls()[..]),
        (Some(3), &["-b -- fs-x".into(), "-q -- fs-y".into()][..])
    );
    listener.set_nonblocking(true).expect("a socket");
    assert!(listener.accept().is_err(), "nobody came");
}

#[test]
fn a_link_that_says_no_place_is_not_looked_for_in_path() {
    let place = Place::new("relative");
    fs::remove_file(place.path("modprobe")).expect("remove");
    symlink("sh", place.path("modprobe")).expect("symlink");
    let (output, _) = place.run(&["--version"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("kmod version"), "{output:?}");
}

#[test]
fn without_proc_it_is_modprobe_or_asks_all_the_same() {
    let test = "without_proc_it_is_modprobe_or_asks_all_the_same";
    if namespace::depth().is_none() {
        return namespace::again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    let place = Place::new("no-proc");
    mount(&["-t", "tmpfs", "none", "/proc"]);
    for name in [env!("CARGO_BIN_EXE_addonce-modprobe"), "nobody-knows"] {
        let status = place.command(&["-q", "--", "fs-x"]).arg0(name).status().expect("it runs");
        assert_eq!(status.code(), Some(3), "{name}");
    }
    let (listener, _lock) = (place.listen(), place.lock());
    let program = place.spawn("fs-x");
    let (mut stream, _) = accept(&listener);
    say(&mut stream, &[CONTINUES, DONE]);
    assert_eq!(code(program), Some(0));
}

#[test]
fn without_any_open_descriptor_it_asks_all_the_same() {
    let place = Place::new("descriptors");
    let (listener, _lock) = (place.listen(), place.lock());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" -q -- fs-x <&- >&- 2>&-", env!("CARGO_BIN_EXE_addonce-modprobe")]);
    let program = command.env("ADDONCE_SOCKET", place.path("io.addonce")).spawn().expect("a shell");
    let (mut stream, asked) = accept(&listener);
    assert!(asked.starts_with('{') && asked.contains("fs-x"), "{asked}");
    say(&mut stream, &[DONE]);
    assert_eq!(code(program), Some(0));
}

#[test]
fn a_live_module_is_an_answer_without_a_daemon() {
    let test = "a_live_module_is_an_answer_without_a_daemon";
    if namespace::depth().is_none() {
        return namespace::again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    let place = Place::new("live");
    mount(&["-t", "tmpfs", "none", "/sys/module"]);
    let declare = |name: &str, state: &str| {
        let directory = Path::new("/sys/module").join(name);
        fs::create_dir(&directory).expect("mkdir");
        fs::write(directory.join("initstate"), state).expect("write");
    };
    declare("crc32c_intel", "live\n");
    declare("young", "coming\n");
    for (name, expected) in [("crc32c_intel", 0), ("crc32c-intel", 0), ("young", 3), ("none", 3)] {
        assert_eq!(place.run(&["-q", "--", name]).0.status.code(), Some(expected), "{name}");
    }
}

#[test]
fn what_goes_wrong_is_said_to_nobody_but_standard_error() {
    let place = Place::new("said");
    fs::remove_file(place.path("modprobe")).expect("remove");
    symlink(place.path("nothing"), place.path("modprobe")).expect("symlink");
    let (output, _) = place.run(&["--version"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("addonce-modprobe: "), "{output:?}");
    assert!(output.status.success(), "the next place has one");
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let status = place.command(&["--version"]).stderr(full).stdout(Stdio::null()).status();
    assert!(status.expect("it runs").success(), "and where that cannot be said");
}
