// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which `add` events are still on their way through udevd.
//!
//! What the kernel announced with a MODALIAS and udevd has not broadcast is *outstanding*, by SEQNUM. udevd broadcasts almost every
//! event that it took in; [`Outstanding::tick`] says when one is assumed to be lost. Pure: no descriptor, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::once::Time;

/// More are not counted: udevd is still asked for them, but a hold does not wait for them. Eight megabytes.
pub const MOST: usize = 65_536;
/// Programs that asked and whose events were not broadcast yet: udevd runs fewer workers than this.
pub const MOST_ASKED: usize = 8192;
/// Broadcasts that are remembered because their announcement may still come: the kernel gives an event to one socket after the
/// other, and udevd may be done with it before it is in ours.
pub const MOST_EARLY: usize = 1024;
/// So long without any sign of life from udevd, or without progress among events that are in doubt, and they are given up.
pub const GIVE_UP: Duration = Duration::from_secs(10);
/// What is presumed is given up so long after udevd had begun all of it and the last of it came: it is still in the rules, or was
/// over before our socket was open.
pub const PRESUMED: Duration = Duration::from_millis(500);
/// So long without progress although udevd has begun all of them, and their devices are asked for once more: they are in slow rules,
/// or udevd is done with them and has said nothing, because the broadcast was too large, say. Long, for slow rules run twice then.
pub const ASK_AFTER: Duration = Duration::from_secs(10);
/// So long without progress, and all are given up, though udevd lives: it kills any worker after 180 s.
pub const LONGEST_EVENT: Duration = Duration::from_secs(200);

/// The events on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outstanding {
    /// The kernel announced these, to udevd as well: the DEVPATH by SEQNUM; none where the device was asked for once more.
    certain: BTreeMap<u64, Box<[u8]>>,
    /// These were asked for behind those: udevd, which goes by the order of a device's events, is done with the second when the
    /// first comes.
    behind: BTreeMap<u64, u64>,
    /// The kernel announced these, and udevd seems to have been restarted since.
    doubtful: BTreeSet<u64>,
    /// These may have been announced, and may be over, since before our socket was open; or belong to another network namespace.
    pub presumed: BTreeSet<u64>,
    /// A program asked for these, and waits for its modules itself: they are outstanding no more.
    asked: BTreeSet<u64>,
    /// These were broadcast and are not known to have been announced.
    early: BTreeSet<u64>,
    /// Since when udevd has begun all that is presumed, if it has and no program keeps a device behind which one may wait.
    begun: Option<Time>,
    /// udevd's last sign of life; or, where that is later, when nothing was outstanding.
    pub(super) alive: Time,
    /// The last that came; or, where that is later, when nothing was outstanding.
    pub(super) progress: Time,
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

    /// Whether none is outstanding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kernel announced an `add` event with a MODALIAS, of this device; it may have been asked for [behind](Self::ask) another.
    pub fn announced(&mut self, seqnum: u64, devpath: &[u8], behind: Option<u64>, now: Time) {
        if self.early.remove(&seqnum) || self.asked.contains(&seqnum) {
            behind.map(|before| self.came(before, now));
        } else if self.len() < MOST {
            self.begin(now);
            self.presumed.remove(&seqnum);
            self.behind.extend(behind.map(|before| (seqnum, before)));
            self.certain.insert(seqnum, if behind.is_none() { devpath.into() } else { Box::default() });
        }
    }

    /// Whether this one is, as far as it is known.
    pub fn contains(&self, seqnum: u64) -> bool {
        self.certain.contains_key(&seqnum) || self.presumed.contains(&seqnum)
    }

    /// The oldest events, so many, and their DEVPATHs: the devices are to be asked for once more behind them.
    pub fn ask(&mut self, at_most: usize) -> Vec<(u64, Box<[u8]>)> {
        let stuck = self.certain.iter_mut().filter(|(_, devpath)| !devpath.is_empty()).take(at_most);
        stuck.map(|(seqnum, devpath)| (*seqnum, std::mem::take(devpath))).collect()
    }

    /// Its device is gone, so nobody can be asked once more: the event is not waited for.
    pub fn gone(&mut self, seqnum: u64) {
        self.certain.remove(&seqnum);
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

    /// The program of an event came that is younger than all that is presumed: udevd, which goes by their order, has begun that.
    pub fn begun(&mut self, now: Time) {
        self.begun.get_or_insert(now);
    }

    /// udevd broadcasts this event: it is done with it. Returns whether it is news, because no program has asked for it.
    pub fn broadcast(&mut self, seqnum: u64, now: Time) -> bool {
        if !self.came(seqnum, now) {
            self.early.insert(seqnum);
            if self.early.len() > MOST_EARLY {
                self.early.pop_first();
            }
        }
        let has_asked = self.asked.remove(&seqnum);
        if has_asked {
            // One that waited behind its device begins only now.
            self.begun = self.begun.map(|_| now);
        }
        !has_asked
    }

    /// Returns whether it was outstanding.
    fn came(&mut self, seqnum: u64, now: Time) -> bool {
        self.alive = now;
        let was_certain = self.certain.remove(&seqnum).is_some();
        let was_doubtful = self.doubtful.remove(&seqnum) || self.presumed.remove(&seqnum);
        if was_certain || was_doubtful {
            self.progress = now;
        }
        if was_doubtful {
            self.doubt_progress = now;
        }
        if let Some(before) = self.behind.remove(&seqnum) {
            self.came(before, now);
        }
        was_certain || was_doubtful
    }

    /// What is on its way now may have been lost by udevd.
    pub fn doubt(&mut self, now: Time) {
        if !self.certain.is_empty() {
            self.doubtful.extend(std::mem::take(&mut self.certain).into_keys());
            self.doubt_progress = now;
        }
    }

    /// Nothing is known any more of what is on its way: all of it is asked for again.
    pub fn forget(&mut self) {
        self.certain.clear();
        self.behind.clear();
        self.doubtful.clear();
        self.presumed.clear();
    }

    /// Whether udevd has said nothing for so long that it seems to have lost its queue.
    pub(super) fn is_silent(&self, now: Time) -> bool {
        !self.is_empty() && now >= self.alive + GIVE_UP
    }

    /// Gives up what does not come.
    pub fn tick(&mut self, now: Time) -> GivenUp {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return GivenUp::Nothing;
        }
        let announced = !self.certain.is_empty() || !self.doubtful.is_empty();
        if self.is_silent(now) {
            self.forget();
            return if announced { GivenUp::Silent } else { GivenUp::Nothing };
        }
        let mut lost = false;
        if now >= self.doubt_progress + GIVE_UP {
            lost = !self.doubtful.is_empty();
            self.doubtful.clear();
            self.presumed.clear();
        }
        if self.presumed_until().is_some_and(|until| now >= until) {
            self.presumed.clear();
        }
        if now >= self.progress + LONGEST_EVENT {
            lost |= !self.certain.is_empty();
            self.certain.clear();
        }
        if lost { GivenUp::Lost } else { GivenUp::Nothing }
    }

    /// When [`Self::tick`] is to be called next.
    pub fn deadline(&self) -> Option<Time> {
        let silent = (!self.is_empty()).then_some(self.alive + GIVE_UP);
        let stuck = (!self.certain.is_empty()).then_some(self.progress + LONGEST_EVENT);
        let in_doubt = !self.doubtful.is_empty() || !self.presumed.is_empty();
        let doubt = in_doubt.then_some(self.doubt_progress + GIVE_UP);
        [silent, stuck, doubt, self.presumed_until()].into_iter().flatten().min()
    }

    /// When what is presumed is given up although udevd lives.
    fn presumed_until(&self) -> Option<Time> {
        let is_waited_for = self.asked.is_empty() && !self.presumed.is_empty();
        self.begun.filter(|_| is_waited_for).map(|begun| begun.max(self.doubt_progress) + PRESUMED)
    }
}
