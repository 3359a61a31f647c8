// SPDX-License-Identifier: MIT OR Apache-2.0
//! Things measured by turns in a guest: medians, and their ratios.
//!
//! Owns the lines `NAME HUNDREDTHS` of a scenario's log, one for each turn, each turn being twenty runs. What a turn costs
//! that does nothing (`env-...`) is taken off those that go through `env`. It promises medians over all turns, in
//! milliseconds for one run.

use std::collections::BTreeMap;

const RUNS: f64 = 20.0;

/// One program in one surrounding.
pub struct Row {
    pub place: String,
    pub what: String,
    pub ms: f64,
    /// To `modprobe` in the same surroundings.
    pub ratio: f64,
}

pub fn rows(log: &[String]) -> Result<Vec<Row>, String> {
    let mut turns: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for line in log {
        let Some((name, hundredths)) = line.split_once(' ') else { continue };
        let (Some((what, place)), Ok(hundredths)) = (name.rsplit_once('-'), hundredths.parse::<f64>()) else {
            continue;
        };
        turns.entry((place, what)).or_default().push(hundredths * 10.0 / RUNS);
    }
    let mut rows = Vec::new();
    let median = |place, what| turns.get(&(place, what)).map(|times| middle(times));
    for (place, what) in turns.keys() {
        let (Some(own), Some(modprobe)) = (median(place, what), median(place, "modprobe")) else {
            return Err(format!("no turns of modprobe in '{place}'"));
        };
        let env = if *what == "addonce-load" { median(place, "env").unwrap_or_default() } else { 0.0 };
        let (place, what) = (place.to_string(), what.to_string());
        rows.push(Row { place, what, ms: own - env, ratio: (own - env) / modprobe });
    }
    if rows.is_empty() { Err("the log holds no turns".into()) } else { Ok(rows) }
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
    fn the_ratio_is_of_medians_and_env_is_taken_off() {
        let log =
            ["modprobe-daemon 200", "modprobe-daemon 210", "modprobe-daemon 900", "env-daemon 20", "noise"];
        let more = ["addonce-load-daemon 80", "addonce-load-daemon 83", "addonce-load-daemon 84"];
        let log: Vec<String> = log.iter().chain(&more).map(ToString::to_string).collect();
        let rows = rows(&log).unwrap();
        let load = rows.iter().find(|row| row.what == "addonce-load").unwrap();
        assert_eq!((load.ms, load.ratio), (31.5, 0.3));
        assert!(super::rows(&[]).is_err());
    }
}
