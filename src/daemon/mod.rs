// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Daemon: the loop
//!
//! Owns the one thread that owns all state. A turn of the loop: wait for news; take in landings, uevents or a
//! slice of a scan, and clients' orders, each up to a budget; let time pass for the core; carry out what the core
//! wants; answer who waits for settling. Loads run on threads of their own ([`workers`]), so nothing in the loop
//! waits for a load, and nothing needs a lock.
//!
//! | file | owns |
//! |---|---|
//! | [`intake`] | uevents and scans, as facts for the core |
//! | [`workers`] | the threads that perform loads |
//! | [`handover`] | the failure memory, from one process to the next |
//! | `settings` | what it is made of, and when it ends |
//! | [`clock`] | the time it goes by |
//! | `active` | the link that tells udev of us |
//! | [`desk`] | clients' orders and the replies to them |
//! | [`report`] | what is said in the log |

mod active;
pub mod clock;
pub mod desk;
pub mod handover;
pub mod intake;
pub mod report;
mod settings;
pub mod workers;

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::control::server::Server;
use crate::fatal::Fatal;
use crate::kmod::Resolver;
use crate::once::coalescer::{Action, Coalescer};
pub use active::Active;
use desk::Desk;
use handover::Handover;
use intake::{Fact, Intake, Left};
pub use settings::{Settings, Until};
use workers::Workers;

const SIGNALS: Token = Token(0);
const NETLINK: Token = Token(1);
const LANDINGS: Token = Token(2);
/// Tokens from here on are the server's.
const SERVER: Token = Token(3);

/// The loop and all it owns.
pub struct Daemon {
    poll: Poll,
    signals: SignalFd,
    resolver: Resolver,
    core: Coalescer,
    intake: Intake,
    workers: Workers,
    desk: Option<Desk>,
    handover: Option<Handover>,
    landing_time: Duration,
    /// SIGTERM came: no new work after this time, which is also when the patience with running loads began.
    stopping: Option<Duration>,
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
        let waker = Waker::new(poll.registry(), LANDINGS).map_err(refused("eventfd"))?;
        let signals = block_signals().map_err(|errno| refused("signalfd")(errno.into()))?;
        let mut sources = vec![(signals.as_raw_fd(), SIGNALS)];
        sources.extend(settings.netlink.as_ref().map(|netlink| (netlink.as_raw_fd(), NETLINK)));
        for (descriptor, token) in sources {
            let source = &mut SourceFd(&descriptor);
            poll.registry().register(source, token, Interest::READABLE).map_err(refused("epoll"))?;
        }
        let now = clock::now();
        let desk = settings
            .control
            .map(|(path, bounds)| {
                let registry = poll.registry().try_clone().map_err(refused("epoll"))?;
                Ok(Desk::new(Server::listen(&path, registry, SERVER, bounds)?, now))
            })
            .transpose()?;
        let mut intake = Intake::new(settings.netlink, resolver.tree().sysfs.clone());
        if settings.scan {
            intake.scan();
        }
        let mut handover = settings.handover;
        let core = match &mut handover {
            Some(handover) => handover.take_over(settings.limits, now),
            None => Coalescer::new(settings.limits),
        };
        Ok(Self {
            poll,
            signals,
            core,
            resolver,
            intake,
            workers: Workers::new(settings.loader, waker),
            desk,
            handover,
            landing_time: settings.landing_time,
            stopping: None,
        })
    }

    /// Tells udev that we take care of every MODALIAS, until what is returned is dropped.
    ///
    /// # Errors
    /// [`Fatal::System`] where there is no control socket, or no room for the link beside it.
    pub fn announce(&self) -> Result<Active, Fatal> {
        let desk = self.desk.as_ref().ok_or_else(|| Fatal::System("nothing to announce".into()))?;
        desk.announce()
    }

    /// Runs the loop. Returns the core, whose counters and failures tell what happened.
    ///
    /// # Errors
    /// [`Fatal::System`] when a socket or epoll itself fails.
    pub fn run(mut self, until: Until) -> Result<Coalescer, Fatal> {
        let mut events = Events::with_capacity(128);
        let mut left = Left::More;
        let mut quiet_since = None;
        loop {
            let timeout = match left {
                Left::More => Some(Duration::ZERO),
                Left::Nothing => self.patience(until, quiet_since),
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(Fatal::System(format!("epoll: {error}")));
                }
                _ => {}
            }
            let now = clock::now();
            let mut knocked = false;
            for event in &events {
                match event.token() {
                    SIGNALS => self.take_signals()?,
                    NETLINK | LANDINGS => {}
                    SERVER => knocked = true,
                    _ => self.desk.iter_mut().for_each(|desk| desk.ready(event, now)),
                }
            }
            // Who goes makes room for who comes.
            if let Some(desk) = self.desk.as_mut().filter(|_| knocked) {
                desk.accept();
            }
            left = self.turn(until)?;
            let now = clock::now();
            let settled = left == Left::Nothing && self.core.is_settled();
            if let Some(desk) = self.desk.as_mut().filter(|_| settled) {
                desk.settled(now);
            }
            let quiet = match until {
                Until::Deserted(_) => settled && self.desk.as_ref().is_none_or(Desk::is_deserted),
                Until::Stopped | Until::Quiet(_) => settled,
            };
            quiet_since = if quiet { quiet_since.or(Some(now)) } else { None };
            if self.is_over(until, quiet_since, now) {
                return Ok(self.end());
            }
        }
    }

    /// Takes in what there is, and carries out what the core wants.
    fn turn(&mut self, until: Until) -> Result<Left, Fatal> {
        let now = clock::now();
        while let Some((module, outcome)) = self.workers.landed() {
            self.core.landed(&mut self.resolver, &module, outcome, now);
        }
        if self.stopping.is_some() {
            self.remember(until, now);
            self.act();
            return Ok(Left::Nothing);
        }
        let (core, resolver) = (&mut self.core, &mut self.resolver);
        let left = self.intake.pump(|fact| match fact {
            Fact::Request(request) => core.request(resolver, request, now),
            Fact::ModuleAdded(name) => core.module_added(resolver, name, now),
            Fact::ModuleRemoved(name) => core.module_removed(name),
            Fact::Lost => core.events_lost(),
        })?;
        // After the events: who asks to be told of settling means all that was announced before it asked.
        let busy = self
            .desk
            .as_mut()
            .is_some_and(|desk| desk.serve(&mut self.core, &mut self.resolver, &self.intake, now));
        self.core.tick(&mut self.resolver, now);
        self.remember(until, now);
        self.act();
        Ok(if busy { Left::More } else { left })
    }

    /// Writes down what there is to remember, if it is time. Who serves for a moment only has done so before anybody is
    /// answered: the next one may come at once.
    fn remember(&mut self, until: Until, now: Duration) {
        let Some(handover) = &mut self.handover else { return };
        let due = handover.due(&self.core).is_some_and(|due| due <= now);
        if due || (matches!(until, Until::Deserted(_)) && handover.lacks_failures(&self.core)) {
            handover.write(&self.core);
        }
    }

    /// The end: what is remembered is left to who comes next.
    fn end(mut self) -> Coalescer {
        if let Some(handover) = &mut self.handover {
            handover.write(&self.core);
            handover.leave_known(&self.core, self.resolver.stamp());
        }
        self.core
    }

    fn act(&mut self) {
        let now = clock::now();
        while let Some(action) = self.core.next_action() {
            match action {
                Action::Load(_) if self.stopping.is_some() => {}
                Action::Load(plan) => self.workers.load(plan),
                Action::Publish(record) => {
                    report::landed(&record);
                    if let Some(desk) = &mut self.desk {
                        desk.publish(&record, now);
                    }
                }
                Action::Answer(client, answers) => {
                    if let Some(desk) = &mut self.desk {
                        desk.answer(client, &answers, now);
                    }
                }
                Action::Disabled => report::disabled(),
            }
        }
    }

    fn take_signals(&mut self) -> Result<(), Fatal> {
        while let Some(signal) =
            self.signals.read_signal().map_err(|errno| Fatal::System(format!("signalfd: {errno}")))?
        {
            let running = self.core.loading().count();
            log::info!("signal {}: stopping, {running} loads are still running", signal.ssi_signo);
            self.stopping.get_or_insert(clock::now());
        }
        Ok(())
    }

    fn is_over(&mut self, until: Until, quiet_since: Option<Duration>, now: Duration) -> bool {
        if let Some(since) = self.stopping {
            let late = now.saturating_sub(since) >= self.landing_time;
            if late {
                self.core
                    .loading()
                    .for_each(|(name, _)| log::warn!("{name} has not landed: not waiting any longer"));
            }
            return late || self.core.loading().next().is_none();
        }
        match (until, quiet_since) {
            (Until::Quiet(quiet), Some(since)) => now.saturating_sub(since) >= quiet,
            (Until::Deserted(quiet), Some(since)) => {
                now.saturating_sub(since) >= quiet && self.desk.as_mut().is_none_or(Desk::close)
            }
            _ => false,
        }
    }

    /// How long the loop may sleep.
    fn patience(&self, until: Until, quiet_since: Option<Duration>) -> Option<Duration> {
        let now = clock::now();
        let stop = self.stopping.map(|since| since + self.landing_time);
        let quiet = match (until, quiet_since) {
            (Until::Quiet(quiet) | Until::Deserted(quiet), Some(since)) => Some(since + quiet),
            _ => None,
        };
        let clients = self.desk.as_ref().and_then(Desk::next_deadline);
        let unwritten = self.handover.as_ref().and_then(|handover| handover.due(&self.core));
        let next =
            [self.core.next_deadline(now), stop, quiet, clients, unwritten].into_iter().flatten().min()?;
        // Epoll counts milliseconds and rounds down: a millisecond more, or the loop would spin towards the deadline.
        Some(next.saturating_sub(now) + Duration::from_millis(1))
    }
}

/// Blocks the signals that ask for an end, in this thread and those it starts, and has them come as news.
///
/// # Errors
/// What the system says.
pub fn block_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}
