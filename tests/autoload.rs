// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own requests, from the daemon's side: the call of its helper, and the switch.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use addonce::control::client::Conversation;
use addonce::daemon::modprobe::Switch;
use addonce::daemon::requests::{Refusals, Requests};
use addonce::once::{LoadError, Stage, Status};
use common::fixture::Fixture;
use common::flood::Flood;
use common::modules::{SHOWN, WITH_MODULES};
use common::namespace::{again, alone, depth};
use common::proc::peak_memory;
use common::running::{Running, addonce};
use common::slow::Slow;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// What hostile names may cost above the idle daemon, in KiB.
const MEMORY: u64 = 1024;

/// One that waits for fx_opt, and was told that it is accepted.
fn helper(running: &Running) -> Conversation {
    let mut helper = Conversation::open(running.socket()).expect("a daemon");
    helper.ask("Autoload", json!({ "name": "fx_opt" }), true).expect("asked");
    assert_eq!(helper.next(None).expect("accepted"), json!({}));
    helper
}

/// What it is answered, after ten signs of life at the most.
fn answer(helper: &mut Conversation) -> Value {
    let mut replies = (0..10).map(|_| helper.next(None).expect("a reply"));
    replies.find(|reply| *reply != json!({})).expect("an answer")
}

#[test]
fn a_helper_is_told_each_second_that_the_daemon_lives_and_then_what_modprobe_is_to_do() {
    alone("a_helper_is_told_each_second_that_the_daemon_lives_and_then_what_modprobe_is_to_do", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&fixture.flags());
        let mut client = Conversation::open(running.socket()).expect("a daemon");
        client.ask("Autoload", json!({ "name": "fx\\x5fopt" }), true).expect("asked");
        let begin = Instant::now();
        for _ in 0..3 {
            let reply = client.next(Some(Duration::from_secs(2))).expect("a sign of life");
            assert_eq!(reply, json!({}));
        }
        assert!((900..2500).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
        // One that comes later hears at once that it is accepted, before the next sign of life to all.
        let mut other = Conversation::open(running.socket()).expect("a daemon");
        other.ask("Autoload", json!({ "name": "fx_opt" }), true).expect("asked");
        client.next(Some(Duration::from_secs(2))).expect("a sign of life");
        for what in ["accepted", "a sign of life"] {
            assert_eq!(other.next(Some(Duration::from_millis(300))).expect(what), json!({}));
        }
        slow.let_go();
        assert_eq!(answer(&mut client), json!({ "answer": "yours" }), "of a dry run nothing is there");
        for name in ["fx-none", "fx_inst", "\\xff", &"x".repeat(56)] {
            client.ask("Autoload", json!({ "name": name }), false).expect("asked");
            assert_eq!(client.next(None).expect("the answer"), json!({ "answer": "yours" }), "{name}");
        }
        let status = running.settled();
        assert_eq!((&status["requests"], &status["no_module"]), (&0.into(), &0.into()));
        assert_eq!(status["kernel"]["requests"], 6);
        assert_eq!(status["kernel"]["handed_back"], 6);
    });
}

/// The daemon says meanwhile that it lives: it waits for its load.
#[test]
fn a_daemon_that_is_to_end_leaves_what_helpers_wait_for_to_modprobe() {
    alone("a_daemon_that_is_to_end_leaves_what_helpers_wait_for_to_modprobe", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&fixture.flags());
        let mut client = helper(&running);
        slow.wait(&running);
        running.signal(Signal::SIGTERM);
        assert_eq!(answer(&mut client), json!({ "answer": "yours" }));
        slow.let_go();
        running.stop();
    });
}

/// Of requests that were killed the kernel does not wait for the helper.
#[test]
fn of_more_than_256_helpers_the_next_ones_are_modprobe() {
    alone("of_more_than_256_helpers_the_next_ones_are_modprobe", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&fixture.flags());
        let helpers: Vec<_> = (0..256).map(|_| helper(&running)).collect();
        slow.wait(&running);
        assert_eq!(running.json(&["status", "--json"])["kernel"]["handed_back"], 0);
        assert_eq!(answer(&mut helper(&running)), json!({ "answer": "yours" }));
        drop(helpers);
        slow.let_go();
    });
}

#[test]
fn a_helper_that_has_gone_is_forgotten_and_its_load_goes_on() {
    alone("a_helper_that_has_gone_is_forgotten_and_its_load_goes_on", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let mut running = Running::start(&fixture.flags());
        let client = helper(&running);
        slow.wait(&running);
        drop(client);
        slow.let_go();
        running.wait_for("add_once fx_opt live dry_run asked=1 by_kernel=1 ");
        assert_eq!(running.settled()["kernel"]["handed_back"], 0);
    });
}

#[test]
fn the_answer_is_that_of_the_last_module_which_policy_allows() {
    let with = |errno, stage| Status::Failed { error: LoadError { errno, stage }, retry_at: None };
    let failed = || with(libc::ENODEV, Stage::Insert);
    let cases = [
        (vec![], "failed", "no_module"),
        (vec![Status::Live], "done", "done"),
        (vec![failed(), Status::Builtin], "done", "done"),
        // modprobe cannot tell it from a module that is live.
        (vec![with(libc::EEXIST, Stage::Init)], "done", "done"),
        (vec![failed(), Status::Blacklisted], "done", "done"),
        (vec![Status::Live, failed()], "failed", "failed"),
        (vec![Status::RuledOut], "failed", "refused"),
        (vec![Status::Live, Status::RuledOut], "done", "done"),
        (vec![Status::RuledOut, failed(), Status::RuledOut], "failed", "failed"),
    ];
    for (statuses, expected, counter) in cases {
        let mut requests = Requests::default();
        requests.ask(7, b"fs-x".to_vec());
        let answers: Vec<_> = statuses.into_iter().map(|status| ("x".into(), status)).collect();
        let reply = requests.reply(7, Some(&answers), Duration::ZERO).expect("it waits");
        assert_eq!(reply.parameters["answer"], expected, "{answers:?}");
        assert_eq!(json!(requests.stats())[counter], 1, "{answers:?}");
        assert!(requests.reply(7, Some(&answers), Duration::ZERO).is_none(), "it was answered");
        requests.ask(8, b"fs-x".to_vec());
        requests.gone(8);
        assert!(requests.reply(8, Some(&answers), Duration::ZERO).is_none(), "it has gone");
    }
}

#[test]
fn a_refused_name_is_logged_once_a_minute_and_64_names_at_the_most() {
    let mut refusals = Refusals::default();
    let at = Duration::from_secs;
    assert!(refusals.is_news(b"fs-x", at(0)));
    assert!(!refusals.is_news(b"fs-x", at(59)));
    assert!(refusals.is_news(b"fs-x", at(60)));
    let said = (0..1000).filter(|n: &u64| refusals.is_news(n.to_string().as_bytes(), at(61)));
    assert_eq!(said.count(), 63);
    assert!(refusals.is_news(b"another", at(121)));
}

/// Counts the lines about one name.
struct Lines(AtomicU64);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let is_it = record.args().to_string().contains("fs-refused is refused");
        self.0.fetch_add(u64::from(is_it), Ordering::Relaxed);
    }

    fn flush(&self) {}
}

#[test]
fn a_name_that_policy_refuses_is_logged_with_what_the_kernel_asked_for() {
    static LINES: Lines = Lines(AtomicU64::new(0));
    log::set_logger(&LINES).expect("the only one");
    log::set_max_level(log::LevelFilter::Warn);
    let mut requests = Requests::default();
    for second in [0, 59, 60] {
        requests.ask(7, b"fs-refused".to_vec());
        let reply = requests.reply(7, Some(&[("x".into(), Status::RuledOut)]), Duration::from_secs(second));
        assert_eq!(reply.expect("it waits").parameters["answer"], "failed");
    }
    assert_eq!(LINES.0.load(Ordering::Relaxed), 2);
}

/// A device asks a hundred times a second until it is over: how long each answer took, sorted.
fn asks(socket: &Path, is_over: &AtomicBool) -> Vec<Duration> {
    let mut device = Conversation::open(socket).expect("a daemon");
    let mut took = Vec::new();
    while !is_over.load(Ordering::Relaxed) || took.is_empty() {
        let (begin, n) = (Instant::now(), took.len());
        let parameters = json!({ "alias": "fxopt:1", "devpath": format!("/devices/{n}"), "seqnum": n + 1 });
        device.ask("Load", parameters, false).expect("asked");
        device.next(None).expect("an answer");
        took.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    took.sort();
    took
}

/// 100 000 names; ADDONCE_FLOOD=1000000 makes it a million, which takes minutes.
#[test]
fn hostile_names_cost_a_mebibyte_at_the_most_and_no_device_is_kept_waiting() {
    alone("hostile_names_cost_a_mebibyte_at_the_most_and_no_device_is_kept_waiting", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start_by(addonce(), "info", &fixture.flags());
        let mut helper = Conversation::open(running.socket()).expect("a daemon");
        let mut ask = |n: u64| {
            let name = Flood::Hostile.modalias(n);
            let name = addonce::escape::escape(&name[..name.len().min(55)]);
            helper.ask("Autoload", json!({ "name": name }), false).expect("asked");
            helper.next(None).expect("an answer");
        };
        // What is paid once.
        (0..1000).for_each(&mut ask);
        let idle = peak_memory(running.id());
        let count = std::env::var("ADDONCE_FLOOD").map_or(100_000, |count| count.parse().expect("a number"));
        let (is_over, socket) = (AtomicBool::new(false), running.socket().as_path());
        let took = std::thread::scope(|scope| {
            let device = scope.spawn(|| asks(socket, &is_over));
            (1000..1000 + count).for_each(&mut ask);
            is_over.store(true, Ordering::Relaxed);
            device.join().expect("thread")
        });
        let peak = peak_memory(running.id());
        // Of a hundred, one may meet a machine that is busy with something else.
        let (most, slowest) = (took[took.len() * 99 / 100], took[took.len() - 1]);
        println!("{count} names: {idle} KiB idle, {peak} KiB at the peak");
        println!("{} devices meanwhile: 99 % answered within {most:?}, the slowest {slowest:?}", took.len());
        assert!(peak - idle <= MEMORY, "{idle} KiB idle, {peak} KiB at the peak");
        assert!(most < Duration::from_millis(10), "{most:?}");
        let status = running.settled();
        assert_eq!(status["kernel"]["requests"], 1000 + count);
        assert_eq!(status["no_module"], 0);
        assert!(running.stop().len() < 10, "hostile names are not worth a line");
    });
}

/// A directory with a file in kernel.modprobe's place, a helper, and modprobes of several kinds.
struct Place(tempfile::TempDir);

impl Place {
    fn new(stands: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("tempdir"));
        for name in ["helper", "modprobe", "another"] {
            fs::write(place.path(name), "#!/bin/sh\n").expect("write");
            fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        place.stand(stands);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What a word in this directory means; others stand as they are.
    fn stand(&self, stands: &str) {
        let path = self.path(stands);
        let text = if stands.is_empty() { String::new() } else { path.display().to_string() };
        fs::write(self.path("sysctl"), text + "\n").expect("write");
    }

    fn stands(&self) -> String {
        let text = fs::read_to_string(self.path("sysctl")).expect("read");
        text.trim_end().rsplit('/').next().unwrap_or_default().to_owned()
    }

    fn switch(&self) -> Switch {
        let [sysctl, helper, link] = ["sysctl", "helper", "link"].map(|name| self.path(name));
        Switch { sysctl, helper, link, before: None }
    }

    fn set(&self) -> Result<Switch, String> {
        let mut switch = self.switch();
        switch.set().map(|()| switch)
    }
}

#[test]
fn the_helper_takes_modprobes_place_and_gives_it_back() {
    let place = Place::new("modprobe");
    let switch = place.set().expect("on");
    assert_eq!(place.stands(), "helper");
    assert_eq!(fs::read_link(place.path("link")).expect("a link"), place.path("modprobe"));
    drop(switch);
    assert_eq!(place.stands(), "modprobe");
}

#[test]
fn what_stood_there_is_given_back_without_the_link_too_and_where_nobody_knows_it_what_is_modprobe_everywhere()
{
    let place = Place::new("modprobe");
    let switch = place.set().expect("on");
    fs::remove_file(place.path("link")).expect("remove");
    drop(switch);
    assert_eq!(place.stands(), "modprobe");
    std::mem::forget(place.set().expect("on"));
    fs::remove_file(place.path("link")).expect("remove");
    drop(place.set().expect("still on"));
    assert_eq!(fs::read_to_string(place.path("sysctl")).expect("read"), "/sbin/modprobe");
}

#[test]
fn a_modprobe_whose_place_depends_on_the_directory_stays() {
    let place = Place::new("modprobe");
    fs::write(place.path("sysctl"), "./modprobe\n").expect("write");
    assert!(place.set().expect_err("no place").contains("left alone"));
}

#[test]
fn what_is_no_modprobe_stays() {
    for stands in ["", "another", "nothing"] {
        let place = Place::new(stands);
        let why = place.set().expect_err("it is left alone");
        assert!(why.contains("is left alone"), "{why}");
        assert_eq!(place.stands(), stands);
    }
    let place = Place::new("modprobe");
    fs::set_permissions(place.path("modprobe"), fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(place.set().is_err());
    assert_eq!(place.stands(), "modprobe");
    fs::remove_file(place.path("modprobe")).expect("remove");
    fs::create_dir(place.path("modprobe")).expect("mkdir");
    assert!(place.set().is_err());
}

/// As where somebody has read the link's name in a manual page. It would lead to itself.
#[test]
fn the_link_is_no_modprobe() {
    let place = Place::new("modprobe");
    let link = place.path("run-modprobe").join("modprobe");
    fs::create_dir(link.parent().expect("a directory")).expect("mkdir");
    symlink(place.path("modprobe"), &link).expect("symlink");
    fs::write(place.path("sysctl"), format!("{}\n", link.display())).expect("write");
    let mut switch = place.switch();
    switch.link = link.clone();
    assert!(switch.set().expect_err("it is left alone").contains("is left alone"));
    drop(switch);
    assert_eq!(fs::read_link(&link).expect("a link"), place.path("modprobe"));
    assert_eq!(fs::read_to_string(place.path("sysctl")).expect("read"), format!("{}\n", link.display()));
}

#[test]
fn neither_in_an_initramfs_nor_where_lkrg_checks_helpers_is_anything_set() {
    let test = "neither_in_an_initramfs_nor_where_lkrg_checks_helpers_is_anything_set";
    if depth().is_none() {
        return again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    let mount = |at: &str| {
        let status = Command::new("mount").args(["-t", "tmpfs", "none", at]).status();
        assert!(status.expect("this test needs the program mount (util-linux)").success());
    };
    let place = Place::new("modprobe");
    mount("/proc/sys");
    fs::create_dir("/proc/sys/lkrg").expect("mkdir");
    for (value, is_set) in [("0\n", true), ("1\n", false), ("2\n", false), ("0\n", true)] {
        fs::write("/proc/sys/lkrg/umh_validate", value).expect("write");
        assert_eq!(place.set().is_ok(), is_set, "{value}");
    }
    mount("/etc");
    fs::write("/etc/initrd-release", "").expect("write");
    assert!(place.set().expect_err("an initramfs").contains("initramfs"));
    assert_eq!(place.stands(), "modprobe");
}

#[test]
fn without_a_helper_that_can_run_nothing_is_set() {
    let place = Place::new("modprobe");
    fs::remove_file(place.path("helper")).expect("remove");
    assert!(place.set().is_err());
    assert_eq!(place.stands(), "modprobe");
}

#[test]
fn what_a_killed_daemon_left_is_taken_over_and_given_back() {
    let place = Place::new("modprobe");
    std::mem::forget(place.set().expect("on"));
    assert_eq!(place.stands(), "helper");
    drop(place.set().expect("still on"));
    assert_eq!(place.stands(), "modprobe");
}

#[test]
fn what_somebody_else_has_set_meanwhile_stays() {
    let place = Place::new("modprobe");
    let switch = place.set().expect("on");
    place.stand("another");
    drop(switch);
    assert_eq!(place.stands(), "another");
    fs::write(place.path("sysctl"), b"/opt/\xff\n").expect("write");
    drop(place.switch());
    assert_eq!(fs::read(place.path("sysctl")).expect("read"), b"/opt/\xff\n");
}

#[test]
fn a_link_of_another_time_is_replaced() {
    let place = Place::new("modprobe");
    symlink("/nowhere", place.path("link")).expect("symlink");
    symlink("/nowhere", place.path("link.new")).expect("symlink");
    drop(place.set().expect("on"));
    assert_eq!(place.stands(), "modprobe");
    assert_eq!(fs::read_link(place.path("link")).expect("a link"), place.path("modprobe"));
}

fn in_time(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A daemon that has the kernel run a copy of it in this place, and whose /proc/sys names the file there.
fn switching(place: &Place, fixture: &Fixture) -> Command {
    fs::create_dir(place.path("proc")).expect("mkdir");
    fs::create_dir_all(place.path("fake/sys/kernel")).expect("mkdir");
    symlink(place.path("sysctl"), place.path("fake/sys/kernel/modprobe")).expect("symlink");
    fs::copy(addonce().get_program(), place.path("addonce")).expect("copy");
    fs::rename(place.path("helper"), place.path("addonce-modprobe")).expect("rename");
    // Its socket is the one that the kernel's helper knows.
    let at_run = "mount -t tmpfs tmpfs /run; mkdir /run/addonce; mount --bind $PLACE /run/addonce; ";
    let mut daemon = Command::new("unshare");
    daemon.args(["--mount", "sh", "-c", &format!("{at_run}{WITH_MODULES}"), "sh"]);
    daemon.arg(place.path("addonce")).args(["daemon", "--kernel-requests"]).args(fixture.flags());
    daemon.env("PLACE", place.0.path()).stderr(Stdio::null());
    daemon
}

/// Where writing it takes its time, as with the file that is a pipe here, nobody waits for that who waits for the daemon.
#[test]
fn the_switch_is_set_when_the_daemon_has_said_that_it_is_ready() {
    alone("the_switch_is_set_when_the_daemon_has_said_that_it_is_ready", || {
        let (fixture, place) = (Fixture::build("semantics"), Place::new("modprobe"));
        fs::remove_file(place.path("sysctl")).expect("remove");
        nix::unistd::mkfifo(&place.path("sysctl"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let manager = UnixDatagram::bind(place.path("notify")).expect("bind");
        manager.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut daemon = switching(&place, &fixture);
        let mut daemon =
            daemon.env("NOTIFY_SOCKET", place.path("notify")).spawn().expect("unshare (util-linux)");
        let mut said = [0; 256];
        let size = manager.recv(&mut said);
        daemon.kill().expect("kill");
        daemon.wait().expect("wait");
        assert_eq!(&said[..size.expect("it is ready")], b"READY=1\n");
    });
}

/// A real daemon. What it is asked for has an install command, so nothing is inserted.
#[test]
fn while_the_daemon_waits_for_its_loads_to_end_the_kernel_runs_modprobe_again() {
    alone("while_the_daemon_waits_for_its_loads_to_end_the_kernel_runs_modprobe_again", || {
        let fixture = Fixture::build("semantics");
        let place = Place::new("modprobe");
        let command = "touch $PLACE/began; until [ -e $PLACE/go ]; do sleep 0.01; done";
        fs::write(fixture.config().join("aaa.conf"), format!("install fx_opt {command}\n")).expect("write");
        let socket = place.path("io.addonce");
        let daemon = switching(&place, &fixture).spawn();
        let mut daemon = daemon.expect("this test needs the program unshare (util-linux)");
        in_time("it is set", || place.stands() == "addonce-modprobe");
        let mut load = Command::new("sh");
        load.args(["-c", SHOWN, "sh"]).arg(addonce().get_program()).args(["load", "fx_opt", "--socket"]);
        let load = load.arg(&socket).env("PLACE", place.0.path()).stdout(Stdio::null()).spawn();
        in_time("the command runs", || place.path("began").exists());
        kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).expect("kill");
        in_time("it is put back", || place.stands() == "modprobe");
        assert!(daemon.try_wait().expect("wait").is_none(), "it waits for the command");
        fs::write(place.path("go"), "").expect("write");
        in_time("it ends", || daemon.try_wait().expect("wait").is_some());
        load.expect("a shell").wait().expect("an end");
        assert_eq!(place.stands(), "modprobe");
    });
}

/// What the unit's ExecStopPost runs, and the packages and `make uninstall`.
#[test]
fn what_a_killed_daemon_left_is_put_back() {
    for (stands, link, expected) in [
        ("helper", Some("modprobe"), "modprobe"),
        // Without the daemon's link it is another system's kernel.
        ("helper", None, "helper"),
        ("another", Some("modprobe"), "another"),
        ("modprobe", Some("another"), "modprobe"),
    ] {
        let place = Place::new(stands);
        if let Some(target) = link {
            symlink(place.path(target), place.path("link")).expect("symlink");
        }
        // The daemon has written where this leads.
        symlink(place.path("."), place.path("bin")).expect("symlink");
        let script = [
            ("/proc/sys/kernel/modprobe", "sysctl"),
            ("/run/addonce/modprobe", "link"),
            ("@BINDIR@/addonce-modprobe", "bin/helper"),
        ]
        .iter()
        .fold(include_str!("../packaging/restore-modprobe.in").to_owned(), |script, (path, name)| {
            script.replace(path, &place.path(name).display().to_string())
        });
        let status = Command::new("/bin/sh").args(["-ec", &script]).status();
        assert!(status.expect("a shell").success(), "{script}");
        assert_eq!(place.stands(), expected, "{script}");
    }
}
