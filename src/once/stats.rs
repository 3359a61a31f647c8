// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters of what was asked and what it came to.

/// They only ever grow. Duplicates are counted per module: a request for three live modules is three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests, whatever they came to.
    pub requests: u64,
    /// Of these, an administrator's.
    pub by_hand: u64,
    /// Of all, requests for which no module is known.
    pub no_module: u64,
    /// Of all, requests of devices that changed nothing: for all their modules they were duplicates.
    pub duplicate_requests: u64,
    /// Duplicates: the module was live.
    pub duplicates_live: u64,
    /// Duplicates: the module was being loaded, and the request got its outcome.
    pub duplicates_loading: u64,
    /// Duplicates: the module had failed, and there was nothing new to try.
    pub duplicates_failed: u64,
    /// Requests for which an attempt was accepted that had to wait for the end of a backoff. One attempt may serve many.
    pub deferred: u64,
    /// Loads begun.
    pub loads: u64,
    /// Loads handed to a worker, tries of one load included.
    pub attempts: u64,
    /// Of these, at the end of a backoff.
    pub retries: u64,
    /// Loads that ended with the module live.
    pub live: u64,
    /// Loads that failed, those included that were not attempted because a dependency failed.
    pub failed: u64,
}

impl Stats {
    /// All duplicates.
    pub fn duplicates(&self) -> u64 {
        self.duplicates_live + self.duplicates_loading + self.duplicates_failed
    }
}
