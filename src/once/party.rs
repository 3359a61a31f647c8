// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Party: a client and the modules it waits for
//!
//! Owns the promise that every client is answered exactly once: when the last of the modules it asked for has
//! landed, or at once where nothing is in the air. Bounded by the number of clients, which is the server's bound.

use std::collections::HashMap;

use super::outcome::Refusal;
use super::request::{ClientId, Time};
use super::table::ModuleId;
use super::world::Name;

/// What became of one module that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is live.
    Live,
    /// It is part of the kernel image.
    Builtin,
    /// modprobe.d says that it is not to be loaded.
    Blacklisted,
    /// hwdb says that it is not to be loaded, for ever or while a path exists.
    RuledOut,
    /// It failed.
    Failed {
        /// What the kernel said.
        refusal: Refusal,
        /// When it will be attempted again by itself.
        again: Option<Time>,
    },
    /// Not known yet: it is in the air, or waits for its turn.
    InAir,
}

/// A module and what became of it.
pub type Answer = (Name, Standing);

/// The clients that wait.
#[derive(Debug, Default)]
pub struct Parties {
    parties: HashMap<ClientId, Party>,
}

#[derive(Debug, Default)]
struct Party {
    waiting_for: Vec<ModuleId>,
    answers: Vec<Answer>,
    complete: bool,
}

impl Parties {
    /// A client asks.
    pub fn open(&mut self, client: ClientId) {
        self.parties.insert(client, Party::default());
    }

    /// The client's request has been gone through: what is not in the air by now will not be.
    pub fn complete(&mut self, client: ClientId) -> Option<Vec<Answer>> {
        self.parties.get_mut(&client)?.complete = true;
        self.answer(client)
    }

    /// A module the client asked for is in the air.
    pub fn wait(&mut self, client: ClientId, module: ModuleId) {
        if let Some(party) = self.parties.get_mut(&client) {
            party.waiting_for.push(module);
        }
    }

    /// What became of a module the client asked for. Returns all answers when it was the last one.
    pub fn tell(&mut self, client: ClientId, id: ModuleId, answer: Answer) -> Option<Vec<Answer>> {
        let party = self.parties.get_mut(&client)?;
        if let Some(index) = party.waiting_for.iter().position(|&other| other == id) {
            party.waiting_for.swap_remove(index);
        }
        party.answers.push(answer);
        self.answer(client)
    }

    /// The client is gone.
    pub fn close(&mut self, client: ClientId) {
        self.parties.remove(&client);
    }

    fn answer(&mut self, client: ClientId) -> Option<Vec<Answer>> {
        let party = self.parties.get(&client)?;
        if !party.complete || !party.waiting_for.is_empty() {
            return None;
        }
        self.parties.remove(&client).map(|party| party.answers)
    }
}
