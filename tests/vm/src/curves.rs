// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the number of CPUs costs, stock and addonce, as the example `curves` of addonce draws it: insert calls in one panel,
//! seconds in the other. A bold curve is of medians, and each turn is a faint one.

use crate::bench::Measured;
use crate::figure::Figure;
use crate::side_by_side::{CALLS, Quantity, SECONDS, sizes, values};
use serde::Serialize;

#[derive(Debug, PartialEq, Serialize)]
pub struct Picture {
    pub title: String,
    pub facts: String,
    /// Beside each other; the legend is the first one's.
    pub panels: Vec<Panel>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct Panel {
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

pub fn of(measured: &Measured) -> Result<Picture, String> {
    let of_guest = measured.storms().next().ok_or("the file holds no run")?;
    let panel = |y, quantity| {
        let x = Axis { head: "CPUs", unit: "" };
        Ok::<_, String>(Panel { x, y, curves: curves(measured, quantity)? })
    };
    Ok(Picture {
        title: "What a storm costs, by the number of CPUs".into(),
        facts: format!(
            "until udevadm settle returns, all modules live · guests of two running CPUs, Linux {}, systemd {}, kmod {} · bold: medians",
            of_guest.kernel, of_guest.udev, of_guest.kmod
        ),
        panels: vec![
            panel(Axis { head: "insert calls the kernel saw", unit: "" }, CALLS)?,
            panel(Axis { head: "until settled", unit: "s" }, SECONDS)?,
        ],
    })
}

fn curves(measured: &Measured, quantity: Quantity) -> Result<Vec<Curve>, String> {
    let mut curves = Vec::new();
    for (way, name) in [("stock", "stock udev"), ("service", "addonce, the service")] {
        let turns: Vec<_> = sizes(measured)
            .into_iter()
            .map(|cpus| (cpus, values(measured, way, cpus, quantity), values(measured, way, cpus, CALLS)))
            .collect();
        let rounds = turns.iter().map(|(_, values, _)| values.len()).min().unwrap_or(0);
        let point = |cpus: u32, value| (f64::from(cpus), value);
        curves.extend((0..rounds).map(|round| {
            let points = turns.iter().map(|(cpus, values, _)| point(*cpus, values[round])).collect();
            Curve { name, says: Vec::new(), points }
        }));
        let mut bold = Curve { name, says: Vec::new(), points: Vec::new() };
        for (cpus, values, calls) in &turns {
            let medians = Figure::of(values).zip(Figure::of(calls));
            let (figure, calls) = medians.ok_or(format!("{way} at {cpus} CPUs was not measured"))?;
            bold.points.push(point(*cpus, figure.median));
            bold.says.push(format!("{cpus} CPUs: {:.0} insert calls", calls.median));
        }
        curves.push(bold);
    }
    // What is bold is drawn last, over what is faint.
    curves.sort_by_key(|curve| !curve.says.is_empty());
    Ok(curves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Calls, LabResult};

    fn run(scenario: &str, cpus: u32, total: u32, seconds: f64) -> LabResult {
        let calls = Calls { total, ..Calls::default() };
        LabResult { scenario: scenario.into(), cpus, calls, seconds, ..LabResult::default() }
    }

    #[test]
    fn medians_are_bold_and_each_turn_is_faint() {
        let mut results = Vec::new();
        for round in [3, 1, 2] {
            results.push(run("stock", 8, 100 * round, f64::from(round)));
            results.push(run("stock", 255, 1000 * round, f64::from(round)));
        }
        let stock = Measured { results: results.clone(), ..Measured::default() };
        assert!(of(&stock).unwrap_err().contains("service"));
        results.extend([run("service", 8, 75, 2.0), run("service", 255, 75, 20.0)]);
        let picture = of(&Measured { results, ..Measured::default() }).unwrap();
        let ends = |panel: &Panel| {
            panel.curves.iter().map(|curve| (curve.points[1].1, !curve.says.is_empty())).collect::<Vec<_>>()
        };
        let faint = |values: [f64; 4]| values.map(|value| (value, false));
        let expected =
            |faints, bold: [f64; 2]| [&faint(faints)[..], &bold.map(|value| (value, true))].concat();
        assert_eq!(ends(&picture.panels[0]), expected([3000.0, 1000.0, 2000.0, 75.0], [2000.0, 75.0]));
        assert_eq!(ends(&picture.panels[1]), expected([3.0, 1.0, 2.0, 20.0], [2.0, 20.0]));
        assert_eq!(
            picture.panels[0].curves[4].says,
            ["8 CPUs: 200 insert calls", "255 CPUs: 2000 insert calls"]
        );
    }
}
