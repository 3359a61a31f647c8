// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler in a world that answers, with a clock of its own: time passes only when told to, loads take as long as the world
//! says and end as it says. Tests drive it in a declared world ([`FakeModules`]), replays also in one whose modules are a real
//! tree's. Both read what the scheduler did.

use std::sync::Arc;

use super::fake::FakeModules;
use crate::once::{
    Action, AddOnce, Answer, ClientId, Limits, Modules, Name, Origin, Outcome, Plan, Request, Scheduler, Time,
};

/// A world with a kernel in it: it answers what is otherwise a worker's business.
pub trait World: Modules {
    /// What the kernel says when this load ends, and who is live then.
    fn load(&mut self, plan: &Plan) -> Outcome;

    /// How long the load of a module takes.
    fn takes(&self, module: &Name) -> Time;
}

impl World for FakeModules {
    fn load(&mut self, plan: &Plan) -> Outcome {
        self.load(&plan.module)
    }

    fn takes(&self, module: &Name) -> Time {
        self.modules.get(module).map_or(Time::ZERO, |module| module.takes)
    }
}

/// The core in a world.
#[derive(Debug)]
pub struct Simulation<W = FakeModules> {
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
    /// How often it said that this kernel loads no module any more.
    pub disabled: u32,
    now: Time,
    running: Vec<(Time, Arc<Plan>)>,
    seqnum: u64,
}

impl<W: World> Simulation<W> {
    /// A core with these limits, in this world.
    pub fn new(world: W, limits: Limits) -> Self {
        Self {
            core: Scheduler::new(limits),
            world,
            attempts: Vec::new(),
            published: Vec::new(),
            answers: Vec::new(),
            disabled: 0,
            now: Time::ZERO,
            running: Vec::new(),
            seqnum: 0,
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The loads that are running.
    pub fn running(&self) -> impl Iterator<Item = &Name> {
        self.running.iter().map(|(_, plan)| &plan.module)
    }

    /// A request comes in.
    pub fn request(&mut self, alias: &[u8], origin: Origin<'_>) {
        self.ask(Request { alias, origin, client: None });
    }

    /// A request comes in, perhaps of a client.
    pub fn ask(&mut self, request: Request<'_>) {
        self.core.request(&mut self.world, request, self.now);
        self.act();
    }

    /// A replayed `add` event, as `udevadm trigger` causes it.
    pub fn replay(&mut self, devpath: &str, alias: &str) {
        self.event(devpath, alias, false);
    }

    /// A genuine `add` event: hardware appeared.
    pub fn appear(&mut self, devpath: &str, alias: &str) {
        self.event(devpath, alias, true);
    }

    /// A client asks; an administrator.
    pub fn client(&mut self, client: ClientId, name: &str) {
        self.ask(Request { alias: name.as_bytes(), origin: Origin::Admin, client: Some(client) });
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

    /// Time passes until nothing is being loaded.
    pub fn settle(&mut self) {
        while !self.core.is_settled() {
            self.pass(Time::from_millis(1));
        }
    }

    /// Time passes for as long as anything is left to happen: loads, and retries.
    pub fn finish(&mut self) {
        while let Some(next) = self.next() {
            self.step(next.max(self.now));
        }
    }

    /// How often a module was attempted.
    pub fn attempts_of(&self, name: &str) -> usize {
        self.attempts.iter().filter(|(_, attempted)| &**attempted == name).count()
    }

    /// When something happens next of its own accord.
    fn next(&self) -> Option<Time> {
        let ended = self.running.iter().map(|(at, _)| *at).min();
        ended.into_iter().chain(self.core.next_deadline(self.now)).min()
    }

    fn event(&mut self, devpath: &str, alias: &str, genuine: bool) {
        self.seqnum += 1;
        let (devpath, seqnum) = (devpath.as_bytes(), self.seqnum);
        self.request(alias.as_bytes(), Origin::Uevent { devpath, seqnum, synthetic: !genuine });
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

    fn act(&mut self) {
        while let Some(action) = self.core.next_action() {
            match action {
                Action::Load(plan) => {
                    self.attempts.push((self.now, plan.module.clone()));
                    let takes = self.world.takes(&plan.module);
                    self.running.push((self.now + takes, plan));
                }
                Action::Publish(record) => self.published.push(record),
                Action::Answer(client, answers) => self.answers.push((client, answers)),
                Action::Disabled => self.disabled += 1,
            }
        }
    }
}

impl Simulation {
    /// Somebody loads a module by hand, and the kernel announces it.
    pub fn loaded_by_hand(&mut self, name: &str) {
        self.world.live.insert(name.into());
        self.core.module_added(&mut self.world, name, self.now);
        self.act();
    }

    /// Somebody unloads a module, and the kernel announces it.
    pub fn unloaded(&mut self, name: &str) {
        self.world.live.remove(name);
        self.core.module_removed(&mut self.world, name);
        self.act();
    }
}
