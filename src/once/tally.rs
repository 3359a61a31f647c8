// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Tally: what was asked and what it came to
//!
//! Owns the counters of the core. They only ever grow; a reader takes differences.

use super::outcome::Stage;

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
    /// Of these, where.
    pub failed_at: FailedAt,
    /// Bytes of module files, as they are on disk, that duplicates would have had read once more, had each been an
    /// attempt of its own: for a module in flight or failed the size of its file; where a dependency failed, of the
    /// dependency's, since the load ends there. Nothing for a live module: modprobe looks at initstate first. The kernel
    /// counts what others have it read in vain as invalid_*_bytes, in memory, in /sys/kernel/debug/modules/stats.
    pub spared_bytes: u64,
}

/// Flights that landed failed, by the stage at which they did: all of [`Tally::failed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailedAt {
    /// No file and no install command is known.
    pub plan: u64,
    /// A dependency failed; the dependency counts for itself.
    pub dependency: u64,
    /// The file could not be opened, read or decompressed.
    pub read: u64,
    /// The kernel refused the module.
    pub insert: u64,
    /// The install command failed.
    pub install: u64,
    /// `kernel.modules_disabled` was found to be 1.
    pub disabled: u64,
}

impl Tally {
    /// All duplicates.
    pub fn duplicates(&self) -> u64 {
        self.duplicates_live + self.duplicates_in_flight + self.duplicates_failed
    }
}

impl FailedAt {
    /// One more.
    pub fn count(&mut self, stage: &Stage) {
        *match stage {
            Stage::Plan => &mut self.plan,
            Stage::Dependency(_) => &mut self.dependency,
            Stage::Read => &mut self.read,
            Stage::Insert => &mut self.insert,
            Stage::Install(_) => &mut self.install,
            Stage::Disabled => &mut self.disabled,
        } += 1;
    }
}
