// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a big storm costs in memory.
//!
//! A daemon of its own, in namespaces of its own, hears of 8192 CPUs, twice each (as a CPU and as an ACPI processor), for
//! 5 modules that fail and 4 that come in, and is asked for its highest resident memory. Nothing is inserted. Then the same beside
//! an udevd that has finished none of these events, so that all of them are outstanding at a time.

mod common;
#[path = "../tests/common/mod.rs"]
mod tests;

use std::process::{Command, ExitCode};

use common::{alone, devpath_of_a_cpu, modalias_of_a_cpu};
use serde_json::json;
use tests::figures::Figures;
use tests::fixture::Fixture;
use tests::flood::event;
use tests::proc::peak_memory;
use tests::running::{Running, addonce};
use tests::sender::Sender;

const CPUS: usize = 8192;
/// Events between two looks at the daemon: as many as the queue of an unprivileged listener holds.
const ROUND: usize = 64;

fn main() -> ExitCode {
    alone(storm)
}

fn storm() {
    let fixture = Fixture::build("semantics");
    // A module that no file is known for fails without any load.
    let ghosts: String = (0..5).map(|n| format!("alias cpu:* ghost{n}\nalias acpi:* ghost{n}\n")).collect();
    let real = "alias cpu:* fx_top\nalias cpu:* fx_twin\nalias acpi:* fx_opt\n";
    std::fs::write(fixture.config().join("storm.conf"), ghosts + real).expect("write");
    let running = Running::start_by(addonce(), "info", &fixture.flags());
    let idle = peak_memory(running.id());
    announce(|| running.settle());
    let status = running.settled();
    let peak = peak_memory(running.id());
    println!(
        "{CPUS} CPUs: {} requests, {} duplicates of failed modules, {idle} KiB idle, {peak} KiB at the peak",
        status["requests"], status["duplicates"]["failed"]
    );
    drop(running);
    let peak = peak.max(outstanding(&fixture));
    Figures::of("memory")
        .add(&json!({"cpus": CPUS, "requests": status["requests"], "idle_kib": idle, "peak_kib": peak}));
}

/// The peak, in KiB, where udevd is there and has not got to anything yet.
fn outstanding(fixture: &Fixture) -> u64 {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status().expect("mount");
    assert!(mounted.success());
    std::fs::create_dir("/run/udev").expect("made");
    std::fs::write("/run/udev/control", "").expect("written");
    let running = Running::start_by(addonce(), "info", &fixture.flags());
    let count = || running.json(&["status", "--json"])["outstanding"].as_u64().expect("a number");
    let mut announced = 0;
    announce(|| {
        announced += 2 * ROUND as u64;
        while count() < announced {}
    });
    let peak = peak_memory(running.id());
    println!("{CPUS} CPUs: {announced} events outstanding, {peak} KiB at the peak");
    peak
}

/// All of them are announced, and so many are `taken` at a time.
fn announce(mut taken: impl FnMut()) {
    let cpu = modalias_of_a_cpu();
    let mut sender = Sender::open().expect("a sender");
    for begin in (0..CPUS).step_by(ROUND) {
        for n in begin..begin + ROUND {
            for (devpath, modalias) in [
                (devpath_of_a_cpu(n), &*cpu),
                (format!("/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0007:{n:02x}"), "acpi:ACPI0007:"),
            ] {
                // As `udevadm trigger` has the kernel say it.
                let replayed = [&event(&devpath, modalias.as_bytes())[..], b"SYNTH_UUID=0\0"].concat();
                sender.inject(&replayed).expect("injected");
            }
        }
        taken();
    }
}
