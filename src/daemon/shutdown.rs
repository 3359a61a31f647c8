// SPDX-License-Identifier: MIT OR Apache-2.0
//! When the loop ends: it was told to and the loads that ran have ended, or there has been nothing to do for long enough.

use std::path::Path;
use std::time::Duration;

use super::loads::Loads;
use crate::once::Time;

/// When the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A signal says so.
    Stopped,
    /// Nothing has been left to do, and nobody was connected, for this long.
    Idle(Duration),
}

/// There while udevd has anything to do.
const UDEV_QUEUE: &str = "/run/udev/queue";
/// udevd kills whatever it runs after this time: a file that is there for longer is a dead udevd's.
const UDEV_TIMEOUT: Duration = Duration::from_secs(180);

/// The end of the loop.
#[derive(Debug)]
pub(super) struct Shutdown {
    until: Until,
    /// So long loads that run are waited for.
    timeout: Duration,
    /// We were told to stop then: no new work after this.
    begun: Option<Time>,
    idle_since: Option<Time>,
    /// When udevd was last found busy.
    udev_busy: Time,
}

impl Shutdown {
    /// Not yet.
    pub fn new(until: Until, timeout: Duration) -> Self {
        Self { until, timeout, begun: None, idle_since: None, udev_busy: Time::ZERO }
    }

    /// We were told to stop.
    pub fn begin(&mut self, now: Time) {
        self.begun.get_or_insert(now);
    }

    /// Whether we were told to stop.
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Whether the loop is over, after a turn that left nothing to do or did not. Loads that are not waited for any longer are
    /// named; they go on.
    pub fn is_over(&mut self, is_idle: bool, loads: &Loads, now: Time) -> bool {
        self.idle_since = if is_idle { self.idle_since.or(Some(now)) } else { None };
        if let Some(begun) = self.begun {
            let late = now >= begun + self.timeout;
            if late {
                loads
                    .running()
                    .for_each(|name| log::warn!("{name} is still loading: not waiting any longer"));
            }
            return late || loads.running().len() == 0;
        }
        let is_due = self.deadline().is_some_and(|deadline| deadline <= now);
        // What udevd has in work may have left its MODALIAS to us before we heard of it.
        if is_due
            && self.idle_since.is_some_and(|since| now < since + UDEV_TIMEOUT)
            && Path::new(UDEV_QUEUE).exists()
        {
            self.udev_busy = now;
            return false;
        }
        is_due
    }

    /// When it may be over next, but for the end of a load.
    pub fn deadline(&self) -> Option<Time> {
        match (self.begun, self.until) {
            (Some(begun), _) => Some(begun + self.timeout),
            (None, Until::Idle(time)) => Some(self.idle_since?.max(self.udev_busy) + time),
            (None, Until::Stopped) => None,
        }
    }
}
