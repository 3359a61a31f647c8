// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler's bounds, each with its default, and the times it goes by.

use std::num::NonZeroUsize;
use std::time::Duration;

/// The bounds that are flags of `addonce daemon`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Aliases whose modules are cached.
    pub aliases: NonZeroUsize,
    /// Loads at a time, not counting those older than [`Limits::OLD`].
    pub jobs: usize,
    /// Loads at a time, old ones included: so many threads at the most.
    pub threads: usize,
}

impl Limits {
    /// A load older than this holds nobody else back: it does not count as a job, and the next module of the same modalias
    /// does not wait for it.
    pub const OLD: Duration = Duration::from_secs(5);
    /// Tries of one load, when the kernel's answer may be another one a moment later.
    pub const TRIES: u32 = 3;
    /// The pause before the second try; doubled before the third.
    pub const PAUSE: Duration = Duration::from_millis(50);
    /// How often indexes, modprobe.d and module files are compared with what was read from them.
    pub const FRESH: Duration = Duration::from_secs(1);
    /// Devices remembered of each failure. When one asks again it is enough to know some: `udevadm trigger` has all ask.
    pub const DEVICES: usize = 1024;

    /// The default number of jobs: twice the CPUs, within 4 to 16.
    pub fn default_jobs() -> usize {
        let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        (2 * cpus).clamp(4, 16)
    }
}

impl Default for Limits {
    fn default() -> Self {
        let aliases = NonZeroUsize::new(1024).expect("not zero");
        Self { aliases, jobs: Self::default_jobs(), threads: 64 }
    }
}
