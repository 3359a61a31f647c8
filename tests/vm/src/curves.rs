// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory over the time of a storm, stock and addonce, as the example `curves` of addonce draws it.
//!
//! Owns the JSON that the two share. It promises a bold curve for the turn that is the median of its way, and a faint one
//! for each of the others; MB below what was available when the storm began, and seconds since then.

use crate::bench::Measured;
use crate::result::LabResult;
use crate::side_by_side::sizes;
use serde::Serialize;

#[derive(Debug, PartialEq, Serialize)]
pub struct Picture {
    pub title: String,
    pub facts: String,
    /// What is drawn to the right, and its unit.
    pub x: Axis,
    pub y: Axis,
    pub curves: Vec<Curve>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Axis {
    pub head: &'static str,
    pub unit: &'static str,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Curve {
    pub name: &'static str,
    /// What the legend says of it, line by line; of a faint curve it says nothing.
    pub says: Vec<String>,
    pub points: Vec<(f64, f64)>,
}

/// At the most CPUs that were measured.
pub fn of(measured: &Measured) -> Result<Picture, String> {
    let cpus = *sizes(measured).last().ok_or("the file holds no run")?;
    let mut curves = Vec::new();
    for (way, name) in [("stock", "stock udev"), ("service", "addonce, the service")] {
        let mut runs = measured.of(way, cpus);
        runs.sort_by_key(|run| run.mem_drop_kb);
        let middle = runs.len().checked_sub(1).ok_or(format!("{way} at {cpus} CPUs was not measured"))? / 2;
        let bold = runs.remove(middle);
        curves.extend(runs.into_iter().map(|run| Curve { name, says: Vec::new(), points: points(run) }));
        let (seconds, most) = (bold.seconds, mb(bold.mem_drop_kb));
        let says = vec![format!("settled after {seconds:.1} s"), format!("{most:.1} MB at the most")];
        curves.push(Curve { name, says, points: points(bold) });
    }
    // What is bold is drawn last, over what is faint.
    curves.sort_by_key(|curve| !curve.says.is_empty());
    let of_guest = measured.storms().next().ok_or("the file holds no run")?;
    Ok(Picture {
        title: format!("Memory taken by the storm of {cpus} CPUs"),
        facts: format!(
            "MemAvailable below its value at the start, five times a second · Linux {}, systemd {}, kmod {} · bold: the turn of median memory",
            of_guest.kernel, of_guest.udev, of_guest.kmod
        ),
        x: Axis { head: "since the storm began", unit: "s" },
        y: Axis { head: "memory taken", unit: "MB" },
        curves,
    })
}

fn mb(kb: i64) -> f64 {
    kb as f64 / 1024.0
}

fn points(run: &LabResult) -> Vec<(f64, f64)> {
    let start = run.memory.first().map_or(0, |(_, kb)| *kb);
    // The watch begins a moment before the storm.
    let point = |&(at, kb): &(i64, i64)| (at.max(0) as f64 / 100.0, (mb(start - kb) * 100.0).round() / 100.0);
    run.memory.iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(scenario: &str, drop: i64) -> LabResult {
        let memory = vec![(-1, 10_240), (20, 10_240 - drop), (40, 10_240)];
        LabResult { scenario: scenario.into(), cpus: 8, mem_drop_kb: drop, memory, ..LabResult::default() }
    }

    #[test]
    fn the_median_turn_is_bold_and_the_others_are_faint() {
        let mut results = [3072, 1024, 2048].map(|drop| run("stock", drop)).to_vec();
        let stock = Measured { results: results.clone(), ..Measured::default() };
        assert!(of(&stock).unwrap_err().contains("service"));
        results.push(run("service", 512));
        let picture = of(&Measured { results, ..Measured::default() }).unwrap();
        let tops: Vec<_> =
            picture.curves.iter().map(|curve| (curve.points[1].1, !curve.says.is_empty())).collect();
        assert_eq!(tops, [(1.0, false), (3.0, false), (2.0, true), (0.5, true)]);
        assert_eq!(picture.curves[0].points[0], (0.0, 0.0));
    }
}
