// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler in a world that answers, with a clock of its own: time passes only when told to, loads take as long as the world
//! says and end as it says. Tests drive it in a declared world ([`FakeModules`]), replays also in one whose modules are a real
//! tree's. Both read what the scheduler did.

use std::sync::Arc;

use super::fake::FakeModules;
use crate::once::{
    Action, AddOnce, Answer, ClientId, Limits, Modules, Name, Outcome, Plan, Request, Scheduler, Time,
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
    /// The loads that are running, and when they end.
    pub running: Vec<(Time, Arc<Plan>)>,
    now: Time,
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
        }
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
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

    /// Time passes for as long as anything is left to happen: loads, and retries.
    pub fn finish(&mut self) {
        while let Some(next) = self.next() {
            self.step(next.max(self.now));
        }
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
                Action::Disabled => self.disabled += 1,
            }
        }
    }
}
