// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a duplicate costs, from the socket to the counter.
//!
//! Fills a real uevent socket with a part of a storm and drains it in two ways, by turns: by a bare recvfrom loop, and as the
//! daemon does it (sender check, parse, scheduler, a look whether indexes, configuration or module files have changed). The goal is
//! for one module, live or failed: at most 2 µs all in, and flat from 64 to 8192 CPUs. What a request for 16 modules takes, and one
//! with udev, where an event is two datagrams, the kernel's and udevd's, and the hold is told of both, is told beside it. Runs in
//! namespaces of its own, without privilege. That an event was the kind of duplicate that was measured is made sure of by the
//! scheduler's counters.

mod common;
#[path = "../tests/common/fake.rs"]
mod fake;
#[path = "../tests/common/figures.rs"]
mod figures;
#[allow(dead_code)]
#[path = "../tests/common/fixture.rs"]
mod fixture;
#[path = "../tests/common/left_out.rs"]
mod left_out;
#[allow(dead_code)]
#[path = "../tests/common/namespace.rs"]
mod namespace;
#[path = "../tests/common/sender.rs"]
mod sender;
#[path = "../tests/common/simulated.rs"]
mod simulated;
#[allow(dead_code)]
#[path = "../tests/common/tool.rs"]
mod tool;
#[allow(dead_code)]
#[path = "../tests/common/udev.rs"]
mod udev;

use std::ffi::CString;
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use addonce::daemon::events::{Event, Events};
use addonce::daemon::hold::{Hold, TAKE_FROM};
use addonce::kmod::{Resolver, Tree};
use addonce::once::{Candidate, Cause, InitState, Limits, Modules, Name, Outcome, Plan, Stats, Time};
use addonce::replay::{Simulation, World};
use addonce::uevent::netlink::{BUFFER, Netlink};
use common::{alone, devpath_of_a_cpu, modalias_of_a_cpu};
use fake::FakeModules;
use figures::Figures;
use fixture::Fixture;
use nix::sys::socket::{NetlinkAddr, recvfrom};
use sender::Sender;
use serde_json::json;
use simulated::Simulated;
use udev::Udevd;

/// The machines take turns of a few milliseconds, so that a processor that gets faster or slower meanwhile does so for both.
const TURNS: usize = 67;
/// Batches of a turn.
const ROUNDS: usize = 3;
/// Events at a time. They fit the receive buffer that any unprivileged process is granted.
const BATCH: usize = 64;
/// The goal for a duplicate of one module, in nanoseconds, and how far the largest machine's may be from the smallest's.
const MOST_NS: u64 = 2000;
const MOST_GROWTH: f64 = 0.15;

/// The device of an attempt.
const ANOTHER: &str = "/devices/another";

/// Modules of the tree, which fail here.
const FAILING: [&str; 5] = ["fx_base", "fx_mid", "fx_top", "fx_twin", "fx_opt"];

fn main() -> ExitCode {
    alone(|| {
        let mut figures = Figures::of("duplicate");
        let cpu = modalias_of_a_cpu();
        let fixture = Fixture::build("semantics");
        for (what, live, failed, alias, udev) in [
            ("one live module, modalias of 3 bytes", 1, 0, "x:y", false),
            ("one live module, a CPU's modalias", 1, 0, &*cpu, false),
            ("one failed module, a CPU's modalias", 0, 1, &*cpu, false),
            ("11 live and 5 failed modules, a CPU's modalias", 11, 5, &*cpu, false),
            ("one live module, with udev", 1, 0, &*cpu, true),
            ("11 live and 5 failed modules, with udev", 11, 5, &*cpu, true),
        ] {
            let mut world = String::from("* ->");
            (0..live).for_each(|n| world += &format!(" live_{n}"));
            FAILING[..failed].iter().for_each(|module| world += &format!(" {module}"));
            FAILING[..failed].iter().for_each(|module| world += &format!("\n{module} => ENODEV"));
            let is_judged = live + failed == 1 && !udev;
            let mut benches = [64, 8192]
                .map(|cpus| Bench::new([live, failed], alias, Looking::at(&fixture, &world), udev, cpus));
            for _ in 0..TURNS {
                benches.iter_mut().for_each(Bench::measure);
            }
            let took = benches.map(|Bench { cpus, bare, ours, .. }| {
                let [bare, ours] = [bare, ours].map(median);
                let us = |ns: u64| ns as f64 / 1000.0;
                println!("{what}, {cpus} CPUs: {:.2} µs, {:.2} of them a bare receive", us(ours), us(bare));
                let mut figure = json!({"what": what, "cpus": cpus, "bare_ns": bare, "addonce_ns": ours});
                if is_judged {
                    figure["most_ns"] = json!(MOST_NS);
                    figure["most_growth"] = json!(MOST_GROWTH);
                }
                figures.add(&figure);
                ours
            });
            if is_judged {
                let verdict = |reached| if reached { "reached" } else { "MISSED" };
                let growth = took[1] as f64 / took[0] as f64;
                let is_cheap = verdict(took.iter().all(|took| *took <= MOST_NS));
                let is_flat = verdict((growth - 1.0).abs() <= MOST_GROWTH);
                println!(
                    "    goal: {MOST_NS} ns: {is_cheap}; growth 1 ± {MOST_GROWTH}: {growth:.2}: {is_flat}"
                );
            }
        }
    })
}

/// A declared world in which nothing is loaded, and a real module tree, at whose changes it looks.
struct Looking {
    world: FakeModules,
    tree: Resolver,
}

struct Bench {
    /// Modules that are live, and that fail. Where some do, every trigger is one attempt, and this is the trigger after it.
    modules: [usize; 2],
    events: Events,
    hold: Hold,
    sender: Sender,
    udevd: Udevd,
    simulation: Simulation<Looking>,
    alias: String,
    cpus: usize,
    next: usize,
    buffer: Vec<u8>,
    /// What was measured, for an event: a bare receive, and all that we do.
    bare: Vec<Duration>,
    ours: Vec<Duration>,
}

impl Bench {
    /// A machine with so many CPUs, each of which has asked before.
    fn new(modules: [usize; 2], alias: &str, world: Looking, udev: bool, cpus: usize) -> Self {
        let mut simulation = Simulation::new(world, Limits::default());
        // First, for what is remembered of a failure has room for some of the CPUs only.
        for devpath in [ANOTHER.to_owned()].into_iter().chain((0..cpus).map(devpath_of_a_cpu)) {
            simulation.replay(&devpath, alias);
            simulation.settle();
        }
        let events = Events::new(None, udev, "/sys".into());
        let hold = Hold::new(TAKE_FROM, None, 0, simulation.now);
        let sender = Sender::open().expect("a sender");
        let (alias, buffer, udevd) = (alias.into(), vec![0; BUFFER], Udevd::new());
        let (next, bare, ours) = Default::default();
        let mut bench =
            Self { modules, events, hold, sender, udevd, simulation, alias, cpus, next, buffer, bare, ours };
        bench.attempt();
        bench
    }

    /// A turn, with a socket that the other machine's events do not come to.
    fn measure(&mut self) {
        self.events.netlink = Some(Netlink::open(64 << 20).expect("a socket"));
        for _ in 0..ROUNDS {
            self.begin();
            let bare = self.timed(Self::drain_bare);
            self.bare.push(bare);
            self.begin();
            let before = *self.simulation.core.stats();
            let ours = self.timed(Self::drain);
            self.ours.push(ours);
            self.make_sure(&before);
            self.next += BATCH;
        }
        self.events.netlink = None;
    }

    /// One trigger is over and the next one comes.
    fn begin(&mut self) {
        if self.modules[1] > 0 && self.next % self.cpus == 0 {
            self.attempt();
        }
    }

    /// A device that asks again after a while is an attempt at what failed. It is one that is triggered: after an attempt for new
    /// hardware, all who asked before would ask again.
    fn attempt(&mut self) {
        self.simulation.pass(Duration::from_secs(100));
        self.simulation.replay(ANOTHER, &self.alias);
        self.simulation.settle();
    }

    /// Every event was the kind of duplicate that it was meant to be, for all modules.
    fn make_sure(&self, before: &Stats) {
        let after = self.simulation.core.stats();
        let live = after.duplicates_live - before.duplicates_live;
        let failed = after.duplicates_failed - before.duplicates_failed;
        let expected = self.modules.map(|modules| (modules * BATCH) as u64);
        assert_eq!([live, failed], expected);
    }

    fn timed(&mut self, drain: fn(&mut Self) -> usize) -> Duration {
        let mut seqnum = seqnum();
        for n in self.next..self.next + BATCH {
            let (devpath, alias) = (devpath_of_a_cpu(n % self.cpus), &self.alias);
            let properties = format!(
                "ACTION=add\0DEVPATH={devpath}\0SUBSYSTEM=cpu\0SYNTH_UUID=0\0DRIVER=processor\0MODALIAS={alias}\0"
            );
            self.sender.inject(format!("add@{devpath}\0{properties}").as_bytes()).expect("injected");
            if self.events.udev {
                seqnum += 1;
                self.udevd.broadcast(format!("{properties}SEQNUM={seqnum}\0USEC_INITIALIZED=1\0").as_bytes());
            }
        }
        let began = Instant::now();
        let drained = drain(self) / if self.events.udev { 2 } else { 1 };
        let took = began.elapsed();
        assert_eq!(drained, BATCH, "nothing was dropped");
        took / BATCH as u32
    }

    fn drain_bare(&mut self) -> usize {
        let mut read = 0;
        let netlink = self.events.netlink.as_ref().expect("a socket").as_fd().as_raw_fd();
        while let Ok((bytes, _)) = recvfrom::<NetlinkAddr>(netlink, &mut self.buffer) {
            black_box(&self.buffer[..bytes]);
            read += 1;
        }
        read
    }

    /// As `Daemon::take_events` does it.
    fn drain(&mut self) -> usize {
        let Simulation { core, world, now, .. } = &mut self.simulation;
        let (hold, mut read, mut more) = (&mut self.hold, 0, true);
        while more {
            let tell = |event: Event<'_>| {
                match event {
                    Event::Request(request) => core.request(world, request, *now),
                    Event::Announced { seqnum, devpath, behind, .. } => {
                        hold.outstanding.announced(seqnum, devpath, behind, *now)
                    }
                    Event::Broadcast { seqnum, own, request, .. } => {
                        let is_news = hold.broadcast(seqnum, own, request.is_some(), *now);
                        if let Some(request) = request.filter(|_| is_news) {
                            core.request(world, request, *now);
                        }
                    }
                    Event::Drained => return,
                    event => panic!("{event:?}"),
                }
                read += 1;
            };
            more = self.events.read(tell).expect("a socket");
        }
        assert!(self.hold.outstanding.is_empty(), "each was announced and broadcast");
        read
    }
}

/// Of the newest event.
fn seqnum() -> u64 {
    let seqnum = std::fs::read_to_string("/sys/kernel/uevent_seqnum").expect("a kernel");
    seqnum.trim().parse().expect("a number")
}

impl Looking {
    /// Configured by this machine's modprobe.d.
    fn at(fixture: &Fixture, world: &str) -> Self {
        let tree = Tree { config: Vec::new(), ..fixture.tree() };
        let world = FakeModules::parse(world).expect("a world");
        Self { world, tree: Resolver::open(tree).expect("a module tree") }
    }
}

impl Modules for Looking {
    fn refresh(&mut self) -> bool {
        self.tree.refresh()
    }

    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate> {
        self.world.resolve(alias)
    }

    fn plan(&mut self, module: &Name, options: Option<&CString>) -> Plan {
        let cause = self.tree.plan(module, options).cause;
        Plan { cause, ..self.world.plan(module, options) }
    }

    fn cause(&mut self, module: &Name, options: Option<&CString>) -> Cause {
        self.tree.cause(module, options)
    }

    fn initstate(&mut self, module: &str) -> InitState {
        self.world.initstate(module)
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.world.exists(path)
    }
}

impl World for Looking {
    fn load(&mut self, plan: &Plan) -> Outcome {
        World::load(&mut self.world, plan)
    }

    fn takes(&self, module: &Name) -> Time {
        self.world.takes(module)
    }
}

fn median(mut times: Vec<Duration>) -> u64 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as u64
}
