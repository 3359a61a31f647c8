// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the storm was to cost, and whether it does.
//!
//! Owns the goals. It promises that each is judged by what was measured, by medians, and told with its figure whether it
//! was reached or missed; one that nobody measured is neither.

use crate::bench::Measured;
use crate::benches::verdict;
use crate::figure::{Figure, ranged};
use crate::resources::Daemon;
use crate::side_by_side::{CALLS, CPU, MEMORY, SECONDS, TRIED, values};
use crate::table;

struct Goal {
    what: &'static str,
    most: f64,
    decimals: usize,
    figure: Option<Figure>,
}

pub fn table(measured: &Measured, cpus: u32) -> String {
    let head = ["", "goal, at most", "median (least–most)", ""];
    let rows = goals(measured, cpus).into_iter().map(|goal| {
        vec![
            goal.what.into(),
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
    let values = |way, quantity| values(measured, way, cpus, quantity);
    let ratio = |way, quantity, to| Figure::ratio(&values(way, quantity), &values(to, quantity));
    let daemon = |read: fn(&Daemon) -> i64| -> Vec<f64> {
        let runs = measured.of("addonce", cpus);
        runs.iter().filter_map(|run| run.daemon.as_ref()).map(|daemon| read(daemon) as f64).collect()
    };
    let share =
        |read| Figure::ratio(&daemon(read), &values("addonce", CPU)).map(|figure| figure.scaled(0.01));
    let goal = |what, most, decimals, figure| Goal { what, most, decimals, figure };
    vec![
        goal(
            "insert calls / modules that came in or failed",
            1.0,
            2,
            Figure::ratio(&values("addonce", CALLS), &values("addonce", TRIED)),
        ),
        goal("seconds, addonce / stock", 0.6, 2, ratio("addonce", SECONDS, "stock")),
        goal("CPU time, addonce / stock", 0.65, 2, ratio("addonce", CPU, "stock")),
        goal("CPU time, addonce / the floor", 1.05, 2, ratio("addonce", CPU, "floor")),
        goal("memory, addonce / the floor", 1.1, 2, ratio("addonce", MEMORY, "floor")),
        goal("seconds, `addonce scan` / the one-liner", 0.5, 2, ratio("scan", SECONDS, "oneliner")),
        goal(
            "CPU time, the daemon without its loads / the storm",
            0.02,
            3,
            share(|daemon| daemon.main_jiffies),
        ),
        goal(
            "the daemon's highest resident memory, MiB",
            6.0,
            2,
            Figure::of(&daemon(|daemon| daemon.peak_kb)).map(|figure| figure.scaled(1.0 / 1024.0)),
        ),
    ]
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
        if scenario == "addonce" {
            result.daemon = Some(Daemon { jiffies: 200, main_jiffies: 40, peak_kb: 6200, private_kb: 900 });
        }
        result
    }

    fn measured() -> Measured {
        let results = vec![
            run("stock", 30.0, 5000, 3000),
            run("addonce", 15.0, 2000, 4400),
            run("floor", 9.0, 1900, 4000),
        ];
        Measured { results, ..Measured::default() }
    }

    #[test]
    fn a_goal_is_reached_missed_or_not_measured() {
        let goals = goals(&measured(), 255);
        let told: Vec<_> =
            goals.iter().map(|goal| (ranged(goal.figure, goal.decimals), goal.verdict())).collect();
        let told: Vec<_> = told.iter().map(|(figure, verdict)| format!("{figure} {verdict}")).collect();
        assert_eq!(
            told,
            [
                "1.00 reached",
                "0.50 reached",
                "0.40 reached",
                "1.05 reached",
                "1.10 reached",
                "– not measured",
                "0.020 reached",
                "6.05 **missed**"
            ]
        );
    }

    #[test]
    fn at_another_number_of_cpus_nothing_was_measured() {
        assert!(goals(&measured(), 64).iter().all(|goal| goal.verdict() == "not measured"));
    }
}
