// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state machine: requests in, actions out.
//!
//! The way of a request: [`Scheduler::request`] resolves the alias and goes through its modules; `want` finds each of them live
//! (a duplicate), loading (the request joins), failed (the [retry rules](super::failure)) or unknown, and `start` begins a load,
//! which first has its dependencies loaded in the same way. `finish` ends a load and tells everybody who waits for it.

use std::collections::{HashMap, VecDeque};
use std::ffi::CString;
use std::sync::Arc;

use super::aliases::Aliases;
use super::failure::{Decision, Failure, Kind, Requester, Requesters};
use super::limits::Limits;
use super::loads::{Cycle, Edge, First, Load, Loads, Phase};
use super::modules::{Candidate, InitState, Modules, Name, Plan, Verdict, Work};
use super::outcome::{AddOnce, LoadError, Outcome, Stage};
use super::policy::Mode;
use super::request::{ClientId, Origin, Request, Time};
use super::stats::Stats;

/// What the scheduler wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Perform a load and report it by [`Scheduler::finished`].
    Load(Arc<Plan>),
    /// Tell the world that a load has ended.
    Publish(AddOnce),
    /// Answer a client: it will not be answered again.
    Answer(ClientId, Vec<Answer>),
    /// Say, once, that this kernel loads no module any more: `kernel.modules_disabled` is 1.
    Disabled,
}

/// What became of one module that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
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
        error: LoadError,
        /// When it will be attempted again by itself.
        retry_at: Option<Time>,
    },
    /// It is being loaded: not known yet.
    Loading,
}

/// A module and what became of it.
pub type Answer = (Name, Status);

/// What is known of a module without asking. Of one that has no state nothing is: the kernel is asked.
#[derive(Debug)]
pub(super) enum State {
    /// There is a [`Load`].
    Loading,
    Live,
    Failed(Box<Failure>),
}

/// Decides which module is loaded when.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) states: HashMap<Name, State>,
    loads: Loads,
    aliases: Aliases,
    waiters: Vec<Waiter>,
    actions: VecDeque<Action>,
    stats: Stats,
    /// How many modules were seen to be unloaded.
    pub(super) unloads: u64,
    /// `kernel.modules_disabled` is 1.
    disabled: bool,
    /// Which reading of the module tree the aliases are from, and when it was last compared with what is there.
    generation: u64,
    compared: Option<Time>,
    changes: Changes,
}

/// How often what outlives the process has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The failures and what is to be retried.
    pub failures: u64,
    /// Who asked.
    pub requesters: u64,
}

/// A client that waits until all its modules are known.
#[derive(Debug)]
struct Waiter {
    client: ClientId,
    answers: Vec<Answer>,
}

/// A request, as it goes from module to module.
#[derive(Clone, Copy)]
struct Ask<'a> {
    by: Requester,
    alias: &'a [u8],
    options: Option<&'a Arc<CString>>,
    devpath: Option<&'a [u8]>,
    seqnum: u64,
    /// Policy `always`: what failed is attempted whenever it is asked for.
    always: bool,
    /// The module that needs the wanted one, where no request named it.
    pulled_in_by: Option<&'a Name>,
    /// The module before it in the alias, if that is being loaded.
    after: Option<&'a Name>,
}

impl Scheduler {
    /// A scheduler that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            states: HashMap::new(),
            loads: Loads::new(limits),
            aliases: Aliases::new(limits.aliases),
            waiters: Vec::new(),
            actions: VecDeque::new(),
            stats: Stats::default(),
            unloads: 0,
            disabled: false,
            generation: 0,
            compared: None,
            changes: Changes::default(),
        }
    }

    /// What is to be done, in the order in which it came up.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Somebody wants the modules of an alias.
    pub fn request(&mut self, modules: &mut dyn Modules, request: Request<'_>, now: Time) {
        self.refresh(modules, now);
        self.stats.requests += 1;
        let alias = self.aliases.resolve(request.alias, modules);
        alias.requests.set(alias.requests.get() + 1);
        self.stats.no_module += u64::from(alias.candidates.is_empty());
        let mut ask = Ask::new(Requester::new(self.stats.requests, &request.origin), &request);
        let mut answers = Vec::new();
        for candidate in &alias.candidates {
            let status = self.candidate(modules, candidate, &ask, now);
            if status == Status::Loading {
                ask.after = Some(&candidate.module);
            }
            if request.client.is_some() {
                answers.push((candidate.module.clone(), status));
            }
        }
        self.answer_when_known(request.client, answers);
        self.start_loads(now);
    }

    /// An administrator wants these modules attempted now, whatever is remembered of them; where none is named, all that are
    /// remembered as failed.
    pub fn retry(&mut self, modules: &mut dyn Modules, client: ClientId, names: &[String], now: Time) {
        self.refresh(modules, now);
        self.stats.requests += 1;
        let by = Requester::new(self.stats.requests, &Origin::Admin);
        let mut answers = Vec::new();
        for name in names {
            let request = Request { alias: name.as_bytes(), origin: Origin::Admin, client: Some(client) };
            for candidate in &self.aliases.resolve(request.alias, modules).candidates {
                let status = self.candidate(modules, candidate, &Ask::new(by, &request), now);
                answers.push((candidate.module.clone(), status));
            }
        }
        let failed = self.failures().map(|(name, _)| name.clone()).filter(|_| names.is_empty());
        for name in failed.collect::<Vec<_>>() {
            let request = Request { alias: name.as_bytes(), origin: Origin::Admin, client: Some(client) };
            let status = self.want(modules, &name, &Ask::new(by, &request), now);
            answers.push((name, status));
        }
        self.answer_when_known(Some(client), answers);
        self.start_loads(now);
    }

    /// A load that was asked for by [`Action::Load`] has ended.
    pub fn finished(&mut self, modules: &mut dyn Modules, module: &Name, outcome: Outcome, now: Time) {
        self.finish(modules, module, outcome, now);
        self.start_loads(now);
    }

    /// The kernel announced a module. That alone is not believed: `udevadm trigger` has one announced whose init still runs.
    pub fn module_added(&mut self, modules: &mut dyn Modules, name: &str, now: Time) {
        // Ours, most likely; in any case the load's own end is near and says more.
        let running = self.loads.get(name).is_some_and(|load| matches!(load.phase, Phase::Running(_)));
        if running || modules.initstate(name) != InitState::Live {
            return;
        }
        match self.loads.get(name) {
            Some(_) => self.finish(modules, &name.into(), Outcome::Live, now),
            None => self.became_live(&name.into()),
        }
        self.start_loads(now);
    }

    /// The kernel announced that a module is gone. One that failed was never live, whatever was announced: the kernel takes
    /// back the announcement of a module whose init fails.
    pub fn module_removed(&mut self, name: &str) {
        if matches!(self.states.get(name), Some(State::Loading | State::Failed(_))) {
            return;
        }
        self.states.remove(name);
        self.unloads += 1;
        self.changes.failures += 1;
    }

    /// Uevents were lost: what is believed to be live may have been unloaded, and what failed may be live.
    pub fn events_lost(&mut self) {
        self.unloads += 1;
        self.changes.failures += 1;
        self.states.retain(|_, state| !matches!(state, State::Live));
        self.failures_mut().for_each(|failure| failure.unverified = true);
    }

    /// Somebody says that something has changed: it is looked at now, and nothing that was resolved or compared before is
    /// believed any more. Failures are kept, for they go by their causes. Returns whether anything had changed.
    pub fn reload(&mut self, modules: &mut dyn Modules, now: Time) -> bool {
        self.compared = Some(now);
        self.generation += 1;
        self.aliases.clear();
        self.failures_mut().for_each(|failure| failure.compared = None);
        modules.refresh()
    }

    /// A client is gone; its modules are loaded all the same.
    pub fn client_gone(&mut self, client: ClientId) {
        self.waiters.retain(|waiter| waiter.client != client);
    }

    /// Time has passed.
    pub fn tick(&mut self, modules: &mut dyn Modules, now: Time) {
        let mut due: Vec<(Time, Name)> = self.retries().filter(|&(at, _)| at <= now).collect();
        due.sort_unstable();
        for (_, name) in due {
            let Some(State::Failed(failure)) = self.states.get(&name) else { continue };
            let (alias, options) = (failure.alias.clone(), failure.options.clone());
            let by = Requester { request: self.stats.requests, kind: Kind::Retry };
            let request = Request { alias: &alias, origin: Origin::Admin, client: None };
            let ask = Ask { options: options.as_ref(), ..Ask::new(by, &request) };
            self.want(modules, &name, &ask, now);
        }
        self.loads.tick(now);
        self.start_loads(now);
    }

    /// When [`Scheduler::tick`] has something to do next.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        self.retries().map(|(at, _)| at.max(now)).chain(self.loads.next_deadline(now)).min()
    }

    /// Whether nothing is being loaded. Retries do not count: they may be a minute away.
    pub fn is_settled(&self) -> bool {
        self.loads.len() == 0
    }

    /// Whether this kernel was found to load no module any more: `kernel.modules_disabled` is 1.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How often what outlives the process has changed.
    pub fn changes(&self) -> Changes {
        self.changes
    }

    /// How many modules are being loaded, those that wait included.
    pub fn loading(&self) -> usize {
        self.loads.len()
    }

    /// The loads that run, with the time they started at.
    pub fn running(&self) -> impl Iterator<Item = (&Name, Time)> {
        self.loads.iter().filter_map(|load| match load.phase {
            Phase::Running(since) => Some((&load.plan.module, since)),
            _ => None,
        })
    }

    /// What is remembered as failed, by name.
    pub fn failures(&self) -> impl Iterator<Item = (&Name, &Failure)> {
        let failed = self.states.iter().filter_map(|(name, state)| match state {
            State::Failed(failure) => Some((name, &**failure)),
            _ => None,
        });
        let again = self.loads.iter().filter_map(|load| Some((&load.plan.module, load.before.as_deref()?)));
        let mut failures: Vec<_> = failed.chain(again).collect();
        failures.sort_unstable_by_key(|(name, _)| *name);
        failures.into_iter()
    }

    /// The aliases asked for most, and how often since they were looked up.
    pub fn top_aliases(&self, limit: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<_> = self.aliases.iter().map(|(name, alias)| (name, alias.requests.get())).collect();
        all.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        all.truncate(limit);
        all
    }

    /// The aliases asked for last of which all modules that are to be loaded are live, each with these modules: as long as
    /// they are, whoever asks for it is a duplicate.
    pub fn live_aliases(&self) -> impl Iterator<Item = (&[u8], Vec<&str>)> {
        self.aliases.iter().filter_map(|(name, alias)| {
            let wanted = alias.candidates.iter().filter(|candidate| candidate.verdict == Verdict::Load);
            let live = |candidate: &Candidate| self.is_live(&candidate.module).then_some(());
            let names = wanted.map(|candidate| live(candidate).map(|()| &*candidate.module));
            Some((name, names.collect::<Option<Vec<_>>>()?))
        })
    }

    /// Compares what was read with what is there, at most once in [`Limits::FRESH`].
    fn refresh(&mut self, modules: &mut dyn Modules, now: Time) {
        if self.compared.is_some_and(|before| now.saturating_sub(before) < Limits::FRESH) {
            return;
        }
        self.compared = Some(now);
        if modules.refresh() {
            self.generation += 1;
            self.aliases.clear();
        }
    }

    /// Somebody wants one module of an alias, if that is to be loaded at all.
    fn candidate(
        &mut self,
        modules: &mut dyn Modules,
        candidate: &Candidate,
        ask: &Ask<'_>,
        now: Time,
    ) -> Status {
        let Candidate { module, verdict, options, policy } = candidate;
        if *verdict == Verdict::Builtin {
            return Status::Builtin;
        }
        if self.is_live(module) {
            self.stats.duplicates_live += 1;
            return Status::Live;
        }
        // As with modprobe: an administrator who names the module itself means it.
        let meant = ask.by.kind == Kind::Admin && is_name(ask.alias, module);
        if !meant {
            if *verdict == Verdict::Blacklisted {
                return Status::Blacklisted;
            }
            let mut excluded = || policy.unless.as_deref().is_some_and(|path| modules.exists(path));
            if policy.mode == Mode::Never || excluded() {
                return Status::RuledOut;
            }
        }
        let always = policy.mode == Mode::Always;
        self.want(modules, module, &Ask { always, options: options.as_ref(), ..*ask }, now)
    }

    /// Somebody wants a module.
    fn want(&mut self, modules: &mut dyn Modules, name: &Name, ask: &Ask<'_>, now: Time) -> Status {
        let named = u64::from(ask.pulled_in_by.is_none());
        match self.states.get(name) {
            Some(State::Live) => {
                self.stats.duplicates_live += named;
                return Status::Live;
            }
            Some(State::Loading) => {
                self.stats.duplicates_loading += named;
                self.join(name, ask);
                return Status::Loading;
            }
            _ if self.disabled => return Status::Failed { error: LoadError::DISABLED, retry_at: None },
            Some(State::Failed(_)) if !ask.always => match self.decide(modules, name, ask.by, now) {
                Decision::Attempt => {}
                Decision::RetryAt(at) => {
                    self.stats.deferred += named;
                    return self.failed(name, Some(at));
                }
                Decision::Duplicate => {
                    self.stats.duplicates_failed += named;
                    return self.failed(name, None);
                }
            },
            Some(State::Failed(_)) | None => {}
        }
        self.start(modules, name, ask, now)
    }

    /// The retry rules, for a module that has failed. A failure of a dependency has no rules of its own: what holds is what
    /// the rules say of the dependency.
    fn decide(&mut self, modules: &mut dyn Modules, name: &Name, by: Requester, now: Time) -> Decision {
        if self.has_changed(modules, name, now) {
            return Decision::Attempt;
        }
        let root = self.root(name);
        if root != *name && self.has_changed(modules, &root, now) {
            return Decision::Attempt;
        }
        let unloads = self.unloads;
        let Some(failure) = self.failure_mut(&root) else { return Decision::Attempt };
        let pending = failure.pending.is_some();
        let decision = failure.decide(by, unloads, now);
        self.changes.requesters += 1;
        self.changes.failures += u64::from(!pending && decision != Decision::Duplicate);
        if let Some(failure) = self.failure_mut(name).filter(|_| root != *name) {
            match decision {
                Decision::Attempt => {}
                Decision::RetryAt(_) => failure.pending.get_or_insert_default().add(by),
                Decision::Duplicate => failure.requesters.add(by),
            }
        }
        decision
    }

    /// Whether a failure no longer holds, whoever asks: the module is live after all, or (rule 1) the cause is another one.
    /// Compared at most once in [`Limits::FRESH`].
    fn has_changed(&mut self, modules: &mut dyn Modules, name: &Name, now: Time) -> bool {
        let Some(failure) = self.failure_mut(name) else { return true };
        if failure.unverified {
            failure.unverified = modules.initstate(name) == InitState::Live;
            if failure.unverified {
                return true;
            }
        }
        if failure.compared.is_some_and(|before| now.saturating_sub(before) < Limits::FRESH) {
            return false;
        }
        let changed = modules.plan(name, failure.options.as_deref()).cause != failure.cause;
        if !changed {
            failure.compared = Some(now);
        }
        changed
    }

    /// The module that a failure goes back to: itself, or the dependency that failed.
    fn root(&self, name: &Name) -> Name {
        let mut root = name;
        // A broken index may name modules in a circle.
        for _ in 0..self.states.len() {
            let Some(State::Failed(failure)) = self.states.get(root) else { break };
            let Stage::Dependency(deeper) = &failure.error.stage else { break };
            root = deeper;
        }
        root.clone()
    }

    /// The attempts that were accepted, and when they are due: with the dependency that failed.
    fn retries(&self) -> impl Iterator<Item = (Time, Name)> {
        let failed = self.states.iter().filter(|_| !self.disabled);
        failed.filter_map(|(name, state)| match state {
            State::Failed(failure) if failure.pending.is_some() => {
                let due = match self.states.get(&self.root(name)) {
                    Some(State::Failed(root)) => root.retry_at,
                    _ => Time::ZERO,
                };
                Some((due, name.clone()))
            }
            _ => None,
        })
    }

    /// Joins a load.
    fn join(&mut self, name: &Name, ask: &Ask<'_>) {
        let Some(load) = self.loads.get_mut(name) else { return };
        load.requesters.add(ask.by);
        if ask.seqnum != 0 {
            let (first, last) = load.seqnums;
            load.seqnums =
                (if first == 0 { ask.seqnum } else { first.min(ask.seqnum) }, last.max(ask.seqnum));
        }
        // Who asks for a module asks for what it waits for.
        let hard = load.blocked_by.iter().filter(|(_, edge)| *edge == Edge::Hard);
        for dependency in hard.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            if let Some(load) = self.loads.get_mut(&dependency) {
                load.requesters.add(ask.by);
            }
        }
    }

    /// Begins a load.
    fn start(&mut self, modules: &mut dyn Modules, name: &Name, ask: &Ask<'_>, now: Time) -> Status {
        if modules.initstate(name) == InitState::Live {
            self.became_live(name);
            return Status::Live;
        }
        let plan = Arc::new(modules.plan(name, ask.options.map(|options| &**options)));
        if plan.work == Work::Builtin {
            self.became_live(name);
            return Status::Live;
        }
        let mut before = match self.states.insert(name.clone(), State::Loading) {
            Some(State::Failed(failure)) => Some(failure),
            _ => None,
        };
        self.loads.insert(Load {
            generation: self.generation,
            phase: Phase::Planning,
            blocked_by: Vec::new(),
            first: First::of(ask),
            seqnums: (ask.seqnum, ask.seqnum),
            requesters: Requesters::of_attempt(ask.by, before.as_deref_mut()),
            since: now,
            started: None,
            tries: 0,
            before,
            retries_with_dependency: false,
            plan: plan.clone(),
        });
        self.plan(modules, &plan, ask, now);
        self.status(name)
    }

    /// Has the dependencies of a load loaded, and queues it.
    fn plan(&mut self, modules: &mut dyn Modules, plan: &Plan, ask: &Ask<'_>, now: Time) {
        match self.collect(modules, plan, ask, now) {
            Ok(()) => self.loads.planned(&plan.module),
            Err(error) => self.finish(modules, &plan.module, Outcome::Failed(error), now),
        }
    }

    /// Collects what a load has to wait for.
    fn collect(
        &mut self,
        modules: &mut dyn Modules,
        plan: &Plan,
        ask: &Ask<'_>,
        now: Time,
    ) -> Result<(), LoadError> {
        let name = &plan.module;
        if plan.work == Work::Missing {
            return Err(LoadError { errno: libc::ENOENT, stage: Stage::Plan });
        }
        let needed = Ask { options: None, always: false, pulled_in_by: Some(name), after: None, ..*ask };
        for dependency in &plan.deps {
            match self.want(modules, dependency, &needed, now) {
                Status::Loading => self.wait(name, dependency, Edge::Hard)?,
                Status::Failed { error, retry_at } => {
                    if let Some(load) = self.loads.get_mut(name) {
                        load.retries_with_dependency = retry_at.is_some();
                    }
                    return Err(error.of_dependency(dependency));
                }
                _ => {}
            }
        }
        for soft in &plan.pre {
            if self.want(modules, soft, &needed, now) == Status::Loading {
                self.wait(name, soft, Edge::Soft)?;
            }
        }
        match ask.after.filter(|after| !self.loads.is_held_up(after, now)) {
            Some(after) => self.wait(name, after, Edge::Order),
            None => Ok(()),
        }
    }

    fn wait(&mut self, waiter: &Name, on: &Name, edge: Edge) -> Result<(), LoadError> {
        let cycle = |Cycle| LoadError { errno: libc::ELOOP, stage: Stage::Dependency(on.clone()) };
        self.loads.wait(waiter, on, edge).map_err(cycle)
    }

    /// Starts as many loads as there are slots.
    fn start_loads(&mut self, now: Time) {
        while let Some(load) = self.loads.start_next(now) {
            self.stats.attempts += 1;
            self.actions.push_back(Action::Load(load.plan.clone()));
        }
    }

    /// A load ends, unless it is tried again.
    fn finish(&mut self, modules: &mut dyn Modules, name: &Name, outcome: Outcome, now: Time) {
        let Some(load) = self.loads.get_mut(name) else { return };
        let mut error = None;
        if let Outcome::Failed(failed) = &outcome {
            if failed.is_transient() && load.tries < Limits::TRIES && !self.disabled {
                let pause = Limits::PAUSE * (1 << load.tries.saturating_sub(1));
                return self.loads.pause(name, now + pause);
            }
            error = Some(failed.clone());
            if load.generation != self.generation && failed.stage != Stage::Disabled {
                // Rule 1: the cause has changed since.
                let options = load.first.options.clone();
                let plan = Arc::new(modules.plan(name, options.as_deref()));
                load.generation = self.generation;
                if plan.cause != load.plan.cause && load.tries > 0 {
                    (load.plan, load.phase, load.tries) = (plan.clone(), Phase::Planning, 0);
                    let first = load.first.clone();
                    return self.plan(modules, &plan, &first.ask(), now);
                }
            }
        }
        let Some(load) = self.loads.remove(name) else { return };
        self.publish(&load, &outcome, now);
        let (plan, first) = (load.plan.clone(), load.first.clone());
        match &error {
            None => self.became_live(name),
            Some(error) if error.stage == Stage::Disabled => drop(self.states.remove(name)),
            Some(error) => self.remember(load, error.clone(), now),
        }
        self.tell(name);
        for (waiter, edge) in self.loads.unblock(name) {
            match &error {
                Some(error) if edge == Edge::Hard => {
                    let error = error.clone().of_dependency(name);
                    self.finish(modules, &waiter, Outcome::Failed(error), now);
                }
                _ => self.loads.enqueue(&waiter),
            }
        }
        match error {
            None => {
                for soft in &plan.post {
                    let ask = Ask { options: None, pulled_in_by: Some(name), ..first.ask() };
                    self.want(modules, soft, &ask, now);
                }
            }
            Some(error) if error == LoadError::DISABLED && !self.disabled => self.disable(modules, now),
            Some(_) => {}
        }
    }

    /// One load, one record.
    fn publish(&mut self, load: &Load, outcome: &Outcome, now: Time) {
        match outcome {
            Outcome::Live => self.stats.live += 1,
            Outcome::Failed(_) => self.stats.failed += 1,
        }
        if *outcome == Outcome::Failed(LoadError::DISABLED) {
            // Said once for all of them, by Action::Disabled.
            return;
        }
        let started = load.started.unwrap_or(now);
        self.actions.push_back(Action::Publish(AddOnce {
            module: load.plan.module.clone(),
            outcome: outcome.clone(),
            alias: load.first.alias.clone(),
            devpath: load.first.devpath.clone(),
            seqnums: load.seqnums,
            asked: load.requesters.requests,
            waited: started.saturating_sub(load.since),
            load: now.saturating_sub(started),
            pulled_in_by: load.first.pulled_in_by.clone(),
        }));
    }

    /// A module is live, whoever loaded it. What failed because of it may not fail any more.
    fn became_live(&mut self, name: &Name) {
        self.states.insert(name.clone(), State::Live);
        self.states.retain(|_, state| match state {
            State::Failed(failure) => failure.pending.is_some() || failure.dependency() != Some(name),
            _ => true,
        });
        self.changes.failures += 1;
    }

    fn remember(&mut self, load: Load, error: LoadError, now: Time) {
        let Load { plan, first, requesters, since, before, retries_with_dependency, .. } = load;
        let before = before.filter(|failure| failure.cause == plan.cause);
        let attempts = before.map_or(0, |failure| failure.attempts).saturating_add(1);
        let failure = Failure {
            error,
            cause: plan.cause,
            attempts,
            failed_at: now,
            retry_at: now + plan.policy.backoff.after(attempts),
            requesters,
            pending: retries_with_dependency.then(Requesters::default),
            alias: first.alias,
            options: first.options,
            unloads: self.unloads,
            unverified: false,
            compared: Some(since),
        };
        self.states.insert(plan.module.clone(), State::Failed(Box::new(failure)));
        self.changes.failures += 1;
    }

    /// No load can succeed any more: what does not run ends now.
    fn disable(&mut self, modules: &mut dyn Modules, now: Time) {
        self.disabled = true;
        self.actions.push_back(Action::Disabled);
        let waits = |load: &&Load| matches!(load.phase, Phase::Queued | Phase::Paused(_));
        let waiting: Vec<Name> =
            self.loads.iter().filter(waits).map(|load| load.plan.module.clone()).collect();
        for name in waiting {
            self.finish(modules, &name, Outcome::Failed(LoadError::DISABLED), now);
        }
    }

    /// Answers a client at once, or as soon as what it asked for is known.
    fn answer_when_known(&mut self, client: Option<ClientId>, mut answers: Vec<Answer>) {
        let Some(client) = client else { return };
        for (name, status) in &mut answers {
            if *status == Status::Loading {
                *status = self.status(name);
            }
        }
        self.waiters.push(Waiter { client, answers });
        self.answer();
    }

    /// Tells all who wait for a module what became of it.
    fn tell(&mut self, name: &Name) {
        let status = self.status(name);
        for (module, known) in self.waiters.iter_mut().flat_map(|waiter| &mut waiter.answers) {
            if module == name && *known == Status::Loading {
                known.clone_from(&status);
            }
        }
        self.answer();
    }

    fn answer(&mut self) {
        let waits = |waiter: &Waiter| waiter.answers.iter().any(|(_, status)| *status == Status::Loading);
        let (waiting, known): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(waits);
        self.waiters = waiting;
        self.actions.extend(known.into_iter().map(|waiter| Action::Answer(waiter.client, waiter.answers)));
    }

    fn is_live(&self, name: &str) -> bool {
        matches!(self.states.get(name), Some(State::Live))
    }

    /// What a module that was asked for has come to.
    fn status(&self, name: &str) -> Status {
        match self.states.get(name) {
            Some(State::Live) => Status::Live,
            Some(State::Loading) => Status::Loading,
            Some(State::Failed(_)) => self.failed(name, None),
            None => Status::Failed { error: LoadError::DISABLED, retry_at: None },
        }
    }

    fn failed(&self, name: &str, retry_at: Option<Time>) -> Status {
        match self.states.get(name) {
            Some(State::Failed(failure)) => Status::Failed { error: failure.error.clone(), retry_at },
            _ => unreachable!("{name} has failed"),
        }
    }

    fn failure_mut(&mut self, name: &str) -> Option<&mut Failure> {
        match self.states.get_mut(name) {
            Some(State::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    fn failures_mut(&mut self) -> impl Iterator<Item = &mut Failure> {
        self.states.values_mut().filter_map(|state| match state {
            State::Failed(failure) => Some(&mut **failure),
            _ => None,
        })
    }
}

impl<'a> Ask<'a> {
    fn new(by: Requester, request: &Request<'a>) -> Self {
        let (devpath, seqnum) = (request.origin.devpath(), request.origin.seqnum());
        let (options, always, pulled_in_by, after) = Default::default();
        Self { by, alias: request.alias, options, devpath, seqnum, always, pulled_in_by, after }
    }
}

impl First {
    fn of(ask: &Ask<'_>) -> Self {
        Self {
            by: ask.by,
            alias: ask.alias.into(),
            options: ask.options.cloned(),
            devpath: ask.devpath.map(Into::into),
            pulled_in_by: ask.pulled_in_by.cloned(),
        }
    }

    /// The request once more.
    fn ask(&self) -> Ask<'_> {
        let (alias, devpath, options) = (&self.alias, self.devpath.as_deref(), self.options.as_ref());
        let (seqnum, always, after) = Default::default();
        let pulled_in_by = self.pulled_in_by.as_ref();
        Ask { by: self.by, alias, options, devpath, seqnum, always, pulled_in_by, after }
    }
}

/// Whether an alias is the module's own name; modprobe takes `-` for `_`.
fn is_name(alias: &[u8], name: &str) -> bool {
    let underscored = alias.iter().map(|&byte| if byte == b'-' { b'_' } else { byte });
    underscored.eq(name.bytes())
}
