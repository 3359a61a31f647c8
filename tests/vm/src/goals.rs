// SPDX-License-Identifier: MIT OR Apache-2.0
//! What storms and boots were to cost, and whether they do: by medians of three runs at least. What fewer say is told, and is neither
//! reached nor missed.

use crate::bench::Measured;
use crate::benches::verdict;
use crate::daemon;
use crate::figure::{Figure, ranged};
use crate::resources::Daemon;
use crate::side_by_side::{CALLS, CPU, Quantity, SECONDS, TRIED, pairs, title};
use crate::table;

/// What a storm may cost beside stock's, in seconds and in CPU time: the more CPUs there are the more there is to be saved.
const STORMS: [(u32, &str, f64); 4] =
    [(255, "service", 0.50), (255, "program", 0.60), (8, "service", 1.0), (8, "program", 1.0)];
/// The same where kernel and kmod are newer and join what is loaded twice at the same time.
const NEWER_STORMS: [(u32, &str, f64); 4] =
    [(255, "service", 0.75), (64, "service", 0.95), (8, "service", 1.0), (8, "program", 1.0)];
/// A boot's seconds.
const BOOTS: [(u32, f64); 2] = [(64, 0.90), (8, 1.00)];
/// Of the daemon, in MiB.
const PEAK: f64 = 7.0;
const NEWER_PEAK: f64 = 8.0;
/// So many runs are judged.
const ENOUGH: usize = 3;

struct Goal {
    what: String,
    most: f64,
    decimals: usize,
    figure: Option<Figure>,
}

/// `newer` is what was measured with the kernel, udev and kmod of a later release.
pub fn table(measured: &Measured, newer: Option<&Measured>, cpus: u32) -> String {
    let head = ["", "goal, at most", "median (least–most)", ""];
    let newer = newer.cloned().unwrap_or_default();
    let rows = goals(measured, &newer, cpus).into_iter().map(|goal| {
        vec![
            goal.what.clone(),
            format!("{:.*}", goal.decimals, goal.most),
            ranged(goal.figure, goal.decimals),
            goal.verdict(),
        ]
    });
    table::align(std::iter::once(head.map(String::from).to_vec()).chain(rows).collect(), &[0, 3])
}

impl Goal {
    /// By the figure as it is written: what is told as 1.00 is 1.00.
    fn verdict(&self) -> String {
        let scale = 10f64.powi(self.decimals as i32);
        match self.figure {
            None => "not measured".into(),
            Some(figure) if figure.runs < ENOUGH => format!("open: {} of {ENOUGH} runs", figure.runs),
            Some(figure) => verdict((figure.median * scale).round() <= (self.most * scale).round()).into(),
        }
    }
}

fn goals(measured: &Measured, newer: &Measured, cpus: u32) -> Vec<Goal> {
    let ratio =
        |of: &Measured, way, quantity: Quantity, to, cpus| Figure::ratio(&pairs(of, way, to, cpus, quantity));
    let goal = |what: String, most, decimals, figure| Goal { what, most, decimals, figure };
    let mut goals = vec![goal(
        "insert calls / modules that came in or failed: addonce, all runs".into(),
        1.0,
        2,
        calls(&[measured, newer]),
    )];
    let debians = [(measured, STORMS, ""), (newer, NEWER_STORMS, ", newer release")];
    for (of, storms, newer) in debians {
        for (cpus, way, most) in storms {
            for quantity in [SECONDS, CPU] {
                let what = format!("{} of a storm, {} / stock, {cpus} CPUs{newer}", quantity.0, title(way));
                goals.push(goal(what, most, 2, ratio(of, way, quantity, "stock", cpus)));
            }
        }
    }
    for (cpus, most) in BOOTS {
        let what = format!("seconds of a boot, with the package / stock, {cpus} CPUs");
        goals.push(goal(what, most, 2, ratio(measured, "boot-service", SECONDS, "boot-stock", cpus)));
    }
    let daemons = |of: &Measured, cpus, read: fn(&Daemon) -> i64| -> Vec<f64> {
        let runs = of.of("service", cpus);
        runs.iter().filter_map(|run| run.daemon.as_ref()).map(|daemon| read(daemon) as f64).collect()
    };
    let share = daemon::share(measured, cpus);
    goals.extend([
        goal(
            format!("CPU seconds of a storm, the service / the floor, {cpus} CPUs"),
            1.05,
            2,
            ratio(measured, "service", CPU, "floor", cpus),
        ),
        goal(format!("CPU time, the daemon / the storm, {cpus} CPUs"), 0.04, 3, share),
    ]);
    for (of, most, newer) in [(measured, PEAK, ""), (newer, NEWER_PEAK, ", newer release")] {
        let peak = Figure::of(&daemons(of, 64, |daemon| daemon.peak_kb));
        let peak = peak.map(|figure| figure.scaled(1.0 / 1024.0));
        goals.push(goal(format!("the daemon's highest resident memory, MiB, 64 CPUs{newer}"), most, 2, peak));
    }
    goals
}

/// Over all runs. The worst of them counts, and not the one in the middle.
fn calls(all: &[&Measured]) -> Option<Figure> {
    let ours = ["service", "program", "boot-service"];
    let runs = all.iter().flat_map(|measured| &measured.results);
    let runs = runs.filter(|run| ours.contains(&run.scenario.as_str()));
    let ratios: Vec<f64> = runs.map(|run| CALLS.1(run) / TRIED.1(run)).collect();
    Figure::of(&ratios).map(|figure| Figure { median: figure.most, ..figure })
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
            result.daemon = Some(Daemon { jiffies: 40, peak_kb: 8256, private_kb: 900 });
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
        three_times(&results)
    }

    fn three_times(results: &[LabResult]) -> Measured {
        let of_a_round = |round| results.iter().map(move |run| LabResult { round, ..run.clone() });
        Measured { results: (1..=3).flat_map(of_a_round).collect(), ..Measured::default() }
    }

    #[test]
    fn a_goal_is_reached_missed_open_or_not_measured() {
        let later = [run("stock", 20.0, 4000, 0), run("service", 16.0, 2400, 0)];
        let newer = three_times(&later.map(|run| LabResult { cpus: 64, ..run }));
        let mut measured = measured();
        let boots = |cpus| {
            ["boot-stock", "boot-service"].map(|way| LabResult { cpus, round: 1, ..run(way, 30.0, 0, 0) })
        };
        measured.results.extend(boots(64));
        let goals = goals(&measured, &newer, 255);
        let told = |what: &str| {
            let goal = goals.iter().find(|goal| goal.what.starts_with(what)).expect(what);
            format!("{} {}", ranged(goal.figure, goal.decimals), goal.verdict())
        };
        assert_eq!(told("seconds of a storm, the service / stock, 255 CPUs"), "0.50 reached");
        assert_eq!(told("CPU seconds of a storm, the service / stock, 255 CPUs"), "0.40 reached");
        assert_eq!(told("seconds of a storm, on demand / stock, 255 CPUs"), "– not measured");
        assert_eq!(told("seconds of a storm, the service / stock, 8 CPUs"), "– not measured");
        assert_eq!(told("seconds of a storm, the service / stock, 64 CPUs, newer"), "0.80 reached");
        assert_eq!(told("seconds of a boot, with the package / stock, 8 CPUs"), "1.50 **missed**");
        assert_eq!(told("seconds of a boot, with the package / stock, 64 CPUs"), "1.00 open: 1 of 3 runs");
        assert_eq!(told("insert calls"), "1.00 reached");
        assert_eq!(told("CPU seconds of a storm, the service / the floor"), "1.05 reached");
        assert_eq!(told("CPU time, the daemon"), "0.020 reached");
        assert_eq!(told("the daemon's highest resident memory, MiB, 64 CPUs"), "– not measured");
        assert_eq!(told("the daemon's highest resident memory, MiB, 64 CPUs, newer"), "8.06 **missed**");
    }

    #[test]
    fn one_run_with_a_call_too_many_is_enough() {
        let mut measured = measured();
        measured.results.extend([run("service", 15.0, 2000, 0), run("service", 15.0, 2000, 0)]);
        measured.results[1].calls.total = 3;
        let goals = goals(&measured, &Measured::default(), 255);
        assert_eq!((goals[0].figure.unwrap().median, &*goals[0].verdict()), (1.5, "**missed**"));
    }

    #[test]
    fn at_a_number_of_cpus_that_nobody_asked_for_nothing_was_measured() {
        let nothing = Measured::default();
        assert!(goals(&nothing, &nothing, 64).iter().all(|goal| goal.verdict() == "not measured"));
    }
}
