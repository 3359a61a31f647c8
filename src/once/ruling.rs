// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Ruling: a request that meets a failure
//!
//! Owns the way from a remembered failure to a ruling: whether there is news that makes the failure void whoever asks,
//! which failure is at the root of it where a dependency failed, and what the rules in `failures.rs` say of that one.

use super::coalescer::Coalescer;
use super::failures::{Key, Ruling};
#[cfg(doc)]
use super::limits::Limits;
use super::outcome::{Refusal, Stage};
use super::request::{Asker, Time};
use super::table::State;
use super::world::{Modules, Presence};

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
        let unloads = self.failures.unloads();
        let Some(failure) = self.failures.get(key) else { return ATTEMPT };
        if !matches!(failure.refusal.stage, Stage::Dependency(_)) {
            return (failure.judge(asker, unloads, now), failure.refusal.clone());
        }
        let refusal = failure.refusal.clone();
        let root = self.root(key);
        if self.table.state(root.module) != State::Idle || self.has_news(modules, &root, now) {
            return ATTEMPT;
        }
        // Who asks for the dependent asks for what failed it.
        let asker_of_root = self.sight(asker, root.module, now);
        let Some(failure) = self.failures.get(&root) else { return ATTEMPT };
        let ruling = failure.judge(asker_of_root, unloads, now);
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
        failure.is_stale(now) && {
            let plan = modules.plan(self.table.name(key.module), key.options.as_deref());
            failure.differs(plan.cause, now)
        }
    }
}
