// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results side by side: a row per figure, a column per result.
//!
//! Owns the look of the table, which is plain text and valid Markdown at once. It promises a row for every
//! errno any of the results has, and figures exactly as the results hold them, converted in unit only.

use crate::boot::Boot;
use crate::result::LabResult;
use std::collections::BTreeSet;

pub fn render(results: &[LabResult]) -> String {
    let mut rows = vec![row("", results, |r| r.scenario.clone())];
    rows.push(row("CPUs", results, |r| r.cpus.to_string()));
    rows.push(row("kernel", results, |r| r.kernel.clone()));
    rows.push(row("insert calls", results, |r| r.calls.total.to_string()));
    let errnos: BTreeSet<&String> = results.iter().flat_map(|r| r.calls.by_errno.keys()).collect();
    for errno in errnos {
        let name = if errno == "0" { "  succeeded" } else { &format!("  {errno}") };
        rows.push(row(name, results, |r| r.calls.by_errno.get(errno).copied().unwrap_or(0).to_string()));
    }
    rows.push(row("modules tried", results, |r| r.attempts.len().to_string()));
    rows.push(row("modules tried more than once", results, |r| r.repeated().len().to_string()));
    rows.push(row("modules live", results, |r| r.live.len().to_string()));
    if let [reference, _, ..] = results {
        let name = format!("live with {}, not here", reference.scenario);
        rows.push(row(&name, results, |r| r.missing_from(reference).len().to_string()));
    }
    if results.iter().any(|r| r.boot.is_some()) {
        let boot = |name: &str, of: &dyn Fn(&Boot) -> String| {
            row(name, results, |r| r.boot.as_ref().map_or("-".into(), of))
        };
        rows.push(boot("  of all calls, by the initramfs", &|b| b.initramfs_calls.to_string()));
        rows.push(boot("units failed", &|b| b.failed_units.len().to_string()));
        rows.push(boot("addonce ready before the trigger, s", &|b| {
            b.ahead.map_or("-".into(), |ahead| format!("{ahead:.1}"))
        }));
    }
    if results.iter().any(|r| !r.programs.is_empty()) {
        rows.push(row("devices with a MODALIAS", results, |r| r.modaliases.to_string()));
        rows.push(row("addonce-load started", results, |r| r.asked().to_string()));
    }
    // Those of a boot are not for comparing: the next one's disk is made meanwhile.
    if results.iter().all(|r| r.boot.is_none()) {
        rows.push(row("seconds", results, |r| format!("{:.1}", r.seconds)));
        rows.push(row("CPU seconds", results, |r| format!("{:.1}", r.cpu_jiffies as f64 / 100.0)));
    }
    rows.push(row("MemAvailable drop, MB", results, |r| format!("{:.1}", r.mem_drop_kb as f64 / 1024.0)));
    align(rows, &[0])
}

fn row(name: &str, results: &[LabResult], cell: impl Fn(&LabResult) -> String) -> Vec<String> {
    std::iter::once(name.to_string()).chain(results.iter().map(cell)).collect()
}

/// Words to the left, figures to the right; the rule below the heading tells Markdown the same.
pub fn align(rows: Vec<Vec<String>>, words: &[usize]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<_> =
        (0..columns).map(|c| rows.iter().map(|r| r[c].len()).max().unwrap_or(0).max(3)).collect();
    let line = |cell: &dyn Fn(usize, usize, bool) -> String| {
        let cells = widths.iter().enumerate().map(|(c, &width)| cell(c, width, words.contains(&c)));
        format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
    };
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text += &line(&|column, width, left| match (&row[column], left) {
            (cell, true) => format!(" {cell:<width$} "),
            (cell, false) => format!(" {cell:>width$} "),
        });
        if index == 0 {
            text += &line(&|_, width, left| match left {
                true => "-".repeat(width + 2),
                false => format!("{}:", "-".repeat(width + 1)),
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_of_any_result_has_a_row_in_every_column() {
        let mut stock =
            LabResult { scenario: "stock".into(), live: vec!["evdev".into()], ..LabResult::default() };
        stock.calls.by_errno.insert("EBUSY".into(), 292);
        let addonce = LabResult { scenario: "service".into(), ..LabResult::default() };
        let text = render(&[stock, addonce]);
        let line = |start: &str| {
            text.lines().find(|l| l.starts_with(start)).map(|l| l.split_whitespace().collect::<Vec<_>>())
        };
        assert_eq!(line("|   EBUSY").unwrap(), ["|", "EBUSY", "|", "292", "|", "0", "|"]);
        assert_eq!(line("| live with stock").unwrap()[6..], ["|", "0", "|", "1", "|"]);
    }

    #[test]
    fn what_only_a_boot_has_is_a_row_only_beside_a_boot() {
        let stock = LabResult::default();
        let storm = render(std::slice::from_ref(&stock));
        assert!(!storm.contains("units failed") && storm.contains("seconds"));
        let boot = LabResult { boot: Some(Boot { ahead: Some(0.5), ..Boot::default() }), ..stock.clone() };
        let text = render(&[stock, boot]);
        let line = text.lines().find(|line| line.contains("before the trigger")).unwrap();
        assert!(line.ends_with("|   - | 0.5 |"), "{line}");
    }

    #[test]
    fn all_lines_are_equally_long() {
        let text = render(&[LabResult { kernel: "6.1.0-56-amd64".into(), ..LabResult::default() }]);
        assert_eq!(text.lines().map(str::len).collect::<BTreeSet<_>>().len(), 1);
    }
}
