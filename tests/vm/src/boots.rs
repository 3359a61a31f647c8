// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole Debian that boots, stock and with the package: the table of both.
//!
//! Owns which boots are measured, with how many CPUs, and what is told of them. It promises medians with the least and the
//! most beside them, ratios boot by boot likewise, and that what nobody measured is told as such. It is a row for each
//! quantity, however many boots there are.

use crate::bench::Measured;
use crate::boot::Boot;
use crate::figure::{Figure, ranged};
use crate::result::LabResult;
use crate::side_by_side::{CALLS, CPU, MEMORY, Quantity, SECONDS, pairs, values};
use crate::table;

/// By turns.
pub const BOOTS: [&str; 2] = ["boot-stock", "boot-service"];
pub const CPUS: [u32; 3] = [8, 64, 255];
/// With so many CPUs it takes a quarter of an hour, once.
pub const ONCE: u32 = 255;

/// With how many decimals each is written.
const QUANTITIES: [(Quantity, usize); 8] = [
    (("insert calls of the kernel", CALLS.1), 0),
    (("of these in the initramfs", |run| of(run, |boot| f64::from(boot.initramfs_calls))), 0),
    (("seconds, from the kernel's start until all is settled", SECONDS.1), 1),
    (("seconds of userspace, as systemd-analyze says", |run| of(run, |boot| boot.userspace)), 1),
    (CPU, 1),
    (("MemAvailable drop, MB", MEMORY.1), 1),
    (("modules live", |run| run.live.len() as f64), 0),
    (("modules tried more than once", |run| run.repeated().len() as f64), 0),
];

/// One for each number of CPUs.
pub fn table(measured: &Measured) -> String {
    let tables: Vec<_> = CPUS.iter().filter_map(|&cpus| at(measured, cpus)).collect();
    if tables.is_empty() { "Not measured.".into() } else { tables.join("\n") }
}

fn at(measured: &Measured, cpus: u32) -> Option<String> {
    let boots = BOOTS.map(|way| measured.of(way, cpus).len());
    if boots == [0, 0] {
        return None;
    }
    let mut rows = vec![
        [format!("{cpus} CPUs"), "stock".into(), "with the package".into(), "ratio".into()].into(),
        vec!["boots".into(), boots[0].to_string(), boots[1].to_string(), String::new()],
    ];
    for (quantity, decimals) in QUANTITIES {
        let [stock, package] = BOOTS.map(|way| values(measured, way, cpus, quantity));
        rows.push(vec![
            quantity.0.into(),
            ranged(Figure::of(&stock), decimals),
            ranged(Figure::of(&package), decimals),
            ranged(Figure::ratio(&pairs(measured, BOOTS[1], BOOTS[0], cpus, quantity)), 2),
        ]);
    }
    Some(table::align(rows, &[0]))
}

/// No number where the run is no boot.
fn of(run: &LabResult, read: fn(&Boot) -> f64) -> f64 {
    run.boot.as_ref().map_or(f64::NAN, read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{ByErrno, Calls};

    fn boot(scenario: &str, calls: u32, seconds: f64, tries: u32) -> LabResult {
        let evdev = ByErrno::from([("EBUSY".into(), tries - 1), ("0".into(), 1)]);
        LabResult {
            scenario: scenario.into(),
            cpus: 64,
            seconds,
            cpu_jiffies: (seconds * 200.0) as i64,
            mem_drop_kb: 2048,
            calls: Calls { total: calls, ..Calls::default() },
            attempts: [("evdev".into(), evdev)].into(),
            live: vec!["evdev".into()],
            boot: Some(Boot { initramfs_calls: calls / 10, userspace: seconds - 10.0, ..Boot::default() }),
            ..LabResult::default()
        }
    }

    fn told(results: Vec<LabResult>, start: &str) -> Vec<String> {
        let table = table(&Measured { results, ..Measured::default() });
        let line = table.lines().find(|line| line.starts_with(&format!("| {start}"))).expect(start);
        line.split('|').skip(2).take(3).map(|cell| cell.trim().to_string()).collect()
    }

    #[test]
    fn both_boots_stand_beside_each_other_with_their_ratio() {
        let mut results = vec![
            boot("boot-stock", 400, 60.0, 3),
            boot("boot-service", 100, 30.0, 1),
            boot("boot-stock", 500, 80.0, 2),
            boot("boot-service", 100, 60.0, 1),
            boot("boot-stock", 800, 70.0, 9),
            boot("boot-service", 100, 35.0, 1),
        ];
        results.iter_mut().enumerate().for_each(|(nth, run)| run.round = nth as u32 / 2);
        let told = |start| told(results.clone(), start);
        assert_eq!(told("boots"), ["3", "3", ""]);
        assert_eq!(told("insert calls"), ["500 (400–800)", "100", "0.20 (0.12–0.25)"]);
        assert_eq!(told("of these"), ["50 (40–80)", "10", "0.20 (0.12–0.25)"]);
        assert_eq!(told("seconds, from"), ["70.0 (60.0–80.0)", "35.0 (30.0–60.0)", "0.50 (0.50–0.75)"]);
        assert_eq!(told("seconds of userspace")[..2], ["60.0 (50.0–70.0)", "25.0 (20.0–50.0)"]);
        assert_eq!(told("CPU seconds")[..2], ["140.0 (120.0–160.0)", "70.0 (60.0–120.0)"]);
        assert_eq!(told("MemAvailable"), ["2.0", "2.0", "1.00"]);
        assert_eq!(told("modules live"), ["1", "1", "1.00"]);
        assert_eq!(told("modules tried more"), ["1", "0", "0.00"]);
    }

    #[test]
    fn what_was_not_booted_is_no_figure() {
        let stock = boot("boot-stock", 400, 60.0, 3);
        assert_eq!(told(vec![stock.clone()], "insert calls"), ["400", "–", "–"]);
        let storm = LabResult { scenario: "stock".into(), ..stock };
        assert_eq!(table(&Measured { results: vec![storm], ..Measured::default() }), "Not measured.");
    }
}
