// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Announced: what the kernel says of modules themselves
//!
//! Owns what becomes of `add@/module/NAME` and `remove@/module/NAME`, whoever loaded or unloaded, and of the news that events
//! were lost. Promises that nobody is taken for live, or for unloaded, by the word of an event alone where an event can be
//! wrong: `udevadm trigger` has a module announced that is still coming, and should its init fail, the kernel takes that
//! back with a `remove` (lib/kobject.c: kobject_synth_uevent(), kobject_del()).

use super::coalescer::Coalescer;
use super::outcome::Outcome;
use super::request::Time;
use super::table::{ModuleId, State};
use super::world::{Modules, Presence};

impl Coalescer {
    /// A live module was announced, whoever loaded it.
    pub fn module_added(&mut self, modules: &mut dyn Modules, name: &str, now: Time) {
        let Some(id) = self.table.find(name) else { return };
        if self.slots.is_loading(id) {
            // Ours, most likely; in any case the load's own end is near and says more.
            return;
        }
        if modules.presence(self.table.name(id)) != Presence::Live {
            return;
        }
        if self.flights.get(id).is_some() {
            self.land(modules, id, Outcome::Live, now);
        } else {
            self.table.set(id, State::Live);
            let promised = self.failures.forget(id, &name.into());
            self.orphans.extend(promised);
        }
        self.depart(now);
    }

    /// The kernel announced that a module is gone.
    pub fn module_removed(&mut self, name: &str) {
        let id = self.table.find(name);
        // It was never live: nothing was unloaded.
        if id.is_some_and(|id| self.flights.get(id).is_some() || self.has_failed(id)) {
            return;
        }
        self.failures.unloaded();
        if let Some(id) = id.filter(|&id| self.table.state(id) == State::Live) {
            self.table.set(id, State::Idle);
        }
    }

    /// Uevents were lost: what we believe to be live may have been unloaded, and so may what stood in the way.
    pub fn events_lost(&mut self) {
        self.failures.unloaded();
        self.failures.doubt();
        self.table.doubt();
    }

    /// Whether a module is remembered as failed, with whatever options.
    fn has_failed(&self, id: ModuleId) -> bool {
        self.failures.by_use().any(|(key, _)| key.module == id)
    }
}
