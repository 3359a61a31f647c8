// SPDX-License-Identifier: MIT OR Apache-2.0
//! # What a duplicate costs, from the socket to the counter
//!
//! Fills a real uevent socket with a storm and drains it twice: by a bare recvfrom loop, and as the daemon does it
//! (sender check, parse, core). The ratio is the figure; both are taken in turns in one run, the median counts.
//! Runs in namespaces of its own, without privilege, and prints JSON.

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
/// As many events as fit the receive buffer that an unprivileged process is granted.
const BATCH: usize = 200;

fn main() -> ExitCode {
    if std::env::var_os("ADDONCE_BENCH_INSIDE").is_none() {
        let status = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--"])
            .arg(std::env::current_exe().expect("a path"))
            .env("ADDONCE_BENCH_INSIDE", "1")
            .status()
            .expect("unshare (util-linux)");
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let cpu = format!(
        "cpu:type:x86,ven0000fam0006mod0055:feature:{}",
        (0..180).map(|n| format!(",{n:04X}")).collect::<String>()
    );
    let one = "x:* -> a\ncpu:* -> a".to_owned();
    let many =
        (0..11).map(|n| format!("live{n}")).chain((0..5).map(|n| format!("failed{n}"))).collect::<Vec<_>>();
    let failing: String = (0..5).map(|n| format!("failed{n} => ENODEV\n")).collect();
    let sixteen = format!("cpu:* -> {}\n{failing}", many.join(" "));
    for (what, alias, world) in [
        ("one live module, short modalias", "x:y".to_owned(), &one),
        ("one live module, a CPU's modalias", cpu.clone(), &one),
        ("a CPU: 11 live modules, 5 failed", cpu.clone(), &sixteen),
    ] {
        for cpus in [64, 8192] {
            measure(what, &alias, world, cpus);
        }
    }
    ExitCode::SUCCESS
}

fn measure(what: &str, alias: &str, world: &str, cpus: usize) {
    let mut netlink = Netlink::open(64 << 20).expect("a socket");
    let mut sender = Sender::open().expect("a sender");
    let mut simulation = Simulation::new(FakeModules::parse(world).expect("a world"), Limits::default());
    // Every CPU once: what comes after is a duplicate.
    for cpu in 0..cpus {
        let devpath = format!("/devices/system/cpu/cpu{cpu}");
        simulation.request(alias.as_bytes(), Origin::Scan { devpath: devpath.as_bytes() });
        simulation.settle();
    }
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; BUFFER];
    let mut next = 0;
    for _ in 0..ROUNDS {
        for result in [&mut bare, &mut ours] {
            let is_bare = std::ptr::eq(result, &raw const *result) && false;
            let _ = is_bare;
            for _ in 0..BATCH {
                let devpath = format!("/devices/system/cpu/cpu{}", next % cpus);
                next += 1;
                sender
                    .inject(format!("add@{devpath}\0ACTION=add\0DEVPATH={devpath}\0SUBSYSTEM=cpu\0SYNTH_UUID=0\0DRIVER=processor\0MODALIAS={alias}\0").as_bytes())
                    .expect("injected");
            }
            result.push(Duration::ZERO);
        }
        let began = Instant::now();
        let mut read = 0;
        while let Ok((bytes, _)) = recvfrom::<NetlinkAddr>(netlink.as_raw_fd(), &mut buffer) {
            black_box(&buffer[..bytes]);
            read += 1;
            if read == BATCH {
                break;
            }
        }
        *bare.last_mut().expect("pushed") = began.elapsed() / BATCH as u32;
        let began = Instant::now();
        let now = simulation.now();
        let mut read = 0;
        while let Received::Datagram(datagram) = netlink.receive(&mut buffer) {
            let uevent = parse(datagram).expect("a uevent");
            let device = Device { devpath: uevent.devpath, genuine: uevent.genuine };
            let origin = Origin::Event { device, seqnum: uevent.seqnum };
            let alias = uevent.modalias.expect("a modalias");
            simulation.core.request(&mut simulation.world, Request { alias, origin }, now);
            read += 1;
            if read == BATCH {
                break;
            }
        }
        *ours.last_mut().expect("pushed") = began.elapsed() / BATCH as u32;
        while simulation.core.next_action().is_some() {}
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos()
    };
    let (bare, ours) = (median(&mut bare), median(&mut ours));
    println!(
        "{what}, {cpus} CPUs: bare {bare} ns, addonce {ours} ns, ratio {:.2}",
        ours as f64 / bare as f64
    );
}
