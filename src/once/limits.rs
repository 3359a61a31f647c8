// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Limits: the core's bounds
//!
//! Every bound of the core in one place, each a flag of `addonce daemon`, with the default it has there.

use std::num::NonZeroUsize;
use std::time::Duration;

/// The core's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Modaliases whose resolution is kept.
    pub memo: NonZeroUsize,
    /// Failures that are remembered.
    pub failures: NonZeroUsize,
    /// Sightings that are remembered: a device that asked for a module that was not live is one, and so is a device that
    /// asked for several together. The default is what a hash table of 2^16 places holds: were none together, 8192 CPUs with
    /// 7 failed modules each.
    pub sightings: usize,
    /// Loads at a time, not counting those older than [`Limits::OLD`].
    pub jobs: usize,
    /// Loads at a time, old ones included: so many threads at the most.
    pub threads: usize,
    /// Landings that are kept of a storm, each a bar of its timeline; there are two storms at the most.
    pub bars: usize,
}

impl Limits {
    /// A load older than this holds nobody else back: it does not count as a job, and the next module of the same
    /// modalias need not wait for it.
    pub const OLD: Duration = Duration::from_secs(5);
    /// Attempts of one flight, when the kernel's answer may be another one a moment later.
    pub const TRIES: u32 = 3;
    /// The pause before the second of them; doubled before the third.
    pub const PAUSE: Duration = Duration::from_millis(50);
    /// How often indexes, modprobe.d and module files are compared with what was read from them.
    pub const FRESH: Duration = Duration::from_secs(1);
    /// When no more sightings can be remembered, a request after a silence of this length is new.
    pub const SILENCE: Duration = Duration::from_secs(5);
    /// Requests and landings with a pause of this length between them are two episodes.
    pub const QUIET: Duration = Duration::from_secs(5);
    /// An episode of so many requests is a storm.
    pub const STORM: u64 = 64;

    /// The default number of jobs: twice the CPUs, within 4 to 16.
    pub fn default_jobs() -> usize {
        let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        (2 * cpus).clamp(4, 16)
    }
}

impl Default for Limits {
    fn default() -> Self {
        const fn some(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).expect("not zero")
        }
        const { assert!(Limits::TRIES > 0) };
        Self {
            memo: some(1024),
            failures: some(256),
            sightings: 57_344,
            jobs: Self::default_jobs(),
            threads: 64,
            bars: 1024,
        }
    }
}
