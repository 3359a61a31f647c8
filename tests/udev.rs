// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon beside udev: what udevd broadcasts is a request, what the kernel announces is outstanding.
//!
//! The test is the kernel and udevd: in namespaces of its own it injects events, and broadcasts them as udevd would. /sys is a
//! tree of files, so what the daemon writes there can be read. Nothing is inserted: the loader only says what it would do.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use addonce::uevent::netlink::Sender;
use common::devices::Devices;
use common::fixture::Fixture;
use common::many::Many;
use common::namespace::with_udev;
use common::running::{Running, addonce, landed};
use common::udev::Udevd;
use nix::sys::signal::Signal;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A machine with udev.
struct Machine {
    devices: Devices,
    kernel: Sender,
    udevd: Udevd,
}

impl Machine {
    fn new() -> Self {
        let devices = Devices::none();
        fs::create_dir_all(devices.path().join("module/kernel")).unwrap();
        fs::write(devices.path().join("module/kernel/uevent"), "").unwrap();
        Self { devices, kernel: Sender::open().unwrap(), udevd: Udevd::new() }
    }

    fn daemon(&self, flags: Vec<String>) -> Running {
        Running::start(&[flags, vec![self.devices.flag()]].concat())
    }

    /// The kernel announces a device. Its SEQNUM is not ours to choose, so the daemon knows it and we ask for it.
    fn announce(&mut self, devpath: &str, modalias: &str) {
        let text =
            format!("add@{devpath}\0ACTION=add\0DEVPATH={devpath}\0SUBSYSTEM=test\0MODALIAS={modalias}\0");
        self.kernel.inject(text.as_bytes()).unwrap();
    }

    /// udevd is done with an `add` event.
    fn broadcast(&self, seqnum: u64, devpath: &str, more: &str) {
        let text = format!("ACTION=add\0DEVPATH={devpath}\0SUBSYSTEM=test\0SEQNUM={seqnum}\0{more}");
        self.udevd.broadcast(text.as_bytes());
    }

    /// What the daemon wrote to have an event of the hold, if it did.
    fn hold_event(&self) -> Option<String> {
        let path = self.devices.path().join("module/kernel/uevent");
        let text = fs::read_to_string(path).unwrap();
        Some(text.strip_prefix("change ")?.strip_suffix(" ADDONCE=hold")?.to_owned())
    }
}

/// Reads the SEQNUMs that the kernel gives, as udevd does.
struct Announced(addonce::uevent::netlink::Netlink, Vec<u8>);

impl Announced {
    fn listen() -> Self {
        use addonce::uevent::netlink::{BUFFER, Netlink};
        Self(Netlink::open(1 << 20).unwrap(), vec![0; BUFFER])
    }

    /// The next event that the kernel has announced.
    fn next(&mut self) -> Option<(u64, String)> {
        use addonce::uevent::{message::parse, netlink::Received};
        loop {
            match self.0.receive(&mut self.1) {
                Received::Kernel(datagram) => {
                    let uevent = parse(datagram).unwrap();
                    return Some((uevent.seqnum, String::from_utf8(uevent.devpath.to_vec()).unwrap()));
                }
                Received::Drained => return None,
                _ => {}
            }
        }
    }
}

fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn outstanding(running: &Running) -> u64 {
    running.json(&["status", "--json"])["outstanding"].as_u64().expect("a number")
}

#[test]
fn a_request_is_what_udev_left_of_the_modalias_and_not_what_the_kernel_said() {
    with_udev("a_request_is_what_udev_left_of_the_modalias_and_not_what_the_kernel_said", || {
        let fixture = Fixture::build("semantics");
        let mut machine = Machine::new();
        let mut announced = Announced::listen();
        let running = machine.daemon(fixture.flags());
        for (n, modalias) in ["fxopt:1", "fxdash:a-b0", "fxnone:1"].into_iter().enumerate() {
            machine.announce(&format!("/devices/test/{n}"), modalias);
        }
        until("three are outstanding", || outstanding(&running) == 3);
        assert_eq!(running.json(&["status", "--json"])["requests"], 0, "udev has not spoken");
        let seqnums: Vec<u64> = (0..3).map(|_| announced.next().unwrap().0).collect();
        // A rule cleared it; a rule replaced it; it had none that is known, and has one now.
        machine.broadcast(seqnums[0], "/devices/test/0", "MODALIAS=\0");
        machine.broadcast(seqnums[1], "/devices/test/1", "MODALIAS=fxhidden:1\0");
        machine.broadcast(seqnums[2], "/devices/test/2", "MODALIAS=fxbus:topmost\0");
        let status = running.settled();
        assert_eq!((&status["requests"], &status["outstanding"]), (&2.into(), &0.into()));
        assert_eq!(status["with_udev"], true);
        let modules = landed(&running.stop());
        assert!(modules.contains("fx_hidden") && modules.contains("fx_top"), "{modules:?}");
        assert!(!modules.contains("fx_opt") && !modules.contains("fx_dash"), "{modules:?}");
    });
}

#[test]
fn what_a_program_asks_and_udevd_broadcasts_is_one_request() {
    with_udev("what_a_program_asks_and_udevd_broadcasts_is_one_request", || {
        let fixture = Fixture::build("semantics");
        let machine = Machine::new();
        let running = machine.daemon(fixture.flags());
        let mut program = addonce();
        program.args(["load", "--socket"]).arg(running.socket());
        program.envs([("ACTION", "add"), ("DEVPATH", "/devices/test/0"), ("MODALIAS", "fxopt:1")]);
        let output = program.env("SEQNUM", "4711").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "fx_opt: live\n", "{output:?}");
        machine.broadcast(4711, "/devices/test/0", "MODALIAS=fxopt:1\0");
        machine.broadcast(4712, "/devices/test/0", "MODALIAS=fxopt:1\0");
        until("both are heard", || running.json(&["status", "--json"])["uevents"]["from_udev"] == 2);
        assert_eq!(running.settled()["requests"], 2, "4711 and 4712");
    });
}

#[test]
fn a_scan_is_for_machines_without_udev_and_the_log_says_which_this_is() {
    with_udev("a_scan_is_for_machines_without_udev_and_the_log_says_which_this_is", || {
        let fixture = Fixture::build("semantics");
        let machine = Machine::new();
        machine.devices.appear(0, b"fxopt:1");
        let mut running = machine.daemon(fixture.flags());
        assert!(running.log.last().unwrap().contains("requests come from udev"), "{:?}", running.log);
        assert_eq!(running.settled()["requests"], 0);
        running.end(Signal::SIGTERM);
        fs::remove_file("/run/udev/control").unwrap();
        running = machine.daemon(fixture.flags());
        assert!(running.log.last().unwrap().contains("there is no udev"), "{:?}", running.log);
        assert_eq!(running.settled()["requests"], 1);
    });
}

/// A program that waits for the end of a hold.
struct HoldProgram(UnixStream);

impl HoldProgram {
    fn start(running: &Running, uuid: &str) -> Self {
        let mut stream = UnixStream::connect(running.socket()).unwrap();
        let call = format!("{{\"method\":\"io.addonce.Hold\",\"parameters\":{{\"uuid\":\"{uuid}\"}}}}\0");
        stream.write_all(call.as_bytes()).unwrap();
        Self(stream)
    }

    fn is_answered(&mut self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        matches!(self.0.read(&mut [0; 256]), Ok(1..))
    }
}

#[test]
fn a_storm_is_held_until_the_last_of_it_is_loaded() {
    with_udev("a_storm_is_held_until_the_last_of_it_is_loaded", || {
        let many = Many::build(20);
        let mut machine = Machine::new();
        let mut announced = Announced::listen();
        let running = machine.daemon(many.flags());
        let hold: PathBuf = running.directory().join("hold");
        let devpath = |n: usize| format!("/devices/test/{n}");
        (0..20).for_each(|n| machine.announce(&devpath(n), &many.modalias(n)));
        until("an event is written", || machine.hold_event().is_some());
        until("the rules see it", || hold.exists());
        let mut program = HoldProgram::start(&running, &machine.hold_event().unwrap());
        let seqnums: Vec<u64> = (0..20).map(|_| announced.next().unwrap().0).collect();
        for (n, &seqnum) in seqnums[..19].iter().enumerate() {
            machine.broadcast(seqnum, &devpath(n), &format!("MODALIAS={}\0", many.modalias(n)));
        }
        until("one is outstanding", || outstanding(&running) == 1);
        assert!(hold.exists() && !program.is_answered(), "udev has one event before it");
        machine.broadcast(seqnums[19], &devpath(19), &format!("MODALIAS={}\0", many.modalias(19)));
        until("the program is answered", || program.is_answered());
        assert!(!hold.exists() && !hold.is_symlink(), "gone before the answer");
        let status = running.json(&["status", "--json"]);
        assert_eq!((&status["requests"], &status["loading"]), (&20.into(), &0.into()));
        assert_eq!(landed(&running.stop()), many.names().collect());
    });
}

#[test]
fn what_an_overflow_lost_is_asked_of_udev_again() {
    with_udev("what_an_overflow_lost_is_asked_of_udev_again", || {
        let many = Many::build(200);
        let mut machine = Machine::new();
        let running = machine.daemon([many.flags(), vec!["--receive-buffer=49152".into()]].concat());
        let paths: Vec<String> =
            (0..200).map(|n| machine.devices.appear(n, many.modalias(n).as_bytes())).collect();
        let file = |path: &str| machine.devices.path().join(&path[1..]).join("uevent");
        let files: Vec<PathBuf> = paths.iter().map(|path| file(path)).collect();
        let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        running.signal(Signal::SIGSTOP);
        for (n, path) in paths.iter().enumerate() {
            machine.announce(path, &many.modalias(n));
        }
        running.signal(Signal::SIGCONT);
        // The kernel: what is written to `uevent` is announced; and udevd: it is broadcast, a while later.
        let mut announced = Announced::listen();
        // What is announced again may overflow so small a buffer, too: then all are asked for once more.
        let mut asked = vec![false; 200];
        let mut last = Instant::now();
        let mut held = None;
        let deadline = Instant::now() + PATIENCE;
        while asked.iter().any(|asked| !asked) || last.elapsed() < Duration::from_secs(1) {
            assert!(Instant::now() < deadline, "{asked:?} {:?}", running.json(&["status", "--json"]));
            if held.is_none() {
                held = machine.hold_event().map(|uuid| HoldProgram::start(&running, &uuid));
            }
            let mut round = Vec::new();
            for (n, path) in paths.iter().enumerate() {
                let text = fs::read_to_string(&files[n]).unwrap();
                if text.starts_with("add ") {
                    assert!(text.contains(" ADDONCE=again"), "{text}");
                    round.push((n, path.clone()));
                    fs::write(&files[n], &texts[n]).unwrap();
                    (asked[n], last) = (true, Instant::now());
                }
            }
            for (n, path) in &round {
                let text = format!(
                    "add@{path}\0ACTION=add\0DEVPATH={path}\0SUBSYSTEM=test\0SYNTH_UUID=x\0\
                     SYNTH_ARG_ADDONCE=again\0MODALIAS={}\0",
                    many.modalias(*n)
                );
                machine.kernel.inject(text.as_bytes()).unwrap();
                let (seqnum, _) = announced.next().unwrap();
                let more = format!("SYNTH_UUID=x\0SYNTH_ARG_ADDONCE=again\0MODALIAS={}\0", many.modalias(*n));
                machine.broadcast(seqnum, path, &more);
                // As many at once as udevd has workers.
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        running.settle();
        let log = running.stop();
        assert_eq!(landed(&log), many.names().collect());
        let told: Vec<_> =
            log.iter().filter(|line| line.contains("asking udev for its devices again")).collect();
        assert_eq!(told.len(), 1, "{told:#?}");
    });
}

#[test]
fn what_a_daemon_held_when_it_was_killed_the_next_one_asks_of_udev_again() {
    with_udev("what_a_daemon_held_when_it_was_killed_the_next_one_asks_of_udev_again", || {
        let many = Many::build(20);
        let mut machine = Machine::new();
        let paths: Vec<String> =
            (0..20).map(|n| machine.devices.appear(n, many.modalias(n).as_bytes())).collect();
        let asked = |machine: &Machine| {
            let uevent =
                |path: &String| fs::read_to_string(machine.devices.path().join(&path[1..]).join("uevent"));
            paths.iter().filter(|path| uevent(path).unwrap().contains(" ADDONCE=again")).count()
        };
        let running = machine.daemon(many.flags());
        for (n, path) in paths.iter().enumerate() {
            machine.announce(path, &many.modalias(n));
        }
        let hold = running.directory().join("hold");
        until("it holds", || hold.exists());
        assert_eq!(asked(&machine), 0);
        let directory = running.end(Signal::SIGKILL);
        let hold = directory.path().join("hold");
        assert!(!hold.exists(), "the rules do not see it");
        let flags = [many.flags(), vec![machine.devices.flag()]].concat();
        let mut running = Running::start_in(directory, addonce(), "debug", &flags);
        assert!(
            running.log.iter().any(|line| line.contains("asking udev for its devices again")),
            "{:?}",
            running.log
        );
        until("all are asked for again", || asked(&machine) == 20);
        running.log.clear();
    });
}

#[test]
fn a_daemon_that_is_told_to_stop_while_it_holds_leaves_that_to_the_next_one() {
    with_udev("a_daemon_that_is_told_to_stop_while_it_holds_leaves_that_to_the_next_one", || {
        let many = Many::build(20);
        let mut machine = Machine::new();
        let running = machine.daemon(many.flags());
        (0..20).for_each(|n| machine.announce(&format!("/devices/test/{n}"), &many.modalias(n)));
        let hold = running.directory().join("hold");
        until("it holds", || hold.exists());
        let mut program = HoldProgram::start(&running, &machine.hold_event().unwrap());
        until("it waits", || running.json(&["status", "--json"])["clients"]["now"].as_u64() >= Some(2));
        let directory = running.end(Signal::SIGTERM);
        assert!(!directory.path().join("hold").exists(), "programs ask from now on");
        assert!(!program.is_answered(), "it finds out that nobody is there, and starts the next one");
        let flags = [many.flags(), vec![machine.devices.flag()]].concat();
        let running = Running::start_in(directory, addonce(), "debug", &flags);
        assert!(
            running.log.iter().any(|line| line.contains("asking udev for its devices again")),
            "{:?}",
            running.log
        );
    });
}

/// udevd itself, with these rules and no others.
struct RealUdevd(std::process::Child);

impl RealUdevd {
    fn start(rules: &str) -> Option<Self> {
        let program = ["/usr/lib/systemd/systemd-udevd", "/lib/systemd/systemd-udevd"];
        let program = program.into_iter().find(|path| std::path::Path::new(path).exists())?;
        for directory in ["/usr/lib/udev/rules.d", "/lib/udev/rules.d", "/etc/udev/rules.d"] {
            if std::path::Path::new(directory).exists() {
                let mount = Command::new("mount").args(["-t", "tmpfs", "none", directory]).status();
                assert!(mount.unwrap().success());
            }
        }
        fs::create_dir("/run/udev/rules.d").unwrap();
        fs::write("/run/udev/rules.d/50-test.rules", rules).unwrap();
        fs::remove_file("/run/udev/control").unwrap();
        let udevd = Command::new(program).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("udevd listens", || fs::metadata("/run/udev/control").is_ok());
        Some(Self(udevd))
    }

    fn settle() {
        assert!(Command::new("udevadm").args(["settle", "--timeout=20"]).status().unwrap().success());
    }
}

impl Drop for RealUdevd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_rules_of_a_real_udevd_decide_and_its_broadcasts_are_believed() {
    with_udev("the_rules_of_a_real_udevd_decide_and_its_broadcasts_are_believed", || {
        let rules = "ENV{MODALIAS}==\"fxopt:1\", ENV{MODALIAS}=\"\"\n\
                     ENV{MODALIAS}==\"fxdash:a-b0\", ENV{MODALIAS}=\"fxhidden:1\"\n";
        let Some(_udevd) = RealUdevd::start(rules) else {
            return eprintln!("left out: there is no systemd-udevd here");
        };
        let fixture = Fixture::build("semantics");
        let mut machine = Machine::new();
        let running = machine.daemon(fixture.flags());
        for (n, modalias) in ["fxopt:1", "fxdash:a-b0", "fxbus:topmost"].into_iter().enumerate() {
            machine.announce(&format!("/devices/test/{n}"), modalias);
        }
        RealUdevd::settle();
        let status = running.settled();
        assert_eq!((&status["requests"], &status["outstanding"]), (&2.into(), &0.into()));
        assert_eq!(
            (&status["uevents"]["from_udev"], &status["uevents"]["strangers"]),
            (&3.into(), &0.into())
        );
        let modules = landed(&running.stop());
        assert!(modules.contains("fx_hidden") && modules.contains("fx_top"), "{modules:?}");
        assert!(!modules.contains("fx_opt") && !modules.contains("fx_dash"), "{modules:?}");
    });
}
