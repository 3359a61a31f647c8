// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Daemon: the loop
//!
//! Owns the one thread that owns all state. A turn of the loop: wait for news; take in landings, uevents or a
//! slice of a scan, and clients' orders, each up to a budget; let time pass for the core; carry out what the core
//! wants; answer who waits for settling. Loads are processes of their own ([`loads`]), so nothing in the loop
//! waits for a load, and nothing needs a lock.
//!
//! | file | owns |
//! |---|---|
//! | [`intake`] | uevents and scans, as facts for the core |
//! | [`loads`] | the processes that perform loads |
//! | [`state_file`] | the failures, from one process to the next |
//! | [`status`] | what is going on, for everybody |
//! | `settings` | what it is made of |
//! | `ending` | when it ends |
//! | [`signals`] | what is asked of it without a socket |
//! | [`notify`] | what a service manager is told |
//! | [`clock`] | the time it goes by |
//! | [`methods`] | what clients' calls mean |
//! | [`report`] | what is said in the log |

pub mod clock;
mod ending;
mod fork;
mod history;
pub mod hold;
pub mod hold_file;
pub mod intake;
pub mod loads;
pub mod methods;
pub mod notify;
pub mod outstanding;
pub mod report;
mod settings;
pub mod signals;
pub mod state_file;
pub mod status;

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::Signal;

use crate::control::server::Server;
use crate::fatal::Fatal;
use crate::kmod::Resolver;
use crate::once::{Action, Scheduler};
use ending::Ending;
use history::History;
use intake::{Fact, Intake, Left};
use loads::Loads;
use methods::{Methods, Note};
use notify::Notifier;
pub use settings::{Control, Settings, Until};
use signals::Signals;
use state_file::StateFile;
use status::Situation;

const SIGNALS: Token = Token(0);
const NETLINK: Token = Token(1);
const LOADS: Token = Token(2);
/// Tokens from here on are the server's.
const SERVER: Token = Token(3);

/// The loop and all it owns.
pub struct Daemon {
    poll: Poll,
    signals: Signals,
    resolver: Resolver,
    core: Scheduler,
    intake: Intake,
    loads: Loads,
    methods: Option<Methods>,
    situation: Situation,
    state_file: Option<StateFile>,
    history: History,
    notifier: Option<Notifier>,
    ending: Ending,
}

impl Daemon {
    /// Sets everything up. Signals are blocked from here on, in this thread and those it starts.
    ///
    /// # Errors
    /// [`Fatal::System`], naming what was refused.
    pub fn new(resolver: Resolver, settings: Settings) -> Result<Self, Fatal> {
        let refused =
            |what: &'static str| move |error: std::io::Error| Fatal::System(format!("{what}: {error}"));
        let poll = Poll::new().map_err(refused("epoll"))?;
        let registry = poll.registry().try_clone().map_err(refused("epoll"))?;
        let signals = Signals::block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
        let mut sources = vec![(signals.as_raw_fd(), SIGNALS)];
        sources.extend(settings.netlink.as_ref().map(|netlink| (netlink.as_raw_fd(), NETLINK)));
        for (descriptor, token) in sources {
            let source = &mut SourceFd(&descriptor);
            poll.registry().register(source, token, Interest::READABLE).map_err(refused("epoll"))?;
        }
        let now = clock::now();
        let methods = settings
            .control
            .map(|control| {
                let (registry, bounds) =
                    (poll.registry().try_clone().map_err(refused("epoll"))?, control.bounds);
                Ok(Methods::new(Server::new(control.listen()?, registry, SERVER, bounds)?, now))
            })
            .transpose()?;
        let mut intake = Intake::new(settings.netlink, resolver.tree().sysfs.clone());
        if settings.scan {
            intake.scan();
        }
        let mut state_file = settings.state_file;
        let core = match &mut state_file {
            Some(state_file) => state_file.restore(settings.limits, now),
            None => Scheduler::new(settings.limits),
        };
        let situation =
            Situation { with_udev: !settings.scan, dry_run: settings.dry_run, ..Situation::default() };
        Ok(Self {
            poll,
            signals,
            core,
            resolver,
            intake,
            loads: Loads::new(settings.loader, registry, LOADS),
            methods,
            situation,
            state_file,
            history: History::default(),
            notifier: settings.notifier,
            ending: Ending::new(settings.until, settings.landing_time),
        })
    }

    /// Runs the loop. Returns the core, whose counters and failures tell what happened.
    ///
    /// # Errors
    /// [`Fatal::System`] when a socket or epoll itself fails.
    pub fn run(mut self) -> Result<Scheduler, Fatal> {
        let mut events = Events::with_capacity(128);
        let mut left = Left::More;
        // The scan has begun, and is not waited for: nobody who asks us gets another answer because of it, and drivers
        // may take a minute. Who needs them asks to be told of settling.
        self.notifier.iter_mut().for_each(Notifier::ready);
        loop {
            let timeout = match left {
                Left::More => Some(Duration::ZERO),
                Left::Nothing => self.patience(),
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(Fatal::System(format!("epoll: {error}")));
                }
                _ => {}
            }
            let now = clock::now();
            for event in &events {
                match event.token() {
                    SIGNALS => self.take_signals()?,
                    NETLINK => {}
                    LOADS => self.loads.reap(),
                    _ => self.methods.iter_mut().for_each(|methods| methods.event(event, now)),
                }
            }
            left = self.turn()?;
            let now = clock::now();
            let drained = left == Left::Nothing && !self.ending.is_stopping();
            let settled = drained && self.core.is_settled();
            if let Some(methods) = &mut self.methods {
                if settled {
                    methods.settled(now);
                }
                methods.write_status(&self.core, &self.intake, &self.situation, now);
            }
            self.ending.settled(settled, now);
            if let Some(notifier) = &mut self.notifier {
                notifier.tick(&self.core, self.loads.running().len(), now);
            }
            if self.ending.is_over(&self.loads, now) {
                return Ok(self.end());
            }
        }
    }

    /// Takes in what there is, and carries out what the core wants.
    fn turn(&mut self) -> Result<Left, Fatal> {
        let now = clock::now();
        while let Some((module, outcome)) = self.loads.next_finished() {
            self.core.finished(&mut self.resolver, &module, outcome, now);
        }
        if self.ending.is_stopping() {
            self.remember(now);
            self.act();
            return Ok(Left::Nothing);
        }
        let (core, resolver) = (&mut self.core, &mut self.resolver);
        let left = self.intake.pump(|fact| match fact {
            Fact::Request(request) => core.request(resolver, request, now),
            Fact::ModuleAdded(name) => core.module_added(resolver, name, now),
            Fact::ModuleRemoved(name) => core.module_removed(resolver, name),
            Fact::Lost => core.events_lost(resolver),
        })?;
        self.history.sample(self.core.stats(), now);
        // After the events: who asks to be told of settling means all that was announced before it asked.
        let (core, resolver) = (&mut self.core, &mut self.resolver);
        let busy = self.methods.as_mut().is_some_and(|methods| {
            methods.serve(core, resolver, &self.intake, &self.history, &self.situation, now)
        });
        if let Some(methods) = &mut self.methods {
            // Nothing is held yet.
            while let Some(note) = methods.next_note() {
                if let Note::Hold(client, _) = note {
                    methods.end_hold(client, now);
                }
            }
        }
        self.core.tick(&mut self.resolver, now);
        self.remember(now);
        self.act();
        Ok(if busy { Left::More } else { left })
    }

    /// Writes down what there is to remember, if it is time.
    fn remember(&mut self, now: Duration) {
        let Some(state_file) = &mut self.state_file else { return };
        if state_file.due(&self.core).is_some_and(|due| due <= now) {
            state_file.write(&self.core);
        }
    }

    /// The end: what is remembered is left to who comes next.
    fn end(mut self) -> Scheduler {
        if let Some(state_file) = &mut self.state_file {
            state_file.write(&self.core);
        }
        self.core
    }

    fn act(&mut self) {
        let now = clock::now();
        while let Some(action) = self.core.next_action() {
            match action {
                Action::Load(_) if self.ending.is_stopping() => {}
                Action::Load(plan) => self.loads.start(&plan),
                Action::Publish(record) => {
                    report::landed(&record);
                    self.history.add(&record, now);
                    if let Some(methods) = &mut self.methods {
                        methods.publish(&record, now);
                    }
                }
                Action::Answer(client, answers) => {
                    if let Some(methods) = &mut self.methods {
                        methods.answer(client, &answers, now);
                    }
                }
                Action::Disabled => report::disabled(),
            }
        }
    }

    fn take_signals(&mut self) -> Result<(), Fatal> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                _ if self.ending.is_stopping() => {}
                Signal::SIGHUP => self.reload(),
                signal => self.stop(signal),
            }
        }
        Ok(())
    }

    /// No new work from here on: uevents stay in their socket, and who connects waits.
    fn stop(&mut self, signal: Signal) {
        log::info!("{signal}: stopping, {} loads are still running", self.loads.running().len());
        self.ending.stop(clock::now());
        self.methods.iter_mut().for_each(Methods::stop);
        self.notifier.iter_mut().for_each(Notifier::stopping);
    }

    /// Indexes, modprobe.d and hwdb are looked at now, and what was made of them is dropped.
    fn reload(&mut self) {
        self.notifier.iter_mut().for_each(Notifier::reloading);
        let changed = self.core.reload(&mut self.resolver);
        report::reloaded(changed, self.core.failures().count());
        self.notifier.iter_mut().for_each(Notifier::ready);
    }

    /// How long the loop may sleep.
    fn patience(&self) -> Option<Duration> {
        let now = clock::now();
        // What the core would do next is the next daemon's, once we are to stop.
        let core = self.core.next_deadline(now).filter(|_| !self.ending.is_stopping());
        let methods = self.methods.as_ref();
        let clients = methods.and_then(|methods| methods.next_deadline(&self.core, &self.situation));
        let unwritten = self.state_file.as_ref().and_then(|state_file| state_file.due(&self.core));
        let loading = self.loads.running().len();
        let notice = self.notifier.as_ref().and_then(|notifier| notifier.deadline(&self.core, loading));
        let next = [core, self.ending.deadline(), clients, unwritten, notice].into_iter().flatten().min()?;
        // Epoll counts milliseconds and rounds down: a millisecond more, or the loop would spin towards the deadline.
        Some(next.saturating_sub(now) + Duration::from_millis(1))
    }
}
