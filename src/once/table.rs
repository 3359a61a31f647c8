// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Table: the modules we know, by number
//!
//! Owns the numbering of module names, so that everything on a duplicate's way is an index and no string is
//! hashed, and for each module the one bit that most duplicates end at: is it known to be live? Names come from
//! resolutions and plans only, never from a datagram, so the table is bounded by the module tree.

use std::collections::HashMap;

use super::world::Name;

/// A module's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(u32);

impl ModuleId {
    /// The bare number.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// What is known of a module without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing: ask the kernel. (What failed is in the failure memory.)
    Idle,
    /// A flight is in the air.
    InAir,
    /// Live or builtin.
    Live,
}

/// The modules we know.
#[derive(Debug, Default)]
pub struct Table {
    ids: HashMap<Name, ModuleId>,
    modules: Vec<(Name, State)>,
    /// By module, what its last attempt read of files.
    bytes: Vec<u64>,
    changes: u64,
}

impl Table {
    /// The number of a module, which it gets if it has none.
    pub fn id(&mut self, name: &Name) -> ModuleId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = ModuleId(u32::try_from(self.modules.len()).expect("fewer than 2^32 modules"));
        self.ids.insert(name.clone(), id);
        self.modules.push((name.clone(), State::Idle));
        self.bytes.push(0);
        id
    }

    /// The number of a module that has one.
    pub fn find(&self, name: &str) -> Option<ModuleId> {
        self.ids.get(name).copied()
    }

    /// A module's name.
    pub fn name(&self, id: ModuleId) -> &Name {
        &self.modules[id.0 as usize].0
    }

    /// All names, by number.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.modules.iter().map(|(name, _)| name)
    }

    /// A module's state.
    pub fn state(&self, id: ModuleId) -> State {
        self.modules[id.0 as usize].1
    }

    /// Sets a module's state.
    pub fn set(&mut self, id: ModuleId, state: State) {
        let before = std::mem::replace(&mut self.modules[id.0 as usize].1, state);
        self.changes += u64::from(before != state);
    }

    /// How many bytes of module files one more attempt would read, as far as the last one tells.
    pub fn bytes(&self, id: ModuleId) -> u64 {
        self.bytes[id.0 as usize]
    }

    /// Sets how many bytes of module files an attempt reads.
    pub fn set_bytes(&mut self, id: ModuleId, bytes: u64) {
        self.bytes[id.0 as usize] = bytes;
    }

    /// How often the state of any module changed. While this stays the same, who was live is, and nobody else.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Forgets who is live: events were lost, a `remove` may have been among them.
    pub fn doubt(&mut self) {
        self.changes += 1;
        for (_, state) in &mut self.modules {
            if *state == State::Live {
                *state = State::Idle;
            }
        }
    }

    /// How many modules are known to be live.
    pub fn live(&self) -> usize {
        self.modules.iter().filter(|(_, state)| *state == State::Live).count()
    }
}
