// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Bins: how many came when
//!
//! Owns two counts over time, requests and duplicates, in equal bins from a beginning on. The last bin is the open one:
//! what is counted goes there, and time only ever opens a later one. There are never more than [`Bins::MOST`]: where one
//! more is needed neighbours are joined and the width doubles, so that an hour costs as much memory as a second.

use std::time::Duration;

/// Counts over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bins {
    width: Duration,
    requests: Vec<u32>,
    duplicates: Vec<u32>,
}

impl Bins {
    /// The width of a bin at first.
    pub const WIDTH: Duration = Duration::from_millis(10);
    /// More bins than this are joined.
    pub const MOST: usize = 256;

    /// One empty bin: the first, and open.
    pub fn new() -> Self {
        Self { width: Self::WIDTH, requests: vec![0], duplicates: vec![0] }
    }

    /// Counts in the open bin.
    pub fn count(&mut self, requests: u64, duplicates: u64) {
        let add = |counts: &mut [u32], more: u64| {
            if let Some(open) = counts.last_mut() {
                *open = open.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
            }
        };
        add(&mut self.requests, requests);
        add(&mut self.duplicates, duplicates);
    }

    /// Opens the bin at so much time after the beginning, which is never before the one that is open. Returns when that
    /// bin ends.
    pub fn open(&mut self, at: Duration) -> Duration {
        while self.number(at) >= Self::MOST as u128 {
            self.join();
        }
        let bins = self.number(at) as usize + 1;
        self.requests.resize(bins.max(self.requests.len()), 0);
        self.duplicates.resize(self.requests.len(), 0);
        self.width * u32::try_from(self.requests.len()).expect("no more than MOST")
    }

    /// The width of each bin, whole milliseconds.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// Requests per bin.
    pub fn requests(&self) -> &[u32] {
        &self.requests
    }

    /// Duplicates per bin, counted per module: there may be more of them than requests.
    pub fn duplicates(&self) -> &[u32] {
        &self.duplicates
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.requests.iter().copied().map(u64::from).sum()
    }

    fn number(&self, at: Duration) -> u128 {
        at.as_nanos() / self.width.as_nanos()
    }

    fn join(&mut self) {
        for counts in [&mut self.requests, &mut self.duplicates] {
            *counts = counts
                .chunks(2)
                .map(|pair| pair.iter().fold(0, |sum: u32, n| sum.saturating_add(*n)))
                .collect();
        }
        self.width *= 2;
    }
}

impl Default for Bins {
    fn default() -> Self {
        Self::new()
    }
}
