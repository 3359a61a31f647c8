// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon beside udev: what udevd broadcasts is a request, what the kernel announces is outstanding.
//!
//! The test is the kernel and udevd: in namespaces of its own it injects events, and broadcasts them as udevd would. /sys is a
//! tree of files, so what the daemon writes there can be read. Nothing is inserted: the loader only says what it would do.

mod common;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use addonce::control::client::{Conversation, call};
use common::devices::Devices;
use common::fixture::Fixture;
use common::left_out::left_out;
use common::many::Many;
use common::namespace::with_udev;
use common::running::{Running, addonce, landed};
use common::sender::Sender;
use common::slow::Slow;
use common::udev::Udevd;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_micros(500);

/// A machine with udev.
struct Machine {
    devices: Devices,
    kernel: Sender,
    udevd: Udevd,
    /// Where [`Machine::pipes`] made them: the `uevent` of /sys/module/kernel, and those of the devices.
    pipes: Option<(File, Vec<File>)>,
}

impl Machine {
    fn new() -> Self {
        let devices = Devices::none();
        fs::create_dir_all(devices.path().join("module/kernel")).unwrap();
        fs::write(devices.path().join("module/kernel/uevent"), "").unwrap();
        Self { devices, kernel: Sender::open().unwrap(), udevd: Udevd::new(), pipes: None }
    }

    fn daemon(&self, flags: Vec<String>) -> Running {
        Running::start(&[flags, vec![self.devices.flag()]].concat())
    }

    /// Devices with these modaliases, for [`Again`].
    fn pipes(&mut self, modaliases: &[String]) {
        let uevent = |devpath: &str| self.devices.path().join(&devpath[1..]).join("uevent");
        let devices = modaliases.iter().enumerate().map(|(n, modalias)| {
            let pipe = pipe(&uevent(&self.devices.appear(n, modalias.as_bytes())));
            fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(1)).unwrap();
            fill(&pipe);
            pipe
        });
        self.pipes = Some((pipe(&uevent("/module/kernel")), devices.collect()));
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
        std::thread::sleep(PAUSE);
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
        for (n, modalias) in ["fxopt:1", "fxdash:a-b0", "fxnone:1", "fxopt:2"].into_iter().enumerate() {
            machine.announce(&format!("/devices/test/{n}"), modalias);
        }
        until("four are outstanding", || outstanding(&running) == 4);
        assert_eq!(running.json(&["status", "--json"])["requests"], 0, "udev has not spoken");
        let seqnums: Vec<u64> = (0..4).map(|_| announced.next().unwrap().0).collect();
        // Its worker was killed before the rules were done, and udevd passes on what the kernel said.
        machine.broadcast(seqnums[3], "/devices/test/3", "MODALIAS=fxopt:2\0UDEV_WORKER_FAILED=1\0");
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
        let load = json!({ "alias": "fxopt:1", "devpath": "/devices/test/0", "seqnum": 4711 });
        let reply = call(running.socket(), "Load", load, None).unwrap();
        assert_eq!(reply["answers"], json!([{ "module": "fx_opt", "state": "live" }]));
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
fn udevs_queue_is_held_for_a_load_of_the_kernels_from_the_time_on_that_a_device_asks() {
    let test = "udevs_queue_is_held_for_a_load_of_the_kernels_from_the_time_on_that_a_device_asks";
    with_udev(test, || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let machine = Machine::new();
        let running = machine.daemon(fixture.flags());
        let mut helper = Conversation::open(running.socket()).unwrap();
        helper.ask("Autoload", json!({ "name": "fx_opt" }), true).unwrap();
        slow.wait(&running);
        assert_eq!(machine.hold_event(), None);
        machine.broadcast(u64::MAX, "/devices/x", "MODALIAS=fxopt:1\0");
        until("an event is written", || machine.hold_event().is_some());
    });
}

#[test]
fn what_udevd_does_not_broadcast_is_asked_for_once_more() {
    with_udev("what_udevd_does_not_broadcast_is_asked_for_once_more", || {
        let many = Many::build(8);
        let mut machine = Machine::new();
        let mut announced = Announced::listen();
        let appear = |n| machine.devices.appear(n, many.modalias(n).as_bytes());
        let uevent = |devpath: String| machine.devices.path().join(&devpath[1..]).join("uevent");
        let uevents: Vec<PathBuf> = (0..8).map(appear).map(uevent).collect();
        let running = machine.daemon(many.flags());
        let devpath = |n: usize| format!("/devices/test/{n}");
        (0..8).for_each(|n| machine.announce(&devpath(n), &many.modalias(n)));
        let seqnums: Vec<u64> = (0..8).map(|_| announced.next().unwrap().0).collect();
        until("an event is written", || machine.hold_event().is_some());
        // Each event of the hold has its program, the first before a broadcast: then it says who udevd is.
        let mut held = machine.hold_event();
        let mut programs = vec![HoldProgram::start(&running, held.as_ref().unwrap())];
        until("it waits", || running.json(&["status", "--json"])["clients"]["now"].as_u64() >= Some(2));
        for (n, &seqnum) in seqnums[..7].iter().enumerate() {
            machine.broadcast(seqnum, &devpath(n), &format!("MODALIAS={}\0", many.modalias(n)));
        }
        let event = |n: usize| {
            Some(fs::read_to_string(&uevents[n]).unwrap()).filter(|text| text.contains("ADDONCE="))
        };
        until("it is asked for", || {
            let now_held = machine.hold_event();
            if now_held != held {
                programs.push(HoldProgram::start(&running, now_held.as_ref().unwrap()));
                held = now_held;
            }
            event(7).is_some()
        });
        assert!((0..7).all(|n| event(n).is_none()), "the others are done");
        let text = event(7).unwrap();
        let uuid = text.strip_prefix("add ").and_then(|rest| rest.split_once(" ADDONCE=ask")).expect(&text).0;
        assert_eq!(uuid, addonce::daemon::hold::uuid(seqnums[7]));
        let more = format!("{}\0SYNTH_UUID={uuid}\0SYNTH_ARG_ADDONCE=ask", many.modalias(7));
        machine.announce(&devpath(7), &more);
        let seqnum = announced.next().unwrap().0;
        until("both are outstanding", || outstanding(&running) == 2);
        let load = json!({ "alias": many.modalias(7), "devpath": devpath(7), "seqnum": seqnum });
        call(running.socket(), "Load", load, None).unwrap();
        assert_eq!(outstanding(&running), 0, "its program asks, and the first one is done");
        until("the hold's program is answered", || programs.last_mut().unwrap().is_answered());
        assert_eq!(landed(&running.stop()), many.names().collect());
    });
}

/// The kernel and udevd, where the daemon asks for devices again, however often it does.
///
/// What is written to a `uevent` file is announced before write() returns. Each of these files is a pipe that is full, so the
/// write waits: the descriptor is seen in /proc, the event is injected, and then there is room.
struct Again<'a> {
    running: &'a Running,
    machine: &'a mut Machine,
    modaliases: &'a [String],
    uevents: Vec<File>,
    /// That of /sys/module/kernel, of which the daemon expects nothing.
    holds: File,
    announced: Announced,
    /// Events in udevd's queue, oldest first: SEQNUM and device.
    queue: VecDeque<(u64, usize)>,
    /// Events of the hold there, and the program of the first.
    held: VecDeque<String>,
    program: Option<HoldProgram>,
}

impl<'a> Again<'a> {
    fn new(running: &'a Running, machine: &'a mut Machine, modaliases: &'a [String]) -> Self {
        let (holds, uevents) = machine.pipes.take().expect("made by pipes()");
        let announced = Announced::listen();
        let (queue, held, program) = Default::default();
        Self { running, machine, modaliases, uevents, holds, announced, queue, held, program }
    }

    /// The device whose `uevent` the daemon writes to.
    fn written(&self) -> Option<usize> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.running.id())).unwrap().flatten();
        let mut paths = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        paths.find_map(|path| {
            path.to_str()?.strip_suffix("/uevent")?.rsplit_once("/devices/test/")?.1.parse().ok()
        })
    }

    /// The kernel: announces the event that the daemon writes, if it does. Returns whether it did.
    fn announce(&mut self) -> bool {
        let Some(n) = self.written() else { return false };
        let (path, modalias) = (format!("/devices/test/{n}"), &self.modaliases[n]);
        let text = format!(
            "add@{path}\0ACTION=add\0DEVPATH={path}\0SUBSYSTEM=test\0SYNTH_UUID=x\0\
             SYNTH_ARG_ADDONCE=again\0MODALIAS={modalias}\0"
        );
        self.machine.kernel.inject(text.as_bytes()).unwrap();
        let (seqnum, announced) = self.announced.next().unwrap();
        assert_eq!(announced, path);
        self.queue.push_back((seqnum, n));
        empty(&self.uevents[n]);
        let mut text = String::new();
        until("it is written", || {
            text += &available(&self.uevents[n]);
            !text.is_empty()
        });
        assert!(text.starts_with("add ") && text.ends_with(" ADDONCE=again"), "{text}");
        until("it is closed", || self.written() != Some(n));
        fill(&self.uevents[n]);
        true
    }

    /// udevd: is done with the oldest event, if there is one.
    fn broadcast(&mut self) {
        let Some((seqnum, n)) = self.queue.pop_front() else { return };
        let more = format!("SYNTH_UUID=x\0SYNTH_ARG_ADDONCE=again\0MODALIAS={}\0", self.modaliases[n]);
        self.machine.broadcast(seqnum, &format!("/devices/test/{n}"), &more);
    }

    /// udevd: runs the programs of the hold's events, one after the other.
    fn hold(&mut self) {
        let text = available(&self.holds);
        self.held
            .extend(text.split_terminator(" ADDONCE=hold").map(|event| event["change ".len()..].to_owned()));
        let Some(uuid) = self.held.front() else { return };
        let program = self.program.get_or_insert_with(|| HoldProgram::start(self.running, uuid));
        if program.is_answered() {
            let path = "/module/kernel";
            let text = format!(
                "ACTION=change\0DEVPATH={path}\0SUBSYSTEM=module\0SEQNUM=1\0SYNTH_UUID={uuid}\0SYNTH_ARG_ADDONCE=hold\0"
            );
            self.machine.udevd.broadcast(text.as_bytes());
            self.held.pop_front();
            self.program = None;
        }
    }

    /// Goes on until this command has its answer, or gives up.
    fn until_answered(&mut self, command: &[&str], mut go_on: impl FnMut(&mut Self)) -> serde_json::Value {
        let mut asking = addonce();
        asking.args(command).arg("--socket").arg(self.running.socket()).stdout(Stdio::piped());
        let mut asking = asking.spawn().expect("addonce");
        while asking.try_wait().unwrap().is_none() {
            go_on(self);
            std::thread::sleep(PAUSE);
        }
        let output = asking.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The kernel and udevd go on until nothing is left to do.
    fn settle(&mut self) {
        self.until_answered(&["settle", "--timeout=100"], |again| {
            again.announce();
            again.broadcast();
            again.hold();
        });
    }
}

/// What is in a pipe.
fn available(mut pipe: &File) -> String {
    let mut buffer = [0; 4096];
    match pipe.read(&mut buffer) {
        Ok(length) => String::from_utf8(buffer[..length].to_vec()).unwrap(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            String::new()
        }
    }
}

/// A pipe in place of this file.
fn pipe(path: &Path) -> File {
    fs::remove_file(path).unwrap();
    mkfifo(path, Mode::S_IRWXU).unwrap();
    File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
}

fn size(pipe: &File) -> usize {
    fcntl(pipe, FcntlArg::F_GETPIPE_SZ).unwrap().try_into().unwrap()
}

fn fill(mut pipe: &File) {
    pipe.write_all(&vec![b' '; size(pipe)]).unwrap();
}

fn empty(mut pipe: &File) {
    pipe.read_exact(&mut vec![0; size(pipe)]).unwrap();
}

#[test]
fn what_an_overflow_lost_is_asked_of_udev_again() {
    with_udev("what_an_overflow_lost_is_asked_of_udev_again", || {
        let many = Many::build(200);
        let mut machine = Machine::new();
        let running = machine.daemon([many.flags(), vec!["--receive-buffer=16384".into()]].concat());
        let modaliases: Vec<String> = (0..200).map(|n| many.modalias(n)).collect();
        machine.pipes(&modaliases);
        running.signal(Signal::SIGSTOP);
        for (n, modalias) in modaliases.iter().enumerate() {
            machine.announce(&format!("/devices/test/{n}"), modalias);
        }
        running.signal(Signal::SIGCONT);
        let mut again = Again::new(&running, &mut machine, &modaliases);
        again.settle();
        let status = again.until_answered(&["status", "--json"], |again| again.hold());
        let overflows = status["uevents"]["overflows"].as_u64().unwrap();
        assert!(overflows > 1, "the buffer has no room for 64 events: {status:#}");
        let log = running.stop();
        assert_eq!(landed(&log), many.names().collect());
        let told = |what| log.iter().filter(|line| line.contains(what)).count();
        assert_eq!(told("asking udev for its devices again"), 1, "{log:#?}");
        assert_eq!(told("all devices were gone through again"), 1, "{log:#?}");
        println!("{overflows} overflows");
    });
}

#[test]
fn a_dry_run_beside_udev_does_not_say_that_what_an_overflow_lost_is_asked_for_again() {
    let test = "a_dry_run_beside_udev_does_not_say_that_what_an_overflow_lost_is_asked_for_again";
    with_udev(test, || {
        let many = Many::build(1);
        let mut machine = Machine::new();
        let flags = ["--sysfs=/sys", "--receive-buffer=16384"].map(str::to_owned);
        let mut running = Running::start(&[many.flags(), flags.into()].concat());
        running.signal(Signal::SIGSTOP);
        (0..200).for_each(|n| machine.announce(&format!("/devices/test/{n}"), "x:1"));
        running.signal(Signal::SIGCONT);
        let said = running.wait_for("dropped by the kernel");
        assert!(said.contains("a dry run leaves udev alone") && !said.contains("again"), "{said}");
    });
}

#[test]
fn a_dry_run_beside_udev_leaves_each_device_to_modprobe() {
    with_udev("a_dry_run_beside_udev_leaves_each_device_to_modprobe", || {
        let many = Many::build(1);
        let running = Running::start(&[many.flags(), vec!["--sysfs=/sys".into()]].concat());
        let ask = |parameters| call(running.socket(), "Load", parameters, Some(Duration::from_secs(10)));
        let device = json!({ "alias": many.modalias(0), "devpath": "/devices/test/0", "seqnum": 1 });
        let refused = ask(device).unwrap_err().to_string();
        assert!(refused.contains("MethodNotImplemented"), "{refused}");
        assert_eq!(running.settled()["requests"], 1, "it says what would be loaded all the same");
        let by_hand = ask(json!({ "alias": many.modalias(0) })).unwrap();
        assert_eq!(by_hand["dry_run"], true);
    });
}

#[test]
fn no_more_than_64_events_that_were_asked_for_again_are_outstanding() {
    with_udev("no_more_than_64_events_that_were_asked_for_again_are_outstanding", || {
        let many = Many::build(200);
        let mut machine = Machine::new();
        let modaliases: Vec<String> = (0..200).map(|n| many.modalias(n)).collect();
        machine.pipes(&modaliases);
        // What a daemon leaves that was killed.
        let directory = tempfile::tempdir().unwrap();
        symlink("/proc/1/fd/1023/", directory.path().join("hold")).unwrap();
        let flags = [many.flags(), vec![machine.devices.flag()]].concat();
        let running = Running::start_in(directory, addonce(), "debug", &flags);
        let mut again = Again::new(&running, &mut machine, &modaliases);
        // First there is none; then so many are done.
        for done in [0, 1, 10, 53] {
            (0..done).for_each(|_| again.broadcast());
            until("64 are asked for", || {
                again.hold();
                again.announce();
                again.queue.len() == 64
            });
            let mut status = || {
                again.until_answered(&["status", "--json"], |again| {
                    again.hold();
                    assert_eq!(again.written(), None, "one more is asked for");
                })
            };
            // A turn of the loop takes 16 of them, and answers.
            until("all of them are announced", || status()["outstanding"] == 64);
            // A turn of the loop lies between the two answers.
            for _ in 0..2 {
                let status = status();
                assert_eq!(status["outstanding"], 64, "{status:#}");
            }
        }
        again.settle();
        assert_eq!(running.json(&["status", "--json"])["outstanding"], 0);
        assert_eq!(landed(&running.stop()), many.names().collect());
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

/// The number in `hold`.
fn deaths(directory: &Path) -> Option<usize> {
    let link = fs::read_link(directory.join("hold")).ok()?;
    Some(link.to_string_lossy().matches("./").count())
}

#[test]
fn what_daemons_that_died_asked_for_in_vain_is_asked_for_once_more_without_a_hold() {
    with_udev("what_daemons_that_died_asked_for_in_vain_is_asked_for_once_more_without_a_hold", || {
        let (many, mut machine) = (Many::build(20), Machine::new());
        let modaliases: Vec<String> = (0..20).map(|n| many.modalias(n)).collect();
        machine.pipes(&modaliases);
        let mut running = machine.daemon(many.flags());
        for (n, modalias) in modaliases.iter().enumerate() {
            machine.announce(&format!("/devices/test/{n}"), modalias);
        }
        let flags = [many.flags(), vec![machine.devices.flag()]].concat();
        for number in 0..=3 {
            // It waits for room in the first pipe.
            until("it holds", || deaths(running.directory()) == Some(number));
            let directory = running.end(Signal::SIGKILL);
            if number == 3 {
                machine.pipes = None;
                let paths = (0..20).map(|n| format!("devices/test/{n}"));
                for path in paths.chain(["module/kernel".into()]) {
                    let uevent = machine.devices.path().join(path).join("uevent");
                    fs::remove_file(&uevent).unwrap();
                    fs::write(uevent, "").unwrap();
                }
            }
            running = Running::start_in(directory, addonce(), "debug", &flags);
        }
        running.wait_for("with a program for each device");
        running.wait_for("hold: Forget");
        let uevent = |n: usize| machine.devices.path().join(format!("devices/test/{n}/uevent"));
        assert!((0..20).all(|n| fs::read_to_string(uevent(n)).unwrap().contains(" ADDONCE=again")));
        assert_eq!((deaths(running.directory()), machine.hold_event()), (None, None));
    });
}

#[test]
fn a_daemon_in_whose_life_a_module_came_in_does_not_count_among_those_that_died_in_vain() {
    with_udev("a_daemon_in_whose_life_a_module_came_in_does_not_count_among_those_that_died_in_vain", || {
        let (many, mut machine) = (Many::build(20), Machine::new());
        let modaliases: Vec<String> = (0..20).map(|n| many.modalias(n)).collect();
        machine.pipes(&modaliases);
        let running = machine.daemon(many.flags());
        for (n, modalias) in modaliases.iter().enumerate() {
            machine.announce(&format!("/devices/test/{n}"), modalias);
        }
        until("it holds", || deaths(running.directory()) == Some(0));
        let flags = [many.flags(), vec![machine.devices.flag()]].concat();
        let running = Running::start_in(running.end(Signal::SIGKILL), addonce(), "debug", &flags);
        until("it holds", || deaths(running.directory()) == Some(1));
        let mut again = Again::new(&running, &mut machine, &modaliases);
        until("all are asked for", || {
            again.announce();
            again.queue.len() == 20
        });
        again.until_answered(&["load", "many_0001", "--json"], |again| again.hold());
        until("it is not in vain", || deaths(running.directory()) == Some(0));
    });
}

#[test]
fn a_broadcast_of_200_kilobytes_is_a_request_and_until_it_comes_nothing_is_settled() {
    with_udev("a_broadcast_of_200_kilobytes_is_a_request_and_until_it_comes_nothing_is_settled", || {
        let many = Many::build(1);
        let mut machine = Machine::new();
        let mut announced = Announced::listen();
        let running = machine.daemon(many.flags());
        machine.announce("/devices/test/0", &many.modalias(0));
        let (seqnum, devpath) = announced.next().unwrap();
        until("it is outstanding", || outstanding(&running) == 1);
        assert_eq!(running.json(&["status", "--json"])["settled"], false);
        let said = String::from_utf8(running.ask(&["status"]).stdout).unwrap();
        assert!(said.contains("state: waiting for udev\n") || !nix::unistd::geteuid().is_root(), "{said}");
        let long = format!("ID_LONG={}\0MODALIAS={}\0", "x".repeat(200_000), many.modalias(0));
        machine.broadcast(seqnum, &devpath, &long);
        assert_eq!(running.settled()["live"], 1);
    });
}

#[test]
fn where_hold_cannot_be_made_it_says_why_and_programs_ask() {
    with_udev("where_hold_cannot_be_made_it_says_why_and_programs_ask", || {
        let many = Many::build(20);
        let mut machine = Machine::new();
        let mut running = machine.daemon(many.flags());
        let hold = running.directory().join("hold");
        fs::create_dir(&hold).unwrap();
        (0..20).for_each(|n| machine.announce(&format!("/devices/test/{n}"), &many.modalias(n)));
        let said = running.wait_for("udev's queue is not held");
        assert!(said.contains(&format!("{}: Is a directory", hold.display())), "{said}");
        assert!(!hold.join("io.addonce").exists());
    });
}

/// From systemd 258 on each event of `udevadm trigger` has a UUID.
#[test]
fn an_event_with_a_uuid_is_told_as_nobodys_unless_a_udevadm_listens() {
    with_udev("an_event_with_a_uuid_is_told_as_nobodys_unless_a_udevadm_listens", || {
        let many = Many::build(4);
        let mut machine = Machine::new();
        let mut announced = Announced::listen();
        let running = machine.daemon(many.flags());
        let links = running.directory().join("nobody-waits");
        let mut announce = |n: usize, more: &str| {
            let (path, modalias) = (format!("/devices/test/{n}"), many.modalias(n));
            let text = format!(
                "add@{path}\0ACTION=add\0DEVPATH={path}\0SUBSYSTEM=test\0MODALIAS={modalias}\0{more}"
            );
            machine.kernel.inject(text.as_bytes()).unwrap();
            until("it is outstanding", || outstanding(&running) == n as u64 + 1);
            announced.next().unwrap().0
        };
        let uuid = |n: usize| format!("SYNTH_UUID=9b0d1d7e-1b3c-4a56-8f6e-0c5f3d3a7c1{n}\0");
        let of_nobody = announce(0, &uuid(0));
        announce(1, "SYNTH_UUID=0\0");
        let mut udevadm =
            Command::new("udevadm").args(["monitor", "--udev"]).stdout(Stdio::null()).spawn().unwrap();
        let socket = format!("15 {} 00000002", udevadm.id());
        until("udevadm listens", || {
            let sockets = fs::read_to_string("/proc/net/netlink").unwrap();
            sockets
                .lines()
                .any(|line| line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" ") == socket)
        });
        announce(2, &uuid(2));
        udevadm.kill().unwrap();
        udevadm.wait().unwrap();
        let of_nobody_either = announce(3, &uuid(3));
        let told = || {
            let names = fs::read_dir(&links).unwrap().map(|entry| entry.unwrap().file_name());
            let mut seqnums: Vec<u64> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
            seqnums.sort_unstable();
            seqnums
        };
        assert_eq!(told(), [of_nobody, of_nobody_either]);
        machine.broadcast(of_nobody, "/devices/test/0", "");
        until("the link of what udevd is done with is gone", || told() == [of_nobody_either]);
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
            return left_out("there is no systemd-udevd here");
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
