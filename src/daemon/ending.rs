// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Ending: when the loop is over
//!
//! Owns the two ways in which a loop ends: it was told to and what runs has landed, or, where it runs only as long as there
//! is something to do, there has been nothing for long enough. Bounded by the patience with loads that do not land.

use std::time::Duration;

use super::loads::Loads;
use super::settings::Until;
use crate::once::Time;

/// When the loop ends.
#[derive(Debug)]
pub struct Ending {
    until: Until,
    /// Patience with loads that run.
    landing_time: Duration,
    /// We were told to stop: no new work after this time, which is also when that patience began.
    stopping: Option<Time>,
    quiet_since: Option<Time>,
}

impl Ending {
    /// Not yet.
    pub fn new(until: Until, landing_time: Duration) -> Self {
        Self { until, landing_time, stopping: None, quiet_since: None }
    }

    /// We were told to stop.
    pub fn stop(&mut self, now: Time) {
        self.stopping.get_or_insert(now);
    }

    /// Whether we were told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// A turn of the loop left nothing to do, or something.
    pub fn settled(&mut self, settled: bool, now: Time) {
        self.quiet_since = if settled { self.quiet_since.or(Some(now)) } else { None };
    }

    /// Whether the loop is over. Who has not landed by then is named.
    pub fn is_over(&self, loads: &Loads, now: Time) -> bool {
        if let Some(since) = self.stopping {
            let late = now.saturating_sub(since) >= self.landing_time;
            if late {
                let running = loads.running();
                running.for_each(|name| log::warn!("{name} has not landed: not waiting any longer"));
            }
            return late || loads.running().len() == 0;
        }
        match (self.until, self.quiet_since) {
            (Until::Quiet(quiet), Some(since)) => now.saturating_sub(since) >= quiet,
            _ => false,
        }
    }

    /// When it may be over next, but for a landing.
    pub fn deadline(&self) -> Option<Time> {
        match (self.stopping, self.until, self.quiet_since) {
            (Some(since), ..) => Some(since + self.landing_time),
            (None, Until::Quiet(quiet), Some(since)) => Some(since + quiet),
            _ => None,
        }
    }
}
