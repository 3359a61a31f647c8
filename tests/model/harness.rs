// SPDX-License-Identifier: MIT OR Apache-2.0
//! The core, driven through a script as the daemon drives it, and watched at every action. What it breaks is
//! noted with the invariant's name; the property that owns the invariant reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::fake::{FakeModule, FakeModules};
use addonce::once::Mode;
use addonce::once::{Action, Scheduler};
use addonce::once::{AddOnce, Outcome};
use addonce::once::{Answer, Status};
use addonce::once::{Candidate, InitState, Modules, Name, Plan, Verdict};
use addonce::once::{Origin, Request};

use super::ledger::{Ledger, Who};
use super::steps::{Case, Step, alias};
use super::world::{PATH, World, name, number};

/// A load older than this does not count any more.
const OLD: Duration = Duration::from_secs(5);

/// What must hold, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    OneLoad = 1,
    Answers,
    Attempts,
    Retries,
    Bounds,
    Dependencies,
    Progress,
    Deadlines,
}

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The core is ticked when it said that it wants to be, and when a load ended.
    Deadlines,
    /// The core is ticked every 10 ms and never asked when.
    Ticks,
}

/// The tree, with a counter and with options for one alias.
pub struct Tree {
    pub fake: FakeModules,
    pub resolves: usize,
    options: bool,
}

struct Running {
    name: Name,
    since: Duration,
    until: Duration,
}

#[derive(Default)]
struct Client {
    asked: Duration,
    /// Modules that its answer has to name.
    wants: Vec<usize>,
    answers: usize,
    gone: bool,
}

pub struct Harness<'a> {
    pub world: &'a World,
    pub core: Scheduler,
    pub tree: Tree,
    pub now: Duration,
    /// Every load that was started.
    pub attempts: Vec<(Duration, Name)>,
    /// Every answer.
    pub answers: BTreeMap<u64, (Duration, Vec<Answer>)>,
    pub ledger: Ledger,
    broken: BTreeMap<Invariant, String>,
    clock: Clock,
    running: Vec<Running>,
    clients: BTreeMap<u64, Client>,
    /// Aliases in the order of use: what a naive memo holds; and what one of the kernel's requests does.
    memo: [VecDeque<String>; 2],
    /// Modules that the kernel said exist, by another name.
    pub elsewhere: BTreeSet<Name>,
    disabled: usize,
    /// The index has changed, and the core has not looked yet.
    changed: bool,
    seqnum: u64,
    /// Since when nothing is being loaded.
    calm: Duration,
    unloaded: BTreeMap<Name, Duration>,
    was_live: BTreeMap<Name, Duration>,
    /// Modules that came or went without the core having heard of it.
    pub unseen: BTreeSet<Name>,
}

impl<'a> Harness<'a> {
    pub fn new(world: &'a World, clock: Clock) -> Self {
        let tree = Tree { fake: world.fake(), resolves: 0, options: world.options };
        Self {
            world,
            core: Scheduler::new(world.limits),
            tree,
            now: Duration::ZERO,
            attempts: Vec::new(),
            answers: BTreeMap::new(),
            ledger: Ledger::new(world),
            broken: BTreeMap::new(),
            clock,
            running: Vec::new(),
            clients: BTreeMap::new(),
            memo: Default::default(),
            elsewhere: BTreeSet::new(),
            disabled: 0,
            changed: false,
            seqnum: 0,
            calm: Duration::ZERO,
            unloaded: BTreeMap::new(),
            was_live: BTreeMap::new(),
            unseen: BTreeSet::new(),
        }
    }

    /// A script from its beginning to its end.
    pub fn through(case: &'a Case, clock: Clock) -> Self {
        let mut harness = Self::new(&case.world, clock);
        for step in &case.steps {
            harness.step(*step);
        }
        harness
    }

    /// What was broken of one invariant.
    pub fn verdict(&self, invariant: Invariant) -> Result<(), String> {
        match self.broken.get(&invariant) {
            Some(what) => Err(format!("invariant {}, {invariant:?}: {what}", invariant as u8)),
            None => Ok(()),
        }
    }

    pub fn holds(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let now = self.now.as_millis();
            self.broken.entry(invariant).or_insert_with(|| format!("at {now} ms: {}", what()));
        }
    }

    pub fn is_disabled(&self) -> bool {
        self.tree.fake.disabled
    }

    pub fn step(&mut self, step: Step) {
        let of = |module: usize| name(module % self.world.modules.len());
        match step {
            Step::Pass(ms) => self.pass(Duration::from_millis(ms)),
            Step::Event { device, alias: a, genuine } => {
                self.ask(&alias(self.world, a), Who::Device(device, genuine), None);
            }
            Step::Scan { device, alias: a } => self.ask(&alias(self.world, a), Who::Scan(device), None),
            Step::Client { alias: a, device } => {
                let client = self.client();
                let who = device.map_or(Who::Administrator, |(device, genuine)| Who::Device(device, genuine));
                self.ask(&alias(self.world, a), who, Some(client));
            }
            Step::Kernel(a) => {
                let client = self.client();
                self.ask(&alias(self.world, a), Who::Kernel, Some(client));
            }
            Step::Retry => {
                let client = self.client();
                self.ledger.retry(self.now, &self.tree.fake.live);
                self.core.retry(&mut self.tree, Some(client), &[], self.now);
                self.act();
            }
            Step::Gone(back) => {
                let client = (self.clients.len() as u64).saturating_sub(back);
                self.core.client_gone(client);
                self.clients.entry(client).and_modify(|client| client.gone = true);
            }
            Step::ByHand(m) => self.by_hand(&of(m), true),
            Step::ByHandUnseen(m) => self.by_hand(&of(m), false),
            Step::Unload(m) => self.unload(&of(m), true),
            Step::UnloadUnseen(m) => self.unload(&of(m), false),
            Step::Lost => self.lost(),
            Step::Restart => self.restart(),
            Step::Fix(m) => {
                let module = self.tree.fake.module(&of(m));
                module.version += 1;
                module.errno = 0;
            }
            Step::Replace(m) => self.tree.fake.module(&of(m)).version += 1,
            Step::Answer(m, errno) => self.tree.fake.module(&of(m)).errno = errno,
            Step::Takes(m, ms) => self.tree.fake.module(&of(m)).takes = Duration::from_millis(ms),
            Step::Blacklist(m) => {
                self.tree.fake.module(&of(m)).blacklisted ^= true;
                self.index_changed();
            }
            Step::Alias(a, m) => {
                let (a, m) = (a % self.world.aliases.len(), m % self.world.modules.len());
                self.alias_changes(a, m);
            }
            Step::Path => {
                if !self.tree.fake.paths.remove(Path::new(PATH)) {
                    self.tree.fake.paths.insert(PATH.into());
                }
            }
            Step::Disable => self.tree.fake.disabled = true,
        }
    }

    /// Somebody wants an alias.
    pub fn ask(&mut self, alias: &str, who: Who, client: Option<u64>) {
        let modules = self.tree.modules_of(alias);
        let direct: Vec<usize> = modules.iter().copied().filter(|&m| !self.is_ruled_out(m)).collect();
        // What a duplicate of live modules is told may be older than the index.
        let looks = matches!(who, Who::Administrator | Who::Kernel);
        let fresh = !self.changed || looks || !self.memo[0].iter().any(|known| known == alias);
        let direct = if fresh && !self.is_disabled() { direct } else { vec![] };
        if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
            client.wants = direct.clone();
        }
        let here = |m: &usize| self.tree.fake.live.contains(&name(*m)) || self.unseen.contains(&name(*m));
        let direct: Vec<usize> = direct.into_iter().filter(|m| !here(m)).collect();
        self.ledger.asked(self.world, self.now, alias, who, &direct);
        let (devpath, resolves) = (who.devpath(), self.tree.resolves);
        let devpath = devpath.as_bytes();
        let origin = match who {
            Who::Administrator => Origin::Admin,
            Who::Kernel => Origin::Kernel,
            Who::Device(_, genuine) => {
                self.seqnum += 1;
                Origin::Uevent { devpath, seqnum: self.seqnum, synthetic: !genuine }
            }
            Who::Scan(_) => Origin::Scan { devpath },
        };
        self.core.request(&mut self.tree, Request { alias: alias.as_bytes(), origin, client }, self.now);
        self.notice();
        let known = self.remembered(alias, who == Who::Kernel);
        let looked_up = self.tree.resolves - resolves;
        self.holds(Invariant::Bounds, looked_up == usize::from(!known), || {
            format!("{alias} was looked up {looked_up} times; a memo of its size knew it: {known}")
        });
        self.act();
        self.ledger.heard();
    }

    /// A new client's number.
    pub fn client(&mut self) -> u64 {
        let client = self.clients.len() as u64 + 1;
        self.clients.insert(client, Client { asked: self.now, ..Client::default() });
        client
    }

    pub fn index_changed(&mut self) {
        self.tree.fake.changed = true;
        self.changed = true;
    }

    pub fn lost(&mut self) {
        self.believe_nothing();
        self.ledger.unloaded();
        self.core.events_lost(&mut self.tree);
        self.act();
    }

    /// Until now it was right to believe what had been seen.
    fn believe_nothing(&mut self) {
        for name in std::mem::take(&mut self.unseen) {
            self.was_live.insert(name, self.now);
        }
    }

    /// Another process takes over, by way of a file.
    fn restart(&mut self) {
        if !self.core.is_settled() {
            return;
        }
        let text = serde_json::to_string(&self.core.snapshot()).expect("a snapshot as text");
        let snapshot = serde_json::from_str(&text).expect("a snapshot");
        self.core = Scheduler::restore(self.world.limits, snapshot, self.now);
        // What is live by another name than its file's is for the next process to find out.
        for name in &self.elsewhere {
            if self.core.failures().all(|(other, _)| other != name) {
                self.ledger.not_passed_on(number(name));
            }
        }
        self.memo = Default::default();
        (self.changed, self.tree.fake.changed, self.disabled) = (false, false, 0);
        self.believe_nothing();
        self.look();
    }

    /// Time passes.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        match self.clock {
            Clock::Ticks => {
                self.tick();
                while self.now < end {
                    self.now += Duration::from_millis(10);
                    self.tick();
                }
            }
            Clock::Deadlines => self.pass_by_deadlines(end),
        }
    }

    fn pass_by_deadlines(&mut self, end: Duration) {
        let mut idle_ticks = 0;
        loop {
            let ended = self.running.iter().map(|running| running.until).min();
            let deadline = self.core.next_deadline(self.now);
            let Some(next) = ended.into_iter().chain(deadline).min().filter(|&next| next <= end) else {
                break;
            };
            idle_ticks = if next <= self.now { idle_ticks + 1 } else { 0 };
            if idle_ticks > 20 {
                self.holds(Invariant::Deadlines, false, || {
                    format!("ticking does not move the deadline {deadline:?}: the daemon would spin")
                });
                break;
            }
            self.now = next.max(self.now);
            self.tick();
        }
        self.now = end;
    }

    /// Loads end, then the core is ticked; and again, if a load ended at once.
    fn tick(&mut self) {
        loop {
            while let Some(running) = self.running.iter().find(|running| running.until <= self.now) {
                self.ended(&running.name.clone());
            }
            // What a tick finds out may be for the next one to act on, and that comes at once where deadlines count.
            let times = if self.clock == Clock::Ticks { 2 } else { 1 };
            for _ in 0..times {
                self.core.tick(&mut self.tree, self.now);
                self.act();
            }
            if self.running.iter().all(|running| running.until > self.now) {
                return;
            }
        }
    }

    fn ended(&mut self, name: &Name) {
        let here_already = self.tree.fake.live.contains(name) && !self.is_disabled();
        let outcome = if here_already { Outcome::Live } else { self.tree.fake.load(name) };
        self.ledger.ended(self.now, name, &outcome);
        if matches!(&outcome, Outcome::Failed(error) if error.errno == libc::EEXIST) {
            self.elsewhere.insert(name.clone());
        }
        if outcome == Outcome::Live {
            self.is_live(name);
            if self.world.announce == 1 {
                self.core.module_added(&mut self.tree, name, self.now);
                self.act();
            }
        }
        self.running.retain(|running| running.name != *name);
        self.core.finished(&mut self.tree, name, outcome.clone(), self.now);
        self.act();
        if outcome == Outcome::Live && self.world.announce == 2 {
            self.core.module_added(&mut self.tree, name, self.now);
            self.act();
        }
    }

    /// Does what the core wants done, and looks at it.
    fn act(&mut self) {
        while let Some(action) = self.core.next_action() {
            match action {
                Action::Load(plan) => self.load(&plan),
                Action::Publish(record) => self.published(&record),
                Action::Answer(client, answers) => self.answered(client, answers),
                Action::HandBack(client) => self.answered(client, Vec::new()),
                Action::Disabled => {
                    self.disabled += 1;
                    let times = self.disabled;
                    self.holds(Invariant::Attempts, times == 1, || format!("disabled said {times} times"));
                }
            }
        }
        self.look();
    }

    fn load(&mut self, plan: &Plan) {
        let (name, now, fake) = (&plan.module, self.now, &self.tree.fake);
        let twice = self.running.iter().any(|running| running.name == *name);
        let missing = plan.deps.iter().find(|dep| {
            let excused = self.unseen.contains(*dep)
                || self.elsewhere.contains(*dep)
                || self.unloaded.get(*dep).is_some_and(|&unloaded| unloaded >= self.calm);
            !fake.live.contains(*dep) && !fake.modules[*dep].builtin && !excused
        });
        let missing = missing.cloned();
        let takes = fake.modules[name].takes;
        self.running.push(Running { name: name.clone(), since: now, until: now + takes });
        self.attempts.push((now, name.clone()));
        let young = self.running.iter().filter(|running| now - running.since < OLD);
        let young = young.filter(|running| !self.ledger.kernel_waits_for(&running.name)).count();
        let (all, limits) = (self.running.len(), self.world.limits);
        let attempt = self.ledger.attempted(now, plan);
        let disabled = self.disabled > 0;
        self.holds(Invariant::OneLoad, !twice, || format!("{name} is loading already"));
        self.holds(Invariant::Bounds, young <= limits.jobs, || format!("{young} young loads"));
        self.holds(Invariant::Bounds, all <= limits.processes, || format!("{all} loads"));
        self.holds(Invariant::Dependencies, missing.is_none(), || {
            format!("{name} is loaded while what it needs is not live: {missing:?}")
        });
        self.holds(Invariant::Attempts, attempt.is_ok(), || format!("{name}: {attempt:?}"));
        self.holds(Invariant::Attempts, !disabled, || {
            format!("{name} is loaded after modules were disabled")
        });
    }

    fn published(&mut self, record: &AddOnce) {
        let name = &record.module;
        if let Outcome::Failed(error) = &record.outcome {
            let named = self.ledger.check_blame(name, error, &self.tree.fake, &self.unseen);
            self.holds(Invariant::Dependencies, named.is_ok(), || format!("{name}: {named:?}"));
        }
        let tries = self.ledger.check_tries(record);
        self.holds(Invariant::Attempts, tries.is_ok(), || format!("{name}: {tries:?}"));
        self.ledger.published(self.now, record);
    }

    fn answered(&mut self, number: u64, answers: Vec<Answer>) {
        let Some(client) = self.clients.get_mut(&number) else {
            return self.holds(Invariant::Answers, false, || format!("client {number} never asked"));
        };
        client.answers += 1;
        let (count, gone, asked) = (client.answers, client.gone, client.asked);
        let named = |module: &usize| answers.iter().filter(|(name, _)| *name == self::name(*module)).count();
        let unnamed = client.wants.iter().copied().find(|module| named(module) != 1);
        self.holds(Invariant::Answers, count == 1, || format!("client {number} is answered again"));
        self.holds(Invariant::Answers, unnamed.is_none(), || {
            format!("client {number} is not told, once, what became of module {unnamed:?}")
        });
        self.holds(Invariant::Answers, !gone, || format!("client {number} is gone, and answered"));
        for (module, standing) in &answers {
            let live = self.tree.fake.live.contains(module)
                || self.unseen.contains(module)
                || self.elsewhere.contains(module)
                || self.was_live.get(module).is_some_and(|&at| at >= asked);
            let holds = match standing {
                Status::Loading => false,
                Status::Live => live || self.tree.fake.modules[module].builtin,
                _ => true,
            };
            self.holds(Invariant::Answers, holds, || {
                format!("client {number} is told that {module} is {standing:?}")
            });
        }
        self.answers.insert(number, (self.now, answers));
    }

    /// What holds between any two actions.
    fn look(&mut self) {
        self.notice();
        let now = self.now;
        let mut ours: Vec<&Name> = self.running.iter().map(|running| &running.name).collect();
        let mut theirs: Vec<&Name> =
            self.core.loads().filter(|load| load.running.is_some()).map(|load| load.module).collect();
        ours.sort();
        theirs.sort();
        let same = ours == theirs;
        let unanswered = self.clients.iter().find(|(_, client)| client.answers == 0 && !client.gone);
        let unanswered = unanswered.map(|(number, _)| *number).filter(|_| self.core.is_settled());
        let stuck = !self.core.is_settled()
            && self.running.is_empty()
            && self.core.next_deadline(now).is_none_or(|next| next > now + Duration::from_millis(200));
        let modules = 0..self.world.modules.len();
        for module in modules.filter(|&m| self.is_ruled_out(m)).collect::<Vec<_>>() {
            let is_remembered = self.core.failures().any(|(other, _)| *other == name(module));
            self.ledger.ruled_out(module, is_remembered);
        }
        self.ledger.remembers(self.core.failures().map(|(name, _)| name));
        if self.core.is_settled() {
            self.calm = now;
            self.ledger.settled();
            if self.core.next_deadline(now).is_none() {
                self.ledger.calm();
            }
        }
        self.holds(Invariant::OneLoad, same, || "the core's list of running loads is wrong".into());
        self.holds(Invariant::Answers, unanswered.is_none(), || {
            format!("all is settled, and client {unanswered:?} hangs")
        });
        self.holds(Invariant::Progress, !stuck, || "there are loads, and nothing moves".into());
    }

    /// Once the core has looked at an index that has changed, its memo is empty.
    fn notice(&mut self) {
        if self.changed && !self.tree.fake.changed {
            self.changed = false;
            self.memo = Default::default();
        }
    }

    /// Whether a memo of this capacity knows an alias, and what it knows from now on.
    fn remembered(&mut self, alias: &str, is_kernel: bool) -> bool {
        let memo = &mut self.memo[usize::from(is_kernel)];
        let place = memo.iter().position(|known| known == alias);
        place.map(|place| memo.remove(place));
        memo.push_back(alias.into());
        if memo.len() > if is_kernel { 1 } else { self.world.limits.aliases.get() } {
            memo.pop_front();
        }
        place.is_some()
    }

    fn is_ruled_out(&self, module: usize) -> bool {
        let module = &self.tree.fake.modules[&name(module)];
        let excluded = module.policy.unless.as_ref().is_some_and(|path| self.tree.fake.paths.contains(path));
        module.builtin || module.blacklisted || excluded || module.policy.mode == Mode::Never
    }

    fn is_live(&mut self, name: &Name) {
        self.was_live.insert(name.clone(), self.now);
        self.ledger.live(number(name));
    }

    /// As modprobe does it: what it needs comes first.
    fn by_hand(&mut self, name: &Name, seen: bool) {
        if self.is_disabled() {
            return;
        }
        let deps = self.tree.fake.modules[name].deps.clone();
        for module in deps.iter().chain([name]) {
            if self.tree.fake.modules[module].builtin || !self.tree.fake.live.insert(module.clone()) {
                continue;
            }
            self.is_live(module);
            if seen {
                self.core.module_added(&mut self.tree, module, self.now);
                self.act();
            } else {
                self.unseen.insert(module.clone());
            }
        }
    }

    /// As the kernel does it: not what is in use.
    fn unload(&mut self, name: &Name, seen: bool) {
        let needs = |module: &Name| self.tree.fake.modules[module].deps.contains(name);
        let loading = self.running.iter().any(|running| running.name == *name || needs(&running.name));
        if loading || self.tree.fake.live.iter().any(needs) || !self.tree.fake.live.remove(name) {
            return;
        }
        self.unloaded.insert(name.clone(), self.now);
        self.was_live.insert(name.clone(), self.now);
        if seen {
            self.unseen.remove(name);
            self.ledger.unloaded();
            self.core.module_removed(&mut self.tree, name, self.now);
            self.act();
        } else {
            self.unseen.insert(name.clone());
        }
    }

    pub fn alias_changes(&mut self, alias: usize, module: usize) {
        let modules = &mut self.tree.fake.aliases[alias].1;
        let name = name(module);
        match modules.iter().position(|other| *other == name) {
            Some(index) => drop(modules.remove(index)),
            None => modules.push(name),
        }
        self.ledger.alias_gained(alias, module);
        self.index_changed();
    }

    /// Nothing more happens; time passes until all loads have ended and all that was accepted is done.
    pub fn drain(&mut self) {
        for round in 0..40 {
            self.pass(Duration::from_secs(70));
            // A shortage is tried again for ever: so it ends.
            if round == 20 {
                let short = |module: &&mut FakeModule| module.errno == libc::EAGAIN;
                self.tree.fake.modules.values_mut().filter(short).for_each(|module| module.errno = 0);
            }
            let mut retries = self.core.failures().filter(|(_, failure)| failure.pending.is_some());
            if self.core.is_settled() && retries.all(|(_, failure)| failure.error.is_shortage()) {
                return;
            }
        }
        let (loads, loading) = (self.core.loads().count(), self.running.len());
        self.holds(Invariant::Progress, false, || {
            format!("after all time there are {loads} loads, {loading} of them running, and a deadline")
        });
    }
}

impl Tree {
    fn modules_of(&mut self, alias: &str) -> Vec<usize> {
        let resolution = self.fake.resolve(alias.as_bytes());
        let load = resolution.iter().filter(|candidate| candidate.verdict == Verdict::Load);
        load.map(|candidate| number(&candidate.module)).collect()
    }
}

impl Modules for Tree {
    fn refresh(&mut self) -> bool {
        self.fake.refresh()
    }

    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate> {
        self.resolves += 1;
        let mut resolution = self.fake.resolve(alias);
        if self.options && alias == b"x:0" {
            for candidate in &mut resolution {
                candidate.options = Some(Arc::new(CString::from(c"debug=1")));
            }
        }
        resolution
    }

    fn plan(&mut self, module: &Name, options: Option<&CString>) -> Plan {
        self.fake.plan(module, options)
    }

    fn initstate(&mut self, module: &str) -> InitState {
        self.fake.initstate(module)
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.fake.exists(path)
    }
}
