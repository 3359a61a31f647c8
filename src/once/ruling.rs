// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Ruling: a request that meets a failure
//!
//! Owns the judgement that the project exists for: is a request that meets a remembered failure a duplicate or a new
//! attempt? The rules are tried in this order, the first match wins:
//!
//! 1. the cause changed: attempt;
//! 2. an administrator asks: attempt;
//! 3. a module was unloaded since, and the errno was one of conflict: attempt;
//! 4. the same device asks again: attempt when the backoff ends;
//! 5. the request is genuine: as 4;
//! 6. anything else: duplicate.
//!
//! A request that is accepted before the backoff has ended leaves a [`Pending`] attempt behind, so that none is lost.
//! Where a dependency failed, the failure at the root of it is found first.

use super::asked::Pending;
use super::coalescer::Coalescer;
use super::failures::{Failure, Key};
#[cfg(doc)]
use super::limits::Limits;
use super::outcome::{Refusal, Stage};
use super::request::{Asker, Kind, Time};
use super::table::State;
use super::world::{Modules, Presence};

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

impl Coalescer {
    /// What the failure memory says, and the failure it says that of. A dependent's failure has no rules of its own:
    /// what holds is the ruling on the dependency that failed it.
    pub(super) fn ruling(
        &mut self,
        modules: &mut dyn Modules,
        key: &Key,
        asker: Asker,
        now: Time,
    ) -> (Ruling, Refusal) {
        const ATTEMPT: (Ruling, Refusal) = (Ruling::Attempt, Refusal { errno: 0, stage: Stage::Plan });
        if self.has_news(modules, key, now) {
            return ATTEMPT;
        }
        let Some(refusal) = self.failures.get(key).map(|failure| failure.refusal.clone()) else {
            return ATTEMPT;
        };
        if !matches!(refusal.stage, Stage::Dependency(_)) {
            return (self.failures.judge(key, asker, now).unwrap_or(Ruling::Attempt), refusal);
        }
        let root = self.root(key);
        if self.table.state(root.module) != State::Idle || self.has_news(modules, &root, now) {
            return ATTEMPT;
        }
        // Who asks for the dependent asks for what failed it.
        let asker_of_root = self.sight(asker, root.module, now);
        let Some(ruling) = self.failures.judge(&root, asker_of_root, now) else { return ATTEMPT };
        match ruling {
            Ruling::Wait(_) => self.failures.attach(&root, key.clone()),
            Ruling::Duplicate if root != *key => {
                if let Some(dependent) = self.failures.get(key) {
                    dependent.asked.add(asker);
                }
            }
            Ruling::Attempt | Ruling::Duplicate => {}
        }
        (ruling, refusal)
    }

    /// The failure at the end of the chain of those that say "a dependency failed".
    fn root(&mut self, key: &Key) -> Key {
        let mut root = key.clone();
        // As long as the memory at the most: a broken index may name modules in a circle.
        for _ in 0..self.failures.len() {
            let Some(Stage::Dependency(deeper)) = self.failures.get(&root).map(|f| f.refusal.stage.clone())
            else {
                break;
            };
            root = Key::plain(self.table.id(&deeper));
        }
        root
    }

    /// Whether a failure has to be forgotten without regard to who asks: events were lost and the module is live after
    /// all, or (rule 1) its cause changed. Looked at at most once in [`Limits::FRESH`].
    fn has_news(&mut self, modules: &mut dyn Modules, key: &Key, now: Time) -> bool {
        let Some(failure) = self.failures.get(key) else { return false };
        if failure.doubted {
            // Found live, it stays in doubt until it is attempted: it may be looked at for a dependent's sake first.
            failure.doubted = modules.presence(self.table.name(key.module)) == Presence::Live;
            if failure.doubted {
                return true;
            }
        }
        failure.fresh_until().is_none_or(|until| now >= until) && {
            let plan = modules.plan(self.table.name(key.module), key.options.as_deref());
            failure.differs(plan.cause, now)
        }
    }
}

impl Failure {
    /// Rules 2 to 6, for a request that comes after so many unloads.
    pub(super) fn judge(&mut self, asker: Asker, unloads: u64, now: Time) -> Ruling {
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
        self.pending.get_or_insert_with(|| Pending::since(asker.request)).asked.add(asker);
        Ruling::Wait(self.retry_at)
    }

    /// Rule 3. EEXIST, EBUSY and ENODEV are what a module says that finds its place taken.
    pub(super) fn conflict_is_over(&self, unloads: u64) -> bool {
        unloads > self.unloads && matches!(self.refusal.errno, libc::EEXIST | libc::EBUSY | libc::ENODEV)
    }
}
