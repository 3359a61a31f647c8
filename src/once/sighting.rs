// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Sighting: when a device last asked
//!
//! Owns the two values that [`super::sightings`] is made of: the last two requests of a device for a module, and the
//! [`Group`] of modules that they are kept for together. A sighting is two numbers; a group is bounded by the modules of one
//! modalias and what failed them, and shared by all devices that ask for it.

use super::table::ModuleId;

/// The last two requests of a device for a module; 0 is none. Two, since one request may look twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The last.
    pub last: u64,
    /// The one before it.
    pub before: u64,
}

impl Sighting {
    /// A device asks that has not asked before.
    pub fn first(request: u64) -> Self {
        Self { last: request, before: 0 }
    }

    /// One more request. One that waited for its turn may come after a later one.
    pub fn add(&mut self, request: u64) {
        if self.last < request {
            *self = Sighting { last: request, before: self.last };
        }
    }

    /// The last request before this one.
    pub fn before(&self, request: u64) -> Option<u64> {
        Some(self.before).filter(|&before| before != 0 && before < request)
    }
}

/// Modules that are asked for together.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Group(Box<[ModuleId]>);

impl Group {
    /// These modules, however often each is named.
    pub fn new(mut modules: Vec<ModuleId>) -> Self {
        modules.sort_unstable();
        modules.dedup();
        Self(modules.into())
    }

    /// The modules.
    pub fn modules(&self) -> &[ModuleId] {
        &self.0
    }
}
