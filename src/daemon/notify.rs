// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service manager is told: sd_notify(3), with a line of status and the watchdog's sign of life.
//!
//! The sign of life comes from the loop itself, so that a loop that hangs is noticed.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::once::Time;

/// The service manager, if one has started us.
#[derive(Debug)]
pub struct Notifier {
    /// Between two signs of life: half of what WATCHDOG_USEC allows.
    beat: Option<Duration>,
    next_beat: Time,
}

impl Notifier {
    /// One that wants a sign of life within this time.
    pub fn new(watchdog: Option<Duration>) -> Self {
        let beat = watchdog.map(|watchdog| watchdog / 2).filter(|beat| !beat.is_zero());
        Self { beat, next_beat: Time::ZERO }
    }

    /// Gives a sign of life, if that is due.
    pub fn beat(&mut self, now: Time) {
        if let Some(beat) = self.beat.filter(|_| self.next_beat <= now) {
            self.next_beat = now + beat;
            self.say(&[NotifyState::Watchdog]);
        }
    }

    /// When the next sign of life is due.
    pub fn deadline(&self) -> Option<Time> {
        self.beat.map(|_| self.next_beat)
    }

    /// Tells it. That it is gone changes nothing for us.
    pub fn say(&self, what: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(what) {
            log::debug!("the service manager cannot be told of us: {error}");
        }
    }
}
