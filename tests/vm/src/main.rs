// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest lab: boots the distribution's kernel in QEMU and counts what its module loader was asked to do.
//!
//! This file owns the command line and the exit code, nothing else: 0 done, 1 the run or a comparison failed,
//! 2 usage. It promises one clear line for every error. The way of a run is `kernel` (package to module tree)
//! → `image` (initramfs of `host`, modules and `scenario`) → `guest` (QEMU) → `raw` and `trace` (what the
//! guest wrote) → `result` (the JSON) → `table`. All files go under `target/lab/`, or where `LAB_DIR` says.

mod cpio;
mod guest;
mod host;
mod image;
mod kernel;
mod options;
mod raw;
mod result;
mod scenario;
mod table;
mod tools;
mod trace;

use options::{Command, Run};
use result::LabResult;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let command = match options::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(message) => {
            eprintln!("lab: {message}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match perform(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("lab: {message}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Result<(), String> {
    match command {
        Command::Help => {
            println!("{}", options::USAGE);
            Ok(())
        }
        Command::Run(run) => measure(&run),
        Command::Image { scenario, addonce } => {
            let scenario = scenario::find(&scenario)?;
            let path = image::build(&kernel::obtain()?, &scenario, addonce.as_deref())?.path;
            println!("{}", path.display());
            Ok(())
        }
        Command::Table(paths) => {
            print!("{}", table::render(&read_all(&paths)?));
            Ok(())
        }
        Command::Check { reference, result } => {
            let faults = read(&result)?.faults_against(&read(&reference)?);
            if faults.is_empty() { Ok(()) } else { Err(faults.join("\nlab: ")) }
        }
    }
}

fn measure(run: &Run) -> Result<(), String> {
    let scenario = scenario::find(&run.scenario)?;
    // A run that fails must not leave the result of an earlier one in its place.
    if let Some(out) = run.out.as_ref().filter(|out| out.exists()) {
        std::fs::remove_file(out).map_err(|e| format!("cannot replace {}: {e}", out.display()))?;
    }
    let kernel = kernel::obtain()?;
    let image = image::build(&kernel, &scenario, run.addonce.as_deref())?;
    let began = Instant::now();
    let guest = guest::Guest::new(&kernel, &image, &scenario, run.cpus, run.timeout)?;
    let text = guest.run()?;
    let result = evaluate(&text, &image, run).map_err(|e| format!("{e}{}", guest.where_to_look()))?;
    eprintln!("lab: {} at {} CPUs done in {} s", scenario.name, run.cpus, began.elapsed().as_secs());
    let json = serde_json::to_string_pretty(&result).map_err(|e| e.to_string())?;
    match &run.out {
        Some(path) => tools::write(path, format!("{json}\n")),
        None => {
            println!("{json}");
            Ok(())
        }
    }
}

fn evaluate(text: &str, image: &image::Image, run: &Run) -> Result<LabResult, String> {
    let raw = raw::Raw::parse(text)?;
    let trace = trace::parse(raw.section("trace")?)?;
    image.must_hold(&trace.opened)?;
    LabResult::new(&raw, trace.calls, &run.scenario, run.cpus, guest::qemu_version()?)
}

fn read_all(paths: &[std::path::PathBuf]) -> Result<Vec<LabResult>, String> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<LabResult, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{} is not a result of this lab: {e}", path.display()))
}
