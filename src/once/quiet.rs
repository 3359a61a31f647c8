// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Quiet: what a duplicate comes to, known beforehand
//!
//! Owns the short way of most duplicates of a storm. Once one device's request has gone the long way (`meeting.rs`,
//! `takeoff.rs`, `ruling.rs`) and found all modules of its modalias live, failed with nothing new to try, or promised an
//! attempt, the next device's comes to the same, as long as nothing has changed: a [`Quiet`] says what is to be counted
//! where. It decides nothing of its own: whatever it cannot answer for certain goes the long way.
//!
//! It holds while the table and the failure memory count no change, until a cause has to be compared again or a promised
//! attempt is due; and for a device that does not ask again. Bounded by the modules of one modalias, one for each
//! resolution in the memo.

use std::rc::Rc;

use super::asked::{Asked, Pending};
use super::coalescer::Coalescer;
use super::failures::{Failure, Failures, Key};
use super::memo::{Resolved, Wanted};
use super::outcome::Stage;
use super::policy::Mode;
use super::request::{Asker, Kind, Time};
use super::sighting::Group;
use super::table::{State, Table};
use super::world::Verdict;

/// What a duplicate of one modalias comes to.
#[derive(Debug)]
pub struct Quiet {
    /// What [`Table::changes`] and [`Failures::changes`] were.
    changes: (u64, u64),
    /// The end of it.
    until: Time,
    /// A device that has asked since this request asks again.
    since: u64,
    /// The modules that are asked for, and those that failed them: all that a sighting is for.
    group: Rc<Group>,
    /// The failures that are counted against, by place.
    counts: Vec<(usize, Count)>,
    /// How many modules are live, failed, or promised an attempt.
    live: u64,
    failed: u64,
    deferred: u64,
    /// Bytes of the failed modules' files, which are not read again.
    spared: u64,
}

/// What is counted of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// Who asks, against it.
    Asked,
    /// Who asks for the attempt that was promised.
    Promised,
    /// Nothing: the promise is that of the dependency that failed it.
    Used,
}

impl Coalescer {
    /// Counts a request for modules that are all known to be live, or failed with nothing new to try. False where that is
    /// not certain: nothing was counted.
    pub(super) fn passes_quietly(&mut self, resolved: &Resolved, asker: Asker, now: Time) -> bool {
        if !matches!(asker.kind, Kind::Replay(_)) || self.disabled {
            return false;
        }
        let mut quiet = resolved.quiet.borrow_mut();
        let changes = (self.table.changes(), self.failures.changes());
        if quiet.as_ref().is_none_or(|quiet| quiet.changes != changes || now >= quiet.until) {
            *quiet = Quiet::of(&resolved.wanted, &self.table, &self.failures, now, quiet.take());
        }
        let Some(quiet) = &*quiet else { return false };
        let Some(asker) = self.sightings.see_together(asker, &quiet.group, now) else { return false };
        if Asked::since(quiet.since).includes(asker) {
            return false;
        }
        for &(place, count) in &quiet.counts {
            let failure = self.failures.take_up(place);
            match (count, &mut failure.pending) {
                (Count::Asked, _) => failure.asked.add(asker),
                (Count::Promised, Some(pending)) => pending.asked.add(asker),
                (Count::Promised, None) | (Count::Used, _) => {}
            }
        }
        self.tally.duplicates_live += quiet.live;
        self.tally.duplicates_failed += quiet.failed;
        self.tally.deferred += quiet.deferred;
        self.tally.spared_bytes += quiet.spared;
        true
    }
}

impl Quiet {
    /// What the next request for these modules comes to, if it is a duplicate for all of them.
    #[cold]
    fn of(
        wanted: &[Wanted],
        table: &Table,
        failures: &Failures,
        now: Time,
        before: Option<Self>,
    ) -> Option<Self> {
        let mut finding =
            Finding { table, failures, now, until: Time::MAX, since: u64::MAX, counts: Vec::new() };
        let (mut modules, mut live, mut failed, mut deferred, mut spared) = (Vec::new(), 0, 0, 0, 0);
        for wanted in wanted {
            if wanted.verdict == Verdict::Builtin {
                continue;
            }
            if table.state(wanted.module) == State::Live {
                live += 1;
                continue;
            }
            let policy = &wanted.policy;
            if wanted.verdict == Verdict::Blacklisted || policy.mode == Mode::Never {
                continue;
            }
            if policy.mode == Mode::Always || policy.unless.is_some() {
                return None;
            }
            let (root, count) = finding.meet(&wanted.key())?;
            modules.extend([wanted.module, root.module]);
            match count {
                Count::Promised => deferred += 1,
                Count::Asked | Count::Used => {
                    failed += 1;
                    spared += table.bytes(wanted.module);
                }
            }
        }
        let Finding { until, since, counts, .. } = finding;
        let changes = (table.changes(), failures.changes());
        let group = Group::new(modules);
        let same = before.map(|before| before.group).filter(|before| **before == group);
        let group = same.unwrap_or_else(|| Rc::new(group));
        Some(Self { changes, until, since, group, counts, live, failed, deferred, spared })
    }
}

/// A [`Quiet`] in the making.
struct Finding<'a> {
    table: &'a Table,
    failures: &'a Failures,
    now: Time,
    until: Time,
    since: u64,
    counts: Vec<(usize, Count)>,
}

impl<'a> Finding<'a> {
    /// What becomes of a request for one module that is not live, and by which failure that is ruled.
    fn meet(&mut self, key: &Key) -> Option<(Key, Count)> {
        let (place, failure) = self.believed(key)?;
        let Stage::Dependency(root) = &failure.refusal.stage else {
            let count = self.judge(place, failure)?;
            return Some((key.clone(), count));
        };
        let root = Key::plain(self.table.find(root)?);
        let (place_of_root, failure_of_root) = self.believed(&root)?;
        if root == *key || matches!(failure_of_root.refusal.stage, Stage::Dependency(_)) {
            return None;
        }
        let count = self.judge(place_of_root, failure_of_root)?;
        let attached = |pending: &Pending| pending.dependents.contains(key);
        if count == Count::Promised && !failure_of_root.pending.as_ref().is_some_and(attached) {
            return None;
        }
        // In the order in which the long way uses the two: what is used last is forgotten last.
        match count {
            Count::Asked => self.counts.push((place, count)),
            Count::Promised | Count::Used => self.counts.insert(self.counts.len() - 1, (place, Count::Used)),
        }
        Some((root, count))
    }

    /// A failure that there is no news of, for as long as nothing has to be compared again.
    fn believed(&mut self, key: &Key) -> Option<(usize, &'a Failure)> {
        let place = self.failures.find(key)?;
        let failure = self.failures.look(place);
        let fresh = failure.fresh_until().filter(|&until| self.now < until)?;
        if self.table.state(key.module) != State::Idle || failure.doubted {
            return None;
        }
        self.until = self.until.min(fresh);
        Some((place, failure))
    }

    /// Rules 2 to 6 for a device that does not ask again.
    fn judge(&mut self, place: usize, failure: &Failure) -> Option<Count> {
        if self.failures.conflict_is_over(failure) {
            return None;
        }
        let count = if failure.pending.is_some() {
            if failure.retry_at <= self.now {
                return None;
            }
            self.until = self.until.min(failure.retry_at);
            Count::Promised
        } else {
            self.since = self.since.min(failure.asked.since);
            Count::Asked
        };
        self.counts.push((place, count));
        Some(count)
    }
}
