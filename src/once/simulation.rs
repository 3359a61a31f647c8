// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Simulation: the core in a declared world, with a clock of its own
//!
//! Owns a [`Coalescer`], a [`FakeModules`] and a time that passes only when told to. Loads take as long as the
//! declaration says and end as it says. Tests and replays drive it, and read what the core did.

use super::coalescer::{Action, Coalescer};
use super::fake::FakeModules;
use super::limits::Limits;
use super::outcome::AddOnce;
use super::party::Answer;
use super::request::{ClientId, Device, Origin, Request, Time};
use super::world::Name;

/// The core in a declared world.
#[derive(Debug)]
pub struct Simulation {
    /// The core.
    pub core: Coalescer,
    /// The world.
    pub world: FakeModules,
    /// What the core had loaded, in order, and when.
    pub attempts: Vec<(Time, Name)>,
    /// What it published.
    pub published: Vec<AddOnce>,
    /// What it answered.
    pub answers: Vec<(ClientId, Vec<Answer>)>,
    /// How often it said that this kernel loads no module any more.
    pub disabled: u32,
    now: Time,
    running: Vec<(Time, Name)>,
    seqnum: u64,
}

impl Simulation {
    /// A core with these limits, in this world.
    pub fn new(world: FakeModules, limits: Limits) -> Self {
        Self {
            core: Coalescer::new(limits),
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
        self.running.iter().map(|(_, name)| name)
    }

    /// A request comes in.
    pub fn request(&mut self, alias: &[u8], origin: Origin<'_>) {
        self.core.request(&mut self.world, Request { alias, origin }, self.now);
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
        self.request(name.as_bytes(), Origin::Client { client, device: None });
    }

    /// Somebody loads a module by hand, and the kernel announces it.
    pub fn loaded_by_hand(&mut self, name: &str) {
        self.world.live.insert(name.into());
        self.core.module_added(&mut self.world, name, self.now);
        self.act();
    }

    /// Somebody unloads a module, and the kernel announces it.
    pub fn unloaded(&mut self, name: &str) {
        self.world.live.remove(name);
        self.core.module_removed(name);
        self.act();
    }

    /// Time passes; loads end and promised attempts are made when their time has come.
    pub fn pass(&mut self, duration: Time) {
        let end = self.now + duration;
        loop {
            let landing = self.running.iter().map(|(at, _)| *at).min();
            let deadline = self.core.next_deadline(self.now);
            match landing.into_iter().chain(deadline).min() {
                Some(next) if next <= end => self.step(next.max(self.now)),
                _ => break,
            }
        }
        self.now = end;
        self.core.tick(&mut self.world, self.now);
        self.act();
    }

    /// Time passes until nothing is in the air.
    pub fn settle(&mut self) {
        while !self.core.is_settled() {
            self.pass(Time::from_millis(1));
        }
    }

    /// How often a module was attempted.
    pub fn attempts_of(&self, name: &str) -> usize {
        self.attempts.iter().filter(|(_, attempted)| &**attempted == name).count()
    }

    fn event(&mut self, devpath: &str, alias: &str, genuine: bool) {
        self.seqnum += 1;
        let device = Device { devpath: devpath.as_bytes(), genuine };
        self.request(alias.as_bytes(), Origin::Event { device, seqnum: self.seqnum });
    }

    fn step(&mut self, to: Time) {
        self.now = to;
        let (ended, running) = std::mem::take(&mut self.running).into_iter().partition(|(at, _)| *at <= to);
        self.running = running;
        let ended: Vec<(Time, Name)> = ended;
        for (_, name) in ended {
            let outcome = self.world.load(&name);
            self.core.landed(&mut self.world, &name, outcome, to);
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
                    let takes = self.world.module(&plan.module).takes;
                    self.running.push((self.now + takes, plan.module.clone()));
                }
                Action::Publish(record) => self.published.push(record),
                Action::Answer(client, answers) => self.answers.push((client, answers)),
                Action::Disabled => self.disabled += 1,
            }
        }
    }
}
