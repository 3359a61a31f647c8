// SPDX-License-Identifier: MIT OR Apache-2.0
//! The storm in the guest, way beside way: ratios to stock first, then what they are ratios of.
//!
//! Owns the tables and how the ways are called. It promises a row for every way that was measured, medians with the least
//! and the most beside them, and the refusals of every errno that any way met.

use crate::bench::{Measured, WAYS};
use crate::figure::{Figure, NOTHING, ranged};
use crate::result::LabResult;
use crate::table;
use std::collections::BTreeSet;

/// What is compared: its name, its unit for people, and how it is read in that unit.
pub type Quantity = (&'static str, fn(&LabResult) -> f64);

pub const SECONDS: Quantity = ("seconds", |result| result.seconds);
pub const CPU: Quantity = ("CPU seconds", |result| result.cpu_jiffies as f64 / 100.0);
pub const MEMORY: Quantity = ("memory, MB", |result| result.mem_drop_kb as f64 / 1024.0);
pub const CALLS: Quantity = ("insert calls", |result| f64::from(result.calls.total));
/// Modules that came in or failed.
pub const TRIED: Quantity = ("modules", |result| result.attempts.len() as f64);

/// Programs that udev runs for each device with a MODALIAS: starts of addonce-load.
pub const PROGRAMS: Quantity = ("programs", |result| f64::from(result.asked()) / result.modaliases as f64);

pub fn title(way: &str) -> &str {
    match way {
        "stock" => "stock udev",
        "service" => "the service",
        "program" => "on demand",
        "floor" => "the floor",
        "scan" => "`addonce scan`, no udev",
        "oneliner" => "the one-liner, no udev",
        other => other,
    }
}

/// The turns of a way in one quantity.
pub fn values(measured: &Measured, way: &str, cpus: u32, (_, read): Quantity) -> Vec<f64> {
    measured.of(way, cpus).into_iter().map(read).collect()
}

/// The turns of two ways in one quantity: the rounds in which both had theirs.
pub fn pairs(measured: &Measured, way: &str, to: &str, cpus: u32, (_, read): Quantity) -> Vec<(f64, f64)> {
    let others = measured.of(to, cpus);
    let other = |run: &LabResult| others.iter().find(|other| other.round == run.round);
    measured.of(way, cpus).into_iter().filter_map(|run| Some((read(run), read(other(run)?)))).collect()
}

pub fn figure(measured: &Measured, way: &str, cpus: u32, quantity: Quantity) -> Option<Figure> {
    Figure::of(&values(measured, way, cpus, quantity))
}

/// The numbers of CPUs that storms were measured at, from the least on.
pub fn sizes(measured: &Measured) -> Vec<u32> {
    measured.storms().map(|result| result.cpus).collect::<BTreeSet<_>>().into_iter().collect()
}

fn ways(measured: &Measured, cpus: &[u32]) -> impl Iterator<Item = &'static str> {
    WAYS.into_iter().filter(move |way| cpus.iter().any(|&cpus| !measured.of(way, cpus).is_empty()))
}

/// A row for each way, and for each quantity a column for each number of CPUs.
pub fn ratios(measured: &Measured) -> String {
    let sizes = sizes(measured);
    let quantities = [("seconds", SECONDS), ("CPU", CPU), ("memory", MEMORY)];
    let mut head = vec!["to stock udev".to_string()];
    for (name, _) in quantities {
        head.extend(sizes.iter().map(|cpus| format!("{name}, {cpus}")));
    }
    let mut rows = vec![head];
    for way in ways(measured, &sizes).filter(|way| *way != "stock") {
        let mut row = vec![title(way).to_string()];
        for (_, quantity) in quantities {
            row.extend(
                sizes
                    .iter()
                    .map(|&cpus| ranged(Figure::ratio(&pairs(measured, way, "stock", cpus, quantity)), 2)),
            );
        }
        rows.push(row);
    }
    table::align(rows, &[0])
}

/// What the ratios are of, at one number of CPUs.
pub fn figures(measured: &Measured, cpus: u32) -> String {
    let head = [
        "",
        "insert calls",
        "programs / device",
        "refused",
        "live",
        "not live, but with stock",
        "seconds",
        "CPU seconds",
        "memory, MB",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for way in ways(measured, &[cpus]) {
        let runs = measured.of(way, cpus);
        let show = |quantity, decimals| ranged(figure(measured, way, cpus, quantity), decimals);
        let live: Vec<f64> = runs.iter().map(|run| run.live.len() as f64).collect();
        rows.push(vec![
            title(way).into(),
            show(CALLS, 0),
            show(PROGRAMS, 2),
            refused(&runs),
            ranged(Figure::of(&live), 0),
            missing(measured, &runs, cpus),
            show(SECONDS, 1),
            show(CPU, 1),
            show(MEMORY, 1),
        ]);
    }
    table::align(rows, &[0, 3, 5])
}

/// The insert calls in vain, by errno.
fn refused(runs: &[&LabResult]) -> String {
    let errnos: BTreeSet<&String> = runs.iter().flat_map(|run| run.calls.by_errno.keys()).collect();
    let mut counts: Vec<(f64, &String)> = errnos
        .into_iter()
        .filter(|errno| *errno != "0")
        .filter_map(|errno| {
            let count = |run: &&LabResult| f64::from(run.calls.by_errno.get(errno).copied().unwrap_or(0));
            Some((Figure::of(&runs.iter().map(count).collect::<Vec<_>>())?.median, errno))
        })
        .collect();
    counts.retain(|(count, _)| *count > 0.0);
    counts.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    list(counts.into_iter().map(|(count, errno)| format!("{count:.0} {errno}")).collect())
}

/// What was live in every run of stock's, and is not in every run of these.
fn missing(measured: &Measured, runs: &[&LabResult], cpus: u32) -> String {
    let stock = measured.of("stock", cpus);
    let Some(first) = stock.first() else { return NOTHING.into() };
    let everywhere = |runs: &[&LabResult], module: &String| runs.iter().all(|run| run.live.contains(module));
    let missing = first.live.iter().filter(|module| everywhere(&stock, module) && !everywhere(runs, module));
    list(missing.cloned().collect())
}

fn list(words: Vec<String>) -> String {
    if words.is_empty() { NOTHING.into() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{ByErrno, Calls};

    fn run(scenario: &str, cpus: u32, seconds: f64, busy: u32, live: &[&str]) -> LabResult {
        let by_errno = ByErrno::from([("0".into(), 2), ("EBUSY".into(), busy), ("ENODEV".into(), 1)]);
        LabResult {
            scenario: scenario.into(),
            cpus,
            seconds,
            cpu_jiffies: (seconds * 200.0) as i64,
            mem_drop_kb: 2048,
            modaliases: 40,
            programs: [("addonce-load".to_string(), 10)].into(),
            calls: Calls { total: busy + 3, by_errno, ..Calls::default() },
            live: live.iter().map(ToString::to_string).collect(),
            ..LabResult::default()
        }
    }

    fn measured() -> Measured {
        let both = ["evdev", "usbcore"];
        let mut results = Vec::new();
        for (round, cpus) in [(1.0, 8), (2.0, 8), (4.0, 8), (9.0, 255)] {
            let stock = run("stock", cpus, 10.0 * round, 100, &both);
            let oneliner = run("oneliner", cpus, 4.0 * round, 0, &both[1..]);
            results.extend([stock, oneliner].map(|run| LabResult { round: round as u32, ..run }));
        }
        // It has no stock beside it.
        results.push(LabResult { round: 3, ..run("oneliner", 8, 4.0, 0, &both[1..]) });
        Measured { results, ..Measured::default() }
    }

    fn cells(table: &str, start: &str) -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(&format!("| {start}"))).expect(start);
        line.split('|').map(|cell| cell.trim().to_string()).collect()
    }

    #[test]
    fn ratios_are_to_stock_at_the_same_number_of_cpus() {
        let table = ratios(&measured());
        assert_eq!(cells(&table, "to stock")[2..4], ["seconds, 8", "seconds, 255"]);
        assert_eq!(cells(&table, "the one-liner")[2..8], ["0.40", "0.40", "0.40", "0.40", "1.00", "1.00"]);
        assert!(!table.contains("addonce"), "what was not measured has no row: {table}");
    }

    #[test]
    fn figures_stand_with_their_range_and_every_refusal() {
        let table = figures(&measured(), 8);
        let stock = cells(&table, "stock udev");
        assert_eq!(stock[2..8], ["103", "0.25", "100 EBUSY, 1 ENODEV", "2", "–", "20.0 (10.0–40.0)"]);
        assert_eq!(cells(&table, "the one-liner")[4..7], ["1 ENODEV", "1", "evdev"]);
    }
}
