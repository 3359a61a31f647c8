// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the daemon itself costs in a storm, at each number of CPUs, without the processes that load.

use crate::bench::Measured;
use crate::figure::{Figure, ranged};
use crate::resources::Daemon;
use crate::result::LabResult;
use crate::table;

pub fn table(measured: &Measured, sizes: &[u32]) -> String {
    let head = [
        "CPUs",
        "the daemon, CPU s",
        "the storm, CPU s",
        "share",
        "highest resident memory, KiB",
        "private, KiB",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    for &cpus in sizes {
        let runs = measured.of("service", cpus);
        let show = |read: &dyn Fn(&Daemon) -> f64, decimals| {
            let daemons = runs.iter().filter_map(|run| run.daemon.as_ref());
            ranged(Figure::of(&daemons.map(read).collect::<Vec<_>>()), decimals)
        };
        let storm: Vec<f64> = runs.iter().map(|run| run.cpu_jiffies as f64 / 100.0).collect();
        rows.push(vec![
            cpus.to_string(),
            show(&|daemon| daemon.jiffies as f64 / 100.0, 2),
            ranged(Figure::of(&storm), 1),
            ranged(share(measured, cpus), 3),
            show(&|daemon| daemon.peak_kb as f64, 0),
            show(&|daemon| daemon.private_kb as f64, 0),
        ]);
    }
    table::align(rows, &[])
}

/// Of the storm's CPU time.
pub fn share(measured: &Measured, cpus: u32) -> Option<Figure> {
    let runs = measured.of("service", cpus).into_iter();
    let pair = |run: &LabResult| Some((run.daemon.as_ref()?.jiffies as f64, run.cpu_jiffies as f64));
    Figure::ratio(&runs.filter_map(pair).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_has_a_share_in_what_the_storm_costs() {
        let daemon = Some(Daemon { jiffies: 30, peak_kb: 5996, private_kb: 928 });
        let run = LabResult {
            scenario: "service".into(),
            cpus: 8,
            cpu_jiffies: 1000,
            daemon,
            ..LabResult::default()
        };
        let table = table(&Measured { results: vec![run], ..Measured::default() }, &[8]);
        let row: Vec<_> =
            table.lines().last().unwrap().split_whitespace().filter(|word| *word != "|").collect();
        assert_eq!(row, ["8", "0.30", "10.0", "0.030", "5996", "928"]);
    }
}
