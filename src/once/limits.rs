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
    /// Loads at a time, old ones included: so many processes at the most.
    pub processes: usize,
}

impl Limits {
    /// A load that has run for so long does not count as a job, and the next module of the same modalias does not wait for it:
    /// by then it has registered its driver, or hangs.
    pub const OLD: Duration = Duration::from_secs(5);
    /// Nobody waits for the order's sake for a load that was asked for so long ago and has not begun, and such a load does not
    /// hold udev's queue: by then udevd would have killed a worker that loads.
    pub const HOLD: Duration = Duration::from_secs(180);
    /// How often a module that somebody else loads is looked at: the first pause, which doubles, and the longest. After
    /// [`Limits::HOLD`] it is asked of the kernel after all, which waits for the other load itself.
    pub const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
    /// Tries of one load, when the kernel's answer may be another one a moment later.
    pub const TRIES: u32 = 3;
    /// The pause before the second try; doubled before the third.
    pub const PAUSE: Duration = Duration::from_millis(50);
    /// The least wait after a shortage, which is tried again without anybody asking, whatever hwdb says of the backoff.
    pub const SHORTAGE: Duration = Duration::from_secs(1);
    /// So long after a failure the kernel's own requests are answered from memory: at first, doubled with each attempt that they
    /// made, up to. Short, for what one user's request provokes is another's answer.
    pub const WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
    /// Devices remembered of each failure. When one asks again it is enough to know some: `udevadm trigger` has all ask.
    pub const DEVICES: usize = 1024;
    /// Names remembered of modules that were unloaded: more than anybody unloads by hand.
    pub const UNLOADED: usize = 1024;
}

impl Default for Limits {
    fn default() -> Self {
        let aliases = NonZeroUsize::new(1024).expect("not zero");
        // On one CPU, too: loads sleep, for other modules and for hardware, and udevd has as many workers.
        Self { aliases, jobs: 16, processes: 64 }
    }
}
