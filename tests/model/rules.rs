// SPDX-License-Identifier: MIT OR Apache-2.0
//! The once rules for modules without relations, to the millisecond: who is attempted when, and what a client is
//! told. Written from the design's text, slow and plain. What the text leaves open is read like this:
//!
//! * a device asks again if it has asked since the request that the failed attempt began with;
//! * a request that comes while an accepted attempt waits for the end of the backoff belongs to that attempt, which
//!   begins with the first of them;
//! * an attempt without a triggered device behind it (an administrator's, a new device's) leaves it as it was who asks again;
//! * the backoff starts anew with another cause;
//! * index and configuration are looked at by every request but duplicates of live modules, when a load fails, and before
//!   retries; causes by every request that meets a failure, and when a load fails;
//! * an attempt that only the kernel asked for leaves failures as they were to all others, and to who has met no other it is none;
//!   whoever joins it makes it theirs, as if he had begun it;
//! * an administrator who names the module itself overrules blacklist and policy, as with modprobe;
//! * what the kernel announces of a module is kept, whoever has asked for it; when the kernel itself asks, what is live is looked at;
//! * EEXIST of a module that is not in /sys is a success to all who ask, and a failure as far as attempts go;
//! * what was accepted and is ruled out when its time comes, by a blacklist or policy, is forgotten, and so is the failure; likewise
//!   what an administrator would retry, and what a blacklist keeps from a request;
//! * that a module goes which was not known to be live makes one look whether all others still are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use addonce::once::Mode;

use super::ledger::Who;
use super::steps::{Case, Step, alias};
use super::world::{World, name, number};

/// What a client is told of a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    Live,
    Builtin,
    Blacklisted,
    RuledOut,
    /// The errno, and when it will be attempted again.
    Failed(i32, Option<Duration>),
}

/// When a client was answered, and what.
pub type Answer = (Duration, Vec<(usize, Word)>);

/// A client that waits: for how many modules, and what is known of the others.
#[derive(Default)]
struct Waiter {
    waits: usize,
    words: Vec<(usize, Word)>,
}

#[derive(Default)]
pub struct Model {
    pub attempts: Vec<(Duration, usize)>,
    pub answers: BTreeMap<u64, Answer>,
    now: Duration,
    modules: Vec<Module>,
    aliases: Vec<Vec<usize>>,
    path: bool,
    unloads: u64,
    clients: u64,
    waiters: BTreeMap<u64, Waiter>,
    index_changed: bool,
    /// What was looked up: the modules, each with whether it was blacklisted.
    memo: BTreeMap<String, Vec<(usize, bool)>>,
    /// Requests so far, and those of each device for each module that was not live then.
    requests: u64,
    /// What is being asked for.
    alias: String,
    asked: BTreeMap<(u8, usize), BTreeSet<u64>>,
}

/// A module: what is true of it, and what addonce believes.
struct Module {
    errno: i32,
    takes: Duration,
    version: u64,
    live: bool,
    blacklisted: bool,
    /// It was unloaded, and nobody has asked for it since.
    unloaded: bool,
    of: super::world::Module,
    believed_live: bool,
    load: Option<Load>,
    failure: Option<Failure>,
}

struct Load {
    /// Only the kernel has asked for it.
    for_kernel: bool,
    version: u64,
    tries: u32,
    /// How often it began anew, since what it is loaded from had changed.
    plans: u32,
    /// The running try's end, or when the next one starts.
    loading_until: Option<Duration>,
    pausing_until: Option<Duration>,
    /// The request it began with, and what that asked for.
    since: u64,
    alias: String,
    /// How many unloads there had been when the running try began.
    unloads: u64,
    clients: Vec<u64>,
}

struct Failure {
    /// Another process remembered it: the module may be live by now.
    unverified: bool,
    /// The kernel says that it exists.
    elsewhere: bool,
    errno: i32,
    version: u64,
    /// Of those that others than the kernel asked for; and those for the kernel alone.
    in_a_row: u32,
    for_kernel: u32,
    failed_at: Duration,
    retry_at: Duration,
    unloads: u64,
    /// Devices that asked since this request ask again; and what it asked for.
    since: u64,
    alias: String,
    /// The first request that was accepted while the backoff lasts.
    pending: Option<u64>,
}

/// A request: who asks, its number, and the last one before it by the same device for the module.
#[derive(Clone, Copy)]
struct By {
    who: Who,
    request: u64,
    before: Option<u64>,
}

enum Decision {
    Now,
    Later(Duration),
    Duplicate,
}

impl Model {
    pub fn new(world: &World) -> Self {
        let modules = world.modules.iter().map(|of| Module {
            errno: of.errno,
            takes: Duration::from_millis(of.takes),
            version: 0,
            live: false,
            blacklisted: of.blacklisted,
            unloaded: false,
            of: of.clone(),
            believed_live: false,
            load: None,
            failure: None,
        });
        let (modules, aliases) = (modules.collect(), world.aliases.clone());
        Self { modules, aliases, ..Self::default() }
    }

    pub fn through(case: &Case) -> Self {
        let mut model = Self::new(&case.world);
        for step in &case.steps {
            model.step(&case.world, *step);
        }
        model
    }

    pub fn step(&mut self, world: &World, step: Step) {
        let of = |module: usize| module % world.modules.len();
        match step {
            Step::Pass(ms) => self.pass(Duration::from_millis(ms)),
            Step::Event { device, alias: a, genuine } => {
                self.ask(&alias(world, a), Who::Device(device, genuine), None);
            }
            Step::Scan { device, alias: a } => self.ask(&alias(world, a), Who::Scan(device), None),
            Step::Client { alias: a, device } => {
                self.clients += 1;
                let who = device.map_or(Who::Administrator, |(device, genuine)| Who::Device(device, genuine));
                self.ask(&alias(world, a), who, Some(self.clients));
            }
            Step::Kernel(a) => {
                self.clients += 1;
                self.ask(&alias(world, a), Who::Kernel, Some(self.clients));
            }
            Step::Retry => self.retry(),
            Step::Gone(back) => drop(self.waiters.remove(&self.clients.saturating_sub(back))),
            Step::ByHand(m) => self.by_hand(of(m), true),
            Step::ByHandUnseen(m) => self.by_hand(of(m), false),
            Step::Unload(m) => self.unload(of(m), true),
            Step::UnloadUnseen(m) => self.unload(of(m), false),
            Step::Lost => {
                self.unloads += 1;
                for module in self.modules.iter_mut().filter(|module| module.load.is_none()) {
                    module.unloaded |= module.believed_live && !module.live;
                    module.believed_live &= module.live;
                    if module.live && (module.failure.is_some() || module.unloaded) {
                        module.is_live();
                    }
                }
            }
            Step::Restart => self.restart(),
            Step::Fix(m) => {
                self.modules[of(m)].version += 1;
                self.modules[of(m)].errno = 0;
            }
            Step::Replace(m) => self.modules[of(m)].version += 1,
            Step::Answer(m, errno) => self.modules[of(m)].errno = errno,
            Step::Takes(m, ms) => self.modules[of(m)].takes = Duration::from_millis(ms),
            Step::Blacklist(m) => {
                self.modules[of(m)].blacklisted ^= true;
                self.index_changed = true;
            }
            Step::Alias(a, m) => {
                let alias = &mut self.aliases[a % world.aliases.len()];
                match alias.iter().position(|&module| module == of(m)) {
                    Some(index) => drop(alias.remove(index)),
                    None => alias.push(of(m)),
                }
                self.index_changed = true;
            }
            Step::Path => self.path ^= true,
            Step::Disable => {}
        }
    }

    /// Another process takes over: it has the failures and who asked, and asks for all else itself.
    fn restart(&mut self) {
        if self.modules.iter().any(|module| module.load.is_some()) {
            return;
        }
        self.memo.clear();
        self.index_changed = false;
        for module in &mut self.modules {
            module.believed_live = false;
            module.failure.take_if(|failure| failure.elsewhere);
            if let Some(failure) = &mut module.failure {
                failure.unverified = true;
            }
        }
    }

    fn by_hand(&mut self, m: usize, seen: bool) {
        let module = &mut self.modules[m];
        if module.of.builtin || module.live {
            return;
        }
        module.live = true;
        if !seen {
            return;
        }
        match &module.load {
            Some(load) if load.loading_until.is_some() => {}
            Some(_) => self.ended(m),
            None => module.is_live(),
        }
    }

    fn unload(&mut self, m: usize, seen: bool) {
        let module = &mut self.modules[m];
        let loading = module.load.as_ref().is_some_and(|load| load.loading_until.is_some());
        if !module.live || loading {
            return;
        }
        module.live = false;
        // What was not known to be live, and is known to have failed, is thought to have been announced in vain.
        if seen && module.load.is_none() && module.failure.is_none() {
            module.unloaded = true;
            self.unloads += 1;
            self.modules.iter_mut().for_each(|module| module.believed_live &= module.live);
        }
    }

    fn ask(&mut self, alias: &str, who: Who, client: Option<u64>) {
        self.compare_index();
        let mut waiter = Waiter::default();
        let modules = self.look_up(alias, who != Who::Kernel);
        let by = self.by(who);
        self.alias = alias.into();
        for (m, blacklisted) in modules {
            match self.candidate(m, blacklisted, *alias == *name(m), by, client) {
                Some(word) => waiter.words.push((m, word)),
                None => waiter.waits += 1,
            }
        }
        self.answer_when_known(client, waiter);
    }

    /// A request gets its number.
    fn by(&mut self, who: Who) -> By {
        self.requests += 1;
        By { who, request: self.requests, before: None }
    }

    fn retry(&mut self) {
        self.compare_index();
        let by = self.by(Who::Administrator);
        self.clients += 1;
        let mut waiter = Waiter::default();
        for m in 0..self.modules.len() {
            if self.modules[m].failure.as_ref().is_some_and(|failure| !failure.elsewhere) {
                self.alias = name(m).to_string();
                let module = &mut self.modules[m];
                let ruled_out = module.of.mode == Mode::Never || (module.of.unless && self.path);
                let out = module.load.is_none() && !module.live && (module.blacklisted || ruled_out);
                if module.failure.take_if(|_| out).is_some() {
                    let word = if module.blacklisted { Word::Blacklisted } else { Word::RuledOut };
                    waiter.words.push((m, word));
                    continue;
                }
                match self.want(m, by, Some(self.clients), false) {
                    Some(word) => waiter.words.push((m, word)),
                    None => waiter.waits += 1,
                }
            }
        }
        self.answer_when_known(Some(self.clients), waiter);
    }

    fn compare_index(&mut self) {
        if std::mem::take(&mut self.index_changed) {
            self.memo.clear();
        }
    }

    fn look_up(&mut self, alias: &str, remembers: bool) -> Vec<(usize, bool)> {
        if !remembers || !self.memo.contains_key(alias) {
            let modules = match alias.strip_prefix("x:") {
                Some(alias) => self.aliases[alias.parse::<usize>().expect("a number")].clone(),
                None => vec![number(alias)],
            };
            let found = modules.into_iter().map(|m| (m, self.modules[m].blacklisted)).collect::<Vec<_>>();
            if !remembers {
                return found;
            }
            self.memo.insert(alias.into(), found);
        }
        self.memo[alias].clone()
    }

    /// A request meets a module. Nothing is said where the answer comes with the load's end.
    fn candidate(
        &mut self,
        m: usize,
        blacklisted: bool,
        own: bool,
        by: By,
        client: Option<u64>,
    ) -> Option<Word> {
        let module = &mut self.modules[m];
        let meant = own && by.who == Who::Administrator;
        let ruled_out = module.of.mode == Mode::Never || (module.of.unless && self.path);
        if module.of.builtin {
            Some(Word::Builtin)
        } else if module.is_known_live(by.who) {
            Some(Word::Live)
        } else if module.unloaded && matches!(by.who, Who::Scan(_)) {
            Some(Word::RuledOut)
        } else if blacklisted && !meant && !(own && by.who == Who::Kernel) {
            module.failure.take_if(|_| module.load.is_none() && !own);
            Some(Word::Blacklisted)
        } else if ruled_out && !meant {
            Some(Word::RuledOut)
        } else {
            self.want(m, by, client, self.modules[m].of.mode == Mode::Always)
        }
    }

    fn want(&mut self, m: usize, by: By, client: Option<u64>, always: bool) -> Option<Word> {
        if self.modules[m].is_known_live(by.who) {
            return Some(Word::Live);
        }
        let before = match by.who {
            Who::Device(device, _) => {
                let asked = self.asked.entry((device, m)).or_default();
                asked.insert(by.request);
                asked.range(..by.request).next_back().copied()
            }
            _ => None,
        };
        let by = By { before, ..by };
        let module = &mut self.modules[m];
        if let Some(mut load) = module.load.take() {
            load.clients.extend(client);
            if load.for_kernel && by.who != Who::Kernel {
                (load.for_kernel, load.since) = (false, module.since(Some(by), by.request));
                load.alias.clone_from(&self.alias);
            }
            module.load = Some(load);
            return None;
        }
        let decision = self.decide(m, by);
        match (decision, &self.modules[m].failure) {
            (Decision::Later(_) | Decision::Duplicate, Some(Failure { elsewhere: true, .. })) if !always => {
                Some(Word::Live)
            }
            (Decision::Later(at), Some(failure)) if !always => Some(Word::Failed(failure.errno, Some(at))),
            (Decision::Duplicate, Some(failure)) if !always => Some(Word::Failed(failure.errno, None)),
            _ => self.start(m, Some(by), client),
        }
    }

    /// The retry rules.
    fn decide(&mut self, m: usize, by: By) -> Decision {
        let (now, unloads, who) = (self.now, self.unloads, by.who);
        let module = &mut self.modules[m];
        let Some(failure) = &mut module.failure else { return Decision::Now };
        // Live comes before failed; after a loss it is looked at once.
        if failure.unverified && module.live {
            return Decision::Now;
        }
        failure.unverified = false;
        // 1: the cause changed.
        if failure.version != module.version {
            return Decision::Now;
        }
        // 2: an administrator.
        if who == Who::Administrator {
            return Decision::Now;
        }
        // 3: a conflict that may be over.
        if unloads > failure.unloads && matches!(failure.errno, libc::EEXIST | libc::EBUSY | libc::ENODEV) {
            return Decision::Now;
        }
        // 6: the kernel.
        if who == Who::Kernel {
            let window = match failure.errno {
                libc::EAGAIN | libc::EBUSY => 0,
                _ => [1, 1, 2, 4, 5][failure.for_kernel.min(4) as usize],
            };
            let is_over = now >= failure.failed_at + Duration::from_secs(window);
            return if is_over { Decision::Now } else { Decision::Duplicate };
        }
        // To others an attempt for the kernel alone is none.
        if failure.in_a_row == 0 {
            return Decision::Now;
        }
        // 4 and 5: the same device again, or a genuine one; or their attempt is due anyway.
        let accepted = match who {
            Who::Device(_, true) => true,
            Who::Device(_, false) => by.before.is_some_and(|before| before >= failure.since),
            Who::Scan(_) | Who::Administrator | Who::Kernel => false,
        };
        if accepted || failure.pending.is_some() {
            if now >= failure.retry_at {
                return Decision::Now;
            }
            failure.pending.get_or_insert(by.request);
            return Decision::Later(failure.retry_at);
        }
        // 7: a duplicate.
        Decision::Duplicate
    }

    fn start(&mut self, m: usize, by: Option<By>, client: Option<u64>) -> Option<Word> {
        let module = &mut self.modules[m];
        if module.live {
            module.is_live();
            return Some(Word::Live);
        }
        (module.unloaded, module.believed_live) = (false, false);
        let request = by.map_or(self.requests, |by| by.request);
        let for_kernel = by.is_some_and(|by| by.who == Who::Kernel);
        let since = if for_kernel { request } else { module.since(by, request) };
        let alias = match (by, &module.failure) {
            (None, Some(failure)) => failure.alias.clone(),
            _ => self.alias.clone(),
        };
        let (version, clients) = (module.version, client.into_iter().collect());
        module.load = Some(Load {
            for_kernel,
            version,
            tries: 0,
            plans: 0,
            loading_until: None,
            pausing_until: None,
            since,
            alias,
            unloads: 0,
            clients,
        });
        self.load(m);
        None
    }

    fn load(&mut self, m: usize) {
        self.attempts.push((self.now, m));
        let (now, module) = (self.now, &mut self.modules[m]);
        let load = module.load.as_mut().expect("a load loads");
        load.tries += 1;
        load.unloads = self.unloads;
        load.pausing_until = None;
        load.loading_until = Some(now + module.takes);
    }

    fn ended(&mut self, m: usize) {
        let now = self.now;
        let module = &mut self.modules[m];
        let Some(mut load) = module.load.take() else { return };
        let errno = if module.live { 0 } else { module.errno };
        let (elsewhere, transient) = (errno == libc::EEXIST, matches!(errno, libc::EBUSY | libc::EAGAIN));
        if transient && load.tries < if load.for_kernel { 1 } else { 3 } {
            load.loading_until = None;
            load.pausing_until = Some(now + Duration::from_millis([50, 100][load.tries as usize - 1]));
            module.load = Some(load);
            return;
        }
        if errno != 0 && !elsewhere {
            if std::mem::take(&mut self.index_changed) {
                self.memo.clear();
            }
            if load.version != module.version && load.plans < 3 {
                // Rule 1: the cause has changed since.
                (load.version, load.tries, load.plans) = (module.version, 0, load.plans + 1);
                module.load = Some(load);
                return self.load(m);
            }
        }
        let word = if errno == 0 {
            module.live = true;
            module.is_live();
            Word::Live
        } else {
            let before = module.failure.take();
            let same = before.as_ref().filter(|failure| failure.version == load.version);
            let (others, for_kernel) = same.map_or((0, 0), |failure| (failure.in_a_row, failure.for_kernel));
            let in_a_row = others + u32::from(!load.for_kernel);
            let (min, max) = module.of.backoff;
            let backoff = Duration::from_secs((min << in_a_row.saturating_sub(1).min(8)).min(max));
            let left = before.filter(|_| load.for_kernel);
            let (retry_at, since, alias, pending) = match left {
                // All is as it was for others.
                Some(Failure { retry_at, since, alias, pending, .. }) => (retry_at, since, alias, pending),
                None if load.for_kernel => (now, load.since, load.alias, None),
                // A shortage passes by itself.
                None => {
                    (now + backoff, load.since, load.alias, (errno == libc::EAGAIN).then_some(load.since))
                }
            };
            module.failure = Some(Failure {
                unverified: false,
                elsewhere,
                errno,
                version: load.version,
                in_a_row,
                for_kernel: for_kernel + u32::from(load.for_kernel),
                failed_at: now,
                retry_at,
                unloads: load.unloads,
                since,
                alias,
                pending,
            });
            if elsewhere { Word::Live } else { Word::Failed(errno, None) }
        };
        for client in load.clients {
            self.tell(client, m, word.clone());
        }
    }

    /// A client's request has been gone through.
    fn answer_when_known(&mut self, client: Option<u64>, waiter: Waiter) {
        if let Some(client) = client {
            self.waiters.insert(client, waiter);
            self.answer(client);
        }
    }

    fn tell(&mut self, client: u64, m: usize, word: Word) {
        if let Some(waiter) = self.waiters.get_mut(&client) {
            waiter.waits -= 1;
            waiter.words.push((m, word));
            self.answer(client);
        }
    }

    fn answer(&mut self, client: u64) {
        if self.waiters[&client].waits == 0 {
            let mut words = self.waiters.remove(&client).expect("it waits").words;
            words.sort();
            self.answers.insert(client, (self.now, words));
        }
    }

    /// Forgets what was accepted for a module that is ruled out, unless it was named itself.
    fn forgets(&mut self, m: usize) -> bool {
        let module = &mut self.modules[m];
        let failure = module.failure.as_ref().expect("it is due");
        let alias = failure.alias.strip_prefix("x:").and_then(|alias| alias.parse::<usize>().ok());
        let is_meant = alias.is_none_or(|alias| !self.aliases[alias].contains(&m));
        let ruled_out = module.of.mode == Mode::Never || (module.of.unless && self.path);
        let drops = !is_meant && (module.blacklisted || ruled_out);
        module.failure.take_if(|_| drops);
        drops
    }

    /// Time passes: loads end, pauses end, and what was promised is done.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.modules.iter().filter_map(Module::next).min().filter(|&at| at <= end) {
            self.now = next.max(self.now);
            for m in 0..self.modules.len() {
                if self.modules[m].has_ended(self.now) {
                    self.ended(m);
                }
            }
            for m in 0..self.modules.len() {
                if self.modules[m].is_due(self.now) {
                    self.compare_index();
                    if !self.forgets(m) {
                        self.start(m, None, None);
                    }
                }
            }
            for m in 0..self.modules.len() {
                if self.modules[m].is_rested(self.now) {
                    self.load(m);
                }
            }
        }
        self.now = end;
    }
}

impl Module {
    fn is_known_live(&self, who: Who) -> bool {
        self.believed_live && (who != Who::Kernel || self.live)
    }

    fn is_live(&mut self) {
        (self.believed_live, self.unloaded, self.failure) = (true, false, None);
    }

    /// What was accepted begins with the first who asked for it. An attempt that no triggered device is behind leaves it as it was
    /// who asks again.
    fn since(&mut self, by: Option<By>, request: u64) -> u64 {
        let begun = |failure: &mut Failure| match by.map(|by| by.who) {
            Some(Who::Device(_, false)) => failure.pending.take().unwrap_or(request),
            _ => failure.pending.take().unwrap_or(failure.since),
        };
        self.failure.as_mut().map_or(request, begun)
    }

    fn next(&self) -> Option<Duration> {
        let due = self.failure.as_ref().filter(|_| self.load.is_none());
        let due = due.filter(|failure| failure.pending.is_some()).map(|failure| failure.retry_at);
        let load = self.load.as_ref();
        let load = load.and_then(|load| load.loading_until.or(load.pausing_until));
        due.into_iter().chain(load).min()
    }

    fn has_ended(&self, now: Duration) -> bool {
        self.load.as_ref().and_then(|load| load.loading_until).is_some_and(|until| until <= now)
    }

    fn is_rested(&self, now: Duration) -> bool {
        self.load.as_ref().and_then(|load| load.pausing_until).is_some_and(|until| until <= now)
    }

    fn is_due(&self, now: Duration) -> bool {
        let waits = |failure: &Failure| failure.pending.is_some() && failure.retry_at <= now;
        self.load.is_none() && self.failure.as_ref().is_some_and(waits)
    }
}
