// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which `add` events are still on their way through udevd.
//!
//! The kernel announces an event to udevd and to us, to one after the other; udevd broadcasts it when its rules and programs are done. What
//! was announced with a MODALIAS and not broadcast is *outstanding*, by SEQNUM. Pure: no descriptor, no clock.
//!
//! udevd broadcasts every event it took in, also those whose worker was killed. What does not come was lost with a udevd
//! that died, or by a receive buffer that was too small. [`Outstanding::tick`] says when that is assumed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::once::Time;

/// More are not counted: udevd is still asked for them, but a hold does not wait for them. Two megabytes.
pub const MOST: usize = 65_536;
/// Programs that asked and whose events were not broadcast yet: udevd runs fewer workers than this.
pub const MOST_ASKED: usize = 8192;
/// Broadcasts that are remembered because their announcement may still come: the kernel gives an event to one socket after the
/// other, and udevd may be done with it before it is in ours.
pub const MOST_EARLY: usize = 1024;
/// So long without any sign of life from udevd, or without progress among events that are in doubt, and they are given up.
pub const GIVE_UP: Duration = Duration::from_secs(10);
/// So long without any sign of life from udevd while the program of a hold waits, and what is presumed is given up. udevd had
/// begun all of it before that program, unless it waits behind a device whose program asked: it is in the rules now, or was
/// over before our socket was open.
pub const QUIET: Duration = Duration::from_millis(500);
/// So long without progress, and all are given up, though udevd lives: it kills any worker after 180 s.
pub const LONGEST_EVENT: Duration = Duration::from_secs(200);

/// The events on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outstanding {
    /// The kernel announced these, to udevd as well: by SEQNUM.
    certain: BTreeSet<u64>,
    /// The kernel announced these, and udevd seems to have been restarted since.
    doubtful: BTreeSet<u64>,
    /// These may have been announced, and may be over, since before our socket was open; or belong to another network namespace.
    presumed: BTreeSet<u64>,
    /// A program asked for these, and waits for its modules itself: they are outstanding no more.
    asked: BTreeSet<u64>,
    /// These were broadcast and are not known to have been announced.
    early: BTreeSet<u64>,
    /// udevd's last sign of life; or, where that is later, when nothing was outstanding.
    alive: Time,
    /// The last that came; or, where that is later, when nothing was outstanding.
    progress: Time,
    /// The last in doubt or presumed that came; or, where that is later, when doubt arose.
    doubt_progress: Time,
}

/// What [`Outstanding::tick`] gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Nothing that was announced.
    Nothing,
    /// Events that udevd, which lives, has lost.
    Lost,
    /// Everything: udevd gives no sign of life.
    Silent,
}

impl Outstanding {
    /// None are outstanding.
    pub fn new(now: Time) -> Self {
        Self { alive: now, progress: now, doubt_progress: now, ..Self::default() }
    }

    /// How many are outstanding.
    pub fn len(&self) -> usize {
        self.certain.len() + self.doubtful.len() + self.presumed.len()
    }

    /// How many of them are only presumed.
    pub fn presumed(&self) -> usize {
        self.presumed.len()
    }

    /// Whether none is outstanding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When one last came, or the first of the present ones was announced.
    pub fn progress(&self) -> Time {
        self.progress
    }

    /// The kernel announced an `add` event with a MODALIAS.
    pub fn announced(&mut self, seqnum: u64, now: Time) {
        if self.early.remove(&seqnum) || self.asked.contains(&seqnum) || self.len() >= MOST {
            return;
        }
        self.begin(now);
        self.presumed.remove(&seqnum);
        self.certain.insert(seqnum);
    }

    /// Our socket was opened at the SEQNUM `newest`, after the program of `requester` had found no daemon: what was announced from
    /// there on is taken to be on its way. To be called before anything is read from the socket.
    pub fn presume(&mut self, requester: u64, newest: u64, now: Time) {
        self.begin(now);
        self.doubt_progress = now;
        let first = (newest + 1).saturating_sub(MOST as u64).max(requester);
        self.presumed.extend(first..=newest);
    }

    /// Nothing could give a sign of life, or make progress, before there was anything to wait for.
    fn begin(&mut self, now: Time) {
        if self.is_empty() {
            (self.alive, self.progress) = (now, now);
        }
    }

    /// A program asks for this event, and waits.
    pub fn asked(&mut self, seqnum: u64, now: Time) {
        self.came(seqnum, now);
        self.asked.insert(seqnum);
        if self.asked.len() > MOST_ASKED {
            self.asked.pop_first();
        }
    }

    /// udevd broadcasts this event: it is done with it. Returns whether it is news, because no program has asked for it.
    pub fn broadcast(&mut self, seqnum: u64, now: Time) -> bool {
        if !self.came(seqnum, now) {
            self.early.insert(seqnum);
            if self.early.len() > MOST_EARLY {
                self.early.pop_first();
            }
        }
        !self.asked.remove(&seqnum)
    }

    /// Returns whether it was outstanding.
    fn came(&mut self, seqnum: u64, now: Time) -> bool {
        self.alive(now);
        let was_certain = self.certain.remove(&seqnum);
        let was_doubtful = self.doubtful.remove(&seqnum) || self.presumed.remove(&seqnum);
        if was_certain || was_doubtful {
            self.progress = now;
        }
        if was_doubtful {
            self.doubt_progress = now;
        }
        was_certain || was_doubtful
    }

    /// udevd gave a sign of life.
    pub fn alive(&mut self, now: Time) {
        self.alive = now;
    }

    /// What is on its way now may have been lost by udevd.
    pub fn doubt(&mut self, now: Time) {
        self.doubtful.append(&mut self.certain);
        self.doubt_progress = now;
    }

    /// Nothing is known any more of what is on its way: all of it is asked for again.
    pub fn forget(&mut self) {
        self.certain.clear();
        self.doubtful.clear();
        self.presumed.clear();
    }

    /// Gives up what does not come. `is_held`: the program of a hold waits, whose event is younger than what is presumed.
    pub fn tick(&mut self, is_held: bool, now: Time) -> GivenUp {
        if self.deadline(is_held).is_none_or(|deadline| now < deadline) {
            return GivenUp::Nothing;
        }
        let announced = !self.certain.is_empty() || !self.doubtful.is_empty();
        if now >= self.alive + GIVE_UP {
            self.forget();
            return if announced { GivenUp::Silent } else { GivenUp::Nothing };
        }
        let mut lost = false;
        if now >= self.doubt_progress + GIVE_UP {
            lost = !self.doubtful.is_empty();
            self.doubtful.clear();
            self.presumed.clear();
        }
        if self.quiet(is_held).is_some_and(|quiet| now >= quiet) {
            self.presumed.clear();
        }
        if now >= self.progress + LONGEST_EVENT {
            lost |= !self.certain.is_empty();
            self.certain.clear();
        }
        if lost { GivenUp::Lost } else { GivenUp::Nothing }
    }

    /// When [`Self::tick`] is to be called next.
    pub fn deadline(&self, is_held: bool) -> Option<Time> {
        let silent = (!self.is_empty()).then_some(self.alive + GIVE_UP);
        let stuck = (!self.certain.is_empty()).then_some(self.progress + LONGEST_EVENT);
        let in_doubt = !self.doubtful.is_empty() || !self.presumed.is_empty();
        let doubt = in_doubt.then_some(self.doubt_progress + GIVE_UP);
        [silent, stuck, doubt, self.quiet(is_held)].into_iter().flatten().min()
    }

    /// When what is presumed is given up because udevd is quiet. Behind a device whose program asked another may wait.
    fn quiet(&self, is_held: bool) -> Option<Time> {
        let is_possible = is_held && self.asked.is_empty() && !self.presumed.is_empty();
        is_possible.then_some(self.alive + QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Duration::from_secs(1);

    #[test]
    fn an_event_that_is_announced_to_us_after_udevd_was_done_with_it_is_not_outstanding() {
        let mut outstanding = Outstanding::new(NOW);
        assert!(outstanding.broadcast(7, NOW), "nobody has asked for it");
        outstanding.announced(7, NOW);
        assert!(outstanding.is_empty());
        outstanding.asked(8, NOW);
        assert!(!outstanding.broadcast(8, NOW), "its program has asked for it");
        outstanding.announced(8, NOW);
        outstanding.announced(9, NOW);
        assert_eq!(outstanding.len(), 1, "9");
    }
}
