// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happened lately: the last loads, and how many requests came when.
//!
//! The scheduler's counters are sampled while they change; a storm is cut out of the samples when somebody asks for it. Bounded
//! by [`MOST`] loads and as many samples, the oldest of which go first. The loads are also in the file [`LOADS`] beside the socket,
//! a line for each: who asks what was loaded need not ask a daemon, and the next daemon goes on with it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::state_file::{read, replace};
use crate::control::LOADS;
use crate::control::json::millis;
use crate::once::{Stats, Time};

const MOST: usize = 1024;
/// Between two samples.
const PERIOD: Duration = Duration::from_millis(100);
/// Requests with a pause of this length between them are of two runs.
const GAP: Duration = Duration::from_secs(5);
/// A run of so many requests is a storm.
pub const STORM: u64 = 64;
/// So many bins at the most are shown.
const BINS: u128 = 256;

/// The last loads and samples.
#[derive(Debug)]
pub struct History {
    /// Each as in the file: the type `AddOnce` of the interface.
    loads: VecDeque<String>,
    samples: VecDeque<Sample>,
    /// The requests and duplicates that are in the samples.
    counted: (u64, u64),
    path: PathBuf,
    /// The file, and how many lines it has; none until something is to be written, and after an error.
    file: Option<(File, usize)>,
    /// Writing failed, and that was said.
    fails: bool,
}

/// The requests of a [`PERIOD`], and those of them that changed nothing.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    requests: u64,
    duplicates: u64,
}

impl History {
    /// That of the last daemon at this socket goes on.
    pub fn beside(socket: &Path) -> Self {
        let path = socket.with_file_name(LOADS);
        let text = read(&path).ok().flatten().unwrap_or_default();
        let mut loads = VecDeque::new();
        // The last line may be half a line.
        String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| line.ends_with('}'))
            .for_each(|line| push(&mut loads, line.into()));
        let (samples, counted, file, fails) = Default::default();
        Self { loads, samples, counted, path, file, fails }
    }

    /// A load has ended.
    pub fn add(&mut self, ended: &Value) {
        push(&mut self.loads, ended.to_string());
        let written = self.write();
        let failed_before = std::mem::replace(&mut self.fails, written.is_err());
        if let Err(error) = written {
            self.file = None;
            let level = if failed_before { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "{}: it cannot be written: {error}", self.path.display());
        }
    }

    /// Writes the newest load; all of them, where the file is another one's or has become long.
    fn write(&mut self) -> io::Result<()> {
        match (&mut self.file, self.loads.back()) {
            (Some((file, lines)), Some(line)) if *lines < 2 * MOST => {
                *lines += 1;
                file.write_all(format!("{line}\n").as_bytes())
            }
            _ => {
                let text: String = self.loads.iter().map(|line| format!("{line}\n")).collect();
                let file =
                    replace(&self.path, 0o644, |mut file| file.write_all(text.as_bytes()).map(|()| file))?;
                self.file = Some((file, self.loads.len()));
                Ok(())
            }
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
        // What an administrator types is no storm.
        let loads = self.loads.iter().filter_map(|load| serde_json::from_str::<Value>(load).ok());
        let loads: Vec<_> = loads
            .filter(|load| !load["devpath"].is_null())
            .map(|load| (times(&load), load))
            .filter(|([asked, ..], _)| (began..until).contains(asked))
            .collect();
        let end = loads.iter().map(|([.., ended], _)| *ended).fold(last, Time::max);
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
            "bars": loads.iter().map(|(times, load)| bar(load, times.map(|at| millis(at.saturating_sub(began))))).collect::<Vec<_>>(),
        }))
    }
}

/// When it was asked for, began and ended.
fn times(load: &Value) -> [Time; 3] {
    let [waited, took, ended] = ["waited_us", "load_us", "ended_us"]
        .map(|key| Duration::from_micros(load[key].as_u64().unwrap_or_default()));
    let began = ended.saturating_sub(took);
    [began.saturating_sub(waited), began, ended]
}

/// A load as a bar of the timeline.
fn bar(load: &Value, [asked, start, end]: [u64; 3]) -> Value {
    json!({
        "module": load["module"],
        "state": load["outcome"],
        "error": load["error"],
        "asked_ms": asked,
        "start_ms": start,
        "end_ms": end,
        "pulled_in_by": load["pulled_in_by"],
        "asked": load["asked"],
    })
}

fn push<T>(queue: &mut VecDeque<T>, value: T) {
    if queue.len() >= MOST {
        queue.pop_front();
    }
    queue.push_back(value);
}
