// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Landing: an outcome, and everybody who waits for it
//!
//! Owns the end of a flight: whether it is the end at all (a transient answer is tried again), what is
//! remembered of it, and who is told: the log, the clients, the flights that wait, the soft dependencies that come
//! after, and the requests for the same name that waited for their turn.

use super::coalescer::{Action, Coalescer};
use super::failures::{Key, Landing};
use super::flight::{Edge, Flight};
use super::limits::Limits;
use super::outcome::{AddOnce, Outcome, Refusal, Stage};
use super::party::Standing;
use super::request::{ClientId, Time};
use super::table::{ModuleId, State};
use super::takeoff::{Ask, disabled};
use super::world::Modules;

impl Coalescer {
    /// A flight ends.
    pub(super) fn land(&mut self, modules: &mut dyn Modules, id: ModuleId, outcome: Outcome, now: Time) {
        if self.tries_again(id, &outcome, now) {
            return;
        }
        let Some(mut flight) = self.flights.remove(id) else { return };
        self.slots.free(id);
        self.table.set(id, if outcome == Outcome::Live { State::Live } else { State::Idle });
        let waiters = std::mem::take(&mut flight.awaited_by);
        let turn = std::mem::take(&mut flight.turn);
        self.publish(&flight, &outcome, now);
        self.tell(&flight, &outcome);
        let after = (flight.plan.clone(), flight.asker, flight.alias.clone(), flight.devpath.clone());
        self.remember(flight, &outcome, now);
        for waiter in waiters {
            self.release(modules, waiter, id, &outcome, now);
        }
        if outcome == Outcome::Live {
            let (plan, asker, alias, devpath) = after;
            for post in &plan.post {
                let post = self.table.id(post);
                let ask =
                    Ask { devpath: devpath.as_deref(), ..Ask::due(asker, &alias) }.pulled_in_by(&plan.module);
                self.want(modules, Key::plain(post), &ask, now);
            }
        }
        for turn in turn {
            let ask = Ask { client: turn.client, ..Ask::due(turn.asker, &turn.alias) };
            match self.want(modules, turn.key, &ask, now) {
                Standing::InAir => {}
                standing => self.seat(turn.client, id, standing),
            }
        }
        if outcome == Outcome::Failed(disabled()) && !self.disabled {
            self.disable(modules, now);
        }
    }

    /// A transient answer ends the load, not the flight.
    fn tries_again(&mut self, id: ModuleId, outcome: &Outcome, now: Time) -> bool {
        let (Outcome::Failed(refusal), Some(flight)) = (outcome, self.flights.get_mut(id)) else {
            return false;
        };
        if !refusal.is_transient() || flight.tries >= Limits::TRIES || self.disabled {
            return false;
        }
        flight.paused_until = Some(now + Limits::PAUSE * (1 << flight.tries.saturating_sub(1)));
        self.slots.free(id);
        true
    }

    /// One flight, one record.
    fn publish(&mut self, flight: &Flight, outcome: &Outcome, now: Time) {
        match outcome {
            Outcome::Live => self.tally.live += 1,
            Outcome::Failed(refusal) => {
                self.tally.failed += 1;
                self.tally.failed_at.count(&refusal.stage);
                if let Stage::Dependency(root) = &refusal.stage {
                    // One more attempt would end there, too, and read no more than that.
                    let root = self.table.id(root);
                    self.table.set_bytes(flight.key.module, self.table.bytes(root));
                }
            }
        }
        if *outcome == Outcome::Failed(disabled()) {
            // Said once for all of them, by Action::Disabled.
            return;
        }
        let departed = flight.departed.unwrap_or(now);
        let record = AddOnce {
            module: flight.plan.module.clone(),
            outcome: outcome.clone(),
            alias: flight.alias.clone(),
            devpath: flight.devpath.clone(),
            seqnums: flight.seqnums,
            asked: flight.asked.requests,
            waited: departed.saturating_sub(flight.since),
            load: now.saturating_sub(departed),
            pulled_in_by: flight.pulled_in_by.clone(),
        };
        self.storm.landed(&record, now);
        self.actions.push_back(Action::Publish(record));
    }

    fn tell(&mut self, flight: &Flight, outcome: &Outcome) {
        let standing = match outcome {
            Outcome::Live => Standing::Live,
            Outcome::Failed(refusal) => Standing::Failed { refusal: refusal.clone(), again: None },
        };
        for &client in &flight.clients {
            self.seat(Some(client), flight.key.module, standing.clone());
        }
    }

    /// What is live is forgotten, what failed is remembered.
    fn remember(&mut self, flight: Flight, outcome: &Outcome, now: Time) {
        let refusal = match outcome {
            Outcome::Live => {
                let promised = self.failures.forget(flight.key.module, &flight.plan.module);
                return self.orphans.extend(promised);
            }
            Outcome::Failed(refusal) if refusal.stage == Stage::Disabled => return,
            Outcome::Failed(refusal) => refusal.clone(),
        };
        if let Stage::Dependency(root) = &refusal.stage {
            let root = Key::plain(self.table.id(root));
            self.failures.count_against(&root, flight.asked, flight.asker);
        }
        let landing = Landing {
            refusal,
            cause: flight.plan.cause,
            planned: flight.since,
            backoff: &|failures| flight.plan.policy.backoff.after(failures),
            asked: flight.asked,
            alias: flight.alias,
        };
        if let Some((evicted, pending)) = self.failures.record(flight.key, landing, now) {
            self.orphans.push(evicted);
            self.orphans.extend(pending.dependents);
        }
    }

    /// A flight need not wait for this one any more.
    fn release(
        &mut self,
        modules: &mut dyn Modules,
        waiter: ModuleId,
        on: ModuleId,
        outcome: &Outcome,
        now: Time,
    ) {
        match (self.flights.release(waiter, on), outcome) {
            (Some(Edge::Hard), Outcome::Failed(refusal)) => {
                let refusal: Refusal = refusal.clone().of_dependency(self.table.name(on));
                self.land(modules, waiter, Outcome::Failed(refusal), now);
            }
            _ => self.board(waiter),
        }
    }

    /// No load can succeed any more: what waits for a slot lands now.
    fn disable(&mut self, modules: &mut dyn Modules, now: Time) {
        self.disabled = true;
        self.actions.push_back(Action::Disabled);
        let paused: Vec<ModuleId> =
            self.flights.iter().filter(|f| f.paused_until.is_some()).map(|f| f.key.module).collect();
        for id in self.slots.drain_ready().into_iter().chain(paused) {
            self.land(modules, id, Outcome::Failed(disabled()), now);
        }
    }

    /// Notes what became of a module a client asked for, and answers the client when that was the last one.
    pub(super) fn seat(&mut self, client: Option<ClientId>, module: ModuleId, standing: Standing) {
        let Some(client) = client else { return };
        if standing == Standing::InAir {
            return self.parties.wait(client, module);
        }
        let answer = (self.table.name(module).clone(), standing);
        if let Some(answers) = self.parties.tell(client, module, answer) {
            self.actions.push_back(Action::Answer(client, answers));
        }
    }

    /// A client's request has been gone through.
    pub(super) fn dismiss(&mut self, client: Option<ClientId>) {
        let answered = client.and_then(|client| Some((client, self.parties.complete(client)?)));
        self.actions.extend(answered.map(|(client, answers)| Action::Answer(client, answers)));
    }
}
