// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Failures: the memory for failed loads, and the retry rules
//!
//! Owns what is remembered of a module that failed, and the judgement that the project exists for: is a request
//! that meets a failure a duplicate or a new attempt? The rules are tried in this order, the first match wins:
//!
//! 1. the cause changed: attempt;
//! 2. an administrator asks: attempt;
//! 3. a module was unloaded since, and the errno was one of conflict: attempt;
//! 4. the same device asks again: attempt when the backoff ends;
//! 5. the request is genuine: as 4;
//! 6. anything else: duplicate.
//!
//! A request that is accepted before the backoff has ended leaves a [`Pending`] attempt behind, so that none is
//! lost. The memory is an LRU; an entry it evicts costs one more attempt, never a wrong answer.

use std::ffi::CString;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;

use super::limits::Limits;
use super::outcome::{Refusal, Stage};
use super::request::{Asker, Kind, Time};
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
    /// Events were lost since: the module may have been loaded by hand.
    pub doubted: bool,
    /// When the cause was last compared with what is there.
    pub compared: Time,
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

/// Who asked for one attempt, and since when: the devices themselves are in [`super::sightings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request it began with: a device that has asked since then asks again.
    pub since: u64,
    /// How many requests.
    pub requests: u64,
    /// How many devices.
    pub devices: u64,
    /// The last of the requests: one event may ask for a module twice, through two of its dependents.
    last: u64,
}

/// An accepted attempt that waits for the end of the backoff.
#[derive(Debug)]
pub struct Pending {
    /// Who asked for it: what they ask later is another attempt's matter.
    pub asked: Asked,
    /// Modules that failed because of this one, and were asked for since.
    pub dependents: Vec<Key>,
}

impl Asked {
    /// Nobody yet; who asks from this request on counts.
    pub fn since(since: u64) -> Self {
        Self { since, requests: 0, devices: 0, last: 0 }
    }

    /// One more request.
    pub fn add(&mut self, asker: Asker) {
        if std::mem::replace(&mut self.last, asker.request) == asker.request {
            return;
        }
        self.requests += 1;
        self.devices += u64::from(asker.device().is_some() && !self.includes(asker));
    }

    /// Whether the asker's device has asked before.
    pub fn includes(&self, asker: Asker) -> bool {
        asker.seen.is_some_and(|seen| seen >= self.since)
    }
}

/// What a request that meets a failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Attempt now.
    Attempt,
    /// Attempt when the backoff ends; that is remembered.
    Wait(Time),
    /// Count it.
    Duplicate,
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
    failures: LruCache<Key, Failure>,
    unloads: u64,
}

impl Failures {
    /// An empty memory for so many failures.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { failures: LruCache::new(capacity), unloads: 0 }
    }

    /// A module was unloaded: conflicts may be over.
    pub fn unloaded(&mut self) {
        self.unloads += 1;
    }

    /// Events were lost: what failed may be live.
    pub fn doubt(&mut self) {
        self.failures.iter_mut().for_each(|(_, failure)| failure.doubted = true);
    }

    /// A remembered failure; asking for it keeps it from being evicted soon.
    pub fn get(&mut self, key: &Key) -> Option<&mut Failure> {
        self.failures.get_mut(key)
    }

    /// How many unloads were seen.
    pub fn unloads(&self) -> u64 {
        self.unloads
    }

    /// Remembers that a dependent, too, is to be attempted when this failure's backoff ends.
    pub fn attach(&mut self, key: &Key, dependent: Key) {
        let pending = self.failures.get_mut(key).and_then(|failure| failure.pending.as_mut());
        if let Some(pending) = pending.filter(|pending| !pending.dependents.contains(&dependent)) {
            pending.dependents.push(dependent);
        }
    }

    /// Takes what was promised out of a failure that is about to be attempted. Devices that asked before this attempt ask
    /// again afterwards, unless a device is behind the attempt: then the storm it belongs to begins with it.
    pub fn take_pending(&mut self, key: &Key, asker: Asker) -> Pending {
        let Some(failure) = self.failures.get_mut(key) else {
            return Pending { asked: Asked::since(asker.request), dependents: Vec::new() };
        };
        let since = if asker.device().is_some() { asker.request } else { failure.asked.since };
        failure.pending.take().unwrap_or(Pending { asked: Asked::since(since), dependents: Vec::new() })
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
        let due = |failure: &Failure| failure.pending.is_some() && failure.retry_at <= now;
        self.failures.iter().filter(|(_, failure)| due(failure)).map(|(key, _)| key.clone()).collect()
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
        let before = self.failures.peek(&key).filter(|failure| failure.cause == landing.cause);
        let attempts = before.map_or(0, |failure| failure.attempts).saturating_add(1);
        let failure = Failure {
            refusal: landing.refusal,
            cause: landing.cause,
            doubted: false,
            compared: landing.planned,
            attempts,
            failed: now,
            retry_at: now + (landing.backoff)(attempts),
            unloads: self.unloads,
            asked: landing.asked,
            pending: None,
            alias: landing.alias,
        };
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
            .iter()
            .filter(|(key, failure)| {
                key.module == module
                    || matches!(&failure.refusal.stage, Stage::Dependency(root) if root == name)
            })
            .map(|(key, _)| key.clone())
            .collect();
        let mut promised = Vec::new();
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
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Failure)> {
        self.failures.iter()
    }
}

impl Failure {
    /// Whether it is time to compare the cause again.
    pub fn is_stale(&self, now: Time) -> bool {
        now.saturating_sub(self.compared) >= Limits::FRESH
    }

    /// Rule 1: whether the cause is another one than the attempt was made with.
    pub fn differs(&mut self, cause: Cause, now: Time) -> bool {
        // One that differs stays due for comparison until the attempt is made: the ruling on a dependency is asked
        // for once for the dependent's sake and once more for its own.
        if self.cause == cause {
            self.compared = now;
        }
        self.cause != cause
    }

    /// Rules 2 to 6, for a request that comes after so many unloads.
    pub fn judge(&mut self, asker: Asker, unloads: u64, now: Time) -> Ruling {
        if asker.kind == Kind::Administrator || self.conflict_is_over(unloads) {
            return Ruling::Attempt;
        }
        // What is due for one failure is a request like any other for the next.
        let due = asker.kind == Kind::Due && self.retry_at <= now;
        let accepted = due
            || matches!(asker.kind, Kind::Genuine(_))
            || self.asked.includes(asker)
            || self.pending.is_some();
        if !accepted {
            self.asked.add(asker);
            return Ruling::Duplicate;
        }
        if self.retry_at <= now {
            return Ruling::Attempt;
        }
        let promised = || Pending { asked: Asked::since(asker.request), dependents: Vec::new() };
        self.pending.get_or_insert_with(promised).asked.add(asker);
        Ruling::Wait(self.retry_at)
    }

    /// Rule 3. EEXIST, EBUSY and ENODEV are what a module says that finds its place taken.
    fn conflict_is_over(&self, unloads: u64) -> bool {
        unloads > self.unloads && matches!(self.refusal.errno, libc::EEXIST | libc::EBUSY | libc::ENODEV)
    }
}
