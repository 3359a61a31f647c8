// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state machine: requests in, actions out.
//!
//! The way of a request: [`Scheduler::request`] resolves the alias and goes through its modules; `want` finds each of them live
//! (a duplicate), loading (the request joins), failed (the [retry rules](super::failure)) or unknown, and `start` begins a load,
//! which first has its dependencies loaded in the same way. `finish` ends a load and tells everybody who waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::HashMap;
use lru::LruCache;

use super::failure::{Decision, Failure, Requesters};
use super::limits::Limits;
use super::loads::{Edge, Load, Loads, Phase};
use super::modules::{Candidate, InitState, Modules, Name, Plan, Verdict, Work};
use super::outcome::{AddOnce, LoadError, Outcome, Stage};
use super::policy::Mode;
use super::request::{Ask, ClientId, Kind, Origin, Request, Requester, Time};
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
    /// The same, for the kernel's own request: it is modprobe's to perform.
    HandBack(ClientId),
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
    /// hwdb says that it is not to be loaded; or somebody has unloaded it, and this is no new request for it.
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
    /// No failure is known by this name, which stands in the module's place, and it is not live.
    Unknown,
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
///
/// * What comes in: [`request`](Self::request), [`retry`](Self::retry), [`finished`](Self::finished),
///   [`module_added`](Self::module_added), [`module_removed`](Self::module_removed), [`events_lost`](Self::events_lost),
///   [`client_gone`](Self::client_gone), and time: [`tick`](Self::tick).
/// * What goes out, after any of these: [`next_action`](Self::next_action); and when `tick` is due:
///   [`next_deadline`](Self::next_deadline).
#[derive(Debug)]
pub struct Scheduler {
    pub(super) states: HashMap<Name, State>,
    pub(super) loads: Loads,
    /// What the aliases asked for last resolve to, so that a storm of one costs one lookup: those of devices and administrators; and
    /// apart from them, for anybody may have the kernel ask for anything, the last of the kernel's.
    aliases: [Aliases; 2],
    /// Clients that wait until all their modules are known.
    waiters: Vec<Waiter>,
    actions: VecDeque<Action>,
    stats: Stats,
    /// The last request's number. It goes on in the next process, as what is numbered by it does.
    pub(super) requests: u64,
    /// How many modules were seen to be unloaded, and which of them nobody has asked for since.
    pub(super) unloads: u64,
    pub(super) unloaded: BTreeSet<Name>,
    /// What the process before this one was loading.
    pub(super) unfinished: BTreeSet<Name>,
    /// What was announced before its init was over, as kernels before 5.12 do, and has not been seen live since.
    coming: BTreeMap<Name, Time>,
    /// `kernel.modules_disabled` is 1: this kernel loads no module any more.
    pub disabled: bool,
    /// How often what outlives the process has changed.
    pub changes: u64,
}

type Aliases = LruCache<Vec<u8>, Rc<[Candidate]>>;

/// A client that waits.
#[derive(Debug)]
struct Waiter {
    client: ClientId,
    answers: Vec<Answer>,
    /// Soft dependencies of its modules that are still being loaded: modprobe waits for them and does not say what became of them.
    soft: Vec<Name>,
}

/// A load in progress.
#[derive(Clone, Copy, Debug)]
pub struct Loading<'a> {
    /// The module.
    pub module: &'a Name,
    /// When it was asked for.
    pub since: Time,
    /// Since when the present try runs; none while the load waits.
    pub running: Option<Time>,
    /// Since when it waits for somebody else's load of the module, if it does.
    pub coming: Option<Time>,
    /// Only the kernel has asked for it.
    pub for_kernel: bool,
}

impl Scheduler {
    /// A scheduler that knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            states: HashMap::default(),
            loads: Loads::new(limits),
            aliases: [limits.aliases, NonZeroUsize::MIN].map(LruCache::new),
            waiters: Vec::new(),
            actions: VecDeque::new(),
            stats: Stats::default(),
            requests: 0,
            unloads: 0,
            unloaded: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            coming: BTreeMap::new(),
            disabled: false,
            changes: 0,
        }
    }

    /// What is to be done, in the order in which it came up.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Somebody wants the modules of an alias.
    pub fn request(&mut self, modules: &mut dyn Modules, request: Request<'_>, now: Time) {
        let by = self.requester(&request.origin);
        let is_kernel = by.kind == Kind::Kernel;
        // Even where all its modules are live: there may be one more by now.
        self.refresh(modules);
        let candidates = self.resolve(modules, request.alias, is_kernel);
        if is_kernel && self.is_modprobes(modules, &candidates) {
            // modprobe does not know of policy, and what is modprobe's is not done without it.
            let is_refused = candidates.iter().any(|found| is_ruled_out(modules, found));
            let refused = candidates.iter().map(|found| (found.module.clone(), Status::RuledOut));
            let action = |client| match is_refused {
                true => Action::Answer(client, refused.collect()),
                false => Action::HandBack(client),
            };
            return self.actions.extend(request.client.map(action));
        }
        self.stats.no_module += u64::from(candidates.is_empty() && !is_kernel);
        let before = self.stats;
        let mut ask = Ask::new(by, request.alias, &request.origin);
        let mut answers = Vec::new();
        for candidate in &*candidates {
            let status = self.candidate(modules, candidate, &mut ask, now);
            if status == Status::Loading {
                ask.after.push(candidate.module.clone());
            }
            if request.client.is_some() {
                answers.push((candidate.module.clone(), status));
            }
        }
        // What a blacklist keeps out is no failure any more.
        let is_out = |found: &&Candidate| {
            found.verdict == Verdict::Blacklisted && !is_name(request.alias, &found.module)
        };
        candidates.iter().filter(is_out).for_each(|found| _ = self.forget(&found.module));
        let changed = (self.stats.loads, self.stats.deferred) != (before.loads, before.deferred);
        // All else that is counted on the way is a duplicate.
        let duplicate = by.kind != Kind::Admin && !changed && self.stats != before;
        self.stats.duplicate_requests += u64::from(duplicate);
        self.waiters.extend(request.client.map(|client| Waiter { client, answers, soft: Vec::new() }));
        self.answer();
        self.start_loads(modules, now);
    }

    /// An administrator wants these modules that have failed attempted now; where none is named, all that are remembered. What has not
    /// failed is not loaded; what a blacklist or policy has ruled out since is forgotten.
    pub fn retry(
        &mut self,
        modules: &mut dyn Modules,
        client: Option<ClientId>,
        names: &[String],
        now: Time,
    ) {
        self.refresh(modules);
        let by = self.requester(&Origin::Admin);
        let failed: Vec<Name> = self.failures().map(|(name, _)| name.clone()).collect();
        let named = names.iter().map(|name| name.replace('-', "_").as_str().into());
        let names = if names.is_empty() { failed.clone() } else { named.collect() };
        let mut answers = Vec::new();
        for name in names {
            // What is remembered by this name is meant, whatever it may be an alias of.
            let ask = Ask::new(by, name.as_bytes(), &Origin::Admin);
            let is_live = modules.initstate(&name) == InitState::Live;
            let status = match self.states.get(&name) {
                None if is_live => Status::Live,
                // A failure may have gone with what it is because of, which is live after all: that is attempted.
                None if !failed.contains(&name) => Status::Unknown,
                _ => match self.ruled_out(modules, &name).filter(|_| !is_live && self.forget(&name)) {
                    Some(ruled_out) => ruled_out,
                    None => self.want(modules, &name, &ask, now),
                },
            };
            answers.push((name, status));
        }
        self.waiters.extend(client.map(|client| Waiter { client, answers, soft: Vec::new() }));
        self.answer();
        self.start_loads(modules, now);
    }

    /// A load that was asked for by [`Action::Load`] has ended.
    pub fn finished(&mut self, modules: &mut dyn Modules, module: &Name, outcome: Outcome, now: Time) {
        self.finish(modules, module, outcome, now);
        self.start_loads(modules, now);
    }

    /// The kernel announced a module. That alone is not believed: before 5.12 it does so before the module's init runs.
    pub fn module_added(&mut self, modules: &mut dyn Modules, name: &str, now: Time) {
        let found = modules.initstate(name);
        if found == InitState::Coming {
            self.coming.insert(name.into(), now);
        }
        // Ours, most likely; in any case the load's own end is near and says more.
        let running = self.loads.get(name).is_some_and(|load| matches!(load.phase, Phase::Running(_)));
        if running || found != InitState::Live {
            return;
        }
        match self.loads.get(name) {
            Some(_) => self.finish(modules, &name.into(), Outcome::Live, now),
            None => self.became_live(&name.into()),
        }
        self.start_loads(modules, now);
    }

    /// The kernel announced that a module is gone. One that failed was never live, whatever was announced: the kernel takes
    /// back the announcement of a module whose init fails, be it in somebody else's hand.
    pub fn module_removed(&mut self, modules: &mut dyn Modules, name: &str, now: Time) {
        let was_coming = self.coming.remove(name).is_some_and(|since| now < since + Limits::OLD);
        if was_coming || matches!(self.states.get(name), Some(State::Loading | State::Failed(_))) {
            return;
        }
        // It may have come out of a file of another name, and that is not in /sys.
        self.states.retain(|other, state| {
            !matches!(state, State::Live) || **other != *name && modules.initstate(other) == InitState::Live
        });
        self.unloads += 1;
        self.was_unloaded(name.into());
    }

    /// Uevents were lost: what is believed to be live may have been unloaded, and what failed may be live. That is looked at.
    pub fn events_lost(&mut self, modules: &mut dyn Modules) {
        self.unloads += 1;
        self.changes += 1;
        let names: Vec<Name> = self.states.keys().chain(&self.unloaded).cloned().collect();
        for name in names {
            let live = modules.initstate(&name) == InitState::Live;
            match self.states.get(&name) {
                Some(State::Live) if !live => {
                    self.states.remove(&name);
                    self.was_unloaded(name);
                }
                Some(State::Failed(_)) | None if live => self.became_live(&name),
                _ => {}
            }
        }
    }

    /// A client is gone; its modules are loaded all the same.
    pub fn client_gone(&mut self, client: ClientId) {
        self.waiters.retain(|waiter| waiter.client != client);
    }

    /// Time has passed.
    pub fn tick(&mut self, modules: &mut dyn Modules, now: Time) {
        let mut due: Vec<(Time, Name)> = self.retries().filter(|&(at, _)| at <= now).collect();
        due.sort_unstable();
        if !due.is_empty() {
            self.refresh(modules);
        }
        for (_, name) in due {
            let Some(State::Failed(failure)) = self.states.get(&name) else { continue };
            let (alias, options, pulled_in) =
                (failure.alias.clone(), failure.options.clone(), failure.pulled_in);
            // Another one that is due may have had it attempted.
            let Some(Requesters { accepted: asked, .. }) = failure.pending else { continue };
            let by = Requester { request: self.requests, mark: 0, kind: Kind::Retry { asked } };
            let mut ask = Ask { options, ..Ask::new(by, &alias, &Origin::Admin) };
            let candidates = if pulled_in { Vec::new() } else { modules.resolve(&alias) };
            let status = match candidates.iter().find(|candidate| candidate.module == name) {
                Some(candidate) => self.candidate(modules, candidate, &mut ask, now),
                None => self.want(modules, &name, &ask, now),
            };
            if matches!(status, Status::Blacklisted | Status::RuledOut) {
                self.states.remove(&name);
                self.changes += 1;
            }
        }
        for name in std::mem::take(&mut self.unfinished) {
            self.take_over(modules, &name, now);
        }
        for name in self.loads.rested(now) {
            self.go_on(modules, &name, now);
        }
        self.loads.overtake(now);
        self.start_loads(modules, now);
    }

    /// When [`Scheduler::tick`] has something to do next.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        self.retries().map(|(at, _)| at.max(now)).chain(self.loads.next_deadline(now)).min()
    }

    /// Whether nothing is being loaded. Retries do not count: they may be a minute away.
    pub fn is_settled(&self) -> bool {
        self.loads.iter().next().is_none()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The loads in progress, by name: those that run and those that wait.
    pub fn loads(&self) -> impl Iterator<Item = Loading<'_>> {
        self.loads.iter().map(|load| Loading {
            module: &load.plan.module,
            since: load.since,
            running: if let Phase::Running(since) = load.phase { Some(since) } else { None },
            coming: matches!(load.phase, Phase::Coming(..)).then_some(load.since),
            for_kernel: load.first.by.kind == Kind::Kernel,
        })
    }

    /// What is remembered as failed, by name; not what is a success to all who ask.
    pub fn failures(&self) -> impl Iterator<Item = (&Name, &Failure)> {
        let failed = self.states.iter().filter_map(|(name, state)| Some((name, state.failed()?)));
        let again = self.loads.iter().filter_map(|load| Some((&load.plan.module, load.before.as_deref()?)));
        let mut failures: Vec<_> = failed.chain(again).filter(|(_, failure)| !failure.elsewhere).collect();
        failures.sort_unstable_by_key(|(name, _)| *name);
        failures.into_iter()
    }

    /// The next request's number, and who makes it.
    fn requester(&mut self, origin: &Origin<'_>) -> Requester {
        self.requests += 1;
        self.stats.requests += u64::from(!matches!(origin, Origin::Kernel));
        self.stats.by_hand += u64::from(matches!(origin, Origin::Admin));
        Requester::new(self.requests, origin)
    }

    /// Forgets what aliases resolve to, if that may have changed.
    fn refresh(&mut self, modules: &mut dyn Modules) {
        if modules.refresh() {
            self.aliases.iter_mut().for_each(LruCache::clear);
        }
    }

    /// What an alias resolves to; looked up if it is not cached. "No module" is remembered, too.
    fn resolve(&mut self, modules: &mut dyn Modules, alias: &[u8], is_kernel: bool) -> Rc<[Candidate]> {
        let aliases = &mut self.aliases[usize::from(is_kernel)];
        aliases.get_or_insert_ref(alias, || modules.resolve(alias).into()).clone()
    }

    /// Whether the modules of an alias that the kernel asks for are modprobe's to load.
    fn is_modprobes(&self, modules: &mut dyn Modules, candidates: &[Candidate]) -> bool {
        candidates.iter().any(|candidate| {
            let Candidate { module, verdict, options, .. } = candidate;
            // Where the kernel waits for a load, that was looked at.
            let is_urgent = self.loads.get(module).is_some_and(Load::is_urgent);
            *verdict != Verdict::Builtin
                && !is_urgent
                && !self.is_live(modules, module, Kind::Kernel)
                && modules.is_modprobes(module, options.as_deref())
                && !is_ruled_out(modules, candidate)
        })
    }

    /// Somebody wants one module of an alias, if that is to be loaded at all.
    fn candidate(
        &mut self,
        modules: &mut dyn Modules,
        candidate: &Candidate,
        ask: &mut Ask<'_>,
        now: Time,
    ) -> Status {
        let Candidate { module, verdict, options, policy } = candidate;
        if *verdict == Verdict::Builtin {
            return Status::Builtin;
        }
        if self.is_live(modules, module, ask.by.kind) {
            self.stats.duplicates_live += u64::from(ask.counts());
            return Status::Live;
        }
        if ask.by.kind == Kind::Scan && self.unloaded.contains(module) {
            return Status::RuledOut;
        }
        // As with modprobe: an administrator who names the module itself means it, and so does what was promised to him. To the kernel
        // policy applies all the same.
        let is_named = is_name(&ask.alias, module);
        let meant = is_named && matches!(ask.by.kind, Kind::Admin | Kind::Retry { .. });
        if !meant {
            if *verdict == Verdict::Blacklisted && !(ask.by.kind == Kind::Kernel && is_named) {
                return Status::Blacklisted;
            }
            if is_ruled_out(modules, candidate) {
                return Status::RuledOut;
            }
        }
        (ask.always, ask.options) = (policy.mode == Mode::Always, options.clone());
        self.want(modules, module, ask, now)
    }

    /// Whether a blacklist or policy rules a module out for who has not named it.
    fn ruled_out(&self, modules: &mut dyn Modules, name: &Name) -> Option<Status> {
        let candidate = modules.resolve(name.as_bytes()).into_iter().find(|found| found.module == *name)?;
        match candidate.verdict {
            Verdict::Blacklisted => Some(Status::Blacklisted),
            _ => is_ruled_out(modules, &candidate).then_some(Status::RuledOut),
        }
    }

    /// Forgets the failure of a module that is ruled out, unless another one needs it: neither holds for that. Whether it was.
    fn forget(&mut self, name: &Name) -> bool {
        let failure = self.states.get(name).and_then(State::failed);
        if failure.is_none_or(|failure| failure.pulled_in) {
            return false;
        }
        let mut failures = self.states.values().filter_map(State::failed);
        let is_needed = failures.any(|failure| failure.error.dependency() == Some(name));
        if !is_needed {
            self.states.remove(name);
            self.changes += 1;
        }
        !is_needed
    }

    fn want(&mut self, modules: &mut dyn Modules, name: &Name, ask: &Ask<'_>, now: Time) -> Status {
        let named = u64::from(ask.counts());
        if self.is_live(modules, name, ask.by.kind) {
            self.stats.duplicates_live += named;
            return Status::Live;
        }
        match self.states.get(name) {
            Some(State::Loading) => {
                self.stats.duplicates_loading += named;
                self.join(name, ask);
                return Status::Loading;
            }
            _ if self.disabled && modules.initstate(name) != InitState::Live => {
                return Status::Failed { error: LoadError::DISABLED, retry_at: None };
            }
            Some(State::Failed(_)) if !ask.always => {
                if let Some(status) = self.remembered_status(modules, name, ask, now) {
                    return status;
                }
            }
            Some(State::Failed(_) | State::Live) | None => {}
        }
        self.start(modules, name, ask, now)
    }

    /// What a request for a module that has failed is answered from memory; none if the retry rules have it attempted now. A
    /// failure of a dependency has no rules of its own: what holds is what the rules say of the dependency.
    fn remembered_status(
        &mut self,
        modules: &mut dyn Modules,
        name: &Name,
        ask: &Ask<'_>,
        now: Time,
    ) -> Option<Status> {
        let mut failure = self.states.get_mut(name)?.failure()?;
        if has_changed(modules, name, failure) {
            return None;
        }
        self.changes += 1;
        let decision = if failure.error.dependency().is_none() {
            failure.decide(ask.by, self.unloads, now)
        } else {
            let root = self.root(name);
            let cause = self.states.get_mut(&root)?.failure()?;
            if cause.elsewhere || has_changed(modules, &root, cause) {
                return None;
            }
            let decision = cause.decide(ask.by, self.unloads, now);
            cause.note(ask.by, decision);
            failure = self.states.get_mut(name)?.failure()?;
            decision
        };
        failure.note(ask.by, decision);
        let named = u64::from(ask.counts());
        match decision {
            Decision::Attempt => return None,
            Decision::RetryAt(..) => self.stats.deferred += named,
            Decision::Duplicate if failure.elsewhere => self.stats.duplicates_live += named,
            Decision::Duplicate => self.stats.duplicates_failed += named,
        }
        let retry_at = if let Decision::RetryAt(at, _) = decision { Some(at) } else { None };
        let (status, needs) = (Status::of(failure, retry_at), failure.needs.clone());
        self.asked_for_all(name, &needs, ask);
        Some(status)
    }

    /// The module that a failure goes back to: itself, or the dependency that failed.
    fn root(&self, name: &Name) -> Name {
        let deeper = |name: &&Name| self.states.get(*name)?.failed()?.error.dependency();
        // A broken index may name modules in a circle.
        std::iter::successors(Some(name), deeper).take(1 + self.states.len()).last().unwrap_or(name).clone()
    }

    /// The attempts that were accepted, and when they are due: with the dependency that failed.
    fn retries(&self) -> impl Iterator<Item = (Time, Name)> {
        let failed = self.states.iter().filter_map(|(name, state)| Some((name, state.failed()?)));
        let pending = failed.filter(|(_, failure)| !self.disabled && failure.pending.is_some());
        pending.map(|(name, failure)| {
            let root = self.states.get(&self.root(name)).and_then(State::failed);
            // Nothing fails because of what is a success to others.
            let root = root.filter(|root| !root.elsewhere || failure.elsewhere);
            (root.map_or(Time::ZERO, |root| root.retry_at), name.clone())
        })
    }

    fn join(&mut self, name: &Name, ask: &Ask<'_>) {
        let Some(load) = self.loads.get_mut(name) else { return };
        load.add(ask);
        if ask.by.kind == Kind::Kernel {
            return self.loads.urge(name);
        }
        if ask.seqnum != 0 {
            let (first, last) = load.seqnums;
            load.seqnums =
                (if first == 0 { ask.seqnum } else { first.min(ask.seqnum) }, last.max(ask.seqnum));
        }
        let plan = load.plan.clone();
        self.asked_for_all(name, &plan.deps, ask);
    }

    /// Who asks for a module asks for all that it needs, also where that goes no further than the first of it that fails.
    fn asked_for_all(&mut self, name: &Name, needs: &[Name], ask: &Ask<'_>) {
        for needed in needs {
            if let Some(load) = self.loads.get_mut(needed) {
                load.add(&ask.needed_by(name));
            } else if let Some(failure) = self.states.get_mut(needed).and_then(State::failure) {
                failure.pending.as_mut().unwrap_or(&mut failure.requesters).meet(ask.by);
            }
        }
    }

    fn start(&mut self, modules: &mut dyn Modules, name: &Name, ask: &Ask<'_>, now: Time) -> Status {
        let found = modules.initstate(name);
        if found == InitState::Live {
            self.became_live(name);
            return Status::Live;
        }
        let plan = Arc::new(modules.plan(name, ask.options.as_deref()));
        if plan.work == Work::Builtin {
            self.became_live(name);
            return Status::Live;
        }
        self.stats.loads += 1;
        // Should the process end before it, the next one has to know.
        self.changes += u64::from(!plan.post.is_empty());
        self.unloaded.remove(name);
        let mut before = match self.states.insert(name.clone(), State::Loading) {
            Some(State::Failed(failure)) => Some(failure),
            _ => None,
        };
        let elsewhere = found == InitState::Coming && plan.work != Work::Missing;
        let pause = Limits::POLL.0;
        self.loads.insert(Load {
            phase: if elsewhere { Phase::Coming(now + pause, pause) } else { Phase::Planning },
            blocked_by: Vec::new(),
            first: ask.to_static(),
            seqnums: (ask.seqnum, ask.seqnum),
            requesters: Requesters::of_attempt(ask.by, before.as_deref_mut()),
            since: now,
            started: None,
            tries: 0,
            plans: 0,
            before,
            unloads: self.unloads,
            retries_with_dependency: false,
            plan: plan.clone(),
        });
        if !elsewhere {
            self.plan(modules, name, now);
        }
        self.asked_for_all(name, &plan.deps, ask);
        self.status(name)
    }

    /// A pause is over: the next try begins, or a module that somebody else loads is looked at.
    fn go_on(&mut self, modules: &mut dyn Modules, name: &Name, now: Time) {
        let Some(load) = self.loads.get_mut(name) else { return };
        let pause = match load.phase {
            Phase::Paused(_) => return self.loads.planned(name),
            Phase::Coming(_, pause) => pause,
            _ => return,
        };
        match modules.initstate(name) {
            InitState::Live => self.finish(modules, name, Outcome::Live, now),
            InitState::Coming if now < load.since + Limits::HOLD => {
                let pause = (2 * pause).min(Limits::POLL.1);
                load.phase = Phase::Coming(now + pause, pause);
            }
            _ => {
                let plan = modules.plan(name, load.first.options.as_deref());
                self.plan_anew(modules, plan, now);
            }
        }
    }

    /// What another process was loading may be live by now, and then nobody else asks for its soft dependencies.
    fn take_over(&mut self, modules: &mut dyn Modules, name: &Name, now: Time) {
        self.changes += 1;
        let by = Requester { request: self.requests, mark: 0, kind: Kind::Scan };
        let needed = Ask::new(by, name.as_bytes(), &Origin::Admin).needed_by(name);
        match modules.initstate(name) {
            InitState::Live => {
                let Plan { pre, post, .. } = modules.plan(name, None);
                for soft in pre.iter().chain(&post) {
                    if !self.unloaded.contains(soft) {
                        self.want(modules, soft, &needed, now);
                    }
                }
            }
            InitState::Coming => drop(self.want(modules, name, &needed, now)),
            _ => {}
        }
    }

    /// Has the dependencies of a load loaded, and queues it.
    fn plan(&mut self, modules: &mut dyn Modules, name: &Name, now: Time) {
        match self.collect(modules, name, now) {
            Ok(()) => self.loads.planned(name),
            Err(error) => self.finish(modules, name, Outcome::Failed(error), now),
        }
    }

    /// Goes on with another plan, for all who wait.
    fn plan_anew(&mut self, modules: &mut dyn Modules, plan: Plan, now: Time) {
        let Some(load) = self.loads.get_mut(&plan.module) else { return };
        let name = plan.module.clone();
        (load.plan, load.phase, load.tries, load.plans) =
            (Arc::new(plan), Phase::Planning, 0, load.plans + 1);
        self.plan(modules, &name, now);
    }

    /// Collects what a load has to wait for.
    fn collect(&mut self, modules: &mut dyn Modules, name: &Name, now: Time) -> Result<(), LoadError> {
        let Some(load) = self.loads.get(name) else { return Ok(()) };
        let (plan, first) = (load.plan.clone(), load.first.clone());
        if plan.work == Work::Missing {
            return Err(LoadError { errno: libc::ENOENT, stage: Stage::Plan });
        }
        let needed = first.needed_by(name);
        let mut soft = plan.pre.clone();
        for dependency in &plan.deps {
            let status = self.want(modules, dependency, &needed, now);
            if status == Status::Live {
                // It is not loaded, and what it asks for nevertheless is: in libkmod's list (__kmod_module_get_probe_list()) a
                // dependency has its soft dependencies, whether it is live or not.
                let Plan { pre, post, .. } = modules.plan(dependency, None);
                soft.extend(pre.into_iter().chain(post).filter(|soft| soft != name));
            }
            self.depend(name, dependency, status)?;
        }
        for soft in &soft {
            if self.want(modules, soft, &needed, now) == Status::Loading {
                self.loads.wait(name, soft, Edge::Soft)?;
            }
        }
        for after in &first.after {
            if !self.loads.is_overtaken(after, now) {
                self.loads.wait(name, after, Edge::Order)?;
            }
        }
        Ok(())
    }

    /// Has a load wait for a dependency, or fail with it.
    fn depend(&mut self, name: &Name, dependency: &Name, status: Status) -> Result<(), LoadError> {
        match status {
            Status::Loading => self.loads.wait(name, dependency, Edge::Hard),
            Status::Failed { error, retry_at } => {
                if let Some(load) = self.loads.get_mut(name) {
                    load.retries_with_dependency = retry_at.is_some();
                }
                Err(error.of_dependency(dependency))
            }
            _ => Ok(()),
        }
    }

    fn start_loads(&mut self, modules: &mut dyn Modules, now: Time) {
        while let Some(name) = self.loads.next_queued(now) {
            if let Err(error) = self.collect_again(modules, &name, now) {
                self.finish(modules, &name, Outcome::Failed(error), now);
            } else if let Some(load) = self.loads.start(&name, now) {
                load.unloads = self.unloads;
                self.stats.attempts += 1;
                self.stats.retries += u64::from(matches!(load.first.by.kind, Kind::Retry { .. }));
                self.actions.push_back(Action::Load(load.plan.clone()));
            }
        }
    }

    /// Collects what a load needs that was live when it was planned, and is not any more: it has waited since.
    fn collect_again(&mut self, modules: &mut dyn Modules, name: &Name, now: Time) -> Result<(), LoadError> {
        let Some(load) = self.loads.get(name) else { return Ok(()) };
        let (plan, needed) = (load.plan.clone(), load.first.needed_by(name));
        for dependency in &plan.deps {
            let status = match self.states.contains_key(dependency) {
                true => self.status(dependency),
                false => self.want(modules, dependency, &needed, now),
            };
            self.depend(name, dependency, status)?;
        }
        Ok(())
    }

    /// A load ends, unless it is tried again.
    fn finish(&mut self, modules: &mut dyn Modules, name: &Name, outcome: Outcome, now: Time) {
        let Some(load) = self.loads.get_mut(name) else { return };
        let mut error = if let Outcome::Failed(error) = outcome { Some(error) } else { None };
        let found = error.as_ref().map_or(InitState::Live, |_| modules.initstate(name));
        // Whatever an install command's status was, or whoever was faster.
        error = error.filter(|_| found != InitState::Live);
        let exists = LoadError { errno: libc::EEXIST, stage: Stage::Insert };
        let elsewhere = found == InitState::Absent && error.as_ref() == Some(&exists);
        if let Some(failed) = error.as_ref().filter(|error| !elsewhere && error.stage != Stage::Disabled) {
            // The kernel's own requests are no more than modprobe makes of them.
            let tries = if load.first.by.kind == Kind::Kernel { 1 } else { Limits::TRIES };
            if failed.is_transient() && load.tries < tries && !self.disabled {
                let pause = Limits::PAUSE * (1 << load.tries.saturating_sub(1));
                load.phase = Phase::Paused(now + pause);
                return;
            }
            if load.tries > 0 && load.plans < Limits::TRIES {
                let (options, cause) = (load.first.options.clone(), load.plan.cause);
                self.refresh(modules);
                let plan = modules.plan(name, options.as_deref());
                if plan.cause != cause {
                    // Rule 1: the cause has changed since.
                    return self.plan_anew(modules, plan, now);
                }
            }
        }
        let Some(load) = self.loads.remove(name) else { return };
        // What it comes to for others.
        let told = error.clone().filter(|_| !elsewhere);
        self.publish(&load, &told.clone().map_or(Outcome::Live, Outcome::Failed), error.is_some(), now);
        let (plan, first, is_urgent) = (load.plan.clone(), load.first.clone(), load.is_urgent());
        match error {
            None => self.became_live(name),
            Some(error) if error.stage == Stage::Disabled => drop(self.states.remove(name)),
            Some(error) => self.remember(load, error, elsewhere, now),
        }
        let mut soft = Vec::new();
        if told.is_none() {
            for soft in &plan.post {
                self.want(modules, soft, &first.needed_by(name), now);
            }
            soft = self.wait_for_soft(name, &plan, is_urgent);
        }
        self.answer();
        for (waiter, edge) in self.loads.unblock(name) {
            match &told {
                Some(error) if edge == Edge::Hard => {
                    let error = error.clone().of_dependency(name);
                    self.finish(modules, &waiter, Outcome::Failed(error), now);
                }
                _ => {
                    let edge = if edge == Edge::Order { edge } else { Edge::Soft };
                    for soft in &soft {
                        // Its time may have passed already.
                        if edge == Edge::Soft || !self.loads.is_overtaken(soft, now) {
                            let _ = self.loads.wait(&waiter, soft, edge);
                        }
                    }
                    self.loads.enqueue(&waiter);
                }
            }
        }
        if told == Some(LoadError::DISABLED) && !self.disabled {
            self.disable(modules, now);
        }
    }

    /// Who waits for a module waits for its soft dependencies, too: for those after it, and for one before it that the order of
    /// others came before. If the kernel does, they are urgent, too. Returns those that are being loaded.
    fn wait_for_soft(&mut self, name: &Name, plan: &Plan, is_urgent: bool) -> Vec<Name> {
        let is_loading = |soft: &&Name| matches!(self.states.get(*soft), Some(State::Loading));
        let loading: Vec<Name> = plan.pre.iter().chain(&plan.post).filter(is_loading).cloned().collect();
        for waiter in &mut self.waiters {
            if waiter.answers.iter().any(|(module, _)| module == name) || waiter.soft.contains(name) {
                waiter.soft.extend_from_slice(&loading);
            }
        }
        loading.iter().filter(|_| is_urgent).for_each(|soft| self.loads.urge(soft));
        loading
    }

    /// Tells the world that a load has ended, and whether it is remembered as a failure, which what is a success to others may be.
    fn publish(&mut self, load: &Load, outcome: &Outcome, is_failure: bool, now: Time) {
        let is_same = |before: &Failure| before.for_kernel > 0 && before.cause == load.plan.cause;
        let is_again =
            is_failure && load.first.by.kind == Kind::Kernel && load.before.as_deref().is_some_and(is_same);
        match outcome {
            Outcome::Live => self.stats.live += u64::from(!is_again),
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
            alias: (*load.first.alias).into(),
            devpath: load.first.devpath.as_deref().map(Into::into),
            seqnums: load.seqnums,
            asked: load.requesters.requests + load.requesters.kernel,
            by_kernel: load.requesters.kernel,
            waited: started.saturating_sub(load.since),
            load: now.saturating_sub(started),
            pulled_in_by: load.first.pulled_in_by.clone(),
            is_again,
        }));
    }

    /// A module is live, whoever loaded it.
    fn became_live(&mut self, name: &Name) {
        self.states.insert(name.clone(), State::Live);
        self.unloaded.remove(name);
        self.coming.remove(name);
        self.forget_dependents(name);
    }

    /// What failed because of a module may not fail any more.
    fn forget_dependents(&mut self, name: &Name) {
        self.states.retain(|_, state| match state {
            State::Failed(failure) => failure.pending.is_some() || failure.error.dependency() != Some(name),
            _ => true,
        });
        self.changes += 1;
    }

    /// A module was live and is not any more: only who asks for it anew has it loaded again.
    fn was_unloaded(&mut self, name: Name) {
        self.changes += 1;
        if self.unloaded.len() < Limits::UNLOADED {
            self.unloaded.insert(name);
        }
    }

    fn remember(&mut self, load: Load, error: LoadError, elsewhere: bool, now: Time) {
        let Load { plan, first, requesters, before, unloads, retries_with_dependency, .. } = load;
        let is_retry = matches!(first.by.kind, Kind::Retry { .. }) || is_name(&first.alias, &plan.module);
        let pulled_in = first.pulled_in_by.is_some()
            || is_retry && before.as_ref().is_some_and(|failure| failure.pulled_in);
        let same = before.as_ref().filter(|failure| failure.cause == plan.cause);
        let (attempts, for_kernel) = same.map_or((0, 0), |failure| (failure.attempts, failure.for_kernel));
        let mut failure = Failure {
            error,
            cause: plan.cause,
            attempts,
            for_kernel,
            failed_at: now,
            retry_at: now,
            pending: None,
            requesters,
            needs: plan.deps.clone(),
            alias: first.alias.into_owned().into(),
            pulled_in,
            options: first.options,
            unloads,
            elsewhere,
            verified: true,
        };
        if first.by.kind == Kind::Kernel {
            failure.for_kernel = for_kernel.saturating_add(1);
            // Who else has asked asks again as if nothing had happened.
            if let Some(before) = before {
                (failure.retry_at, failure.pending) = (before.retry_at.max(now), before.pending);
                (failure.alias, failure.pulled_in) = (before.alias, before.pulled_in);
                let met = std::mem::replace(&mut failure.requesters, before.requesters);
                failure.requesters.kernel = met.kernel;
            }
        } else {
            let shortage = failure.error.is_shortage();
            failure.attempts = attempts.saturating_add(1);
            let wait = plan.policy.backoff.after(failure.attempts);
            failure.retry_at = now + wait.max(if shortage { Limits::SHORTAGE } else { Time::ZERO });
            let mut pending = failure.requesters.unasked();
            pending.accepted = retries_with_dependency && !shortage;
            failure.pending = (retries_with_dependency || shortage).then_some(pending);
        }
        self.states.insert(plan.module.clone(), State::Failed(Box::new(failure)));
        if elsewhere {
            self.forget_dependents(&plan.module);
        }
        self.changes += 1;
    }

    /// No load can succeed any more: what does not run ends now.
    fn disable(&mut self, modules: &mut dyn Modules, now: Time) {
        self.disabled = true;
        self.actions.push_back(Action::Disabled);
        let waiting = self.loads().filter(|load| load.running.is_none()).map(|load| load.module.clone());
        for name in waiting.collect::<Vec<_>>() {
            self.finish(modules, &name, Outcome::Failed(LoadError::DISABLED), now);
        }
    }

    /// Answers the clients all of whose modules are known by now.
    fn answer(&mut self) {
        for mut waiter in std::mem::take(&mut self.waiters) {
            for (name, status) in waiter.answers.iter_mut().filter(|(_, status)| *status == Status::Loading) {
                *status = self.status(name);
            }
            waiter.soft.retain(|name| matches!(self.states.get(name), Some(State::Loading)));
            let is_known = waiter.answers.iter().all(|(_, status)| *status != Status::Loading);
            match is_known && waiter.soft.is_empty() {
                true => self.actions.push_back(Action::Answer(waiter.client, waiter.answers)),
                false => self.waiters.push(waiter),
            }
        }
    }

    /// Whether a module is known to be live to who asks. The kernel asks with no event that comes after others, so one that says that
    /// the module is gone may wait to be read; that is looked at.
    fn is_live(&self, modules: &mut dyn Modules, name: &str, asks: Kind) -> bool {
        matches!(self.states.get(name), Some(State::Live))
            && (asks != Kind::Kernel || modules.initstate(name) == InitState::Live)
    }

    fn status(&self, name: &str) -> Status {
        match self.states.get(name) {
            Some(State::Live) => Status::Live,
            Some(State::Loading) => Status::Loading,
            Some(State::Failed(failure)) => Status::of(failure, None),
            None => Status::Failed { error: LoadError::DISABLED, retry_at: None },
        }
    }
}

impl Status {
    fn of(failure: &Failure, retry_at: Option<Time>) -> Self {
        match failure.elsewhere {
            true => Self::Live,
            false => Self::Failed { error: failure.error.clone(), retry_at },
        }
    }
}

impl State {
    fn failed(&self) -> Option<&Failure> {
        if let State::Failed(failure) = self { Some(failure) } else { None }
    }

    fn failure(&mut self) -> Option<&mut Failure> {
        if let State::Failed(failure) = self { Some(failure) } else { None }
    }
}

/// Whether a failure no longer holds, whoever asks: the module is live after all, or (rule 1) the cause is another one.
fn has_changed(modules: &mut dyn Modules, name: &Name, failure: &mut Failure) -> bool {
    failure.verified = failure.verified || modules.initstate(name) != InitState::Live;
    let options = failure.options.as_deref();
    let cause = match failure.error.errno {
        // The kernel misses what a dependency has whose file is not there. libkmod leaves all of them out then, so nobody can
        // tell when it is back: all is looked at.
        libc::ENOENT if failure.needs.is_empty() => modules.plan(name, options).cause,
        _ => modules.cause(name, options),
    };
    !failure.verified || cause != failure.cause
}

fn is_ruled_out(modules: &mut dyn Modules, candidate: &Candidate) -> bool {
    candidate.policy.rules_out(|path| modules.exists(path))
}

/// Whether an alias is the module's own name; modprobe takes `-` for `_`.
fn is_name(alias: &[u8], name: &str) -> bool {
    let underscored = alias.iter().map(|&byte| if byte == b'-' { b'_' } else { byte });
    underscored.eq(name.bytes())
}
