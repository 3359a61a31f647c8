// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happened lately: the last loads, and how many requests came when.
//!
//! The scheduler's counters are sampled while they change; a storm is cut out of the samples when somebody asks for it. Bounded
//! by [`MOST`] loads and as many samples, the oldest of which go first.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::json::{self as values, millis};
use crate::once::{AddOnce, Stats, Time};

const MOST: usize = 1024;
/// Between two samples.
const PERIOD: Duration = Duration::from_millis(100);
/// Requests with a pause of this length between them are of two runs.
const GAP: Duration = Duration::from_secs(5);
/// A run of so many requests is a storm.
const STORM: u64 = 64;
/// So many bins at the most are shown.
const BINS: u128 = 256;

/// The last loads and samples.
#[derive(Debug, Default)]
pub struct History {
    loads: VecDeque<(Time, AddOnce)>,
    samples: VecDeque<Sample>,
    /// The requests and duplicates that are in the samples.
    counted: (u64, u64),
}

/// The requests of a [`PERIOD`], and those of them that changed nothing.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    requests: u64,
    duplicates: u64,
}

impl History {
    /// A load has ended.
    pub fn add(&mut self, record: &AddOnce, now: Time) {
        push(&mut self.loads, (now, record.clone()));
    }

    /// Time has passed.
    pub fn sample(&mut self, stats: &Stats, now: Time) {
        let (requests, duplicates) =
            (stats.requests - self.counted.0, stats.duplicate_requests - self.counted.1);
        if requests == 0 {
            return;
        }
        self.counted = (stats.requests, stats.duplicate_requests);
        match self.samples.back_mut().filter(|last| now < last.at + PERIOD) {
            Some(last) => {
                last.requests += requests;
                last.duplicates += duplicates;
            }
            None => push(&mut self.samples, Sample { at: now, requests, duplicates }),
        }
    }

    /// The last storm; as long as there was none, the last run of requests. The type `Timeline` of the interface.
    pub fn storm(&self, now: Time) -> Option<Value> {
        let mut runs: Vec<Vec<Sample>> = Vec::new();
        for &sample in &self.samples {
            match runs.last_mut().filter(|last| sample.at < last[last.len() - 1].at + GAP) {
                Some(last) => last.push(sample),
                None => runs.push(vec![sample]),
            }
        }
        let requests = |run: &Vec<Sample>| run.iter().map(|sample| sample.requests).sum::<u64>();
        let storm = runs.iter().rposition(|run| requests(run) >= STORM);
        let index = storm.or(runs.len().checked_sub(1))?;
        let (began, last) = (runs[index][0].at, runs[index][runs[index].len() - 1].at);
        let until = runs.get(index + 1).map_or(Time::MAX, |next| next[0].at);
        let loads: Vec<_> =
            self.loads.iter().filter(|(at, load)| (began..until).contains(&asked(*at, load))).collect();
        let end = loads.iter().map(|(at, _)| *at).fold(last, Time::max);
        let width = (end - began).as_millis().div_ceil(BINS).max(PERIOD.as_millis());
        let mut bins = vec![(0, 0); ((last - began).as_millis() / width) as usize + 1];
        for Sample { at, requests, duplicates } in &runs[index] {
            let bin = &mut bins[((*at - began).as_millis() / width) as usize];
            *bin = (bin.0 + requests, bin.1 + duplicates);
        }
        Some(json!({
            "began_ms_ago": millis(now.saturating_sub(began)),
            "lasted_ms": millis(end - began),
            "over": now.saturating_sub(last) >= GAP,
            "bin_ms": u64::try_from(width).unwrap_or(u64::MAX),
            "requests": bins.iter().map(|bin| bin.0).collect::<Vec<u64>>(),
            "duplicates": bins.iter().map(|bin| bin.1).collect::<Vec<u64>>(),
            "bars": loads.iter().map(|(at, load)| values::bar(load, *at, began)).collect::<Vec<_>>(),
        }))
    }
}

/// When a load was asked for.
fn asked(ended: Time, load: &AddOnce) -> Time {
    ended.saturating_sub(load.load).saturating_sub(load.waited)
}

fn push<T>(queue: &mut VecDeque<T>, value: T) {
    if queue.len() >= MOST {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::once::Outcome;

    const MS: Duration = Duration::from_millis(1);

    struct Told {
        history: History,
        stats: Stats,
        now: Time,
    }

    impl Told {
        fn new() -> Self {
            Self { history: History::default(), stats: Stats::default(), now: 1000 * MS }
        }

        fn requests(&mut self, requests: u64, duplicates: u64) -> &mut Self {
            self.stats.requests += requests;
            self.stats.duplicate_requests += duplicates;
            self.history.sample(&self.stats, self.now);
            self
        }

        fn pass(&mut self, ms: u32) -> &mut Self {
            self.now += ms * MS;
            self
        }

        fn load(&mut self, module: &str, waited: u32, took: u32) -> &mut Self {
            let record = AddOnce {
                module: module.into(),
                outcome: Outcome::Live,
                alias: Box::default(),
                devpath: None,
                seqnums: (0, 0),
                asked: 1,
                waited: waited * MS,
                load: took * MS,
                pulled_in_by: None,
            };
            self.history.add(&record, self.now);
            self
        }

        fn storm(&self) -> Value {
            self.history.storm(self.now).expect("a storm")
        }
    }

    #[test]
    fn before_the_first_request_there_is_nothing_to_tell() {
        let mut told = Told::new();
        told.requests(0, 0).load("a", 1, 1);
        assert!(told.history.storm(told.now).is_none());
    }

    #[test]
    fn requests_are_counted_by_the_tenth_of_a_second_they_came_in() {
        let mut told = Told::new();
        told.requests(40, 10).pass(50).requests(20, 20).pass(60).requests(8, 7).pass(40).load("a", 100, 50);
        let storm = told.storm();
        assert_eq!((&storm["requests"], &storm["duplicates"]), (&json!([60, 8]), &json!([30, 7])));
        assert_eq!((&storm["bin_ms"], &storm["began_ms_ago"]), (&json!(100), &json!(150)));
        assert_eq!((&storm["lasted_ms"], &storm["over"]), (&json!(150), &json!(false)));
        assert_eq!(storm["bars"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn the_last_storm_is_told_and_not_what_was_plugged_in_since() {
        let mut told = Told::new();
        told.requests(100, 90).load("stormy", 0, 0).pass(5000).requests(3, 0).load("plugged", 0, 0);
        let storm = told.storm();
        assert_eq!((&storm["requests"], &storm["over"]), (&json!([100]), &json!(true)));
        assert_eq!(storm["bars"].as_array().map(Vec::len), Some(1));
        assert_eq!(storm["bars"][0]["module"], "stormy");
        told.requests(61, 0);
        assert_eq!(told.storm()["requests"], json!([64]), "which has become one");
    }

    #[test]
    fn a_load_that_outlives_its_storm_belongs_to_it() {
        let mut told = Told::new();
        told.requests(64, 0).pass(9000).requests(64, 0).load("slow", 0, 9000).load("quick", 0, 0);
        let modules = |storm: Value| storm["bars"].as_array().map(Vec::len);
        assert_eq!(modules(told.storm()), Some(1));
        assert_eq!(told.storm()["bars"][0]["module"], "quick");
    }

    #[test]
    fn what_is_kept_and_what_is_told_is_bounded() {
        let mut told = Told::new();
        for _ in 0..3 * MOST {
            told.requests(1, 0).load("a", 0, 0).pass(1000);
        }
        assert_eq!((told.history.loads.len(), told.history.samples.len()), (MOST, MOST));
        let storm = told.storm();
        let bins: Vec<u64> = serde_json::from_value(storm["requests"].clone()).expect("numbers");
        assert!(bins.len() as u128 <= BINS + 1, "{}", bins.len());
        assert_eq!(bins.iter().sum::<u64>(), MOST as u64);
    }
}
