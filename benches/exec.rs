// SPDX-License-Identifier: MIT OR Apache-2.0
//! What udev pays for one question on this machine: exec to exit for a MODALIAS whose module is live.
//!
//! `modprobe -b`, addonce-load and `addonce load` by turns, beside a daemon, over the module tree that ADDONCE_TREE names. All are told
//! by a /sys/module of the bench's own that the module and what it needs are live, so that nobody asks the kernel for anything; the daemon
//! makes a dry run, and counts what it was asked, which shows that no answer was modprobe's. That of `true`
//! is what any program costs.

mod common;
#[path = "../tests/common/figures.rs"]
mod figures;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use common::alone;
use figures::Figures;
use serde_json::{Value, json};

const TURNS: usize = 9;
/// Runs in a turn.
const RUNS: u32 = 200;
/// The SATA controller of a PC with a Q35 chipset.
const ALIAS: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
const SOCKET: &str = "/run/addonce/io.addonce";

fn main() -> ExitCode {
    if std::env::var_os("ADDONCE_TREE").is_none() {
        eprintln!(
            "ADDONCE_TREE is not set: `ADDONCE_TREE=$(target/debug/lab tree) cargo bench --bench exec`"
        );
        return ExitCode::FAILURE;
    }
    alone(measure)
}

/// A daemon that ends with this.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure() {
    let tree = PathBuf::from(std::env::var_os("ADDONCE_TREE").expect("looked at"));
    let modules = tree.join("lib/modules");
    let kernel =
        fs::read_dir(&modules).expect("a tree").next().expect("a kernel's").expect("read").file_name();
    let modprobe = |arguments: &[&str]| {
        let mut command = Command::new("/sbin/modprobe");
        command.arg("-d").arg(&tree).arg("-S").arg(&kernel).args(arguments);
        command
    };
    mount("/run");
    mount("/sys/module");
    make_live(&mut modprobe(&["--show-depends", ALIAS]));
    // As where udevd runs: without it the daemon would go through /sys.
    fs::create_dir("/run/udev").expect("made");
    fs::write("/run/udev/control", "").expect("written");
    let addonce = env!("CARGO_BIN_EXE_addonce");
    let mut daemon = Command::new(addonce);
    daemon.args(["daemon", "--dry-run", "--log", "error", "--modules-dir"]).arg(&modules);
    let _daemon = Daemon(daemon.arg("--kernel").arg(&kernel).spawn().expect("addonce"));
    let until = Instant::now() + Duration::from_secs(20);
    while !Path::new(SOCKET).exists() {
        assert!(Instant::now() < until, "the daemon does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }

    let mut by_hand = Command::new(addonce);
    by_hand.args(["load", ALIAS]);
    let mut ways = [
        ("modprobe -b", modprobe(&["-b", ALIAS])),
        ("addonce-load", Command::new(Path::new(addonce).with_file_name("addonce-load"))),
        ("addonce load", by_hand),
        ("true", Command::new("/bin/true")),
    ];
    for (_, command) in &mut ways {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // What udev would set.
        command.envs([
            ("ACTION", "add"),
            ("DEVPATH", "/devices/bench"),
            ("SYNTH_UUID", "0"),
            ("MODALIAS", ALIAS),
        ]);
    }
    let mut turns = [const { Vec::new() }; 4];
    for turn in 0..TURNS {
        // Another one begins each turn.
        for n in 0..turns.len() {
            let n = (n + turn) % turns.len();
            turns[n].push(run(&mut ways[n].1));
        }
    }
    let status = Command::new(addonce).args(["status", "--json"]).output().expect("addonce");
    let status: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["requests"], json!(2 * TURNS as u32 * RUNS), "{status}");

    let mut figures = Figures::of("exec");
    for ((what, _), way) in ways.iter().zip(&turns) {
        let (ms, ratio) =
            (median(way.clone()), median(way.iter().zip(&turns[0]).map(|(a, b)| a / b).collect()));
        println!("{what}: {ms:.2} ms, {ratio:.2} of modprobe's");
        figures.add(&json!({"what": what, "ms": ms, "ratio": ratio}));
    }
}

fn mount(on: &str) {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", on]).status().expect("mount");
    assert!(mounted.success());
}

/// Has /sys/module say that what modprobe would insert is live.
fn make_live(show_depends: &mut Command) {
    let output = show_depends.output().expect("modprobe");
    let names = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && !names.is_empty(), "modprobe knows nothing of {ALIAS}");
    for file in names.lines().filter_map(|line| line.strip_prefix("insmod ")?.split_whitespace().next()) {
        let name = Path::new(file).file_name().and_then(|name| name.to_str()).expect("a name");
        let name = name.split('.').next().expect("a name").replace('-', "_");
        let directory = Path::new("/sys/module").join(name);
        // A dependency of several is listed for each of them.
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join("initstate"), "live\n").expect("written");
    }
}

/// Milliseconds from exec to exit.
fn run(command: &mut Command) -> f64 {
    let began = Instant::now();
    for _ in 0..RUNS {
        let status = command.status().expect("run");
        assert!(status.success(), "{command:?}: {status}");
    }
    began.elapsed().as_secs_f64() * 1000.0 / f64::from(RUNS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
