// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a duplicate costs, from the socket to the counter.
//!
//! Fills a real uevent socket with a part of a storm and drains it in two ways, by turns: by a bare recvfrom loop, and as the
//! daemon does it (sender check, parse, scheduler, a look whether indexes, configuration or module files have changed). The goal is
//! 2 µs all in, with 8192 CPUs as with 64. Runs in namespaces of its own, without privilege. That an event was the kind of duplicate that was measured is made sure of by the scheduler's counters.

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

use std::ffi::CString;
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use addonce::kmod::{Resolver, Tree};
use addonce::once::{
    Candidate, Cause, InitState, Limits, Modules, Name, Origin, Outcome, Plan, Request, Stats, Time,
};
use addonce::replay::{Simulation, World};
use addonce::uevent::message;
use addonce::uevent::netlink::{BUFFER, Netlink, Received};
use common::{alone, devpath_of_a_cpu, modalias_of_a_cpu};
use fake::FakeModules;
use figures::Figures;
use fixture::Fixture;
use nix::sys::socket::{NetlinkAddr, recvfrom};
use sender::Sender;
use serde_json::json;
use simulated::Simulated;

const ROUNDS: usize = 101;
/// Events at a time. They fit the receive buffer that any unprivileged process is granted.
const BATCH: usize = 64;

/// What makes an event a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storm {
    /// All modules are live.
    Live,
    /// Every trigger is one attempt, and this is the trigger after it.
    Again,
}

fn main() -> ExitCode {
    alone(|| {
        let mut figures = Figures::of("duplicate");
        let cpu = modalias_of_a_cpu();
        let live = "* -> a";
        let failing = "* -> a b c d e f g h i j k fx_base fx_mid fx_top fx_twin fx_opt\nfx_base => ENODEV\nfx_mid => ENODEV\n\
                       fx_top => ENODEV\nfx_twin => ENODEV\nfx_opt => ENODEV";
        let fixture = Fixture::build("semantics");
        for (what, storm, alias, world) in [
            ("one live module, modalias of 3 bytes", Storm::Live, "x:y", live),
            ("one live module, a CPU's modalias", Storm::Live, &*cpu, live),
            ("11 live and 5 failed modules, a CPU's modalias", Storm::Again, &*cpu, failing),
        ] {
            for cpus in [64, 8192] {
                Bench::new(storm, alias, Looking::at(&fixture, world), cpus).measure(what, &mut figures);
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
    storm: Storm,
    netlink: Netlink,
    sender: Sender,
    simulation: Simulation<Looking>,
    alias: String,
    cpus: usize,
    next: usize,
    buffer: Vec<u8>,
}

impl Bench {
    /// A machine with so many CPUs, each of which has asked before.
    fn new(storm: Storm, alias: &str, world: Looking, cpus: usize) -> Self {
        let mut simulation = Simulation::new(world, Limits::default());
        for cpu in 0..cpus {
            simulation.replay(&devpath_of_a_cpu(cpu), alias);
            simulation.settle();
        }
        let netlink = Netlink::open(64 << 20).expect("a socket");
        let sender = Sender::open().expect("a sender");
        let (alias, buffer) = (alias.into(), vec![0; BUFFER]);
        Self { storm, netlink, sender, simulation, alias, cpus, next: 0, buffer }
    }

    fn measure(&mut self, what: &str, figures: &mut Figures) {
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        self.attempt();
        for _ in 0..ROUNDS {
            self.begin();
            bare.push(self.timed(Self::drain_bare));
            self.begin();
            let before = *self.simulation.core.stats();
            ours.push(self.timed(Self::drain));
            self.make_sure(&before);
            self.next += BATCH;
        }
        let [bare, ours] = [bare, ours].map(median);
        let us = |ns: u64| ns as f64 / 1000.0;
        println!("{what}, {} CPUs: {:.2} µs, {:.2} of them a bare receive", self.cpus, us(ours), us(bare));
        figures.add(&json!({"what": what, "cpus": self.cpus, "bare_ns": bare, "addonce_ns": ours}));
    }

    /// One trigger is over and the next one comes.
    fn begin(&mut self) {
        if self.storm == Storm::Again && self.next % self.cpus == 0 {
            self.attempt();
        }
    }

    /// Hardware that appears after a while is an attempt at what failed.
    fn attempt(&mut self) {
        self.simulation.pass(Duration::from_secs(100));
        self.simulation.appear("/devices/another", &self.alias);
        self.simulation.settle();
    }

    /// Every event was the kind of duplicate that it was meant to be, for all modules.
    fn make_sure(&self, before: &Stats) {
        let after = self.simulation.core.stats();
        let live = after.duplicates_live - before.duplicates_live;
        let failed = after.duplicates_failed - before.duplicates_failed;
        let expected = match self.storm {
            Storm::Live => [1, 0],
            Storm::Again => [11, 5],
        };
        let expected = expected.map(|modules| modules * BATCH as u64);
        assert_eq!([live, failed], expected, "{:?}", self.storm);
    }

    fn timed(&mut self, drain: fn(&mut Self) -> usize) -> Duration {
        for n in self.next..self.next + BATCH {
            let (devpath, alias) = (devpath_of_a_cpu(n % self.cpus), &self.alias);
            let datagram = format!(
                "add@{devpath}\0ACTION=add\0DEVPATH={devpath}\0SUBSYSTEM=cpu\0SYNTH_UUID=0\0\
                 DRIVER=processor\0MODALIAS={alias}\0"
            );
            self.sender.inject(datagram.as_bytes()).expect("injected");
        }
        let began = Instant::now();
        assert_eq!(drain(self), BATCH, "nothing was dropped");
        began.elapsed() / BATCH as u32
    }

    fn drain_bare(&mut self) -> usize {
        let mut read = 0;
        while let Ok((bytes, _)) = recvfrom::<NetlinkAddr>(self.netlink.as_fd().as_raw_fd(), &mut self.buffer)
        {
            black_box(&self.buffer[..bytes]);
            read += 1;
        }
        read
    }

    fn drain(&mut self) -> usize {
        let now = self.simulation.now;
        let mut read = 0;
        while let Received::Kernel(datagram) = self.netlink.receive(&mut self.buffer) {
            let uevent = message::parse(datagram).expect("a uevent");
            let message::Uevent { devpath, seqnum, uuid, .. } = uevent;
            let origin = Origin::Uevent { devpath, seqnum, synthetic: uuid.is_some() };
            let request = Request { alias: uevent.modalias.expect("a modalias"), origin, client: None };
            self.simulation.core.request(&mut self.simulation.world, request, now);
            read += 1;
        }
        read
    }
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
