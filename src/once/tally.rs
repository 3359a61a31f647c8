// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Tally: what was asked and what it came to
//!
//! Owns the counters of the core. They only ever grow; a reader takes differences.

/// The counters. Duplicates are counted per module: a request for a modalias of three live modules is three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests, whatever they came to.
    pub requests: u64,
    /// Of these, requests for which no module is known.
    pub no_module: u64,
    /// Duplicates: the module was live.
    pub duplicates_live: u64,
    /// Duplicates: the module was in flight, and the request got its outcome.
    pub duplicates_in_flight: u64,
    /// Duplicates: the module had failed, and there was nothing new to try.
    pub duplicates_failed: u64,
    /// Accepted attempts that had to wait for the backoff.
    pub deferred: u64,
    /// Loads handed to a worker, tries of one flight included.
    pub attempts: u64,
    /// Flights that landed live.
    pub live: u64,
    /// Flights that landed failed.
    pub failed: u64,
}

impl Tally {
    /// All duplicates.
    pub fn duplicates(&self) -> u64 {
        self.duplicates_live + self.duplicates_in_flight + self.duplicates_failed
    }
}
