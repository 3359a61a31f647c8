// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest lab: boots the distribution's kernel in QEMU and counts what its module loader was asked to do.
//!
//! This file owns the command line and the exit code, nothing else: 0 done, 1 the run or a comparison failed,
//! 2 usage. It promises one clear line for every error. The way of a run is `system` (whose it is), `kernel` (package to module tree)
//! → `image` (initramfs of `host`, modules, `fixtures` and `scenario`), or `debian` (a disk to boot)
//! → `guest` (QEMU) → `raw` and `trace` (what the guest wrote) → `result` (the JSON, with `boot`) → `table`, or
//! `verdict` (against `cases`). All files go under `target/lab/`, or where `LAB_DIR` says.

mod bench;
mod benches;
mod boot;
mod boots;
mod cases;
mod cpio;
mod curves;
mod daemon;
mod debian;
mod figure;
mod fixtures;
mod goals;
mod guest;
mod host;
mod image;
mod kernel;
mod machine;
mod options;
mod order;
mod package;
mod raw;
mod report;
mod request;
mod resources;
mod result;
mod scenario;
mod selftest;
mod side_by_side;
mod system;
mod table;
mod template;
mod tools;
mod trace;
mod verdict;

use options::{Command, Run};
use result::LabResult;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use system::System;

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
        Command::Run(run) => {
            let result = measure(&run)?;
            match &run.out {
                Some(path) => write(path, &result),
                None => print_json(&result),
            }
        }
        Command::Demo { reference, runs } => demo(reference, &runs),
        Command::Fixes(run) => fixes(&run),
        Command::Bench(asked) => bench::run(&asked, measure_in, write),
        Command::Report { result, newer, benches } => {
            let newer = newer.as_deref().map(bench::read).transpose()?;
            print!("{}", report::render(&bench::read(&result)?, newer.as_ref(), &benches)?);
            Ok(())
        }
        Command::Curves(path) => print_json(&curves::of(&bench::read(&path)?)?),
        Command::Tree { release } => {
            println!("{}", kernel::obtain(System::obtain(release.as_deref())?)?.root.display());
            Ok(())
        }
        Command::Storm(path) => {
            let storm = read(&path)?.into_iter().find_map(|result| result.storm);
            print_json(&storm.ok_or(format!("{} holds no storm of addonce's", path.display()))?)
        }
        Command::Request(path) => {
            let (text, missed) = request::render(&first(&path)?)?;
            print!("{text}");
            if missed.is_empty() { Ok(()) } else { Err(missed.join("\nlab: ")) }
        }
        Command::RequestCurves(path) => print_json(&request::curves(&first(&path)?)?),
    }
}

/// A reference and others beside each other. All results are kept even where they show that something is wrong.
fn demo(reference: &str, runs: &[Run]) -> Result<(), String> {
    let Some(first) = runs.first() else { return Ok(()) };
    forget(first)?;
    let stock = Run { scenario: reference.into(), ..first.clone() };
    let all: Vec<&Run> = std::iter::once(&stock).chain(runs).collect();
    let prepare = |run: &Run| Prepared::make(run, found(run)?);
    let results = std::thread::scope(|scope| {
        let mut results = Vec::new();
        let mut made = prepare(all[0])?;
        for (index, run) in all.iter().enumerate() {
            let next = all.get(index + 1).copied();
            // Another disk takes a minute: it is made beside the boot, whose seconds nobody compares. Nothing is beside a storm.
            let beside = next.filter(|_| made.scenario.boots).map(|next| scope.spawn(move || prepare(next)));
            results.push(measured(run, made)?);
            made = match (next, beside) {
                (None, _) => break,
                (Some(next), None) => prepare(next)?,
                (Some(next), Some(beside)) => {
                    beside.join().map_err(|_| format!("the image of {} was not made", next.scenario))??
                }
            };
        }
        Ok::<_, String>(results)
    })?;
    print!("{}", table::render(&results));
    if let Some(path) = &first.out {
        write(path, &results)?;
    }
    let faults: Vec<_> = results[1..].iter().filter_map(|result| check(&results[0], result).err()).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\nlab: ")) }
}

fn check(reference: &LabResult, result: &LabResult) -> Result<(), String> {
    let faults = result.faults_against(reference);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\nlab: ")) }
}

/// A run that fails must not leave the result of an earlier one in its place.
fn forget(run: &Run) -> Result<(), String> {
    match run.out.as_ref().filter(|out| out.exists()) {
        Some(out) => std::fs::remove_file(out).map_err(|e| format!("cannot replace {}: {e}", out.display())),
        None => Ok(()),
    }
}

fn found(run: &Run) -> Result<scenario::Scenario, String> {
    let mut scenario = scenario::find(&run.scenario)?;
    if let Some(path) = &run.after {
        scenario.order = first(path)?.order;
    }
    Ok(scenario)
}

fn measure(run: &Run) -> Result<LabResult, String> {
    measure_in(run, found(run)?)
}

fn measure_in(run: &Run, scenario: scenario::Scenario) -> Result<LabResult, String> {
    measured(run, Prepared::make(run, scenario)?)
}

/// A guest that could start.
struct Prepared {
    scenario: scenario::Scenario,
    kernel: kernel::Kernel,
    image: image::Image,
}

impl Prepared {
    fn make(run: &Run, scenario: scenario::Scenario) -> Result<Self, String> {
        let kernel = kernel::obtain(System::obtain(run.release.as_deref())?)?;
        let image = match scenario.boots {
            true => debian::build(&kernel, &scenario, run.deb.as_deref())?,
            false => image::build(&kernel, &scenario, run.addonce.as_deref())?,
        };
        Ok(Self { scenario, kernel, image })
    }
}

fn measured(run: &Run, prepared: Prepared) -> Result<LabResult, String> {
    let scenario = &prepared.scenario;
    let mut result = boot(run, &prepared, |raw, trace| {
        let programs = trace.programs.clone();
        let (boot, calls) = match scenario.boots {
            true => boot::read(raw, trace).map(|(boot, calls)| (Some(boot), calls))?,
            false => (None, trace.calls),
        };
        let result = LabResult::new(raw, calls, &run.scenario, run.cpus, guest::qemu_version()?)?;
        Ok(LabResult { boot, programs, ..result })
    })?;
    if let Some(boot) = &mut result.boot {
        boot.as_stock = scenario.as_stock;
        boot.not_in_initramfs = scenario.not_in_initramfs.clone();
        boot.wanted_before = scenario.before_addonce.clone();
        boot.needs_service = scenario.needs_deb && !scenario.as_stock;
    }
    result.not_asked_for = scenario.not_asked_for.clone();
    result.most_programs = scenario.most_programs;
    result.twice = scenario.twice.clone();
    Ok(result)
}

/// The cases of `fixes`. The table is printed even where it shows that something is wrong.
fn fixes(run: &Run) -> Result<(), String> {
    let report = boot(run, &Prepared::make(run, found(run)?)?, |raw, trace| {
        result::must_be_complete(raw)?;
        Ok(verdict::Report {
            kernel: raw.fact("kernel")?.into(),
            udev: raw.fact("udev")?.into(),
            kmod: raw.fact("kmod")?.into(),
            cpus: run.cpus,
            seconds: raw.number("centiseconds")? as f64 / 100.0,
            rows: verdict::compare(
                &cases::all(raw.number("kernel_unpacks")? == 1, cases::init_says(raw.fact("kernel")?)),
                &trace,
                raw.section("cases")?,
            )?,
        })
    })?;
    print!("{}", verdict::render(&report.rows));
    if let Some(path) = &run.out {
        write(path, &report)?;
    }
    let faults = verdict::faults(&report.rows);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\nlab: ")) }
}

/// Runs a guest, and makes of what it wrote what is wanted of it.
fn boot<R>(
    run: &Run,
    Prepared { scenario, kernel, image }: &Prepared,
    evaluate: impl FnOnce(&raw::Raw, trace::Trace) -> Result<R, String>,
) -> Result<R, String> {
    forget(run)?;
    let began = Instant::now();
    let guest = guest::Guest::new(kernel, image, scenario, run.cpus, run.timeout)?;
    let text = guest.run()?;
    let evaluated = (|| {
        let raw = raw::Raw::parse(&text)?;
        let trace = trace::parse(raw.section("trace")?)?;
        image.must_hold(&trace.opened)?;
        evaluate(&raw, trace)
    })();
    let result = evaluated.map_err(|e| format!("{e}{}", guest.where_to_look()))?;
    eprintln!("lab: {} at {} CPUs done in {} s", scenario.name, run.cpus, began.elapsed().as_secs());
    Ok(result)
}

fn print_json(value: &impl serde::Serialize) -> Result<(), String> {
    println!("{}", serde_json::to_string_pretty(value).map_err(|e| e.to_string())?);
    Ok(())
}

fn write(path: &Path, value: &impl serde::Serialize) -> Result<(), String> {
    let json = serde_json::to_string_pretty(value).map_err(|e| e.to_string())?;
    if let Some(parent) = path.parent() {
        tools::make_dir(parent)?;
    }
    tools::write(path, format!("{json}\n"))
}

/// The results in a file: one, a demo's, or a bench's.
fn read(path: &Path) -> Result<Vec<LabResult>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let measured = |text| serde_json::from_str::<bench::Measured>(text).map(|measured| measured.results);
    let several = serde_json::from_str(&text).or_else(|_| measured(&text));
    let several = several.or_else(|_| serde_json::from_str(&text).map(|one| vec![one]));
    several.map_err(|e| format!("{} is not a result of this lab: {e}", path.display()))
}

fn first(path: &Path) -> Result<LabResult, String> {
    read(path)?.into_iter().next().ok_or(format!("{} holds no result", path.display()))
}
