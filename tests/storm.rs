// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Storm: more than the socket can hold, words of those who are not the kernel, and what is told of it afterwards
//!
//! Over the kernel's own socket, in a network namespace of the test's own. Nothing is inserted: the loader only says what
//! it would do. A daemon that has to overflow is held still by SIGSTOP meanwhile, so that no test depends on who
//! is faster.

mod common;

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::time::Duration;

use addonce::control::LOADS;
use addonce::control::json::add_once;
use addonce::daemon::events::{Event, Events};
use addonce::daemon::history::History;
use addonce::once::{AddOnce, Outcome, Stats, Time};
use addonce::uevent::netlink::Netlink;
use common::devices::Devices;
use common::fixture::Fixture;
use common::flood::event;
use common::many::Many;
use common::namespace::alone;
use common::proc::uevent_socket;
use common::running::{Running, landed};
use common::sender::Sender;
use common::socket::both_groups;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, NetlinkAddr, SockType, getsockname, sendto};
use serde_json::{Value, json};

/// Holds some twenty uevents.
const SMALL: usize = 16 * 1024;

fn lines_with<'a>(log: &'a [String], what: &str) -> Vec<&'a str> {
    log.iter().filter(|line| line.contains(what)).map(String::as_str).collect()
}

#[test]
fn a_burst_beyond_the_buffer_costs_no_module_and_is_told_as_the_kernel_counts_it() {
    alone("a_burst_beyond_the_buffer_costs_no_module_and_is_told_as_the_kernel_counts_it", || {
        let (many, devices) = (Many::build(200), Devices::none());
        let flags = [many.flags(), vec![devices.flag(), format!("--receive-buffer={SMALL}")]].concat();
        let running = Running::start(&flags);
        // The scan at the start is over before there are devices that it could find.
        running.settle();
        let announced: Vec<_> = (0..2_000)
            .map(|n| {
                let modalias = many.modalias(n);
                event(&devices.appear(n, modalias.as_bytes()), modalias.as_bytes())
            })
            .collect();
        let mut sender = Sender::open().unwrap();
        running.signal(Signal::SIGSTOP);
        announced.iter().cycle().take(20_000).for_each(|datagram| sender.inject(datagram).unwrap());
        running.signal(Signal::SIGCONT);
        let status = running.settled();
        let drops = uevent_socket(running.id()).drops;
        assert_eq!(status["uevents"]["drops"], drops);
        assert!(drops > 19_900, "{status:#}");
        assert_eq!(status["uevents"]["read"], 20_000 - drops);
        assert_eq!(status["uevents"]["overflows"], 1);
        assert_eq!(status["requests"], 20_000 - drops + 2_000, "those of the scan, too");
        let log = running.stop();
        assert_eq!(landed(&log), many.names().collect());
        let told = lines_with(&log, "were dropped by the kernel");
        let start = format!("addonce: {drops} uevents were dropped");
        assert!(told.len() == 1 && told[0].starts_with(&start), "{told:#?}");
        assert!(told[0].contains("a larger --receive-buffer helps"), "{told:#?}");
        assert_eq!(lines_with(&log, "all devices were gone through again").len(), 1);
        let scans: Vec<_> = lines_with(&log, "addonce: scan of")
            .iter()
            .map(|line| line.rsplit_once(": ").unwrap().1)
            .collect();
        assert_eq!(scans, ["0 links", "2000 links"]);
        println!("dropped {drops} of 20000 uevents");
    });
}

/// The daemon runs, and is held now and then, so that it overflows before, in and after its scans.
#[test]
fn a_flood_that_goes_on_during_the_scans_costs_no_module_either() {
    alone("a_flood_that_goes_on_during_the_scans_costs_no_module_either", || {
        const ROUNDS: usize = 50;
        let (many, devices) = (Many::build(200), Devices::none());
        let flags = [many.flags(), vec![devices.flag(), format!("--receive-buffer={SMALL}")]].concat();
        let running = Running::start(&flags);
        // Devices that nobody has a module for make the scans long.
        (10_000..12_000).for_each(|n| drop(devices.appear(n, b"none")));
        let mut sender = Sender::open().unwrap();
        let mut injected = 0u64;
        for round in 0..ROUNDS {
            running.signal(Signal::SIGSTOP);
            // Modules are needed for the first time; what came before comes again and again.
            for n in 4 * round..4 * (round + 1) {
                let modalias = many.modalias(n);
                let devpath = devices.appear(n, modalias.as_bytes());
                for event in [event("/devices/test/0", b"many:0000"), event(&devpath, modalias.as_bytes())] {
                    (0..50).for_each(|_| sender.inject(&event).unwrap());
                    injected += 50;
                }
            }
            running.signal(Signal::SIGCONT);
            // It has read the queue empty, and has a scan before it.
            let is_read = |status: &serde_json::Value| {
                status["uevents"]["read"] == injected - uevent_socket(running.id()).drops
            };
            let mut status = (0..1000).map(|_| running.json(&["status", "--json"]));
            assert_eq!(status.find(is_read).expect("all is read")["uevents"]["overflows"], round + 1);
        }
        let status = running.settled();
        let drops = uevent_socket(running.id()).drops;
        assert_eq!(status["uevents"]["drops"], drops);
        assert_eq!(status["uevents"]["read"], injected - drops);
        assert_eq!(status["uevents"]["overflows"], ROUNDS);
        let log = running.stop();
        assert_eq!(landed(&log), many.names().collect());
        let begun = lines_with(&log, "were dropped by the kernel").len();
        let ended = lines_with(&log, "all devices were gone through again").len();
        let scans = lines_with(&log, "addonce: scan of").len();
        assert_eq!(begun, ended, "an episode is told once at its begin and once at its end");
        assert!(begun <= scans && scans <= ROUNDS + begun, "{begun} {scans}");
        println!("dropped {drops} of {injected} in {ROUNDS} overflows, {begun} episodes, {scans} scans");
    });
}

static LOG: Log = Log(Mutex::new(Vec::new()));

struct Log(Mutex<Vec<String>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn overflows_in_the_middle_of_scans_are_one_episode_and_one_more_scan_each() {
    alone("overflows_in_the_middle_of_scans_are_one_episode_and_one_more_scan_each", || {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
        let devices = Devices::none();
        for n in 0..200 {
            devices.appear(n, b"old");
        }
        let netlink = Netlink::open(SMALL).unwrap();
        let mut events = Events::new(Some(netlink), false, devices.path().to_owned());
        let burst = || {
            let mut sender = Sender::open().unwrap();
            (0..100).for_each(|_| sender.inject(&event("/devices/test/0", b"old")).unwrap());
        };
        let (mut seen, mut lost) = (BTreeSet::new(), 0);
        // Until the queue is empty, and with that the next slice of a scan.
        let mut read = |events: &mut Events| {
            let (mut more, mut is_drained) = (true, false);
            while !is_drained {
                more = events
                    .read(|event| match event {
                        Event::Request(request) => {
                            seen.insert(request.alias.to_vec());
                        }
                        Event::Lost => lost += 1,
                        Event::Drained => is_drained = true,
                        other => panic!("{other:?}"),
                    })
                    .unwrap();
            }
            more
        };
        burst();
        for round in 0..3u8 {
            // Sees that something is missing, and begins a scan.
            assert!(read(&mut events), "there is more");
            devices.appear(1000 + usize::from(round), &[b'a' + round]);
            burst();
        }
        while read(&mut events) {}
        assert_eq!(lost, 4);
        assert_eq!(seen, [b"old".to_vec(), b"a".into(), b"b".into(), b"c".into()].into());
        let counters = events.netlink.as_ref().expect("a socket").counters;
        let drops = events.drops;
        assert_eq!((counters.overflows, counters.kernel + u64::from(drops)), (4, 400));
        let log = LOG.0.lock().unwrap();
        assert_eq!(lines_with(&log, "were dropped by the kernel").len(), 1, "{log:#?}");
        // Four overflows fell into the time of the first two scans.
        assert_eq!(lines_with(&log, "scan of").len(), 2, "{log:#?}");
        let sum = format!("all devices were gone through again, for {drops} dropped uevents");
        assert_eq!(lines_with(&log, &sum).len(), 1, "{log:#?}");
    });
}

#[test]
fn what_another_process_forges_is_counted_and_not_believed() {
    alone("what_another_process_forges_is_counted_and_not_believed", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let port = uevent_socket(running.id()).port;
        let forgers = [SockType::Raw, SockType::Datagram].map(both_groups);
        let forged = event("/devices/x", b"fxopt:1");
        // As a datagram of the kernel looks, whole, with a SEQNUM.
        let forged = [&forged[..], b"SEQNUM=1\0"].concat();
        let mut sent = 0;
        for forger in &forgers {
            assert_ne!(getsockname::<NetlinkAddr>(forger.as_raw_fd()).unwrap().pid(), 0);
            for to in [NetlinkAddr::new(port, 0), NetlinkAddr::new(0, 1), NetlinkAddr::new(port, 1)] {
                for _ in 0..100 {
                    sendto(forger.as_raw_fd(), &forged, &to, MsgFlags::empty()).unwrap();
                    sent += 1;
                }
                // Or they would have to share the queue, whose size is the system's choice here.
                running.settle();
            }
        }
        Sender::open().unwrap().inject(&event("/devices/y", b"fxblack:1")).unwrap();
        let status = running.settled();
        assert_eq!(status["uevents"]["strangers"], sent, "{status:#}");
        assert_eq!((&status["uevents"]["read"], &status["requests"]), (&1.into(), &1.into()));
        assert!(landed(&running.stop()).is_empty());
    });
}

#[test]
fn gaps_in_seqnum_are_no_loss() {
    alone("gaps_in_seqnum_are_no_loss", || {
        let fixture = Fixture::build("semantics");
        let devices = Devices::none();
        let running = Running::start(&[fixture.flags(), vec![devices.flag()]].concat());
        let mut sender = Sender::open().unwrap();
        // All network namespaces share the count.
        let elsewhere = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            Sender::open().unwrap()
        });
        let mut elsewhere = elsewhere.join().unwrap();
        for n in 0..100 {
            sender.inject(&event(&format!("/devices/x{n}"), b"fxopt:1")).unwrap();
            elsewhere.inject(&event(&format!("/devices/y{n}"), b"fxdash:a-b0")).unwrap();
            let path = format!("/devices/x{n}");
            let change = format!("change@{path}\0ACTION=change\0DEVPATH={path}\0MODALIAS=fxdash:a-b0\0");
            sender.inject(change.as_bytes()).unwrap();
        }
        let status = running.settled();
        assert_eq!((&status["uevents"]["read"], &status["uevents"]["overflows"]), (&200.into(), &0.into()));
        assert_eq!(status["requests"], 100, "a change asks for nothing");
        let log = running.stop();
        let landing = lines_with(&log, "add_once fx_opt live");
        assert_eq!(
            (landing.len(), lines_with(&log, "scan of").len()),
            (1, 1),
            "the one at the start: {log:#?}"
        );
    });
}

const MS: Duration = Duration::from_millis(1);

/// What a history was told, and when.
struct Told {
    directory: tempfile::TempDir,
    history: History,
    stats: Stats,
    now: Time,
}

impl Told {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        let history = History::beside(&directory.path().join("io.addonce"));
        Self { directory, history, stats: Stats::default(), now: 1000 * MS }
    }

    fn requests(&mut self, requests: u64, duplicates: u64) -> &mut Self {
        self.stats.requests += requests;
        self.stats.duplicate_requests += duplicates;
        self.history.sample(&self.stats, self.now);
        self
    }

    fn pass(&mut self, ms: u32) -> &mut Self {
        self.now += ms * MS;
        self
    }

    fn load(&mut self, module: &str, waited: u32, took: u32) -> &mut Self {
        self.add(module, Some(b"/devices/x"), waited, took)
    }

    fn typed(&mut self, module: &str) -> &mut Self {
        self.add(module, None, 0, 0)
    }

    fn add(&mut self, module: &str, devpath: Option<&[u8]>, waited: u32, took: u32) -> &mut Self {
        let record = AddOnce {
            module: module.into(),
            outcome: Outcome::Live,
            alias: Box::default(),
            devpath: devpath.map(Into::into),
            seqnums: (0, 0),
            asked: 1,
            by_kernel: 0,
            waited: waited * MS,
            load: took * MS,
            pulled_in_by: None,
            is_again: false,
        };
        let mut ended = add_once(&record, false);
        ended["ended_us"] = json!(self.now.as_micros() as u64);
        self.history.add(&ended);
        self
    }

    fn storm(&self) -> Value {
        self.history.storm(self.now).expect("a storm")
    }
}

#[test]
fn before_the_first_request_there_is_nothing_to_tell() {
    let mut told = Told::new();
    told.requests(0, 0).load("a", 1, 1);
    assert!(told.history.storm(told.now).is_none());
}

#[test]
fn requests_are_counted_by_the_tenth_of_a_second_they_came_in() {
    let mut told = Told::new();
    told.requests(40, 10).pass(50).requests(20, 20).pass(60).requests(8, 7).pass(40).load("a", 100, 50);
    let storm = told.storm();
    assert_eq!((&storm["requests"], &storm["duplicates"]), (&json!([60, 8]), &json!([30, 7])));
    assert_eq!((&storm["bin_ms"], &storm["began_ms_ago"]), (&json!(100), &json!(150)));
    assert_eq!((&storm["lasted_ms"], &storm["over"]), (&json!(150), &json!(false)));
    assert_eq!(storm["bars"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_last_storm_is_told_and_not_what_was_plugged_in_since() {
    let mut told = Told::new();
    told.requests(100, 90).load("stormy", 0, 0).pass(5000).requests(3, 0).load("plugged", 0, 0);
    let storm = told.storm();
    assert_eq!((&storm["requests"], &storm["over"]), (&json!([100]), &json!(true)));
    assert_eq!(storm["bars"].as_array().map(Vec::len), Some(1));
    assert_eq!(storm["bars"][0]["module"], "stormy");
    told.requests(61, 0);
    assert_eq!(told.storm()["requests"], json!([64]), "which has become one");
}

#[test]
fn what_an_administrator_types_is_no_storm() {
    let mut told = Told::new();
    told.requests(100, 90).load("stormy", 0, 0).pass(1000);
    told.stats.by_hand += 70;
    told.requests(70, 0).typed("typed").pass(1000);
    let storm = told.storm();
    assert_eq!((&storm["requests"], &storm["lasted_ms"]), (&json!([100]), &json!(0)));
    assert_eq!(storm["bars"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_load_that_outlives_its_storm_belongs_to_it() {
    let mut told = Told::new();
    told.requests(64, 0).pass(9000).requests(64, 0).load("slow", 0, 9000).load("quick", 0, 0);
    let modules = |storm: Value| storm["bars"].as_array().map(Vec::len);
    assert_eq!(modules(told.storm()), Some(1));
    assert_eq!(told.storm()["bars"][0]["module"], "quick");
}

#[test]
fn what_is_kept_and_what_is_told_is_bounded() {
    let mut told = Told::new();
    const MOST: usize = 1024;
    for _ in 0..3 * MOST {
        told.requests(1, 0).load("a", 0, 0).pass(1000);
    }
    let storm = told.storm();
    assert_eq!(storm["bars"].as_array().map(Vec::len), Some(MOST));
    let bins: Vec<u64> = serde_json::from_value(storm["requests"].clone()).expect("numbers");
    assert!(bins.len() <= 257, "{}", bins.len());
    assert_eq!(bins.iter().sum::<u64>(), MOST as u64);
    let lines = |told: &Told| {
        std::fs::read_to_string(told.directory.path().join(LOADS)).expect(LOADS).lines().count()
    };
    assert!((MOST..=2 * MOST).contains(&lines(&told)), "{}", lines(&told));
    // The next daemon goes on with as many.
    told.history = History::beside(&told.directory.path().join("io.addonce"));
    told.load("b", 0, 0);
    assert_eq!(lines(&told), MOST);
}
