// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loop: one thread that has all state.
//!
//! A turn takes in what has come (loads that ended, uevents, clients' calls, each up to a budget), lets time pass for the
//! [scheduler](crate::once) and does what that wants, and keeps the [hold] of udev's queue. A load is a [process](loads), so
//! nothing here waits for one, and nothing needs a lock. The loop opens no file that may block, but for what libkmod reads.

pub mod events;
pub mod fork;
pub mod history;
pub mod hold;
pub mod hold_file;
pub mod loads;
mod methods;
pub mod modprobe;
pub mod notify;
pub mod outstanding;
pub mod requests;
mod shutdown;
pub mod signals;
pub mod state_file;
pub mod status;
pub mod waiters;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use serde_json::json;

use crate::control::json::{add_once, answers, line};
use crate::control::listener::Listener;
use crate::control::process::{self, Process};
use crate::control::protocol::{Load, Reply};
use crate::control::server::{Bounds, Server};
use crate::escape::escape;
use crate::fatal::Fatal;
use crate::kmod::{Loader, Resolver, insert};
use crate::once::{Action, InitState, Limits, LoadError, Modules, Outcome, Scheduler, Stage, Time};
use crate::uevent::netlink::Netlink;
use events::{Event, Events, More};
use hold::Hold;
use hold_file::{HoldFile, KERNEL, trigger};
use loads::Loads;
use methods::Clients;
use modprobe::Switch;
use notify::Notifier;
use shutdown::{Shutdown, UDEV_QUEUE};
use state_file::StateFile;
use waiters::{Links, Waiters, somebody_waits};

/// So long the program that has started us may take to ask: it looks every 100 ms at least whether we listen. udevd kills us three
/// seconds after its last event.
const STARTER: Duration = Duration::from_secs(1);
const EPOLL: &str = "epoll";
const SIGNALS: Token = Token(0);
const NETLINK: Token = Token(1);
/// Tokens from here on are the server's.
const SERVER: Token = Token(2);

/// What a daemon is made of: what the commands that run the loop decide. By default it has no clients and hears nothing.
#[derive(Default)]
pub struct Config {
    /// The scheduler's bounds.
    pub limits: Limits,
    /// The socket of uevents; none for a tree that is not this machine's.
    pub netlink: Option<Netlink>,
    /// Requests come from udev; else from the kernel, and from /sys at the start.
    pub with_udev: bool,
    /// The SEQNUM of the event whose program has started us, and the newest when our socket was open: what was announced between
    /// them is taken to be on its way.
    pub presumed: Option<(u64, u64)>,
    /// The former event has a UUID, so the others may have one.
    pub is_awaited: bool,
    /// What the program that has started us is about to ask. Where it does not come to that, it is asked for all the same.
    pub starter: Option<Load>,
    /// The control socket, and how its clients are bounded. None for a one-shot, which holds and remembers nothing either.
    pub control: Option<(Listener, Bounds)>,
    /// Who performs loads.
    pub loader: Loader,
    /// By which the kernel's own requests come to us, if they are to.
    pub switch: Option<Switch>,
    /// How long loads that run are waited for once addonce is to stop.
    pub stop_timeout: Duration,
    /// The end, where no signal says so: nothing has been left to do, and nobody was connected, for this long.
    pub linger: Option<Duration>,
}

/// The loop and all it has.
pub struct Daemon {
    poll: Poll,
    signals: SignalFd,
    resolver: Resolver,
    core: Scheduler,
    events: Events,
    loads: Loads,
    clients: Option<Clients>,
    /// None without udev, and where udev's queue is not ours to hold.
    hold: Option<(Hold, HoldFile)>,
    /// As above.
    waiters: Option<(Waiters, Links)>,
    state_file: Option<StateFile>,
    notifier: Notifier,
    switch: Option<Switch>,
    shutdown: Shutdown,
    /// What is asked for at this time, should nobody have done so.
    starter: Option<(Load, Time)>,
}

impl Daemon {
    /// Sets everything up. Signals are blocked from here on.
    pub fn new(resolver: Resolver, config: Config) -> Result<Self, Fatal> {
        let mut daemon = Self {
            poll: Poll::new().map_err(Fatal::at(EPOLL))?,
            signals: signals::block(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD])?,
            core: Scheduler::new(config.limits),
            events: Events::new(config.netlink, config.with_udev, resolver.tree.sysfs.clone()),
            resolver,
            loads: Loads::new(config.loader),
            clients: None,
            hold: None,
            waiters: None,
            state_file: None,
            notifier: Notifier::new(sd_notify::watchdog_enabled()),
            switch: config.switch,
            shutdown: Shutdown::new(config.linger, config.stop_timeout, config.with_udev),
            starter: config.starter.map(|load| (load, clock() + STARTER)),
        };
        daemon.watch(&daemon.signals, SIGNALS)?;
        if let Some(netlink) = &daemon.events.netlink {
            daemon.watch(netlink, NETLINK)?;
        }
        let now = clock();
        if let Some((listener, bounds)) = config.control {
            if config.with_udev && !daemon.leaves_udev_alone() {
                let (file, stale) = HoldFile::beside(&listener.path);
                if stale.is_some() {
                    log::warn!(
                        "the daemon before this one ended in the middle of work: asking udev for its devices again"
                    );
                }
                let mut hold = Hold::new(hold::TAKE_FROM, stale, now.as_nanos() as u64, now);
                let links = Links::beside(&listener.path);
                let (waiters, _) = daemon.waiters.insert((Waiters::default(), links));
                if let Some((requester, newest)) = config.presumed {
                    hold.outstanding.presume(requester, newest, now);
                    if config.is_awaited {
                        hold.outstanding.presumed.iter().for_each(|seqnum| waiters.announced(*seqnum));
                    }
                }
                daemon.hold = Some((hold, file));
            }
            daemon.events.asks_again = daemon.hold.is_some();
            let state_file = StateFile::beside(&listener.path, config.loader.dry_run)?;
            daemon.core = daemon.state_file.insert(state_file).restore(config.limits, now);
            let registry = daemon.poll.registry().try_clone().map_err(Fatal::at(EPOLL))?;
            daemon.clients = Some(Clients::new(Server::new(listener, registry, SERVER, bounds)?, now));
        }
        if !config.with_udev {
            daemon.events.scan();
        }
        Ok(daemon)
    }

    /// Who loads nothing must not keep udev from it.
    fn leaves_udev_alone(&self) -> bool {
        self.loads.loader.dry_run && self.resolver.tree.is_this_machine()
    }

    fn watch(&self, source: &impl AsFd, token: Token) -> Result<(), Fatal> {
        let source = source.as_fd().as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&source), token, Interest::READABLE)
            .map_err(Fatal::at(EPOLL))
    }

    /// Runs the loop. Returns the scheduler, whose counters and failures tell what happened.
    pub fn run(mut self) -> Result<Scheduler, Fatal> {
        let result = self.turns();
        // What is remembered is left to who comes next.
        self.state_file.iter_mut().for_each(|state_file| state_file.write(&self.core));
        result.map(|()| self.core)
    }

    fn turns(&mut self) -> Result<(), Fatal> {
        let mut occurred = mio::Events::with_capacity(128);
        let mut more = true;
        // Who was told that we are ready finds it.
        self.write_status(clock());
        // Started in a storm, it is to be spared programs before the first of them is answered.
        self.keep_hold();
        // What comes in from here on is not waited for: drivers may take a minute. Who needs them waits for settling.
        self.notifier.say(&[NotifyState::Ready]);
        if let Some(Err(why)) = self.switch.as_mut().map(Switch::set) {
            log::warn!("the kernel's own requests are left to modprobe: {why}");
        }
        loop {
            let timeout = if more || self.has_kernels() { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut occurred, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Fatal::at(EPOLL)(error));
                }
                _ => {}
            }
            let now = clock();
            for event in &occurred {
                match (event.token(), &mut self.clients) {
                    (SIGNALS, _) => self.take_signals()?,
                    (NETLINK, _) | (_, None) => {}
                    (_, Some(clients)) => clients.server.event(event, now),
                }
            }
            more = self.turn()?;
            let now = clock();
            let is_settled = !more && self.is_settled();
            if let Some(clients) = self.clients.as_mut().filter(|_| is_settled) {
                clients.settled(now);
            }
            if self.write_status(now) {
                let (live, failed) = (self.core.stats().live, self.core.failures().count());
                let status =
                    format!("{live} modules live, {failed} failed, {} loading", self.loads.running().len());
                self.notifier.say(&[NotifyState::Status(&status)]);
                // The next one is to have the lock: in an initramfs's udev, say, a load that hangs would keep us from ending.
                let mut listeners = self.clients.iter().map(|clients| &clients.server.listener);
                if let Some(listener) = listeners.find(|listener| listener.is_lost()) {
                    return Err(Fatal::System(format!(
                        "{}: somebody has removed this socket or listens there: nobody can reach this daemon any more",
                        listener.path.display()
                    )));
                }
            }
            self.notifier.beat(now);
            let is_idle = is_settled
                && self.clients.as_ref().is_none_or(|clients| clients.server.stats().now == 0)
                && self.hold.as_ref().is_none_or(|(hold, _)| hold.is_idle());
            if self.shutdown.is_over(is_idle, &self.loads, now) {
                return Ok(());
            }
        }
    }

    fn turn(&mut self) -> Result<More, Fatal> {
        let now = clock();
        while let Some((module, outcome)) = self.loads.finished.pop_front() {
            self.core.finished(&mut self.resolver, &module, outcome, now);
        }
        if self.is_stopping() {
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
            let is_alive = |udevd: Option<Process>| {
                udevd.map_or_else(|| Path::new(UDEV_QUEUE).exists(), Process::is_alive)
            };
            hold.drained(is_alive, now);
        }
        self.ask_for_starter(now);
        self.core.tick(&mut self.resolver, now);
        self.remember(now);
        self.act();
        more |= self.keep_hold();
        Ok(more)
    }

    fn take_events(&mut self, is_drained: &mut bool, now: Time) -> Result<More, Fatal> {
        let (core, resolver, starter) = (&mut self.core, &mut self.resolver, &mut self.starter);
        let (mut hold, waiters) = (self.hold.as_mut().map(|(hold, _)| hold), &mut self.waiters);
        let more = self.events.read(|event| match event {
            Event::Request(request) => core.request(resolver, request, now),
            Event::Announced { seqnum, devpath, behind, is_awaited } => {
                hold.iter_mut().for_each(|hold| hold.outstanding.announced(seqnum, devpath, behind, now));
                waiters.iter_mut().filter(|_| is_awaited).for_each(|(waiters, _)| waiters.announced(seqnum));
            }
            Event::Broadcast { seqnum, worker, own, request } => {
                if let Some((waiters, links)) = waiters {
                    if waiters.done(seqnum) {
                        links.remove(seqnum);
                    }
                }
                if let Some(hold) = hold.as_mut().filter(|hold| hold.udevd.is_none()) {
                    hold.udevd = process::parent(worker);
                }
                let is_news =
                    hold.as_mut().is_none_or(|hold| hold.broadcast(seqnum, own, request.is_some(), now));
                if let Some(request) = request.filter(|_| is_news) {
                    starter.take_if(|(starter, _)| starter.seqnum == Some(seqnum));
                    core.request(resolver, request, now);
                }
            }
            Event::ModuleAdded(name) => core.module_added(resolver, name, now),
            Event::ModuleRemoved(name) => core.module_removed(resolver, name, now),
            Event::Lost => {
                core.events_lost(resolver);
                hold.iter_mut().for_each(|hold| hold.overflow(now));
            }
            Event::Drained => *is_drained = true,
        });
        if let (Some((waiters, links)), Some(hold)) = (waiters, hold) {
            if waiters.is_look_due() {
                let is_outstanding = |seqnum| hold.outstanding.contains(seqnum);
                waiters.looked(somebody_waits(), is_outstanding, |seqnum| links.make(seqnum));
            }
            if hold.outstanding.is_empty() {
                waiters.done_with_all().into_iter().for_each(|seqnum| links.remove(seqnum));
            }
        }
        more
    }

    /// Does what the hold wants. True where the socket is to be looked at once more before the loop sleeps.
    fn keep_hold(&mut self) -> More {
        let now = clock();
        let Some((hold, _)) = &mut self.hold else { return false };
        let held_for = self.core.loads().filter(|load| !load.for_kernel);
        hold.update(held_for.map(|load| load.since).max(), now);
        let acted = self.act_for_hold();
        let Some((hold, _)) = &mut self.hold else { return false };
        let room = hold.room(now);
        if room == 0 {
            return acted;
        }
        let (asked, all) = self.events.ask_again(room);
        hold.asked_again(asked > 0, all);
        true
    }

    fn act_for_hold(&mut self) -> bool {
        let Some((hold, file)) = &mut self.hold else { return false };
        let sysfs = &self.resolver.tree.sysfs;
        let mut acted = false;
        while let Some(action) = hold.next_action() {
            acted = true;
            let now = clock();
            let mut result = Ok(());
            match action {
                hold::Action::WriteEvent(number) => result = trigger(sysfs, KERNEL, "change", number, "hold"),
                hold::Action::Publish(recoveries) => result = file.publish(recoveries, now),
                hold::Action::Unpublish => file.unpublish(),
                // No rule is for it.
                hold::Action::Fence => result = trigger(sysfs, KERNEL, "change", 0, "fence"),
                hold::Action::Forget => file.forget(),
                hold::Action::Answer(client) => {
                    // udevd may kill what its programs have started as soon as its queue is empty.
                    self.state_file.iter_mut().for_each(|state_file| state_file.write(&self.core));
                    self.clients
                        .iter_mut()
                        .for_each(|clients| clients.reply(client, &Reply::of(json!({})), now));
                }
                hold::Action::Ask => {
                    for (seqnum, devpath) in hold.outstanding.ask(hold::AGAIN_AT_ONCE) {
                        log::info!("udev does not finish {}: asking once more", escape(&devpath));
                        if trigger(sysfs, &devpath, "add", seqnum, "ask").is_err() {
                            hold.outstanding.gone(seqnum);
                        }
                    }
                }
                hold::Action::Recover => self.events.scan(),
                hold::Action::GiveUp => {
                    log::error!(
                        "asking udev again was in vain too often: once more, with a program for each device"
                    );
                    self.events.scan();
                    while !self.events.ask_again(usize::MAX).1 {}
                }
            }
            if let (hold::Action::Publish(_), Err(error)) = (action, &result) {
                let hold = file.path(hold_file::HOLD);
                log::warn!(
                    "{}: {error}: udev's queue is not held, and each device runs a program; only addonce's link may be there",
                    hold.display()
                );
            }
            log::debug!("hold: {action:?}: {result:?}");
            hold.performed(action, result.is_ok(), now);
        }
        acted
    }

    /// We were told to stop: what comes is for the next daemon.
    fn is_stopping(&self) -> bool {
        self.shutdown.begun.is_some()
    }

    /// The kernel's own requests wait, for which nothing else does.
    fn has_kernels(&self) -> bool {
        !self.is_stopping() && self.clients.as_ref().is_some_and(|clients| clients.server.has_kernels())
    }

    /// Uevents that udev has not finished yet.
    fn outstanding(&self) -> usize {
        self.hold.as_ref().map_or(0, |(hold, _)| hold.outstanding.len())
    }

    /// Nothing that was announced is on its way, and nothing is being loaded.
    fn is_settled(&self) -> bool {
        !self.is_stopping() && self.core.is_settled() && self.outstanding() == 0
    }

    /// Writes down what there is to remember, if it is time.
    fn remember(&mut self, now: Time) {
        let Some(state_file) = &mut self.state_file else { return };
        if state_file.due(&self.core).is_some_and(|due| due <= now) {
            state_file.write(&self.core);
        }
    }

    /// Does what the scheduler wants.
    fn act(&mut self) {
        let now = clock();
        let (is_stopping, dry_run) = (self.is_stopping(), self.loads.loader.dry_run);
        while let Some(action) = self.core.next_action() {
            match (action, &mut self.clients) {
                (Action::Load(_), _) if is_stopping => {}
                (Action::Load(plan), _) => self.loads.start(&plan),
                (Action::Publish(record), clients) => {
                    let mut ended = add_once(&record, dry_run);
                    ended["ended_us"] = json!(now.as_micros() as u64);
                    let level = if record.is_again { log::Level::Debug } else { log::Level::Info };
                    log::log!(level, "{}", line(&ended));
                    let not_permitted = LoadError { errno: libc::EPERM, stage: Stage::Insert };
                    if !record.is_again && record.outcome == Outcome::Failed(not_permitted) {
                        log::warn!("{}: EPERM: {}", record.module, insert::why_not_permitted(&record.module));
                    }
                    // What the kernel does not know by this name is loaded anew by each daemon.
                    let is_there = dry_run || self.resolver.initstate(&record.module) == InitState::Live;
                    if record.outcome == Outcome::Live && is_there {
                        self.hold.iter_mut().for_each(|(hold, _)| hold.loaded());
                    }
                    clients.iter_mut().for_each(|clients| clients.publish(&ended, !record.is_again, now));
                }
                (Action::Answer(client, given), Some(clients)) => {
                    // Of a dry run nothing is there afterwards.
                    let told = (!dry_run).then_some(&*given);
                    let reply = clients.requests.reply(client, told, now);
                    clients.reply(client, &reply.unwrap_or_else(|| answers(&given, dry_run, now)), now);
                }
                (Action::HandBack(client), Some(clients)) => {
                    if let Some(reply) = clients.requests.reply(client, None, now) {
                        clients.reply(client, &reply, now);
                    }
                }
                (Action::Answer(..) | Action::HandBack(_), None) => {}
                (Action::Disabled, _) => log::error!(
                    "kernel.modules_disabled is 1: this kernel loads no module until the next boot; nothing is attempted \
                     any more"
                ),
            }
        }
    }

    fn take_signals(&mut self) -> Result<(), Fatal> {
        while let Some(signal) = signals::next(&self.signals)? {
            match signal {
                Signal::SIGCHLD => self.loads.reap(),
                _ if self.is_stopping() => {}
                signal => self.stop(signal),
            }
        }
        Ok(())
    }

    /// No new work from here on: uevents stay in their socket, and who connects waits. What udev was told to leave to us is left
    /// to the next daemon, which the programs that wait for the end of the hold start if nobody else does: `hold` tells it that
    /// it has to ask udev again.
    fn stop(&mut self, signal: Signal) {
        // First: who asks from now on is not to wait for us.
        self.switch = None;
        self.shutdown.begun = Some(clock());
        self.hold.iter_mut().for_each(|(hold, _)| hold.stop());
        self.act_for_hold();
        if let Some(clients) = &mut self.clients {
            for (client, reply) in clients.requests.hand_back() {
                self.core.client_gone(client);
                clients.reply(client, &reply, clock());
            }
            clients.server.stop();
        }
        log::info!("{signal}: stopping, {} loads are still running", self.loads.running().len());
        let waiting = self.core.loads().filter(|load| load.running.is_none() && !load.for_kernel);
        let waiting: Vec<&str> = waiting.map(|load| &**load.module).collect();
        if !waiting.is_empty() {
            log::warn!("asked for and not begun, left to the next daemon: {}", waiting.join(" "));
        }
        self.notifier.say(&[NotifyState::Stopping]);
    }

    /// How long the loop may sleep.
    fn timeout(&self) -> Option<Duration> {
        let now = clock();
        let goes_on = !self.is_stopping();
        let next = [
            // What these would do next is the next daemon's, once we are to stop.
            self.core.next_deadline(now).filter(|_| goes_on),
            self.starter.as_ref().map(|(_, due)| *due).filter(|_| goes_on),
            self.hold.as_ref().and_then(|(hold, _)| hold.deadline()).filter(|_| goes_on),
            self.shutdown.deadline(),
            self.clients.as_ref().and_then(Clients::next_deadline),
            self.state_file.as_ref().and_then(|state_file| state_file.due(&self.core)),
            self.notifier.deadline(),
        ];
        // Epoll counts milliseconds and rounds down: a millisecond more, or the loop would spin towards the deadline.
        Some(next.into_iter().flatten().min()?.saturating_sub(now) + Duration::from_millis(1))
    }
}

/// The time the loop goes by: CLOCK_BOOTTIME, which is the same for every process of one boot, so that a time that was remembered
/// means something to the next process, too. It goes on while the machine is suspended.
pub fn clock() -> Time {
    // Since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every kernel has CLOCK_BOOTTIME").into()
}
