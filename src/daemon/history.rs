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
pub const STORM: u64 = 64;
/// So many bins at the most are shown.
const BINS: u128 = 256;

/// The last loads and samples, of what devices asked for: what an administrator types is no storm.
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
        if record.devpath.is_some() {
            push(&mut self.loads, (now, record.clone()));
        }
    }

    /// Time has passed.
    pub fn sample(&mut self, stats: &Stats, now: Time) {
        let count = (stats.requests - stats.by_hand, stats.duplicate_requests);
        let (requests, duplicates) = (count.0 - self.counted.0, count.1 - self.counted.1);
        if requests == 0 {
            return;
        }
        self.counted = count;
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
        let samples: Vec<Sample> = self.samples.iter().copied().collect();
        let runs: Vec<_> = samples.chunk_by(|one, next| next.at < one.at + GAP).collect();
        let requests = |run: &[Sample]| run.iter().map(|sample| sample.requests).sum::<u64>();
        let storm = runs.iter().rposition(|run| requests(run) >= STORM);
        let index = storm.or(runs.len().checked_sub(1))?;
        let (began, last) = (runs[index][0].at, runs[index][runs[index].len() - 1].at);
        let until = runs.get(index + 1).map_or(Time::MAX, |next| next[0].at);
        let asked =
            |ended: &Time, load: &AddOnce| ended.saturating_sub(load.load).saturating_sub(load.waited);
        let loads: Vec<_> =
            self.loads.iter().filter(|(ended, load)| (began..until).contains(&asked(ended, load))).collect();
        let end = loads.iter().map(|(at, _)| *at).fold(last, Time::max);
        let width = (end - began).as_millis().div_ceil(BINS).max(PERIOD.as_millis());
        let mut bins = vec![(0, 0); ((last - began).as_millis() / width) as usize + 1];
        for Sample { at, requests, duplicates } in runs[index] {
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

fn push<T>(queue: &mut VecDeque<T>, value: T) {
    if queue.len() >= MOST {
        queue.pop_front();
    }
    queue.push_back(value);
}
