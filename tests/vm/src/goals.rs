// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the storm was to cost, and whether it does.
//!
//! Owns the goals. It promises that each is judged by what was measured, by medians, and told with its figure whether it
//! was reached or missed; one that nobody measured is neither.

use crate::bench::Measured;
use crate::benches::verdict;
use crate::figure::{Figure, ranged};
use crate::resources::Daemon;
use crate::side_by_side::{CALLS, CPU, MEMORY, PROGRAMS, Quantity, SECONDS, TRIED, title, values};
use crate::table;

/// What a storm may cost beside stock's, by the number of CPUs: the more there are the more there is to be saved.
const STORMS: [(u32, f64); 3] = [(255, 0.65), (64, 0.85), (8, 1.05)];
/// The same of a boot's seconds.
const BOOTS: [(u32, f64); 2] = [(64, 0.95), (8, 1.05)];
/// Starts of addonce-load for each device with a MODALIAS.
const ASKED: [(&str, f64); 2] = [("service", 0.05), ("program", 0.15)];

struct Goal {
    what: String,
    most: f64,
    decimals: usize,
    figure: Option<Figure>,
}

pub fn table(measured: &Measured, cpus: u32) -> String {
    let head = ["", "goal, at most", "median (least–most)", ""];
    let rows = goals(measured, cpus).into_iter().map(|goal| {
        vec![
            goal.what.clone(),
            format!("{:.*}", goal.decimals, goal.most),
            ranged(goal.figure, goal.decimals),
            goal.verdict().into(),
        ]
    });
    table::align(std::iter::once(head.map(String::from).to_vec()).chain(rows).collect(), &[0, 3])
}

impl Goal {
    /// By the figure as it is written: what is told as 1.00 is 1.00.
    fn verdict(&self) -> &'static str {
        let scale = 10f64.powi(self.decimals as i32);
        self.figure.map_or("not measured", |figure| {
            verdict((figure.median * scale).round() <= (self.most * scale).round())
        })
    }
}

fn goals(measured: &Measured, cpus: u32) -> Vec<Goal> {
    let ratio = |way, quantity: Quantity, to, cpus| {
        Figure::ratio(&values(measured, way, cpus, quantity), &values(measured, to, cpus, quantity))
    };
    let service = |quantity| values(measured, "service", cpus, quantity);
    let daemon = |read: fn(&Daemon) -> i64| -> Vec<f64> {
        let runs = measured.of("service", cpus);
        runs.iter().filter_map(|run| run.daemon.as_ref()).map(|daemon| read(daemon) as f64).collect()
    };
    let goal = |what: String, most, decimals, figure| Goal { what, most, decimals, figure };
    let mut goals = Vec::new();
    for (cpus, most) in STORMS {
        for way in ["service", "program"] {
            for quantity in [SECONDS, CPU] {
                let what = format!("{}, {} / stock, {cpus} CPUs", quantity.0, title(way));
                goals.push(goal(what, most, 2, ratio(way, quantity, "stock", cpus)));
            }
        }
    }
    for (cpus, most) in BOOTS {
        let what = format!("seconds of a boot, with the package / stock, {cpus} CPUs");
        goals.push(goal(what, most, 2, ratio("boot-service", SECONDS, "boot-stock", cpus)));
    }
    for (way, most) in ASKED {
        let what = format!("programs for a device with a MODALIAS, {}", title(way));
        goals.push(goal(what, most, 3, Figure::of(&values(measured, way, cpus, PROGRAMS))));
    }
    let share = Figure::ratio(&daemon(|daemon| daemon.main_jiffies), &service(CPU));
    let peak = Figure::of(&daemon(|daemon| daemon.peak_kb));
    goals.extend([
        goal(
            "insert calls / modules that came in or failed".into(),
            1.0,
            2,
            Figure::ratio(&service(CALLS), &service(TRIED)),
        ),
        goal("CPU seconds, the service / the floor".into(), 1.05, 2, ratio("service", CPU, "floor", cpus)),
        goal("memory, the service / the floor".into(), 1.1, 2, ratio("service", MEMORY, "floor", cpus)),
        goal(
            "seconds, `addonce scan` / the one-liner".into(),
            0.5,
            2,
            ratio("scan", SECONDS, "oneliner", cpus),
        ),
        goal(
            "CPU time, the daemon without its loads / the storm".into(),
            0.02,
            3,
            share.map(|figure| figure.scaled(0.01)),
        ),
        goal(
            "the daemon's highest resident memory, MiB".into(),
            6.0,
            2,
            peak.map(|figure| figure.scaled(1.0 / 1024.0)),
        ),
    ]);
    goals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::LabResult;
    use std::collections::BTreeMap;

    fn run(scenario: &str, seconds: f64, cpu_jiffies: i64, mem_drop_kb: i64) -> LabResult {
        let mut result = LabResult {
            scenario: scenario.into(),
            cpus: 255,
            seconds,
            cpu_jiffies,
            mem_drop_kb,
            ..LabResult::default()
        };
        result.calls.total = 2;
        result.attempts = ["a", "b"].map(|module| (module.to_string(), BTreeMap::new())).into();
        if scenario == "service" {
            result.modaliases = 400;
            result.programs = [("addonce-load".to_string(), 20)].into();
            result.daemon = Some(Daemon { jiffies: 200, main_jiffies: 40, peak_kb: 6200, private_kb: 900 });
        }
        result
    }

    fn measured() -> Measured {
        let results = vec![
            run("stock", 30.0, 5000, 3000),
            run("service", 15.0, 2000, 4400),
            run("floor", 9.0, 1900, 4000),
            LabResult { cpus: 8, ..run("boot-stock", 30.0, 0, 0) },
            LabResult { cpus: 8, ..run("boot-service", 45.0, 0, 0) },
        ];
        Measured { results, ..Measured::default() }
    }

    #[test]
    fn a_goal_is_reached_missed_or_not_measured() {
        let goals = goals(&measured(), 255);
        let told = |what: &str| {
            let goal = goals.iter().find(|goal| goal.what.starts_with(what)).expect(what);
            format!("{} {}", ranged(goal.figure, goal.decimals), goal.verdict())
        };
        assert_eq!(told("seconds, the service / stock, 255 CPUs"), "0.50 reached");
        assert_eq!(told("CPU seconds, the service / stock, 255 CPUs"), "0.40 reached");
        assert_eq!(told("seconds, the rule program / stock, 255 CPUs"), "– not measured");
        assert_eq!(told("seconds, the service / stock, 8 CPUs"), "– not measured");
        assert_eq!(told("seconds of a boot, with the package / stock, 8 CPUs"), "1.50 **missed**");
        assert_eq!(told("seconds of a boot, with the package / stock, 64 CPUs"), "– not measured");
        assert_eq!(told("programs for a device with a MODALIAS, the service"), "0.050 reached");
        assert_eq!(told("insert calls"), "1.00 reached");
        assert_eq!(told("CPU seconds, the service / the floor"), "1.05 reached");
        assert_eq!(told("memory"), "1.10 reached");
        assert_eq!(told("seconds, `addonce scan`"), "– not measured");
        assert_eq!(told("CPU time, the daemon"), "0.020 reached");
        assert_eq!(told("the daemon's highest"), "6.05 **missed**");
    }

    #[test]
    fn at_a_number_of_cpus_that_nobody_asked_for_nothing_was_measured() {
        assert!(goals(&Measured::default(), 64).iter().all(|goal| goal.verdict() == "not measured"));
    }
}
