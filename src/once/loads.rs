// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loads in progress: which wait for which, and how many run at a time.
//!
//! There is never more than one load of a module. A load waits for others by an [`Edge`]. The edges form no cycle, whatever
//! modprobe.d says: an edge that would close one is left out, and where it may not be (a hard dependency), a softer one on
//! the cycle is given up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::failure::{Failure, Requesters};
use super::limits::Limits;
use super::modules::{Name, Plan};
use super::outcome::{LoadError, Stage};
use super::request::{Ask, Kind, Time};

/// Why a load waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// A dependency: if it fails, so does the load.
    Hard,
    /// A soft dependency: its outcome does not matter.
    Soft,
    /// The module before it in the same modalias: the order decides which driver gets to bind. Waited for until it has run for
    /// [`Limits::OLD`], or was asked for [`Limits::HOLD`] ago and has not begun.
    Order,
}

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// What it has to wait for is being collected.
    Planning,
    /// It waits for others.
    Blocked,
    /// It waits for a slot.
    Queued,
    /// It runs since then.
    Running(Time),
    /// It waits until then, between two tries.
    Paused(Time),
    /// Somebody else loads the module: it is looked at again then, and this is the pause before.
    Coming(Time, Duration),
}

#[derive(Debug)]
pub(super) struct Load {
    pub plan: Arc<Plan>,
    pub phase: Phase,
    pub blocked_by: Vec<(Name, Edge)>,
    /// The request that began it.
    pub first: Ask<'static>,
    /// Sequence numbers of the first and the last uevent that asked; 0 where none did.
    pub seqnums: (u64, u64),
    pub requesters: Requesters,
    /// When it was asked for, and when the first try started.
    pub since: Time,
    pub started: Option<Time>,
    pub tries: u32,
    /// So often it was planned anew, since what it was planned by had changed: an install command may change that each time.
    pub plans: u32,
    /// What is remembered until it ends.
    pub before: Option<Box<Failure>>,
    /// How many unloads had been seen when the present try began.
    pub unloads: u64,
    /// Should a dependency fail that will be retried, so is this.
    pub retries_with_dependency: bool,
}

#[derive(Debug)]
pub(super) struct Loads {
    loads: BTreeMap<Name, Load>,
    queue: VecDeque<Name>,
    limits: Limits,
}

impl Load {
    /// Whether the kernel waits for it: who asks may be the init of a module that is being loaded, and has a slot.
    pub fn is_urgent(&self) -> bool {
        self.requesters.kernel > 0
    }

    /// One more asks for it. What only the kernel has asked for is from then on the load of who else does.
    pub fn add(&mut self, ask: &Ask<'_>) {
        if self.first.by.kind != Kind::Kernel || ask.by.kind == Kind::Kernel {
            return self.requesters.add(ask.by);
        }
        let kernel = self.requesters.kernel;
        self.requesters = Requesters::of_attempt(ask.by, self.before.as_deref_mut());
        self.requesters.kernel = kernel;
        let (options, after) = (self.first.options.take(), std::mem::take(&mut self.first.after));
        self.first = Ask { options, after, ..ask.to_static() };
    }

    /// When it counts as a job no more, and nobody waits for it for the order's sake.
    fn overtaken_at(&self) -> Time {
        match self.phase {
            Phase::Running(since) => since + Limits::OLD,
            Phase::Coming(..) => self.since + Limits::OLD,
            _ => self.since + Limits::HOLD,
        }
    }

    /// When its pause ends, if it makes one.
    fn pause_ends(&self) -> Option<Time> {
        match self.phase {
            Phase::Paused(until) | Phase::Coming(until, _) => Some(until),
            _ => None,
        }
    }
}

impl Loads {
    pub fn new(limits: Limits) -> Self {
        Self { loads: BTreeMap::new(), queue: VecDeque::new(), limits }
    }

    pub fn insert(&mut self, load: Load) {
        self.loads.insert(load.plan.module.clone(), load);
    }

    pub fn get(&self, name: &str) -> Option<&Load> {
        self.loads.get(name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Load> {
        self.loads.get_mut(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Load> {
        self.loads.values()
    }

    /// A load has ended. Those that wait for it still do: see [`Loads::unblock`].
    pub fn remove(&mut self, name: &str) -> Option<Load> {
        self.queue.retain(|queued| **queued != *name);
        self.loads.remove(name)
    }

    /// Makes `waiter` wait for `on`.
    ///
    /// # Errors
    /// ELOOP where only hard edges could be given up: a cycle of dependencies, which depmod refuses to write.
    pub fn wait(&mut self, waiter: &Name, on: &Name, edge: Edge) -> Result<(), LoadError> {
        while let Some(path) = self.path(on, waiter, &mut BTreeSet::new()) {
            if edge != Edge::Hard {
                return Ok(());
            }
            let Some((from, to, _)) = path.iter().find(|(.., edge)| *edge != Edge::Hard) else {
                return Err(LoadError { errno: libc::ELOOP, stage: Stage::Dependency(on.clone()) });
            };
            self.give_up(from, to);
        }
        if !self.loads.contains_key(on) {
            return Ok(());
        }
        let Some(load) = self.loads.get_mut(waiter) else { return Ok(()) };
        // Who is waited for already is so by a stronger edge: dependencies are collected first, and the order last.
        if load.blocked_by.iter().all(|(name, _)| name != on) {
            load.blocked_by.push((on.clone(), edge));
        }
        if load.is_urgent() {
            self.urge(waiter);
        }
        Ok(())
    }

    /// The kernel waits for a load, and so for all that this waits for. What waits for the order of a device's modalias does so no
    /// more: what it waits for may be who asks.
    pub fn urge(&mut self, name: &Name) {
        let Some(load) = self.loads.get_mut(name) else { return };
        if load.first.by.kind != Kind::Kernel {
            load.blocked_by.retain(|(_, edge)| *edge != Edge::Order);
        }
        load.requesters.kernel = load.requesters.kernel.max(1);
        for (on, _) in load.blocked_by.clone() {
            if self.get(&on).is_some_and(|load| !load.is_urgent()) {
                self.urge(&on);
            }
        }
        self.enqueue(name);
    }

    /// Ends all waits for a module. Returns who waited, and how.
    pub fn unblock(&mut self, on: &str) -> Vec<(Name, Edge)> {
        let mut waited = Vec::new();
        for (name, load) in &mut self.loads {
            if let Some(index) = load.blocked_by.iter().position(|(other, _)| **other == *on) {
                waited.push((name.clone(), load.blocked_by.swap_remove(index).1));
            }
        }
        waited
    }

    /// All that a load has to wait for is known.
    pub fn planned(&mut self, name: &str) {
        if let Some(load) = self.loads.get_mut(name) {
            load.phase = Phase::Blocked;
        }
        self.enqueue(name);
    }

    /// Queues a load for a slot, if it waits for nothing any more.
    pub fn enqueue(&mut self, name: &str) {
        let Some(load) = self.loads.get_mut(name) else { return };
        if load.phase == Phase::Blocked && load.blocked_by.is_empty() {
            load.phase = Phase::Queued;
            self.queue.push_back(load.plan.module.clone());
        }
    }

    /// Ends waits for the order's sake that have become too long.
    pub fn overtake(&mut self, now: Time) {
        let mut overtakes = Vec::new();
        for (name, load) in &self.loads {
            for (on, _) in load.blocked_by.iter().filter(|(_, edge)| *edge == Edge::Order) {
                if self.is_overtaken(on, now) {
                    overtakes.push((name.clone(), on.clone()));
                }
            }
        }
        overtakes.iter().for_each(|(waiter, on)| self.give_up(waiter, on));
    }

    /// The loads whose pause is over.
    pub fn rested(&self, now: Time) -> Vec<Name> {
        let rested = self.iter().filter(|load| load.pause_ends().is_some_and(|end| end <= now));
        rested.map(|load| load.plan.module.clone()).collect()
    }

    /// The next load that waits for a slot, if one is free, or that waits for none. It is in the queue no more: [`Loads::start`] it.
    pub fn next_queued(&mut self, now: Time) -> Option<Name> {
        if self.queue.is_empty() {
            return None;
        }
        let running = |load: &&Load| matches!(load.phase, Phase::Running(_));
        let counts = |load: &&Load| !load.is_urgent() && now < load.overtaken_at();
        let young = self.iter().filter(running).filter(counts).count();
        let jobs = self.limits.jobs.max(1);
        if self.iter().filter(running).count() >= self.limits.processes.max(jobs) {
            return None;
        }
        let is_urgent = |name: &Name| self.get(name).is_some_and(Load::is_urgent);
        let next = if young < jobs { Some(0) } else { self.queue.iter().position(is_urgent) };
        self.queue.remove(next?)
    }

    /// A load that was queued runs from now on, unless there is something to wait for again.
    pub fn start(&mut self, name: &str, now: Time) -> Option<&mut Load> {
        let load = self.loads.get_mut(name)?;
        if !load.blocked_by.is_empty() {
            load.phase = Phase::Blocked;
            return None;
        }
        load.phase = Phase::Running(now);
        load.tries += 1;
        load.started.get_or_insert(now);
        Some(load)
    }

    /// When something is to be done next: a pause ends, a load is overtaken, or one holds udev's queue no more.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let next = |load: &Load| {
            let ages = [load.overtaken_at(), load.since + Limits::HOLD];
            load.pause_ends().into_iter().chain(ages.into_iter().filter(|age| *age > now)).min()
        };
        self.iter().filter_map(next).min()
    }

    /// Whether a load is one that nobody waits for, for the order's sake.
    pub fn is_overtaken(&self, name: &str, now: Time) -> bool {
        self.get(name).is_some_and(|load| load.overtaken_at() <= now)
    }

    fn give_up(&mut self, waiter: &Name, on: &Name) {
        if let Some(load) = self.loads.get_mut(waiter) {
            load.blocked_by.retain(|(other, _)| other != on);
        }
        self.enqueue(waiter);
    }

    /// The edges by which `from` waits for `to`, directly or through others not seen before; none, from a load to itself.
    fn path(&self, from: &Name, to: &Name, seen: &mut BTreeSet<Name>) -> Option<Vec<(Name, Name, Edge)>> {
        if from == to {
            return Some(Vec::new());
        }
        self.loads.get(from)?.blocked_by.iter().find_map(|(next, edge)| {
            let mut path = if seen.insert(next.clone()) { self.path(next, to, seen)? } else { return None };
            path.push((from.clone(), next.clone(), *edge));
            Some(path)
        })
    }
}
