// SPDX-License-Identifier: MIT OR Apache-2.0
//! Things measured by turns in a guest: medians, and their ratios.
//!
//! Owns the lines `NAME HUNDREDTHS` of a scenario's log, one for each turn, each turn being twenty runs. It promises medians over all
//! turns, in milliseconds for one run.

use std::collections::BTreeMap;

const RUNS: f64 = 20.0;

/// One program.
pub struct Row {
    pub what: String,
    pub ms: f64,
    /// To `modprobe`.
    pub ratio: f64,
}

pub fn rows(log: &[String]) -> Result<Vec<Row>, String> {
    let mut turns: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for line in log {
        let Some((what, hundredths)) = line.split_once(' ') else { continue };
        let Ok(hundredths) = hundredths.parse::<f64>() else { continue };
        turns.entry(what).or_default().push(hundredths * 10.0 / RUNS);
    }
    let medians: BTreeMap<&str, f64> = turns.iter().map(|(&what, times)| (what, middle(times))).collect();
    let modprobe = medians.get("modprobe").ok_or("the log holds no turns of modprobe")?;
    Ok(medians.iter().map(|(&what, &ms)| Row { what: what.into(), ms, ratio: ms / modprobe }).collect())
}

fn middle(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_medians() {
        let log = ["modprobe 200", "modprobe 210", "modprobe 900", "noise"];
        let more = ["addonce-load 80", "addonce-load 83", "addonce-load 84"];
        let log: Vec<String> = log.iter().chain(&more).map(ToString::to_string).collect();
        let rows = rows(&log).unwrap();
        let load = rows.iter().find(|row| row.what == "addonce-load").unwrap();
        assert_eq!((load.ms, load.ratio), (41.5, 83.0 / 210.0));
        assert!(super::rows(&[]).is_err());
    }
}
