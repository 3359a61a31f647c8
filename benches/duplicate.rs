// SPDX-License-Identifier: MIT OR Apache-2.0
//! # What a duplicate costs, from the socket to the counter
//!
//! Fills a real uevent socket with a storm and drains it in two ways, by turns: by a bare recvfrom loop, and as the
//! daemon does it (sender check, parse, core). The ratio of the medians is the figure. Runs in namespaces of its own,
//! without privilege.

use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use addonce::once::fake::FakeModules;
use addonce::once::limits::Limits;
use addonce::once::request::{Device, Origin, Request};
use addonce::once::simulation::Simulation;
use addonce::uevent::message::parse;
use addonce::uevent::netlink::{BUFFER, Netlink, Received, Sender};
use nix::sys::socket::{NetlinkAddr, recvfrom};

const ROUNDS: usize = 41;
/// As many events as fit the receive buffer that any unprivileged process is granted.
const BATCH: usize = 100;
const INSIDE: &str = "ADDONCE_BENCH_INSIDE";

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe().expect("a path");
        let mut again = Command::new("unshare");
        again.args(["--user", "--map-root-user", "--net", "--"]).arg(program).env(INSIDE, "1");
        let status = again.status().expect("unshare (util-linux)");
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let features: String = (0..180).map(|n| format!(",{n:04X}")).collect();
    let cpu = format!("cpu:type:x86,ven0000fam0006mod0055:feature:{features}");
    let live = "* -> a".to_owned();
    let failing = "* -> a b c d e f g h i j k l m n o p\nl => ENODEV\nm => ENODEV\nn => ENODEV\no => ENODEV\np => ENODEV";
    for (what, alias, world) in [
        ("one live module, modalias of 3 bytes", "x:y", &*live),
        ("one live module, a CPU's modalias", &*cpu, &*live),
        ("11 live and 5 failed modules, a CPU's modalias", &*cpu, failing),
    ] {
        for cpus in [64, 8192] {
            Storm::new(alias, world, cpus).measure(what);
        }
    }
    ExitCode::SUCCESS
}

struct Storm {
    netlink: Netlink,
    sender: Sender,
    simulation: Simulation,
    alias: String,
    cpus: usize,
    next: usize,
    buffer: Vec<u8>,
}

impl Storm {
    /// A storm of so many CPUs, each of which has asked before: what comes is a duplicate.
    fn new(alias: &str, world: &str, cpus: usize) -> Self {
        let world = FakeModules::parse(world).expect("a world");
        let mut simulation = Simulation::new(world, Limits::default());
        for cpu in 0..cpus {
            let devpath = devpath(cpu);
            simulation.request(alias.as_bytes(), Origin::Scan { devpath: devpath.as_bytes() });
            simulation.settle();
        }
        let netlink = Netlink::open(64 << 20).expect("a socket");
        let sender = Sender::open().expect("a sender");
        Self { netlink, sender, simulation, alias: alias.into(), cpus, next: 0, buffer: vec![0; BUFFER] }
    }

    fn measure(&mut self, what: &str) {
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(self.timed(Self::drain_bare));
            ours.push(self.timed(Self::drain));
        }
        let [bare, ours] = [bare, ours].map(median);
        let ratio = ours as f64 / bare as f64;
        println!("{what}, {} CPUs: bare {bare} ns, addonce {ours} ns, ratio {ratio:.2}", self.cpus);
    }

    fn timed(&mut self, drain: fn(&mut Self) -> usize) -> Duration {
        for _ in 0..BATCH {
            let (devpath, alias) = (devpath(self.next % self.cpus), &self.alias);
            self.next += 1;
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
        while let Ok((bytes, _)) = recvfrom::<NetlinkAddr>(self.netlink.as_raw_fd(), &mut self.buffer) {
            black_box(&self.buffer[..bytes]);
            read += 1;
        }
        read
    }

    fn drain(&mut self) -> usize {
        let now = self.simulation.now();
        let mut read = 0;
        while let Received::Datagram(datagram) = self.netlink.receive(&mut self.buffer) {
            let uevent = parse(datagram).expect("a uevent");
            let device = Device { devpath: uevent.devpath, genuine: uevent.genuine };
            let origin = Origin::Event { device, seqnum: uevent.seqnum };
            let request = Request { alias: uevent.modalias.expect("a modalias"), origin };
            self.simulation.core.request(&mut self.simulation.world, request, now);
            read += 1;
        }
        read
    }
}

fn devpath(cpu: usize) -> String {
    format!("/devices/system/cpu/cpu{cpu}")
}

fn median(mut times: Vec<Duration>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos()
}
