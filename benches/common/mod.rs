// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the benchmarks share.
//!
//! A network namespace of their own, where they speak for the kernel without privilege, and what a CPU says of itself.
//! Each uses a part of it.
#![allow(dead_code)]

use std::process::{Command, ExitCode};

const INSIDE: &str = "ADDONCE_BENCH_INSIDE";

/// Runs the body in fresh user, network and mount namespaces, by running this program again there.
pub fn alone(body: impl FnOnce()) -> ExitCode {
    if std::env::var_os(INSIDE).is_some() {
        body();
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("a path");
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--net", "--mount", "--"]).arg(program).env(INSIDE, "1");
    let status = again.status().expect("unshare (util-linux)");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The modalias of a CPU with many features: about 1 KiB.
pub fn modalias_of_a_cpu() -> String {
    let features: String = (0..180).map(|n| format!(",{n:04X}")).collect();
    format!("cpu:type:x86,ven0000fam0006mod0055:feature:{features}")
}

/// The device of a CPU.
pub fn devpath_of_a_cpu(cpu: usize) -> String {
    format!("/devices/system/cpu/cpu{cpu}")
}
