// SPDX-License-Identifier: MIT OR Apache-2.0
//! # What a big storm costs in memory
//!
//! A daemon of its own, in namespaces of its own, hears of 8192 CPUs, twice each (as a CPU and as an ACPI processor), for
//! 5 modules that fail and 4 that come in, and is asked for its highest resident memory. Nothing is inserted.

#[path = "../tests/common/mod.rs"]
mod common;

use std::process::{Command, ExitCode};

use addonce::uevent::netlink::Sender;
use common::fixture::Fixture;
use common::flood::event;
use common::proc::peak_memory;
use common::running::{Running, addonce};

const INSIDE: &str = "ADDONCE_BENCH_INSIDE";
const CPUS: usize = 8192;
/// Events between two looks at the daemon: as many as the queue of an unprivileged listener holds.
const ROUND: usize = 64;

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe().expect("a path");
        let mut again = Command::new("unshare");
        again.args(["--user", "--map-root-user", "--net", "--"]).arg(program).env(INSIDE, "1");
        let status = again.status().expect("unshare (util-linux)");
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let fixture = Fixture::build("semantics");
    // A module that no file is known for fails without any load.
    let ghosts: String = (0..5).map(|n| format!("alias cpu:* ghost{n}\nalias acpi:* ghost{n}\n")).collect();
    let real = "alias cpu:* fx_top\nalias cpu:* fx_twin\nalias acpi:* fx_opt\n";
    std::fs::write(fixture.config().join("storm.conf"), ghosts + real).expect("write");
    let running = Running::start_by(addonce(), "info", &fixture.flags());
    let idle = peak_memory(running.id());
    let features: String = (0..180).map(|n| format!(",{n:04X}")).collect();
    let cpu = format!("cpu:type:x86,ven0000fam0006mod0055:feature:{features}");
    let mut sender = Sender::open().expect("a sender");
    for begin in (0..CPUS).step_by(ROUND) {
        for n in begin..begin + ROUND {
            for (devpath, modalias) in [
                (format!("/devices/system/cpu/cpu{n}"), &*cpu),
                (format!("/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0007:{n:02x}"), "acpi:ACPI0007:"),
            ] {
                // As `udevadm trigger` has the kernel say it.
                let replayed = [&event(&devpath, modalias.as_bytes())[..], b"SYNTH_UUID=0\0"].concat();
                sender.inject(&replayed).expect("injected");
            }
        }
        running.settle();
    }
    let status = running.settled();
    let peak = peak_memory(running.id());
    println!(
        "{CPUS} CPUs: {} requests, {} duplicates of failed modules, {idle} KiB idle, {peak} KiB at the peak",
        status["requests"], status["duplicates"]["failed"]
    );
    ExitCode::SUCCESS
}
