// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Takeoff: from a wanted module to a flight
//!
//! Owns the way of one wanted module: join the flight in the air, be a duplicate of what is live or failed, or
//! take off. A flight boards (collects the dependencies it has to wait for, each of which is a wanted module
//! like any other), then queues for a slot, then loads.

use std::sync::Arc;

use super::coalescer::{Action, Coalescer};
use super::failures::Key;
use super::flight::{Cycle, Edge, Flight, Turn};
use super::outcome::{Outcome, Refusal, Stage};
use super::party::Standing;
use super::request::{Asker, ClientId, Request, Time};
use super::ruling::Ruling;
use super::table::{ModuleId, State};
use super::world::{Modules, Name, Plan, Presence, Work};

/// A request, as it goes from module to module.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub asker: Asker,
    pub alias: &'a [u8],
    pub devpath: Option<&'a [u8]>,
    pub seqnum: u64,
    pub client: Option<ClientId>,
    /// Policy `always`: the failure memory does not hold.
    pub always: bool,
    /// The module that needs the wanted one, where no request named it.
    pub pulled_in_by: Option<&'a Name>,
    /// The module before it in the resolution, if that is in the air.
    pub after: Option<ModuleId>,
}

impl<'a> Ask<'a> {
    pub fn of(asker: Asker, request: &Request<'a>) -> Self {
        let (devpath, seqnum) = (request.origin.devpath(), request.origin.seqnum());
        let client = request.origin.client();
        Self {
            asker,
            alias: request.alias,
            devpath,
            seqnum,
            client,
            always: false,
            pulled_in_by: None,
            after: None,
        }
    }

    /// An attempt that was promised earlier.
    pub fn due(asker: Asker, alias: &'a [u8]) -> Self {
        let (devpath, seqnum, client) = (None, 0, None);
        Self { asker, alias, devpath, seqnum, client, always: false, pulled_in_by: None, after: None }
    }

    /// The same request, for what `name` needs.
    pub fn pulled_in_by(&self, name: &'a Name) -> Self {
        Self { client: None, always: false, pulled_in_by: Some(name), after: None, ..*self }
    }
}

impl Coalescer {
    /// Somebody wants a module that is to be loaded.
    pub(super) fn want(&mut self, modules: &mut dyn Modules, key: Key, ask: &Ask<'_>, now: Time) -> Standing {
        let named = u64::from(ask.pulled_in_by.is_none());
        let state = self.table.state(key.module);
        if state == State::Live {
            self.tally.duplicates_live += named;
            return Standing::Live;
        }
        let ask = &Ask { asker: self.sight(ask.asker, key.module, now), ..*ask };
        if state == State::InAir {
            self.tally.duplicates_in_flight += named;
            self.tally.spared_bytes += named * self.table.bytes(key.module);
            self.join(modules, key, ask, now);
            return Standing::InAir;
        }
        if self.disabled {
            return Standing::Failed { refusal: disabled(), again: None };
        }
        match self.ruling(modules, &key, ask.asker, now) {
            (Ruling::Wait(until), refusal) if !ask.always => {
                self.tally.deferred += named;
                Standing::Failed { refusal, again: Some(until) }
            }
            (Ruling::Duplicate, refusal) if !ask.always => {
                self.tally.duplicates_failed += named;
                self.tally.spared_bytes += named * self.table.bytes(key.module);
                Standing::Failed { refusal, again: None }
            }
            _ => self.take_off(modules, key, ask, now),
        }
    }

    /// Joins the flight in the air, or waits for its turn where the flight is not the one that is wanted.
    fn join(&mut self, modules: &mut dyn Modules, key: Key, ask: &Ask<'_>, now: Time) {
        let generation = self.generation;
        let name = self.table.name(key.module);
        let flight = self.flights.get_mut(key.module).expect("a module in the air has a flight");
        let same = flight.key == key
            && (flight.generation == generation
                || modules.plan(name, key.options.as_deref()).work == flight.plan.work);
        if !same {
            // Clients are bounded; of a storm, one speaks for all.
            let spoken_for = flight.turn.iter().any(|turn| turn.client.is_none() && turn.key == key);
            if ask.client.is_some() || !spoken_for {
                let (asker, alias, client) = (ask.asker, ask.alias.into(), ask.client);
                flight.turn.push(Turn { key, asker, alias, client });
            }
            return;
        }
        flight.asked.add(ask.asker);
        if ask.seqnum != 0 {
            let (first, last) = flight.seqnums;
            flight.seqnums =
                (if first == 0 { ask.seqnum } else { first.min(ask.seqnum) }, last.max(ask.seqnum));
        }
        flight.clients.extend(ask.client);
        // Who joins a dependent asks for what it waits for.
        let needs = flight.waits_on.iter().filter(|(_, edge)| *edge == Edge::Hard).map(|&(on, _)| on);
        for on in needs.collect::<Vec<_>>() {
            self.sight(ask.asker, on, now);
        }
    }

    /// A flight takes off: it is in the air from now on.
    fn take_off(&mut self, modules: &mut dyn Modules, key: Key, ask: &Ask<'_>, now: Time) -> Standing {
        let id = key.module;
        let name = self.table.name(id).clone();
        if modules.presence(&name) == Presence::Live {
            return self.found_live(id, &name);
        }
        let plan = Arc::new(modules.plan(&name, key.options.as_deref()));
        if plan.work == Work::Builtin {
            return self.found_live(id, &name);
        }
        let pending = self.failures.take_pending(&key, ask.asker);
        let mut asked = pending.asked;
        asked.add(ask.asker);
        self.table.set(id, State::InAir);
        self.table.set_bytes(id, plan.bytes);
        self.flights.insert(Flight {
            key,
            plan: plan.clone(),
            generation: self.generation,
            asker: ask.asker,
            alias: ask.alias.into(),
            devpath: ask.devpath.map(Into::into),
            seqnums: (ask.seqnum, ask.seqnum),
            asked,
            pulled_in_by: ask.pulled_in_by.cloned(),
            since: now,
            tries: 0,
            departed: None,
            paused_until: None,
            boarding: true,
            waits_on: Vec::new(),
            awaited_by: Vec::new(),
            clients: Vec::new(),
            turn: Vec::new(),
        });
        let boarded = self.collect(modules, id, &plan, ask, now);
        let standing = match boarded {
            Ok(()) => {
                if let Some(flight) = self.flights.get_mut(id) {
                    flight.boarding = false;
                    flight.clients.extend(ask.client);
                }
                self.board(id);
                Standing::InAir
            }
            Err(refusal) => {
                self.land(modules, id, Outcome::Failed(refusal.clone()), now);
                Standing::Failed { refusal, again: None }
            }
        };
        for dependent in pending.dependents {
            // Promised to somebody else: this asker's authority does not reach what only the dependent needs.
            let promised = Asker::due(ask.asker.request);
            self.want(modules, dependent, &Ask::due(promised, ask.alias), now);
        }
        standing
    }

    /// Collects what a flight has to wait for.
    fn collect(
        &mut self,
        modules: &mut dyn Modules,
        id: ModuleId,
        plan: &Plan,
        ask: &Ask<'_>,
        now: Time,
    ) -> Result<(), Refusal> {
        if plan.work == Work::Missing {
            return Err(Refusal { errno: libc::ENOENT, stage: Stage::Plan });
        }
        let ask_for_it = ask.pulled_in_by(&plan.module);
        for dep in &plan.deps {
            let on = self.table.id(dep);
            match self.want(modules, Key::plain(on), &ask_for_it, now) {
                Standing::InAir => self.wait(id, on, Edge::Hard)?,
                Standing::Failed { refusal, again } => {
                    let refusal = refusal.of_dependency(dep);
                    if let (Some(_), Stage::Dependency(root), Some(flight)) =
                        (again, &refusal.stage, self.flights.get(id))
                    {
                        let (root, dependent) = (Key::plain(self.table.id(root)), flight.key.clone());
                        self.failures.attach(&root, dependent);
                    }
                    return Err(refusal);
                }
                _ => {}
            }
        }
        for pre in &plan.pre {
            let on = self.table.id(pre);
            if self.want(modules, Key::plain(on), &ask_for_it, now) == Standing::InAir {
                self.wait(id, on, Edge::Soft)?;
            }
        }
        let after = ask.after.filter(|&after| !self.is_held_up(after, now));
        after.map_or(Ok(()), |after| self.wait(id, after, Edge::Order))
    }

    /// Whether a flight's load is old, or it waits for one that is: nobody waits for such a flight for order's sake.
    pub(super) fn is_held_up(&self, flight: ModuleId, now: Time) -> bool {
        self.slots.old(now).any(|old| self.flights.waits_on(flight, old))
    }

    fn wait(&mut self, waiter: ModuleId, on: ModuleId, edge: Edge) -> Result<(), Refusal> {
        let freed = self.flights.wait(waiter, on, edge).map_err(|Cycle| Refusal {
            errno: libc::ELOOP,
            stage: Stage::Dependency(self.table.name(on).clone()),
        })?;
        freed.into_iter().for_each(|flight| self.board(flight));
        Ok(())
    }

    /// Queues a flight for a slot, if it waits for nothing any more.
    pub(super) fn board(&mut self, id: ModuleId) {
        if self.flights.get(id).is_some_and(Flight::is_ready) && !self.slots.has(id) {
            self.slots.queue(id);
        }
    }

    /// Queues what paused between two tries.
    pub(super) fn resume(&mut self, now: Time) {
        for id in self.flights.paused(now) {
            if let Some(flight) = self.flights.get_mut(id) {
                flight.paused_until = None;
            }
            self.board(id);
        }
    }

    /// Starts as many loads as there are slots.
    pub(super) fn depart(&mut self, now: Time) {
        while let Some(id) = self.slots.start(now) {
            let Some(flight) = self.flights.get_mut(id) else { continue };
            flight.tries += 1;
            flight.departed.get_or_insert(now);
            self.tally.attempts += 1;
            self.actions.push_back(Action::Load(flight.plan.clone()));
        }
    }

    /// A module was found to be live without our doing.
    fn found_live(&mut self, id: ModuleId, name: &Name) -> Standing {
        self.table.set(id, State::Live);
        let promised = self.failures.forget(id, name);
        self.orphans.extend(promised);
        Standing::Live
    }
}

/// What every load is answered once `kernel.modules_disabled` was found to be 1.
pub(super) fn disabled() -> Refusal {
    Refusal { errno: libc::EPERM, stage: Stage::Disabled }
}
