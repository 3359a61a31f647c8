// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Failures: the memory for failed loads
//!
//! Owns what is remembered of a module that failed: what was said, what a fix could change, who asked, and the attempt
//! that was promised for the end of the backoff ([`Pending`]). What a request that meets one comes to is judged in
//! `ruling.rs`. The memory is an LRU ([`Shelf`]); an entry it evicts costs one more attempt, never a wrong answer.

use std::ffi::CString;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::asked::{Asked, Pending};
use super::limits::Limits;
use super::outcome::{Refusal, Stage};
use super::request::{Asker, Time};
use super::ruling::Ruling;
use super::shelf::Shelf;
use super::table::ModuleId;
use super::world::{Cause, Name};

/// A module as it is asked for: one name may be asked for with other options than its own, through an alias
/// that has some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The module.
    pub module: ModuleId,
    /// The options, where they are not the module's own.
    pub options: Option<Arc<CString>>,
}

impl Key {
    /// A module with its own options.
    pub fn plain(module: ModuleId) -> Self {
        Self { module, options: None }
    }
}

/// A remembered failed outcome.
#[derive(Debug)]
pub struct Failure {
    /// What the kernel said.
    pub refusal: Refusal,
    /// What a fix could have changed, as it was when the attempt was planned.
    pub cause: Cause,
    /// Events were lost since, or another process remembered it: the module may have been loaded by hand.
    pub doubted: bool,
    /// When the cause was last compared with what is there; never since another process remembered it.
    pub compared: Option<Time>,
    /// Attempts that failed in a row.
    pub attempts: u32,
    /// When the last of them failed.
    pub failed: Time,
    /// When the backoff ends.
    pub retry_at: Time,
    /// How many unloads had been seen by then.
    pub unloads: u64,
    /// Who asked and was given, or counted against, this outcome.
    pub asked: Asked,
    /// The attempt that will be made when the backoff ends.
    pub pending: Option<Pending>,
    /// What the first of the last attempt's requests asked for.
    pub alias: Box<[u8]>,
}

/// A landing to be remembered.
pub struct Landing<'a> {
    /// What the kernel said.
    pub refusal: Refusal,
    /// The plan's cause.
    pub cause: Cause,
    /// When the plan was made.
    pub planned: Time,
    /// The wait that policy sets after the given number of attempts.
    pub backoff: &'a dyn Fn(u32) -> Duration,
    /// Who asked.
    pub asked: Asked,
    /// What for.
    pub alias: Box<[u8]>,
}

/// The memory.
#[derive(Debug)]
pub struct Failures {
    failures: Shelf<Key, Failure>,
    unloads: u64,
    changes: u64,
}

impl Failures {
    /// An empty memory for so many failures.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self::after(capacity, 0)
    }

    /// The same after so many unloads.
    pub fn after(capacity: NonZeroUsize, unloads: u64) -> Self {
        Self { failures: Shelf::new(capacity), unloads, changes: 0 }
    }

    /// How many unloads there were.
    pub fn unloads(&self) -> u64 {
        self.unloads
    }

    /// A module was unloaded: conflicts may be over.
    pub fn unloaded(&mut self) {
        self.unloads += 1;
        self.changes += 1;
    }

    /// Events were lost: what failed may be live.
    pub fn doubt(&mut self) {
        self.changes += 1;
        self.failures.values_mut().for_each(|failure| failure.doubted = true);
    }

    /// The causes are to be compared with the next request, however fresh they are.
    pub fn compare_anew(&mut self) {
        self.changes += 1;
        self.failures.values_mut().for_each(|failure| failure.compared = None);
    }

    /// How often anything changed that a ruling depends on, but for the passing of time. While this stays the same, so do
    /// the places.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Where a failure is remembered.
    pub fn find(&self, key: &Key) -> Option<usize> {
        self.failures.find(key)
    }

    /// The failure at a place.
    pub fn look(&self, place: usize) -> &Failure {
        self.failures.look(place)
    }

    /// The failure at a place; asking for it keeps it from being evicted soon.
    pub fn take_up(&mut self, place: usize) -> &mut Failure {
        self.failures.take_up(place)
    }

    /// A remembered failure; asking for it keeps it from being evicted soon.
    pub fn get(&mut self, key: &Key) -> Option<&mut Failure> {
        self.failures.get_mut(key)
    }

    /// Rules 2 to 6, for a request that meets a failure.
    pub fn judge(&mut self, key: &Key, asker: Asker, now: Time) -> Option<Ruling> {
        let failure = self.failures.get_mut(key)?;
        let promised = failure.pending.is_some();
        let ruling = failure.judge(asker, self.unloads, now);
        self.changes += u64::from(failure.pending.is_some() != promised);
        Some(ruling)
    }

    /// Whether rule 3 holds for a failure.
    pub fn conflict_is_over(&self, failure: &Failure) -> bool {
        failure.conflict_is_over(self.unloads)
    }

    /// Remembers that a dependent, too, is to be attempted when this failure's backoff ends.
    pub fn attach(&mut self, key: &Key, dependent: Key) {
        let pending = self.failures.get_mut(key).and_then(|failure| failure.pending.as_mut());
        if let Some(pending) = pending.filter(|pending| !pending.dependents.contains(&dependent)) {
            pending.dependents.push(dependent);
            self.changes += 1;
        }
    }

    /// Takes what was promised out of a failure that is about to be attempted. Devices that asked before this attempt ask
    /// again afterwards, unless a device is behind the attempt: then the storm it belongs to begins with it.
    pub fn take_pending(&mut self, key: &Key, asker: Asker) -> Pending {
        let Some(failure) = self.failures.get_mut(key) else { return Pending::since(asker.request) };
        self.changes += 1;
        let since = if asker.device().is_some() { asker.request } else { failure.asked.since };
        failure.pending.take().unwrap_or(Pending::since(since))
    }

    /// The first request that any failure counts.
    pub fn counted_from(&self) -> Option<u64> {
        let of = |failure: &Failure| {
            let pending = failure.pending.as_ref().map_or(u64::MAX, |pending| pending.asked.since);
            failure.asked.since.min(pending)
        };
        self.failures.iter().map(|(_, failure)| of(failure)).min()
    }

    /// The accepted attempts whose backoff has ended.
    pub fn due(&self, now: Time) -> Vec<Key> {
        if self.next_due(|_| true).is_none_or(|next| next > now) {
            return Vec::new();
        }
        let due = |failure: &Failure| failure.pending.is_some() && failure.retry_at <= now;
        self.failures.by_use().filter(|(_, failure)| due(failure)).map(|(key, _)| key.clone()).collect()
    }

    /// When the next accepted attempt is due.
    pub fn next_due(&self, idle: impl Fn(&Key) -> bool) -> Option<Time> {
        self.failures
            .iter()
            .filter(|(key, f)| f.pending.is_some() && idle(key))
            .map(|(_, f)| f.retry_at)
            .min()
    }

    /// Remembers a failed landing. Where another failure had to be forgotten for it, what was promised there is returned.
    pub fn record(&mut self, key: Key, landing: Landing<'_>, now: Time) -> Option<(Key, Pending)> {
        self.changes += 1;
        let before = self.failures.find(&key).map(|place| self.failures.look(place));
        let before = before.filter(|failure| failure.cause == landing.cause);
        let attempts = before.map_or(0, |failure| failure.attempts).saturating_add(1);
        let failure = Failure {
            refusal: landing.refusal,
            cause: landing.cause,
            doubted: false,
            compared: Some(landing.planned),
            attempts,
            failed: now,
            retry_at: now + (landing.backoff)(attempts),
            unloads: self.unloads,
            asked: landing.asked,
            pending: None,
            alias: landing.alias,
        };
        self.keep(key, failure)
    }

    /// Remembers a failure, as [`Failures::record`].
    pub fn keep(&mut self, key: Key, failure: Failure) -> Option<(Key, Pending)> {
        let (evicted, failure) =
            self.failures.push(key.clone(), failure).filter(|(evicted, _)| *evicted != key)?;
        Some((evicted, failure.pending?))
    }

    /// Counts who joined a dependent's flight against the dependency that failed it, where the first who asked for the
    /// dependent was counted before.
    pub fn count_against(&mut self, key: &Key, asked: Asked, first: Asker) {
        if let Some(failure) = self.failures.get_mut(key) {
            failure.asked.requests += asked.requests.saturating_sub(1);
            failure.asked.devices += asked.devices.saturating_sub(u64::from(first.device().is_some()));
        }
    }

    /// Forgets what is remembered of a module that is live now, and of those that failed because of it.
    /// What was promised to the latter is returned.
    pub fn forget(&mut self, module: ModuleId, name: &Name) -> Vec<Key> {
        let gone: Vec<Key> = self
            .failures
            .by_use()
            .filter(|(key, failure)| {
                key.module == module
                    || matches!(&failure.refusal.stage, Stage::Dependency(root) if root == name)
            })
            .map(|(key, _)| key.clone())
            .collect();
        let mut promised = Vec::new();
        self.changes += gone.len() as u64;
        for key in gone {
            promised.extend(
                self.failures.pop(&key).and_then(|f| f.pending).into_iter().flat_map(|p| p.dependents),
            );
        }
        promised
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.failures.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }

    /// What is remembered, the most recently used first.
    pub fn by_use(&self) -> impl Iterator<Item = (&Key, &Failure)> {
        self.failures.by_use()
    }
}

impl Failure {
    /// When it is time to compare the cause again; none where that is now.
    pub fn fresh_until(&self) -> Option<Time> {
        self.compared.map(|compared| compared + Limits::FRESH)
    }

    /// Rule 1: whether the cause is another one than the attempt was made with.
    pub fn differs(&mut self, cause: Cause, now: Time) -> bool {
        // One that differs stays due for comparison until the attempt is made: the ruling on a dependency is asked
        // for once for the dependent's sake and once more for its own.
        if self.cause == cause {
            self.compared = Some(now);
        }
        self.cause != cause
    }
}
