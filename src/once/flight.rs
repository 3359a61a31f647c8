// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Flight: one module's load in progress
//!
//! Owns the flights in the air and who waits for whom. There is never more than one flight of a module. A flight
//! waits on others by an [`Edge`]; the edges form no cycle, whatever modprobe.d says: an edge that would close
//! one is left out, and where it may not be (a hard dependency), a softer one on the cycle gives way.
//! Bounded by the number of modules in the tree.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::asked::Asked;
use super::failures::Key;
use super::request::{Asker, ClientId, Time};
use super::table::ModuleId;
use super::world::{Name, Plan};

/// Why a flight waits on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// A dependency: if it fails, so does the flight.
    Hard,
    /// A soft dependency: its end is waited for, its outcome does not matter.
    Soft,
    /// The module before it in the same modalias' resolution: the order decides which driver gets to bind. Not
    /// waited for once its load is old.
    Order,
}

/// One module's load in progress.
#[derive(Debug)]
pub struct Flight {
    /// The module, with the options it is loaded with.
    pub key: Key,
    /// What is done.
    pub plan: Arc<Plan>,
    /// Which reading of the module tree the plan was made from.
    pub generation: u64,
    /// The first who asked.
    pub asker: Asker,
    /// What it asked for.
    pub alias: Box<[u8]>,
    /// Its device.
    pub devpath: Option<Box<[u8]>>,
    /// Sequence numbers of the first and the last uevent that asked.
    pub seqnums: (u64, u64),
    /// Everybody who asked.
    pub asked: Asked,
    /// The module that needed this one, where no request named it.
    pub pulled_in_by: Option<Name>,
    /// When it took off.
    pub since: Time,
    /// Attempts made.
    pub tries: u32,
    /// When the first of them started.
    pub departed: Option<Time>,
    /// Set between two tries: when the next one is due.
    pub paused_until: Option<Time>,
    /// Still collecting what it has to wait for: it must not start before it knows all of it.
    pub boarding: bool,
    /// The flights it waits on.
    pub waits_on: Vec<(ModuleId, Edge)>,
    /// The flights that wait on it.
    pub awaited_by: Vec<ModuleId>,
    /// Clients to be told.
    pub clients: Vec<ClientId>,
    /// Requests for the same module with other options or another file: they take their turn afterwards.
    pub turn: Vec<Turn>,
}

/// A request that waits for a flight of the same name to land.
#[derive(Debug)]
pub struct Turn {
    /// What it wants.
    pub key: Key,
    /// Who asks.
    pub asker: Asker,
    /// What for.
    pub alias: Box<[u8]>,
    /// The client to be told.
    pub client: Option<ClientId>,
}

/// The flights in the air.
#[derive(Debug, Default)]
pub struct Flights {
    flights: BTreeMap<ModuleId, Flight>,
}

/// A dependency cycle of hard edges only, which depmod refuses to write.
#[derive(Debug, PartialEq, Eq)]
pub struct Cycle;

impl Flight {
    /// Whether nothing keeps it from loading but a slot.
    pub fn is_ready(&self) -> bool {
        !self.boarding && self.waits_on.is_empty() && self.paused_until.is_none()
    }
}

impl Flights {
    /// A flight takes off.
    pub fn insert(&mut self, flight: Flight) {
        self.flights.insert(flight.key.module, flight);
    }

    /// A flight.
    pub fn get(&self, id: ModuleId) -> Option<&Flight> {
        self.flights.get(&id)
    }

    /// A flight, to be changed.
    pub fn get_mut(&mut self, id: ModuleId) -> Option<&mut Flight> {
        self.flights.get_mut(&id)
    }

    /// How many are in the air.
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.flights.values()
    }

    /// The flights whose pause between two tries has ended.
    pub fn paused(&self, now: Time) -> Vec<ModuleId> {
        let over = |flight: &&Flight| flight.paused_until.is_some_and(|until| until <= now);
        self.flights.values().filter(over).map(|flight| flight.key.module).collect()
    }

    /// A flight lands: it waits on nobody any more. Those that wait on it still do.
    pub fn remove(&mut self, id: ModuleId) -> Option<Flight> {
        let flight = self.flights.remove(&id)?;
        for (other, _) in &flight.waits_on {
            if let Some(other) = self.flights.get_mut(other) {
                other.awaited_by.retain(|&waiter| waiter != id);
            }
        }
        Some(flight)
    }

    /// Makes `waiter` wait on `on`. Returns the flights that had to give way.
    ///
    /// # Errors
    /// [`Cycle`] where only hard edges could give way.
    pub fn wait(&mut self, waiter: ModuleId, on: ModuleId, edge: Edge) -> Result<Vec<ModuleId>, Cycle> {
        let mut freed = Vec::new();
        while let Some(path) = self.path(on, waiter) {
            if edge != Edge::Hard {
                return Ok(freed);
            }
            let (from, to) =
                path.into_iter().find(|&(from, to)| self.edge(from, to) != Some(Edge::Hard)).ok_or(Cycle)?;
            self.release(from, to);
            freed.push(from);
        }
        if !self.flights.contains_key(&on) {
            return Ok(freed);
        }
        let Some(flight) = self.flights.get_mut(&waiter) else { return Ok(freed) };
        match flight.waits_on.iter_mut().find(|(other, _)| *other == on) {
            // An order edge may be given up, a dependency may not: the stronger one stays.
            Some((_, kept)) if *kept == Edge::Order || edge == Edge::Hard => *kept = edge,
            Some(_) => {}
            None => {
                flight.waits_on.push((on, edge));
                self.flights.entry(on).and_modify(|flight| flight.awaited_by.push(waiter));
            }
        }
        Ok(freed)
    }

    /// Takes an edge away, if there is one. Returns what it was.
    pub fn release(&mut self, waiter: ModuleId, on: ModuleId) -> Option<Edge> {
        if let Some(on) = self.flights.get_mut(&on) {
            on.awaited_by.retain(|&other| other != waiter);
        }
        let waits_on = &mut self.flights.get_mut(&waiter)?.waits_on;
        let index = waits_on.iter().position(|(other, _)| *other == on)?;
        Some(waits_on.swap_remove(index).1)
    }

    /// Whether a flight waits on another, directly or through others, or is it.
    pub fn waits_on(&self, flight: ModuleId, on: ModuleId) -> bool {
        self.path(flight, on).is_some()
    }

    /// Who waits on whom for the sake of order alone.
    pub fn ordered(&self) -> Vec<(ModuleId, ModuleId)> {
        let edges =
            self.flights.iter().flat_map(|(&id, flight)| flight.waits_on.iter().map(move |edge| (id, edge)));
        edges.filter(|(_, (_, edge))| *edge == Edge::Order).map(|(id, &(on, _))| (id, on)).collect()
    }

    fn edge(&self, from: ModuleId, to: ModuleId) -> Option<Edge> {
        let waits_on = &self.flights.get(&from)?.waits_on;
        waits_on.iter().find(|(other, _)| *other == to).map(|&(_, edge)| edge)
    }

    /// The edges by which `from` waits on `to`, directly or through others. The empty path from a flight to
    /// itself counts.
    fn path(&self, from: ModuleId, to: ModuleId) -> Option<Vec<(ModuleId, ModuleId)>> {
        let mut came_from: HashMap<ModuleId, ModuleId> = HashMap::from([(from, from)]);
        let mut open = vec![from];
        while let Some(here) = open.pop() {
            if here == to {
                let mut path = Vec::new();
                let mut step = here;
                while step != from {
                    path.push((came_from[&step], step));
                    step = came_from[&step];
                }
                return Some(path);
            }
            for &(next, _) in self.flights.get(&here).map_or(&[][..], |flight| &flight.waits_on) {
                came_from.entry(next).or_insert_with(|| {
                    open.push(next);
                    here
                });
            }
        }
        None
    }
}
