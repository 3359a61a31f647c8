// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Coalescer: requests in, actions out
//!
//! The head of the core: it takes requests, landings, the kernel's word on modules and the passing of time, and
//! gives out [`Action`]s. The way of a request: [`Coalescer::request`] resolves it through the memo and meets
//! its modules one by one; `takeoff.rs` decides whether one joins a flight, is a duplicate or takes off, with its
//! dependencies first, `ruling.rs` what becomes of it where the module failed; `landing.rs` spreads an outcome to everybody who waits for it.
//!
//! Bounded by [`Limits`] and by the number of modules in the tree.

use std::collections::VecDeque;
use std::sync::Arc;

use super::askers::Devices;
use super::failures::{Failures, Key};
use super::flight::Flights;
use super::limits::Limits;
use super::memo::Memo;
use super::outcome::{AddOnce, Outcome};
use super::party::{Answer, Parties};
use super::request::{Asker, ClientId, Origin, Request, Time};
use super::secret::Secret;
use super::sightings::Sightings;
use super::slots::Slots;
use super::storm::Storm;
use super::table::{State, Table};
use super::takeoff::Ask;
use super::tally::Tally;
use super::world::{Modules, Name, Plan, Verdict};

/// What the core wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Perform a load and report it by [`Coalescer::landed`].
    Load(Arc<Plan>),
    /// Tell the world that a flight has landed.
    Publish(AddOnce),
    /// Answer a client: it will not be answered again.
    Answer(ClientId, Vec<Answer>),
    /// Say, once, that this kernel loads no module any more: `kernel.modules_disabled` is 1.
    Disabled,
}

/// The core.
#[derive(Debug)]
pub struct Coalescer {
    pub(super) table: Table,
    pub(super) memo: Memo,
    pub(super) failures: Failures,
    pub(super) sightings: Sightings,
    pub(super) flights: Flights,
    pub(super) slots: Slots,
    pub(super) parties: Parties,
    pub(super) tally: Tally,
    pub(super) storm: Storm,
    pub(super) devices: Devices,
    pub(super) actions: VecDeque<Action>,
    /// Attempts that were promised by failures that had to be forgotten: they are made at once.
    pub(super) orphans: Vec<Key>,
    /// `kernel.modules_disabled` is 1.
    pub(super) disabled: bool,
    /// Which reading of the module tree the memo is from.
    pub(super) generation: u64,
    compared: Option<Time>,
    pub(super) secret: Secret,
    /// The last request that was numbered before the first of this core's.
    pub(super) numbered: u64,
}

impl Coalescer {
    /// A core that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            table: Table::default(),
            memo: Memo::new(limits.memo),
            failures: Failures::new(limits.failures),
            sightings: Sightings::new(limits.sightings),
            flights: Flights::default(),
            slots: Slots::new(&limits),
            parties: Parties::default(),
            tally: Tally::default(),
            storm: Storm::new(limits.bars),
            devices: Devices::default(),
            actions: VecDeque::new(),
            orphans: Vec::new(),
            disabled: false,
            generation: 0,
            compared: None,
            secret: Secret::default(),
            numbered: 0,
        }
    }

    /// What is to be done, in the order in which it came up.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Somebody wants the drivers of an alias.
    pub fn request(&mut self, modules: &mut dyn Modules, request: Request<'_>, now: Time) {
        self.refresh(modules, now);
        self.storm.request(&self.tally, now);
        let client = request.origin.client();
        let resolved = self.memo.resolve(request.alias, modules, &mut self.table);
        resolved.count();
        if let Some(devpath) = request.origin.devpath() {
            self.devices.count(devpath);
        }
        self.tally.no_module += u64::from(resolved.wanted.is_empty());
        if let (None, Some(live)) = (client, resolved.all_live(&self.table)) {
            self.tally.requests += 1;
            self.tally.duplicates_live += live;
            return;
        }
        let asker = self.enter(&request.origin);
        if client.is_none() && self.passes_quietly(&resolved, asker, now) {
            return;
        }
        self.meet_all(modules, &resolved, Ask::of(asker, &request), now);
        self.dismiss(client);
        self.depart(now);
    }

    /// An administrator's word: attempt these modules now, whatever is remembered of them; where none is named, all
    /// that are remembered as failed.
    pub fn retry(&mut self, modules: &mut dyn Modules, client: ClientId, names: &[String], now: Time) {
        self.refresh(modules, now);
        self.storm.request(&self.tally, now);
        let origin = Origin::Client { client, device: None };
        let asker = self.enter(&origin);
        for name in names {
            let resolved = self.memo.resolve(name.as_bytes(), modules, &mut self.table);
            let request = Request { alias: name.as_bytes(), origin };
            self.meet_all(modules, &resolved, Ask::of(asker, &request), now);
        }
        if names.is_empty() {
            let failed: Vec<Key> = self.failures.by_use().map(|(key, _)| key.clone()).collect();
            for key in failed {
                let module = key.module;
                let name = self.table.name(module).clone();
                let ask = Ask::of(asker, &Request { alias: name.as_bytes(), origin });
                let standing = self.want(modules, key, &ask, now);
                self.seat(Some(client), module, standing);
            }
        }
        self.dismiss(Some(client));
        self.depart(now);
    }

    /// A load that was asked for by [`Action::Load`] has ended.
    pub fn landed(&mut self, modules: &mut dyn Modules, module: &Name, outcome: Outcome, now: Time) {
        if let Some(id) = self.table.find(module) {
            self.land(modules, id, outcome, now);
        }
        self.depart(now);
    }

    /// Somebody says that something has changed: it is looked at now, and nothing that was resolved or compared before is
    /// believed any more. Failures are kept, for they go by their causes. Returns whether the modules' world had changed.
    pub fn reload(&mut self, modules: &mut dyn Modules, now: Time) -> bool {
        self.compared = Some(now);
        self.generation += 1;
        self.memo.clear();
        self.failures.compare_anew();
        modules.refresh()
    }

    /// A client is gone; its modules fly on.
    pub fn client_gone(&mut self, client: ClientId) {
        self.parties.close(client);
    }

    /// Time has passed: promised attempts, second tries, and loads that became old.
    pub fn tick(&mut self, modules: &mut dyn Modules, now: Time) {
        let mut due = self.failures.due(now);
        due.retain(|key| !self.disabled && self.table.state(key.module) == State::Idle);
        due.append(&mut self.orphans);
        for key in due {
            let alias = self.failures.get(&key).map_or_else(Box::default, |failure| failure.alias.clone());
            let asker = Asker::due(self.number());
            self.want(modules, key, &Ask::due(asker, &alias), now);
        }
        self.resume(now);
        if self.slots.old(now).next().is_some() {
            for (waiter, on) in self.flights.ordered() {
                if self.is_held_up(on, now) {
                    self.flights.release(waiter, on);
                    self.board(waiter);
                }
            }
        }
        self.depart(now);
    }

    /// When [`Coalescer::tick`] has something to do next.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let orphans = (!self.orphans.is_empty()).then_some(now);
        let paused = self.flights.iter().filter_map(|flight| flight.paused_until).min();
        let idle = |key: &Key| !self.disabled && self.table.state(key.module) == State::Idle;
        [orphans, self.failures.next_due(idle), paused, self.slots.next_old(now)].into_iter().flatten().min()
    }

    /// Whether nothing is in the air. Promised attempts do not count: they may be a minute away.
    pub fn is_settled(&self) -> bool {
        self.flights.is_empty() && self.orphans.is_empty()
    }

    /// Whether this kernel was found to load no module any more: `kernel.modules_disabled` is 1.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// The counters.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The loads that are running, with the time they started at.
    pub fn loading(&self) -> impl Iterator<Item = (&Name, Time)> {
        self.slots.loading().iter().map(|&(id, since)| (self.table.name(id), since))
    }

    /// How many sightings are remembered: a device that asked for a module that was not live is one.
    pub fn sighted(&self) -> usize {
        self.sightings.len()
    }

    /// How many flights are in the air, those that wait for others included.
    pub fn in_air(&self) -> usize {
        self.flights.len()
    }

    /// What is remembered as failed, by name.
    pub fn failures(&self) -> impl Iterator<Item = (&Name, &super::failures::Failure)> {
        self.failures.by_use().map(|(key, failure)| (self.table.name(key.module), failure))
    }

    /// The modaliases asked for last of which all modules that are to be loaded are live, each with these modules: as long
    /// as they are, whoever asks for it is a duplicate.
    pub fn all_live(&self) -> impl Iterator<Item = (&[u8], Vec<&str>)> {
        let live = self.memo.resolutions().filter(|(_, resolved)| resolved.all_live(&self.table).is_some());
        live.map(|(alias, resolved)| {
            let wanted = resolved.wanted.iter().filter(|wanted| wanted.verdict == Verdict::Load);
            (alias, wanted.map(|wanted| &**self.table.name(wanted.module)).collect())
        })
    }

    /// The number of the last request.
    pub(super) fn number(&self) -> u64 {
        self.numbered + self.tally.requests
    }

    /// A request comes in: it gets its number.
    fn enter(&mut self, origin: &Origin<'_>) -> Asker {
        self.tally.requests += 1;
        if let Some(client) = origin.client() {
            self.parties.open(client);
        }
        Asker::new(self.number(), origin, &self.secret)
    }

    /// Compares what was read with what is there, at most once in [`Limits::FRESH`].
    fn refresh(&mut self, modules: &mut dyn Modules, now: Time) {
        if self.compared.is_some_and(|before| now.saturating_sub(before) < Limits::FRESH) {
            return;
        }
        self.compared = Some(now);
        if modules.refresh() {
            self.generation += 1;
            self.memo.clear();
        }
    }
}
