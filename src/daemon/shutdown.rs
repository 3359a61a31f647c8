// SPDX-License-Identifier: MIT OR Apache-2.0
//! When the loop ends: it was told to and the loads that ran have ended, or there has been nothing to do for long enough.

use std::path::Path;
use std::time::Duration;

use super::loads::Loads;
use crate::once::Time;

/// There while udevd has anything to do, and after one that was killed.
pub(super) const UDEV_QUEUE: &str = "/run/udev/queue";
/// udevd kills whatever it runs after this time: a file that is there for longer is a dead udevd's.
const UDEV_TIMEOUT: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub(super) struct Shutdown {
    /// It ends when nothing was left to do for so long; else only a signal ends it.
    pub linger: Option<Duration>,
    /// So long loads that run are waited for.
    timeout: Duration,
    /// We were told to stop then: no new work after this.
    pub begun: Option<Time>,
    idle_since: Option<Time>,
    /// What udevd has in work may be ours to load.
    with_udev: bool,
    /// When udevd was last found busy.
    udev_busy: Time,
}

impl Shutdown {
    pub fn new(linger: Option<Duration>, timeout: Duration, with_udev: bool) -> Self {
        Self { linger, timeout, begun: None, idle_since: None, with_udev, udev_busy: Time::ZERO }
    }

    /// Whether the loop is over, after a turn that left nothing to do or did not. Loads that go on are named.
    pub fn is_over(&mut self, is_idle: bool, loads: &Loads, now: Time) -> bool {
        self.idle_since = if is_idle { self.idle_since.or(Some(now)) } else { None };
        let is_due = self.deadline().is_some_and(|deadline| deadline <= now);
        if self.begun.is_some() {
            if is_due {
                let late = loads.running();
                late.for_each(|name| log::warn!("{name} is still loading: not waiting any longer"));
            }
            return is_due || loads.running().len() == 0;
        }
        // What udevd has in work may have left its MODALIAS to us before we heard of it.
        let is_busy = is_due
            && self.with_udev
            && self.idle_since.is_some_and(|since| now < since + UDEV_TIMEOUT)
            && Path::new(UDEV_QUEUE).exists();
        if is_busy {
            self.udev_busy = now;
        }
        is_due && !is_busy
    }

    /// When it may be over next, but for the end of a load.
    pub fn deadline(&self) -> Option<Time> {
        match self.begun {
            Some(begun) => Some(begun + self.timeout),
            None => Some(self.idle_since?.max(self.udev_busy) + self.linger?),
        }
    }
}
