// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loop: one thread that has all state.
//!
//! A turn takes in what has come (loads that ended, uevents, clients' calls, each up to a budget), lets time pass for the
//! [scheduler](crate::once) and does what that wants, and keeps the [hold] of udev's queue. A load is a [process](loads), so
//! nothing here waits for one, and nothing needs a lock. The loop opens no file that may block.

pub mod clock;
mod config;
pub mod events;
mod fork;
pub mod history;
pub mod hold;
mod hold_file;
pub mod loads;
pub mod log_lines;
pub mod methods;
pub mod notify;
pub mod outstanding;
mod shutdown;
pub mod signals;
pub mod state_file;
pub mod status;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token};
use nix::sys::signal::Signal;

use crate::control::server::Server;
use crate::fatal::Fatal;
use crate::kmod::Resolver;
use crate::once::{Action, Scheduler, Time};
pub use config::Config;
use events::{Event, Events, More};
use hold::Hold;
use hold_file::HoldFile;
use loads::Loads;
use methods::Methods;
use notify::Notifier;
use shutdown::Shutdown;
pub use shutdown::Until;
use signals::Signals;
use state_file::StateFile;
use status::Situation;

const SIGNALS: Token = Token(0);
const NETLINK: Token = Token(1);
/// Tokens from here on are the server's.
const SERVER: Token = Token(2);

/// The loop and all it has.
pub struct Daemon {
    poll: Poll,
    signals: Signals,
    resolver: Resolver,
    core: Scheduler,
    events: Events,
    loads: Loads,
    methods: Option<Methods>,
    /// None without udev, and where udev's queue is not ours to hold.
    hold: Option<(Hold, HoldFile)>,
    situation: Situation,
    state_file: Option<StateFile>,
    notifier: Option<Notifier>,
    shutdown: Shutdown,
}

impl Daemon {
    /// Sets everything up. Signals are blocked from here on.
    ///
    /// # Errors
    /// [`Fatal::System`], naming what was refused.
    pub fn new(resolver: Resolver, config: Config) -> Result<Self, Fatal> {
        let poll = Poll::new().map_err(refused)?;
        let signals = Signals::block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD])?;
        watch(poll.registry(), &signals, SIGNALS)?;
        if let Some(netlink) = &config.netlink {
            watch(poll.registry(), netlink, NETLINK)?;
        }
        let now = clock::now();
        let (with_udev, dry_run) = (config.with_udev, config.loader.dry_run);
        let hold = config.control.as_ref().filter(|_| config.holds && with_udev).map(|(listener, _)| {
            let (file, stale) = HoldFile::beside(listener.path());
            if stale.is_some() {
                log::warn!("the daemon before this one ended in the middle of work: asking udev for its devices again");
            }
            let mut hold = Hold::new(hold::TAKE_FROM, stale, now.as_nanos() as u64, now);
            if let Some((requester, newest)) = config.presumed {
                hold.presume(requester, newest, now);
            }
            (hold, file)
        });
        let methods = match config.control {
            Some((listener, bounds)) => {
                let registry = poll.registry().try_clone().map_err(refused)?;
                Some(Methods::new(Server::new(listener, registry, SERVER, bounds)?, now))
            }
            None => None,
        };
        let mut events = Events::new(config.netlink, with_udev, resolver.tree().sysfs.clone());
        if !with_udev {
            events.scan();
        }
        let mut state_file = config.state_file;
        let core = match &mut state_file {
            Some(state_file) => state_file.restore(config.limits, now),
            None => Scheduler::new(config.limits),
        };
        Ok(Self {
            loads: Loads::new(config.loader),
            poll,
            signals,
            resolver,
            core,
            events,
            methods,
            hold,
            situation: Situation { with_udev, dry_run, ..Situation::default() },
            state_file,
            notifier: config.notifier,
            shutdown: Shutdown::new(config.until, config.stop_timeout),
        })
    }

    /// Runs the loop. Returns the scheduler, whose counters and failures tell what happened.
    ///
    /// # Errors
    /// [`Fatal::System`] when a socket or epoll itself fails.
    pub fn run(mut self) -> Result<Scheduler, Fatal> {
        let mut occurred = mio::Events::with_capacity(128);
        let mut more = true;
        // Who was told that we are ready finds it.
        self.write_status(clock::now());
        // Started in a storm, it is to be spared programs before the first of them is answered.
        self.keep_hold();
        // What comes in from here on is not waited for: drivers may take a minute. Who needs them waits for settling.
        self.notifier.iter_mut().for_each(Notifier::ready);
        loop {
            let timeout = if more { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut occurred, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(refused(error)),
                _ => {}
            }
            let now = clock::now();
            for event in &occurred {
                match event.token() {
                    SIGNALS => self.take_signals()?,
                    NETLINK => {}
                    _ => self.methods.iter_mut().for_each(|methods| methods.event(event, now)),
                }
            }
            more = self.turn()?;
            let now = clock::now();
            let settled = !more && self.is_settled();
            if settled {
                self.methods.iter_mut().for_each(|methods| methods.settled(now));
            }
            let is_written = self.write_status(now);
            // The next one is to have the lock: in an initramfs's udev, say, a load that hangs would keep us from ending.
            if let Some(path) = self.methods.as_ref().filter(|_| is_written).and_then(Methods::lost) {
                let path = path.display().to_string();
                self.end();
                return Err(Fatal::System(format!(
                    "{path}: somebody has removed this socket or listens there: nobody can reach this daemon any more"
                )));
            }
            if let Some(notifier) = &mut self.notifier {
                notifier.beat(now);
                if is_written {
                    notifier.status(&self.core, self.loads.running().len());
                }
            }
            let is_idle = settled
                && self.methods.as_ref().is_none_or(Methods::is_deserted)
                && self.hold.as_ref().is_none_or(|(hold, _)| hold.is_idle());
            if self.shutdown.is_over(is_idle, &self.loads, now) {
                return Ok(self.end());
            }
        }
    }

    /// Takes in what there is, and does what it takes.
    fn turn(&mut self) -> Result<More, Fatal> {
        let now = clock::now();
        while let Some((module, outcome)) = self.loads.next_finished() {
            self.core.finished(&mut self.resolver, &module, outcome, now);
        }
        if self.shutdown.has_begun() {
            self.remember(now);
            self.act();
            return Ok(false);
        }
        let mut is_drained = false;
        let mut more = self.take_events(&mut is_drained, now)?;
        // After the events: who waits for settling means all that was announced before it asked.
        let more_calls = self.take_calls(now);
        more |= more_calls;
        if let Some((hold, _)) = self.hold.as_mut().filter(|_| is_drained && !more_calls) {
            hold.drained(now);
        }
        self.core.tick(&mut self.resolver, now);
        self.remember(now);
        self.act();
        more |= self.keep_hold();
        Ok(more)
    }

    fn take_events(&mut self, is_drained: &mut bool, now: Duration) -> Result<More, Fatal> {
        let (core, resolver) = (&mut self.core, &mut self.resolver);
        let mut hold = self.hold.as_mut().map(|(hold, _)| hold);
        self.events.read(|event| match event {
            Event::Request(request) => core.request(resolver, request, now),
            Event::Announced(seqnum) => {
                if let Some(hold) = &mut hold {
                    hold.announced(seqnum, now);
                }
            }
            Event::Broadcast { seqnum, what, request } => {
                let is_news = hold.as_mut().is_none_or(|hold| hold.broadcast(seqnum, what, now));
                if let Some(request) = request.filter(|_| is_news) {
                    core.request(resolver, request, now);
                }
            }
            Event::ModuleAdded(name) => core.module_added(resolver, name, now),
            Event::ModuleRemoved(name) => core.module_removed(resolver, name),
            Event::Lost => {
                core.events_lost(resolver);
                if let Some(hold) = &mut hold {
                    hold.overflow();
                }
            }
            Event::Drained => *is_drained = true,
        })
    }

    fn take_calls(&mut self, now: Duration) -> More {
        let Some(methods) = &mut self.methods else { return false };
        let (core, resolver) = (&mut self.core, &mut self.resolver);
        let hold = self.hold.as_mut().map(|(hold, _)| hold);
        methods.serve(core, resolver, hold, &self.events, &self.situation, now)
    }

    /// After a turn: writes what everybody may read, if that is due. Whether it was.
    fn write_status(&mut self, now: Time) -> bool {
        let Some(methods) = &mut self.methods else { return false };
        methods.write_status(&self.core, &self.events, &self.situation, now)
    }

    /// Does what the hold wants. True where the socket is to be looked at once more before the loop sleeps.
    fn keep_hold(&mut self) -> More {
        let now = clock::now();
        let Some((hold, _)) = &mut self.hold else { return false };
        hold.update(self.core.loads().map(|load| load.since).max(), now);
        let mut more = self.act_for_hold();
        let Some((hold, _)) = &mut self.hold else { return false };
        let room = hold.room(now);
        if room > 0 {
            let (asked, all) = self.events.ask_again(room);
            if asked > 0 {
                hold.triggered();
            }
            if all {
                hold.walked();
            }
            more = true;
        }
        self.situation.outstanding = hold.outstanding();
        more
    }

    fn act_for_hold(&mut self) -> bool {
        let Some((hold, file)) = &mut self.hold else { return false };
        let mut acted = false;
        while let Some(action) = hold.next_action() {
            acted = true;
            let now = clock::now();
            let result = match action {
                hold::Action::WriteEvent(number) => {
                    hold_file::write_event(&self.resolver.tree().sysfs, number)
                }
                hold::Action::Publish { recoveries } => {
                    self.situation.held_since.get_or_insert(now);
                    file.publish(recoveries)
                }
                hold::Action::Unpublish => {
                    self.situation.held_since = None;
                    file.unpublish();
                    Ok(())
                }
                hold::Action::Fence => hold_file::write_fence(&self.resolver.tree().sysfs),
                hold::Action::Forget => {
                    file.forget();
                    Ok(())
                }
                hold::Action::Answer(client) => {
                    // udevd may kill what its programs have started as soon as its queue is empty.
                    if let Some(state_file) = &mut self.state_file {
                        state_file.write(&self.core);
                    }
                    self.methods.iter_mut().for_each(|methods| methods.end_hold(client, now));
                    Ok(())
                }
                hold::Action::Recover => {
                    self.events.scan();
                    Ok(())
                }
                hold::Action::GiveUp => {
                    log::error!(
                        "uevents were lost, and asking udev again came to nothing {} times: modules may be missing \
                         until `udevadm trigger --action=add`",
                        hold::RECOVERIES
                    );
                    Ok(())
                }
            };
            log::trace!("hold: {action:?}: {result:?}");
            if let Err(error) = &result {
                log::debug!("hold: {action:?}: {error}");
            }
            hold.performed(result.is_ok(), now);
        }
        acted
    }

    /// Nothing that was announced is on its way, and nothing is being loaded.
    fn is_settled(&self) -> bool {
        let outstanding = self.hold.as_ref().map_or(0, |(hold, _)| hold.outstanding());
        !self.shutdown.has_begun() && self.core.is_settled() && outstanding == 0
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

    /// Does what the scheduler wants.
    fn act(&mut self) {
        let now = clock::now();
        while let Some(action) = self.core.next_action() {
            match action {
                Action::Load(_) if self.shutdown.has_begun() => {}
                Action::Load(plan) => self.loads.start(&plan),
                Action::Publish(record) => {
                    log_lines::finished(&record);
                    self.methods.iter_mut().for_each(|methods| methods.publish(&record, now));
                }
                Action::Answer(client, answers) => {
                    self.methods.iter_mut().for_each(|methods| methods.answer(client, &answers, now));
                }
                Action::Disabled => log_lines::disabled(),
            }
        }
    }

    fn take_signals(&mut self) -> Result<(), Fatal> {
        while let Some(signal) = self.signals.next()? {
            match signal {
                Signal::SIGCHLD => self.loads.reap(),
                _ if self.shutdown.has_begun() => {}
                Signal::SIGHUP => self.reload(),
                signal => self.stop(signal),
            }
        }
        Ok(())
    }

    /// No new work from here on: uevents stay in their socket, and who connects waits. What udev was told to leave to us is left
    /// to the next daemon, which the programs that wait for the end of the hold start if nobody else does: `hold` tells it that
    /// it has to ask udev again.
    fn stop(&mut self, signal: Signal) {
        log::info!("{signal}: stopping, {} loads are still running", self.loads.running().len());
        let waiting = self.core.loads().filter(|load| load.running.is_none());
        let waiting: Vec<&str> = waiting.map(|load| &**load.module).collect();
        if !waiting.is_empty() {
            log::warn!("asked for and not begun, left to the next daemon: {}", waiting.join(" "));
        }
        self.shutdown.begin(clock::now());
        if let Some((hold, _)) = &mut self.hold {
            if hold.outstanding() > 0 {
                log::info!(
                    "{} uevents are on their way through udev: left to the next daemon",
                    hold.outstanding()
                );
            }
            hold.stop();
        }
        self.act_for_hold();
        self.methods.iter_mut().for_each(Methods::stop);
        self.notifier.iter_mut().for_each(Notifier::stopping);
    }

    /// Indexes, modprobe.d and hwdb are looked at now, and what was made of them is dropped.
    fn reload(&mut self) {
        self.notifier.iter_mut().for_each(Notifier::reloading);
        let changed = self.core.reload(&mut self.resolver);
        log_lines::reloaded(changed, self.core.failures().count());
        self.notifier.iter_mut().for_each(Notifier::ready);
    }

    /// How long the loop may sleep.
    fn timeout(&self) -> Option<Duration> {
        let now = clock::now();
        let goes_on = !self.shutdown.has_begun();
        let next = [
            // What these would do next is the next daemon's, once we are to stop.
            self.core.next_deadline(now).filter(|_| goes_on),
            self.hold.as_ref().and_then(|(hold, _)| hold.deadline()).filter(|_| goes_on),
            self.shutdown.deadline(),
            self.methods.as_ref().and_then(Methods::next_deadline),
            self.state_file.as_ref().and_then(|state_file| state_file.due(&self.core)),
            self.notifier.as_ref().and_then(Notifier::deadline),
        ];
        // Epoll counts milliseconds and rounds down: a millisecond more, or the loop would spin towards the deadline.
        Some(next.into_iter().flatten().min()?.saturating_sub(now) + Duration::from_millis(1))
    }
}

fn watch(registry: &Registry, source: &impl AsFd, token: Token) -> Result<(), Fatal> {
    registry.register(&mut SourceFd(&source.as_fd().as_raw_fd()), token, Interest::READABLE).map_err(refused)
}

fn refused(error: io::Error) -> Fatal {
    Fatal::System(format!("epoll: {error}"))
}
