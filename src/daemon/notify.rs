// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service manager is told: sd_notify(3), with a line of status and the watchdog's sign of life.
//!
//! The sign of life comes from the loop itself, so that a loop that hangs is noticed. Without NOTIFY_SOCKET in the environment
//! there is no [`Notifier`], and no time for the loop to wake up at.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::once::{Scheduler, Time};

/// Between two lines of status.
const PAUSE: Duration = Duration::from_secs(1);

/// The service manager.
#[derive(Debug)]
pub struct Notifier {
    /// Between two signs of life: half of what WATCHDOG_USEC allows.
    beat: Option<Duration>,
    next_beat: Time,
    said: Option<Said>,
    next_status: Time,
    warned: bool,
}

/// Modules live, modules remembered as failed, loads that run.
type Said = (u64, usize, usize);

impl Notifier {
    /// The manager that started us, if it wants to be told.
    pub fn from_environment() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        Some(Self::new(sd_notify::watchdog_enabled()))
    }

    fn new(watchdog: Option<Duration>) -> Self {
        let beat = watchdog.map(|watchdog| watchdog / 2).filter(|beat| !beat.is_zero());
        Self { beat, next_beat: Time::ZERO, said: None, next_status: Time::ZERO, warned: false }
    }

    /// We listen.
    pub fn ready(&mut self) {
        self.say(&[NotifyState::Ready]);
    }

    /// We read everything anew; [`Notifier::ready`] follows.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.say(&[NotifyState::Reloading, now]),
            Err(error) => log::warn!("CLOCK_MONOTONIC: {error}"),
        }
    }

    /// We were told to stop.
    pub fn stopping(&mut self) {
        self.say(&[NotifyState::Stopping]);
    }

    /// Says what is due; `loading` loads are running.
    pub fn tick(&mut self, core: &Scheduler, loading: usize, now: Time) {
        if let Some(beat) = self.beat.filter(|_| self.next_beat <= now) {
            self.next_beat = now + beat;
            self.say(&[NotifyState::Watchdog]);
        }
        let current @ (live, failed, loading) = said(core, loading);
        if self.said != Some(current) && self.next_status <= now {
            (self.said, self.next_status) = (Some(current), now + PAUSE);
            let status = format!("{live} modules live, {failed} failed, {loading} loading");
            self.say(&[NotifyState::Status(&status)]);
        }
    }

    /// When something is due next.
    pub fn deadline(&self, core: &Scheduler, loading: usize) -> Option<Time> {
        let status = (self.said != Some(said(core, loading))).then_some(self.next_status);
        [self.beat.map(|_| self.next_beat), status].into_iter().flatten().min()
    }

    /// A manager that is gone is one line in the log, once.
    fn say(&mut self, what: &[NotifyState<'_>]) {
        match sd_notify::notify(what) {
            Err(error) if !std::mem::replace(&mut self.warned, true) => {
                log::warn!("the service manager cannot be told of us: {error}");
            }
            _ => {}
        }
    }
}

fn said(core: &Scheduler, loading: usize) -> Said {
    (core.stats().live, core.failures().count(), loading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::once::Limits;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_status_is_due_when_it_changed_and_once_a_second_at_most() {
        let core = Scheduler::new(Limits::default());
        let mut notifier = Notifier::new(None);
        assert_eq!(notifier.deadline(&core, 0), Some(Time::ZERO));
        notifier.tick(&core, 0, SECOND);
        assert_eq!(notifier.deadline(&core, 0), None, "nothing to wake up for");
        notifier.tick(&core, 2, SECOND * 3 / 2);
        assert_eq!(notifier.deadline(&core, 2), Some(2 * SECOND), "it is not forgotten");
        notifier.tick(&core, 2, 2 * SECOND);
        assert_eq!(notifier.deadline(&core, 2), None);
    }

    #[test]
    fn a_sign_of_life_is_due_at_half_of_what_the_watchdog_allows_and_only_if_it_is_asked_for() {
        let core = Scheduler::new(Limits::default());
        let mut notifier = Notifier::new(Some(10 * SECOND));
        notifier.tick(&core, 0, SECOND);
        assert_eq!(notifier.deadline(&core, 0), Some(6 * SECOND));
        notifier.tick(&core, 0, 6 * SECOND);
        assert_eq!(notifier.deadline(&core, 0), Some(11 * SECOND));
    }
}
