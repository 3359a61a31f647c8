// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler in a world that answers, with a clock of its own: time passes only when told to, loads take as long as the world
//! says and end as it says. A replay drives it in one whose modules are a real tree's, tests in one that they declare.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use crate::kmod::Resolver;
use crate::once::outcome::errno_name;
use crate::once::{
    Action, AddOnce, Answer, Candidate, ClientId, InitState, Limits, LoadError, Modules, Name, Outcome, Plan,
    Request, Scheduler, Stage, Time, Work,
};

/// A world with a kernel in it: it answers what is otherwise a worker's business.
pub trait World: Modules {
    /// What the kernel says when this load ends, and who is live then.
    fn load(&mut self, plan: &Plan) -> Outcome;

    /// How long the load of a module takes.
    fn takes(&self, module: &Name) -> Time;
}

/// The core in a world.
#[derive(Debug)]
pub struct Simulation<W> {
    /// The core.
    pub core: Scheduler,
    /// The world.
    pub world: W,
    /// What the core had loaded, in order, and when.
    pub attempts: Vec<(Time, Name)>,
    /// What it published.
    pub published: Vec<AddOnce>,
    /// What it answered.
    pub answers: Vec<(ClientId, Vec<Answer>)>,
    /// Which of the kernel's own requests it left to modprobe.
    pub handed_back: Vec<ClientId>,
    /// How often it said that this kernel loads no module any more.
    pub disabled: u32,
    /// The loads that are running, and when they end.
    pub running: Vec<(Time, Arc<Plan>)>,
    /// The time.
    pub now: Time,
}

impl<W: World> Simulation<W> {
    /// A core with these limits, in this world.
    pub fn new(world: W, limits: Limits) -> Self {
        let (attempts, published, answers, handed_back, disabled, now, running) = Default::default();
        let core = Scheduler::new(limits);
        Self { core, world, attempts, published, answers, handed_back, disabled, now, running }
    }

    /// A request comes in.
    pub fn ask(&mut self, request: Request<'_>) {
        self.core.request(&mut self.world, request, self.now);
        self.act();
    }

    /// Time passes; loads end and retries are made when their time has come.
    pub fn pass(&mut self, duration: Time) {
        let end = self.now + duration;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.step(next.max(self.now));
        }
        self.now = end;
        self.core.tick(&mut self.world, self.now);
        self.act();
    }

    /// When something happens next of its own accord.
    fn next(&self) -> Option<Time> {
        let ended = self.running.iter().map(|(at, _)| *at).min();
        ended.into_iter().chain(self.core.next_deadline(self.now)).min()
    }

    fn step(&mut self, to: Time) {
        self.now = to;
        let (ended, running) = std::mem::take(&mut self.running).into_iter().partition(|(at, _)| *at <= to);
        self.running = running;
        let ended: Vec<(Time, Arc<Plan>)> = ended;
        for (_, plan) in ended {
            let outcome = self.world.load(&plan);
            self.core.finished(&mut self.world, &plan.module, outcome, to);
            self.act();
        }
        self.core.tick(&mut self.world, to);
        self.act();
    }

    /// Does what the core wants, after it was told something.
    pub fn act(&mut self) {
        while let Some(action) = self.core.next_action() {
            match action {
                Action::Load(plan) => {
                    self.attempts.push((self.now, plan.module.clone()));
                    let takes = self.world.takes(&plan.module);
                    self.running.push((self.now + takes, plan));
                }
                Action::Publish(record) => self.published.push(record),
                Action::Answer(client, answers) => self.answers.push((client, answers)),
                Action::HandBack(client) => self.handed_back.push(client),
                Action::Disabled => self.disabled += 1,
            }
        }
    }
}

/// A real module tree and a kernel by declaration: the tree says which modules there are and what they take, the declaration what the
/// kernel says of them. This machine's own kernel is not asked: who is live on it does not matter.
pub struct Replayed {
    tree: Resolver,
    live: BTreeSet<Name>,
    errnos: BTreeMap<Name, i32>,
    takes: BTreeMap<Name, Time>,
}

impl Replayed {
    /// A world in which the kernel answers as declared, a statement a line: `pcc_cpufreq => ENODEV`, `slow takes 2000` (milliseconds),
    /// `kvm is live`. All others load at once. `#` begins a comment. The error names the line and what is wrong with it.
    pub fn new(tree: Resolver, declaration: &str) -> Result<Self, String> {
        let (live, errnos, takes) = Default::default();
        let mut world = Self { tree, live, errnos, takes };
        for (nth, line) in declaration.lines().enumerate() {
            let statement = line.split('#').next().unwrap_or_default();
            world.declare(statement).map_err(|what| format!("line {}: {what}: {line}", nth + 1))?;
        }
        Ok(world)
    }

    fn declare(&mut self, statement: &str) -> Result<(), &'static str> {
        match statement.split_whitespace().collect::<Vec<_>>()[..] {
            [] => {}
            [module, "=>", errno] => {
                let (errno, module) = (errno_of(errno).ok_or("no such errno")?, self.named(module)?);
                self.errnos.insert(module, errno);
            }
            [module, "takes", ms] => {
                let (ms, module) = (ms.parse().map_err(|_| "milliseconds?")?, self.named(module)?);
                self.takes.insert(module, Time::from_millis(ms));
            }
            [module, "is", "live"] => {
                let module = self.named(module)?;
                self.live.insert(module);
            }
            _ => return Err("no such statement"),
        }
        Ok(())
    }

    fn named(&mut self, module: &str) -> Result<Name, &'static str> {
        let name: Name = module.replace('-', "_").into();
        let is_known = self.tree.plan(&name, None).work != Work::Missing;
        is_known.then_some(name).ok_or("this tree has no such module")
    }
}

/// The number of an errno by its name.
pub fn errno_of(name: &str) -> Option<i32> {
    (1..134).find(|&number| errno_name(number) == name)
}

impl Modules for Replayed {
    /// The tree is read once: the time of a replay is not the time in which somebody may change it.
    fn refresh(&mut self) -> bool {
        false
    }

    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate> {
        self.tree.resolve(alias)
    }

    fn plan(&mut self, module: &Name, options: Option<&CString>) -> Plan {
        self.tree.plan(module, options)
    }

    fn initstate(&mut self, module: &str) -> InitState {
        if self.live.contains(module) { InitState::Live } else { InitState::Absent }
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.tree.exists(path)
    }
}

impl World for Replayed {
    fn load(&mut self, plan: &Plan) -> Outcome {
        match self.errnos.get(&plan.module) {
            Some(&errno) => Outcome::Failed(LoadError { errno, stage: Stage::Insert }),
            None => {
                self.live.insert(plan.module.clone());
                Outcome::Live
            }
        }
    }

    fn takes(&self, module: &Name) -> Time {
        self.takes.get(module).copied().unwrap_or_default()
    }
}
