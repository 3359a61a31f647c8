// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small world around the real `Hold`: the kernel, udevd with its queue and workers, the programs it runs, the daemon and
//! its loads, and `udevadm settle`, which returns whenever udevd's queue is empty.
//!
//! A [`World`] is a value. [`World::steps`] gives all that may happen next: one thing at a time, by whoever is next, so that
//! all orders are tried. The programs, the loop and the core are modelled in a few lines each; the state machine is the
//! product's own. Device N has a MODALIAS whose only module is N.

use std::time::Duration;

use addonce::control::process::Process;
use addonce::daemon::hold::{Action, Hold};
use addonce::daemon::outstanding::{GIVE_UP, LONGEST_EVENT};

type Set = u8;

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// So many devices appear, at any time.
    pub devices: u8,
    /// udevd's workers.
    pub workers: usize,
    /// Outstanding events from which a hold is taken.
    pub take_from: usize,
    /// Programs start the daemon; else it is a service, with sockets that outlive it.
    pub on_demand: bool,
    /// Device 1 is a child of device 0: udevd begins its event when the parent's is done.
    pub child: bool,
    /// A rule keeps the programs of holds from being run.
    pub is_cleared: bool,
    /// The daemon before the first was killed while it held, with this number in its hold.
    pub dead: Option<u32>,
    /// The loop may read several things before it looks what is to be done.
    pub batches: bool,
    /// So many of these happen, at any time.
    pub faults: u8,
    pub kinds: &'static [Fault],
    /// So many times a deadline passes although somebody could have done something before: he was slow.
    pub races: u8,
    /// What is done wrong.
    pub wrong: Option<Wrong>,
}

/// What may happen to the innocent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of the daemon.
    KillDaemon,
    /// SIGTERM of the daemon.
    StopDaemon,
    /// SIGKILL of a program that asks.
    KillProgram,
    /// SIGKILL of a hold program.
    KillHolder,
    /// SIGKILL of udevd and all it has started; it is started again at once.
    KillUdevd,
    /// The daemon's socket overflows.
    Overflow,
    /// No event can be written.
    NoEvent,
    /// `hold` cannot be made.
    NoFile,
    /// udevd is done with an event and does not broadcast it.
    Silent,
    /// SIGKILL of the daemon, and no other can be started: the package is removed, say.
    Remove,
}

/// Mistakes, each of which some property must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// `hold` is there before its event is in the queue.
    PublishedBeforeWritten,
    /// What the kernel announces while a hold is on is not told to the machine.
    NotOutstanding,
    /// The socket is said to be drained when it is not.
    NotDrained,
    /// No event is written before the drain.
    NotFenced,
    /// The programs are answered when `hold` goes, and not after the drain.
    AnsweredTooEarly,
    /// Deadlines are not kept.
    NoDeadlines,
    /// Where a hold is to be renewed, it is ended.
    EndedByStall,
    /// What a dead daemon left is not looked at.
    EvidenceIgnored,
    /// The evidence goes with `hold`.
    EvidenceTooShort,
    /// Nothing is asked of udev again.
    NoRecovery,
    /// A hold program whose daemon is gone goes, too.
    HolderGoes,
    /// A program whose daemon is gone goes, too.
    ProgramGoes,
    /// A program that cannot reach a daemon goes.
    NoFallback,
    /// The lock is not taken.
    NoLock,
    /// A daemon started on demand goes while udevd is busy.
    GoesTooEarly,
    /// A daemon started on demand thinks of nothing but what it has heard.
    NothingPresumed,
    /// Every broadcast is a request.
    AskedTwice,
    /// A hold program that comes late waits.
    LateHolderWaits,
    /// Where a program died, nobody is told.
    DeathUnseen,
    /// What udevd does not broadcast is not asked for once more.
    NotAskedOnceMore,
    /// It is, and a program asks only where there is no hold.
    AskedByBroadcast,
    /// A hold program that cannot have a daemon only goes.
    NotHandedBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Add(u8),
    Again(u8),
    /// Behind this one.
    Ask(u8, u64),
    /// Handed back by a hold program: udev loads by itself.
    Off(u8),
    Hold(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Event {
    seqnum: u64,
    kind: Kind,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    /// The rules have not come to ours yet.
    Rules,
    /// The program looks for a daemon, for the so-manieth time.
    Seeks(u8),
    /// It waits for the answer.
    Waits(u64),
    /// The rest of the rules.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Message {
    Announced(Event),
    Broadcast(Event),
    Overflow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    Load(u64, Event),
    /// With who ran the program.
    Hold(u64, u64, u8),
    Gone(u64),
}

/// What is in /run/addonce: whose, and the number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Link {
    None,
    Hold(u8, u32),
    Released(u32),
}

/// `addonce serve` before it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Starting {
    asker: u64,
    is_hold: bool,
    has_lock: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Daemon {
    pid: u8,
    hold: Hold,
    /// Events before this one were announced when it heard nothing yet, and it asks for none of them again.
    unknown: u64,
    /// Modules that run or wait, and since when.
    loads: Vec<(u8, Duration)>,
    /// Of those, the ones that wait.
    unbegun: Set,
    /// Clients, and the modules they wait for.
    waiters: Vec<(u64, u8)>,
    /// Devices that are yet to be asked for again.
    walk: Option<Set>,
    /// Something was taken in since the last look.
    is_news: bool,
    /// Answers that a mistake keeps or forces.
    holders: Vec<u64>,
    unwritten: Option<u64>,
    is_stopping: bool,
    /// SEQNUMs that have become requests.
    requests: Vec<u64>,
}

/// All there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    now: Duration,
    all: Set,
    /// Devices that are yet to appear.
    todo: Set,
    seqnum: u64,
    /// Another number when it was restarted.
    udevd: u8,
    queue: Vec<Event>,
    running: Vec<(Event, Step)>,
    /// The kernel is telling everybody of this one, has told udevd and not us. It begins with no other meanwhile.
    telling: Option<Event>,
    /// The daemon's netlink socket, where it is open.
    socket: Option<Vec<Message>>,
    /// What was written to the daemon's listening socket and not read yet.
    calls: Vec<Call>,
    link: Link,
    starting: Vec<Starting>,
    daemons: Vec<Daemon>,
    pids: u8,
    /// Modules whose load runs.
    coming: Set,
    live: Set,
    faults: u8,
    races: u8,
    ticks: u8,
    /// Devices of which nothing is promised when settle returns.
    excused: Set,
    all_excused: bool,
    /// The daemon that is there has heard that no program of its event came.
    was_in_vain: bool,
    /// No daemon can be started any more.
    is_removed: bool,
    /// Devices that may not have their modules in the end: udevd lost their events, and there was no hold.
    forgiven: Set,
    /// A property that no look at a state could tell.
    pub wrong: Option<&'static str>,
}

/// What happens, and to which SEQNUM, device, client or number.
pub type Name = (&'static str, u64);
pub type Steps = Vec<(Name, World)>;

/// The udevd of this number.
fn process(udevd: u8) -> Process {
    Process { pid: udevd.into(), started: 0 }
}

/// The steps of a worker, or of its program, that waits for nobody.
const RULES: [&str; 4] = ["udevd begins", "the rules of", "the program connects", "udevd broadcasts"];
/// A program that asks for a device seeks so often, and then does without.
const TRIES: u8 = 3;
/// When it begins.
const BEGIN: Duration = Duration::from_secs(100);
/// No program seeks so often.
const MOST_TRIES: u64 = 16;

impl World {
    pub fn new(case: &Case) -> Self {
        let mut world = Self {
            now: BEGIN,
            all: (1 << case.devices) - 1,
            todo: (1 << case.devices) - 1,
            seqnum: 10,
            udevd: 0,
            queue: Vec::new(),
            running: Vec::new(),
            telling: None,
            socket: None,
            calls: Vec::new(),
            link: case.dead.map_or(Link::None, Link::Released),
            starting: Vec::new(),
            daemons: Vec::new(),
            pids: 0,
            coming: 0,
            live: 0,
            faults: case.faults,
            races: case.races,
            ticks: 0,
            excused: 0,
            all_excused: false,
            was_in_vain: false,
            is_removed: false,
            forgiven: 0,
            wrong: None,
        };
        if !case.on_demand {
            world.socket = Some(Vec::new());
            world.listen(case, None);
        }
        world
    }

    /// All that may happen next, each with its name. Of the second kind nothing is expected: it may as well never happen.
    pub fn steps(&self, case: &Case) -> (Steps, Steps) {
        let mut steps = Vec::new();
        self.kernel_and_udevd(case, &mut steps);
        self.programs(case, &mut steps);
        self.starting(case, &mut steps);
        for at in 0..self.daemons.len() {
            self.daemon(case, at, &mut steps);
        }
        for module in elements(self.coming) {
            let mut world = self.clone();
            world.coming &= !(1 << module);
            world.becomes_live(module);
            steps.push((("module is live", module.into()), world));
        }
        let mut others = Vec::new();
        if steps.is_empty() {
            steps.extend(self.tick(case));
        } else if self.races > 0 {
            // That nobody does anything for so long is a fault of its own. So is a worker that stays in its rules for as long as
            // what is presumed is waited for: a load may take any time.
            let presumed = |world: &World| {
                world.daemons.iter().map(|daemon| daemon.hold.outstanding.presumed.len()).sum::<usize>()
            };
            let early = self.tick(case).filter(|(_, world)| {
                let is_over_rules = steps.iter().any(|(name, _)| RULES.contains(&name.0));
                world.now - self.now < GIVE_UP && (presumed(world) == presumed(self) || !is_over_rules)
            });
            others.extend(early.map(|(name, mut world)| {
                world.races -= 1;
                (("early: ms pass", name.1), world)
            }));
        }
        self.faults(case, &mut others);
        for (_, world) in steps.iter_mut().chain(&mut others).filter(|_| !case.batches) {
            world.look();
        }
        (steps, others)
    }

    /// What must hold in every state. The error is what does not.
    pub fn check(&self) -> Result<(), String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong.into());
        }
        if self.daemons.len() > 1 {
            return Err("there are two daemons".into());
        }
        let missing = self.triggered() & !self.live & !self.excused;
        if self.queue.is_empty() && self.running.is_empty() && missing != 0 && !self.all_excused {
            return Err(format!("settle returns before {:?} has its outcome", elements(missing)));
        }
        if self.ticks > 100 {
            return Err("time passes and nothing comes of it".into());
        }
        Ok(())
    }

    /// What must hold where nothing happens any more.
    pub fn check_end(&self, case: &Case) -> Result<(), String> {
        if !self.queue.is_empty() || !self.running.is_empty() {
            return Err("settle never returns".into());
        }
        // What a daemon started on demand leaves is there for the next.
        let is_for_the_next = self.link != Link::None && self.daemons.is_empty();
        let missing = self.triggered() & !self.live & !self.forgiven;
        if missing != 0 && !(is_for_the_next && self.all_excused) {
            return Err(format!("{:?} is lost", elements(missing)));
        }
        // Where two were killed and neither had written an event, nobody starts a third.
        let is_excused =
            self.all_excused || self.is_removed || case.is_cleared || case.faults > 1 && self.faults == 0;
        if self.link != Link::None && !(is_for_the_next && is_excused) {
            return Err(format!("{:?} is left", self.link));
        }
        if self.daemons.iter().any(|daemon| !daemon.hold.is_idle()) {
            return Err("the daemon is not idle".into());
        }
        if case.kinds == [Fault::Silent] && self.now >= BEGIN + LONGEST_EVENT {
            return Err("what is not broadcast is waited for".into());
        }
        Ok(())
    }

    /// The daemon has nothing to read.
    fn is_taken_in(&self) -> bool {
        self.socket.as_ref().is_none_or(Vec::is_empty) && self.calls.is_empty()
    }

    /// Whether this udevd is there, or whichever is.
    fn is_alive(&self) -> impl FnOnce(Option<Process>) -> bool + use<> {
        let (udevd, is_busy) = (process(self.udevd), !self.queue.is_empty() || !self.running.is_empty());
        move |doubted| doubted.map_or(is_busy, |doubted| doubted == udevd)
    }

    fn triggered(&self) -> Set {
        self.all & !self.todo
    }

    // The kernel and udevd.

    /// The kernel tells udevd of an event.
    fn announce(&mut self, kind: Kind) {
        self.seqnum += 1;
        let event = Event { seqnum: self.seqnum, kind };
        self.queue.push(event);
        self.telling = Some(event);
    }

    /// And us.
    fn tell(&mut self) {
        let event = self.telling.take();
        // That of a hold says nothing to the daemon.
        let event = event.filter(|event| event.kind.device().is_some());
        if let Some((socket, event)) = self.socket.as_mut().zip(event) {
            socket.push(Message::Announced(event));
        }
    }

    /// An event that is written is told to all when write() returns.
    fn write(&mut self, kind: Kind) {
        self.announce(kind);
        self.tell();
    }

    fn kernel_and_udevd(&self, case: &Case, steps: &mut Steps) {
        // Devices differ by their numbers only: they appear in this order.
        if let Some(event) = self.telling {
            let mut world = self.clone();
            world.tell();
            steps.push((("the kernel tells the daemon, too", event.seqnum), world));
        } else if let Some(device) = elements(self.todo).first().copied() {
            let mut world = self.clone();
            world.todo &= !(1 << device);
            world.announce(Kind::Add(device));
            steps.push((("device appears", device.into()), world));
        }
        if self.running.len() < case.workers {
            // udevd begins with the oldest that is not blocked by an older one.
            let is_blocked = |at: usize| {
                let event = self.queue[at];
                let running = self.running.iter().map(|(running, _)| running);
                running.chain(&self.queue[..at]).any(|older| older.blocks(event, case))
            };
            if let Some(at) = (0..self.queue.len()).find(|at| !is_blocked(*at)) {
                let mut world = self.clone();
                let event = world.queue.remove(at);
                match event.kind {
                    Kind::Hold(_) if case.is_cleared => world.put(event, Step::Done),
                    Kind::Hold(_) => world.seek(case, event, 0),
                    _ if case.on_demand => world.put(event, Step::Rules),
                    // It may as well have begun later.
                    _ => world.rules(event, case),
                }
                steps.push((("udevd begins", event.seqnum), world));
            }
        }
        for (at, (event, step)) in self.running.iter().enumerate() {
            let mut world = self.clone();
            match step {
                Step::Rules => {
                    world.running.remove(at);
                    world.rules(*event, case);
                    steps.push((("the rules of", event.seqnum), world));
                }
                Step::Done => {
                    world.running.remove(at);
                    world.broadcast(*event);
                    steps.push((("udevd broadcasts", event.seqnum), world));
                }
                _ => {}
            }
        }
    }

    /// Our rules, for a device.
    fn rules(&mut self, event: Event, case: &Case) {
        if let Kind::Off(module) = event.kind {
            self.becomes_live(module);
            return self.put(event, Step::Done);
        }
        let holder =
            self.daemons.iter().find(|daemon| matches!(self.link, Link::Hold(pid, _) if pid == daemon.pid));
        let asks = matches!(event.kind, Kind::Ask(..)) && case.wrong != Some(Wrong::AskedByBroadcast);
        let Some(holder) = holder.filter(|_| !asks) else { return self.seek(case, event, 0) };
        if event.seqnum < holder.unknown || case.is_cleared {
            let device = event.kind.device().map_or(0, |device| 1 << device);
            self.excused |= device;
            // What udevd's control group takes along.
            self.forgiven |= if case.is_cleared && case.on_demand { device } else { 0 };
        }
        self.put(event, Step::Done);
    }

    fn broadcast(&mut self, event: Event) {
        if let Some(socket) = &mut self.socket {
            socket.push(Message::Broadcast(event));
        }
    }

    fn put(&mut self, event: Event, step: Step) {
        self.running.push((event, step));
        self.running.sort_unstable();
    }

    // The programs.

    fn programs(&self, case: &Case, steps: &mut Steps) {
        for (at, (event, step)) in self.running.iter().enumerate() {
            let Step::Seeks(tries) = *step else { continue };
            let mut world = self.clone();
            world.running.remove(at);
            let is_holder = matches!(event.kind, Kind::Hold(_));
            if tries > 0 && case.wrong == Some(if is_holder { Wrong::HolderGoes } else { Wrong::ProgramGoes })
            {
                world.put(*event, Step::Done);
                steps.push((("the program goes", event.seqnum), world));
                continue;
            }
            if self.is_heard(case) {
                world.seek(case, *event, tries);
                steps.push((("the program connects", event.seqnum), world));
            } else if self.starting.iter().any(|starting| starting.has_lock) {
                // It will listen in a moment.
            } else if self.is_removed && is_holder {
                if case.wrong != Some(Wrong::NotHandedBack) {
                    if self.telling.is_some() {
                        continue;
                    }
                    elements(self.triggered()).into_iter().for_each(|device| world.write(Kind::Off(device)));
                }
                world.put(*event, Step::Done);
                steps.push((("the program hands back", event.seqnum), world));
            } else if (tries >= TRIES || self.is_removed) && !is_holder {
                match event.kind.device() {
                    Some(module) if case.wrong != Some(Wrong::NoFallback) => world.becomes_live(module),
                    _ => {}
                }
                world.put(*event, Step::Done);
                steps.push((("the program does without", event.seqnum), world));
            } else if !self.starting.iter().any(|starting| starting.asker == event.seqnum)
                && self.starting.len() < 2
            {
                world.put(*event, Step::Seeks(tries + 1));
                world.starting.push(Starting { asker: event.seqnum, is_hold: is_holder, has_lock: false });
                steps.push((("the program starts a daemon", event.seqnum), world));
            }
        }
    }

    /// Whether somebody listens. A service manager always does.
    fn is_heard(&self, case: &Case) -> bool {
        !self.daemons.is_empty() || !case.on_demand && !self.is_removed
    }

    /// The program of this event begins, or begins anew.
    fn seek(&mut self, case: &Case, event: Event, tries: u8) {
        if !self.is_heard(case) {
            return self.put(event, Step::Seeks(tries));
        }
        let client = event.seqnum * MOST_TRIES + u64::from(tries);
        self.calls.push(match event.kind {
            Kind::Hold(number) => Call::Hold(client, number, self.udevd),
            _ => Call::Load(client, event),
        });
        self.put(event, Step::Waits(client));
    }

    /// A client's connection ends without an answer.
    fn hang_up(&mut self, client: u64) {
        for (_, step) in &mut self.running {
            if *step == Step::Waits(client) {
                let tries = u8::try_from(client % MOST_TRIES).unwrap();
                *step = Step::Seeks(tries + 1);
            }
        }
        self.running.sort_unstable();
    }

    fn answer(&mut self, client: u64) {
        for (_, step) in &mut self.running {
            if *step == Step::Waits(client) {
                *step = Step::Done;
            }
        }
        self.running.sort_unstable();
    }

    // `addonce serve`, and its end.

    fn starting(&self, case: &Case, steps: &mut Steps) {
        for (at, starting) in self.starting.iter().enumerate() {
            let mut world = self.clone();
            let is_taken = !self.daemons.is_empty() || self.starting.iter().any(|other| other.has_lock);
            if starting.has_lock {
                world.starting.remove(at);
                // The event of a hold waits for the daemon itself.
                world.listen(case, Some(starting.asker + u64::from(starting.is_hold)));
                steps.push((("its daemon listens", starting.asker), world));
            } else if is_taken && case.wrong != Some(Wrong::NoLock) {
                world.starting.remove(at);
                steps.push((("its daemon finds another", starting.asker), world));
            } else {
                world.starting[at].has_lock = true;
                world.socket = Some(Vec::new());
                steps.push((("its daemon hears", starting.asker), world));
            }
        }
    }

    fn listen(&mut self, case: &Case, asker: Option<u64>) {
        self.pids += 1;
        self.was_in_vain = false;
        let stale = match self.link {
            Link::None => None,
            Link::Hold(_, number) | Link::Released(number) => Some(number),
        };
        let stale = stale.filter(|_| case.wrong != Some(Wrong::EvidenceIgnored));
        let mut hold = Hold::new(case.take_from, stale, u64::from(self.pids) * 100, self.now);
        if let Some(asker) = asker.filter(|_| case.wrong != Some(Wrong::NothingPresumed)) {
            hold.outstanding.presume(asker, self.seqnum, self.now);
        }
        let known = if self.pids == 1 { 0 } else { self.seqnum + 1 };
        self.daemons.push(Daemon {
            pid: self.pids,
            hold,
            unknown: if stale.is_some() { 0 } else { asker.unwrap_or(known) },
            loads: Vec::new(),
            unbegun: 0,
            waiters: Vec::new(),
            walk: None,
            is_news: true,
            holders: Vec::new(),
            unwritten: None,
            is_stopping: false,
            requests: Vec::new(),
        });
    }

    /// The daemon is gone. Its clients see it; a service is started again, and has the sockets of the last one.
    fn end(&mut self, case: &Case, at: usize) {
        let daemon = self.daemons.remove(at);
        let mut clients: Vec<u64> = self.running.iter().filter_map(|(_, step)| step.client()).collect();
        if case.on_demand || self.is_removed {
            self.calls.clear();
            self.socket = None;
        } else {
            // Those that it had not accepted are the next one's.
            let unread: Vec<u64> = self.calls.iter().map(Call::client).collect();
            clients.retain(|client| !unread.contains(client));
        }
        for client in clients {
            self.hang_up(client);
        }
        if case.wrong == Some(Wrong::EvidenceTooShort) {
            if let Link::Released(_) = self.link {
                self.link = Link::None;
            }
        }
        drop(daemon);
        if !case.on_demand && !self.is_removed {
            self.listen(case, None);
        }
    }

    // The daemon.

    fn daemon(&self, case: &Case, at: usize, steps: &mut Steps) {
        let daemon = &self.daemons[at];
        for module in elements(daemon.unbegun).into_iter().filter(|_| !daemon.is_stopping) {
            let mut world = self.clone();
            world.daemons[at].unbegun &= !(1 << module);
            world.coming |= 1 << module;
            steps.push((("module is being loaded", module.into()), world));
        }
        let mut world = self.clone();
        if let Some(action) = world.daemons[at].hold.next_action() {
            let writes = match action {
                Action::Fence => case.wrong != Some(Wrong::NotFenced),
                _ => matches!(action, Action::WriteEvent(_) | Action::Ask | Action::GiveUp),
            };
            if !writes || self.telling.is_none() {
                world.perform(case, at, action);
                steps.push((name(action), world));
            }
            // The loop does nothing else meanwhile.
            return;
        }
        if let Some(number) = daemon.unwritten.filter(|_| self.telling.is_none()) {
            let mut world = self.clone();
            world.daemons[at].unwritten = None;
            world.write(Kind::Hold(number));
            steps.push((("write late", number), world));
        }
        if daemon.is_stopping {
            if daemon.loads.iter().all(|(module, _)| daemon.unbegun & 1 << module != 0) {
                let mut world = self.clone();
                world.end(case, at);
                steps.push((("the daemon ends", 0), world));
            }
            return;
        }
        if daemon.is_news {
            let mut world = self.clone();
            world.update(at);
            steps.push((("a look", 0), world));
        }
        let socket = self.socket.as_deref().unwrap_or_default();
        if let Some(message) = socket.first() {
            let mut world = self.clone();
            world.socket.as_mut().unwrap().remove(0);
            world.hear(case, at, *message);
            steps.push((message.name(), world));
        }
        if socket.is_empty() && self.calls.is_empty() || case.wrong == Some(Wrong::NotDrained) {
            let mut world = self.clone();
            world.daemons[at].hold.drained(self.is_alive(), self.now);
            if world.daemons[at].hold != daemon.hold {
                world.daemons[at].is_news = true;
                steps.push((("drained", 0), world));
            }
        }
        if let Some(call) = self.calls.first() {
            let mut world = self.clone();
            world.calls.remove(0);
            world.serve(case, at, *call);
            steps.push((("serve", call.client()), world));
        }
        if let Some(walk) = daemon.walk {
            let mut world = self.clone();
            if walk == 0 {
                world.daemons[at].walk = None;
                world.daemons[at].hold.asked_again(false, true);
                world.daemons[at].is_news = true;
                steps.push((("all are asked for again", 0), world));
            } else if daemon.hold.room(self.now) > 0 && self.telling.is_none() {
                let device = elements(walk)[0];
                world.daemons[at].walk = Some(walk & !(1 << device));
                world.daemons[at].hold.asked_again(true, false);
                world.daemons[at].is_news = true;
                world.write(Kind::Again(device));
                steps.push((("device is asked for again", device.into()), world));
            }
        }
        let is_settled = self.queue.is_empty() && self.running.is_empty();
        let is_done = daemon.hold.is_idle() && daemon.loads.is_empty() && daemon.waiters.is_empty();
        let may_go = is_settled || case.wrong == Some(Wrong::GoesTooEarly);
        if case.on_demand && is_done && may_go && socket.is_empty() && !daemon.is_news {
            let mut world = self.clone();
            world.end(case, at);
            steps.push((("the daemon goes", 0), world));
        }
    }

    fn hear(&mut self, case: &Case, at: usize, message: Message) {
        let is_held = matches!(self.link, Link::Hold(..));
        let now = self.now;
        let daemon = &mut self.daemons[at];
        daemon.is_news = true;
        match message {
            Message::Announced(_) if case.wrong == Some(Wrong::NotOutstanding) && is_held => {}
            Message::Announced(event) => {
                let behind = if let Kind::Ask(_, behind) = event.kind { Some(behind) } else { None };
                let devpath = [event.kind.device().unwrap()];
                daemon.hold.outstanding.announced(event.seqnum, &devpath, behind, now);
            }
            Message::Overflow => daemon.hold.overflow(now),
            Message::Broadcast(Event { seqnum, kind: Kind::Hold(number) }) => {
                daemon.hold.broadcast(seqnum, Some(number), false, now);
                self.was_in_vain = case.is_cleared;
            }
            Message::Broadcast(Event {
                seqnum,
                kind: Kind::Add(device) | Kind::Again(device) | Kind::Ask(device, _) | Kind::Off(device),
            }) => {
                let is_news = daemon.hold.broadcast(seqnum, None, true, now);
                if is_news || case.wrong == Some(Wrong::AskedTwice) {
                    self.request(case, at, seqnum, device, None);
                }
            }
        }
    }

    fn serve(&mut self, case: &Case, at: usize, call: Call) {
        let now = self.now;
        let daemon = &mut self.daemons[at];
        daemon.is_news = true;
        match call {
            Call::Load(client, event) => {
                daemon.hold.asked(event.seqnum, now);
                let device = event.kind.device().unwrap();
                self.request(case, at, event.seqnum, device, Some(client));
            }
            Call::Hold(client, number, udevd) => {
                daemon.hold.hold(client, Some(number), Some(process(udevd)), now);
                daemon.holders.push(client);
            }
            Call::Gone(client) => {
                daemon.holders.retain(|holder| *holder != client);
                daemon.waiters.retain(|(waiter, _)| *waiter != client);
                if case.wrong != Some(Wrong::DeathUnseen) {
                    daemon.hold.gone(client, now);
                }
            }
        }
    }

    /// The core, in short: each module once, and who asks meanwhile waits.
    fn request(&mut self, case: &Case, at: usize, seqnum: u64, module: u8, client: Option<u64>) {
        let (now, live, coming, faults) = (self.now, self.live, self.coming, self.faults);
        let daemon = &mut self.daemons[at];
        if daemon.requests.contains(&seqnum) && faults == case.faults {
            self.wrong = Some("one event became two requests");
        } else {
            daemon.requests.push(seqnum);
            daemon.requests.sort_unstable();
        }
        let daemon = &mut self.daemons[at];
        if live & 1 << module != 0 {
            client.into_iter().for_each(|client| self.answer(client));
            return;
        }
        if daemon.loads.iter().all(|(load, _)| *load != module) {
            daemon.loads.push((module, now));
            daemon.loads.sort_unstable();
            if coming & 1 << module == 0 && faults > 0 {
                daemon.unbegun |= 1 << module;
            } else {
                // It makes no difference when it begins.
                self.coming |= 1 << module;
            }
        }
        daemon.waiters.extend(client.map(|client| (client, module)));
        daemon.waiters.sort_unstable();
    }

    fn becomes_live(&mut self, module: u8) {
        self.live |= 1 << module;
        let mut answers = Vec::new();
        for daemon in &mut self.daemons {
            let loads = daemon.loads.len();
            daemon.loads.retain(|(load, _)| *load != module);
            if daemon.loads.len() != loads {
                daemon.is_news = true;
                daemon.hold.loaded();
            }
            daemon.unbegun &= !(1 << module);
            answers
                .extend(daemon.waiters.iter().filter(|(_, load)| *load == module).map(|(client, _)| *client));
            daemon.waiters.retain(|(_, load)| *load != module);
        }
        for client in answers {
            self.answer(client);
        }
    }

    /// The loop looks what is to be done, where there is news.
    fn look(&mut self) {
        for at in 0..self.daemons.len() {
            if self.daemons[at].is_news {
                self.update(at);
            }
        }
    }

    fn update(&mut self, at: usize) {
        let daemon = &mut self.daemons[at];
        daemon.is_news = false;
        let youngest = daemon.loads.iter().map(|(_, began)| *began).max();
        daemon.hold.update(youngest, self.now);
    }

    fn perform(&mut self, case: &Case, at: usize, action: Action) {
        let now = self.now;
        let all = self.triggered();
        let is_held = matches!(self.link, Link::Hold(..));
        let daemon = &mut self.daemons[at];
        daemon.is_news = true;
        let pid = daemon.pid;
        daemon.hold.performed(action, true, now);
        match action {
            Action::WriteEvent(number) => {
                if case.wrong == Some(Wrong::PublishedBeforeWritten) && !is_held {
                    daemon.unwritten = Some(number);
                } else if case.wrong == Some(Wrong::EndedByStall) && is_held {
                    self.link = Link::Released(0);
                } else {
                    self.write(Kind::Hold(number));
                }
            }
            // The event itself is nobody's: udevd is done with it as soon as it has it.
            Action::Fence => {}
            Action::Publish(recoveries) => {
                if self.was_in_vain {
                    self.wrong = Some("there is a hold again though no program has come");
                }
                self.link = Link::Hold(pid, recoveries);
            }
            Action::Unpublish => {
                if let Link::Hold(_, number) = self.link {
                    self.link = Link::Released(number);
                }
                if case.wrong == Some(Wrong::EvidenceTooShort) {
                    self.link = Link::None;
                }
                if case.wrong == Some(Wrong::AnsweredTooEarly) {
                    for holder in self.daemons[at].holders.clone() {
                        self.answer(holder);
                    }
                }
            }
            Action::Forget => self.link = Link::None,
            Action::Answer(client) => {
                daemon.holders.retain(|holder| *holder != client);
                let is_idle = !is_held && matches!(self.link, Link::None);
                if !(case.wrong == Some(Wrong::LateHolderWaits) && is_idle) {
                    self.answer(client);
                }
            }
            Action::Ask => {
                for (seqnum, devpath) in self.daemons[at].hold.outstanding.ask(64) {
                    if case.wrong != Some(Wrong::NotAskedOnceMore) {
                        self.write(Kind::Ask(devpath[0], seqnum));
                    }
                }
            }
            Action::Recover => {
                daemon.walk = Some(if case.wrong == Some(Wrong::NoRecovery) { 0 } else { all });
            }
            Action::GiveUp => elements(all).into_iter().for_each(|device| self.write(Kind::Again(device))),
        }
    }

    // Time, and what else happens.

    fn tick(&self, case: &Case) -> Option<(Name, World)> {
        if self.daemons.iter().any(Daemon::is_busy) {
            return None;
        }
        let deadlines = self.daemons.iter().filter_map(|daemon| daemon.hold.deadline());
        let deadline = deadlines.min().filter(|_| case.wrong != Some(Wrong::NoDeadlines))?;
        let mut world = self.clone();
        world.now = self.now.max(deadline);
        world.ticks += 1;
        for at in 0..world.daemons.len() {
            if world.is_taken_in() {
                let (now, is_alive) = (world.now, world.is_alive());
                world.daemons[at].hold.drained(is_alive, now);
            }
            world.update(at);
        }
        let passed = world.now - self.now;
        if passed.is_zero() && self.is_taken_in() && world.daemons == self.daemons {
            eprintln!("{:#?} {:?}", self.daemons, deadline);
            world.wrong = Some("a deadline comes, and nothing comes of it");
        }
        Some((("ms pass", u64::try_from(passed.as_millis()).unwrap()), world))
    }

    fn faults(&self, case: &Case, steps: &mut Steps) {
        let is_idle = self.queue.is_empty() && self.running.is_empty();
        let is_quiet = self.is_taken_in();
        for (at, daemon) in self.daemons.iter().enumerate() {
            let mut drained = daemon.hold.clone();
            drained.drained(self.is_alive(), self.now);
            let is_quiet = is_quiet && !daemon.is_busy() && daemon.walk.is_none() && drained == daemon.hold;
            if case.on_demand && is_idle && is_quiet {
                // Three seconds after udevd's last event it kills what it finds in its control group.
                let mut world = self.clone();
                world.coming = 0;
                world.end(case, at);
                steps.push((("udevd clears its control group", 0), world));
            }
        }
        if self.faults == 0 {
            return;
        }
        let mut less = self.clone();
        less.faults -= 1;
        // Whoever had only the daemon to wait for him.
        less.forgiven |= self.excused;
        let is_possible = |fault| case.kinds.contains(&fault);
        if is_possible(Fault::Remove) && !self.is_removed {
            let mut world = less.clone();
            world.is_removed = true;
            world.starting.clear();
            for at in 0..world.daemons.len() {
                world.end(case, at);
            }
            // One that has not come to listen has it open all the same.
            world.socket = None;
            steps.push((("addonce is removed", 0), world));
        }
        for (at, daemon) in self.daemons.iter().enumerate() {
            if is_possible(Fault::KillDaemon) {
                let mut world = less.clone();
                world.end(case, at);
                steps.push((("the daemon is killed", 0), world));
            }
            if is_possible(Fault::StopDaemon) && !daemon.is_stopping {
                let mut world = less.clone();
                world.daemons[at].hold.stop();
                world.daemons[at].is_stopping = true;
                steps.push((("the daemon is stopped", 0), world));
            }
            let mut failed = less.clone();
            let action = match failed.daemons[at].hold.next_action() {
                Some(action @ Action::WriteEvent(_)) if is_possible(Fault::NoEvent) => action,
                Some(action @ Action::Publish(_)) if is_possible(Fault::NoFile) => action,
                _ => continue,
            };
            failed.daemons[at].hold.performed(action, false, self.now);
            failed.daemons[at].is_news = true;
            steps.push((("that fails", 0), failed));
        }
        for (at, (event, step)) in self.running.iter().enumerate() {
            if let (Some(device), Step::Done, true) = (event.kind.device(), step, is_possible(Fault::Silent))
            {
                let mut world = less.clone();
                world.running.remove(at);
                let mut holds = self.daemons.iter().map(|daemon| &daemon.hold.outstanding.presumed);
                if holds.any(|presumed| presumed.contains(&event.seqnum)) {
                    world.excused |= 1 << device;
                    world.forgiven |= 1 << device;
                }
                steps.push((("udevd says nothing of", event.seqnum), world));
            }
            let is_holder = matches!(event.kind, Kind::Hold(_));
            let kind = if is_holder { Fault::KillHolder } else { Fault::KillProgram };
            if is_possible(kind) && matches!(step, Step::Seeks(_) | Step::Waits(_)) {
                let mut world = less.clone();
                world.running.remove(at);
                world.put(*event, Step::Done);
                world.calls.extend(step.client().map(Call::Gone));
                let device = event.kind.device().map_or(0, |device| 1 << device);
                world.excused |= device;
                world.all_excused |= is_holder;
                if matches!(step, Step::Seeks(_)) {
                    // Nobody had heard of it.
                    world.forgiven |= device;
                }
                steps.push((("the program is killed", event.seqnum), world));
            }
        }
        if is_possible(Fault::KillUdevd) && !is_idle {
            let mut world = less.clone();
            world.calls.extend(self.running.iter().filter_map(|(_, step)| step.client()).map(Call::Gone));
            if self.link == Link::None {
                let lost = self.queue.iter().chain(self.running.iter().map(|(event, _)| event));
                world.forgiven |=
                    lost.filter_map(|event| event.kind.device()).fold(0, |set, device| set | 1 << device);
            }
            world.udevd += 1;
            world.queue.clear();
            world.running.clear();
            world.all_excused = true;
            if case.on_demand {
                // All of its control group.
                world.coming = 0;
                world.starting.clear();
                for at in 0..world.daemons.len() {
                    world.end(case, at);
                }
                world.calls.clear();
            }
            steps.push((("udevd is killed", 0), world));
        }
        if is_possible(Fault::Overflow) && self.socket.as_ref().is_some_and(|socket| !socket.is_empty()) {
            let mut world = less;
            world.socket = Some(vec![Message::Overflow]);
            steps.push((("the socket overflows", 0), world));
        }
    }
}

impl Daemon {
    /// The loop does not sleep.
    fn is_busy(&self) -> bool {
        self.is_news || self.hold.clone().next_action().is_some()
    }
}

fn name(action: Action) -> Name {
    match action {
        Action::WriteEvent(number) => ("write event", number),
        Action::Publish(recoveries) => ("publish", recoveries.into()),
        Action::Unpublish => ("unpublish", 0),
        Action::Fence => ("fence", 0),
        Action::Forget => ("forget", 0),
        Action::Answer(client) => ("answer", client),
        Action::Ask => ("ask", 0),
        Action::Recover => ("recover", 0),
        Action::GiveUp => ("give up", 0),
    }
}

impl Message {
    fn name(self) -> Name {
        match self {
            Message::Announced(event) => ("read the announcement", event.seqnum),
            Message::Broadcast(event) => ("read the broadcast", event.seqnum),
            Message::Overflow => ("read an overflow", 0),
        }
    }
}

impl Kind {
    fn device(self) -> Option<u8> {
        match self {
            Kind::Add(device) | Kind::Again(device) | Kind::Ask(device, _) | Kind::Off(device) => {
                Some(device)
            }
            Kind::Hold(_) => None,
        }
    }
}

impl Event {
    /// Whether udevd begins `next` only after this one.
    fn blocks(self, next: Event, case: &Case) -> bool {
        match (self.kind.device(), next.kind.device()) {
            (None, None) => true,
            (Some(this), Some(next)) => this == next || case.child && this + next == 1,
            _ => false,
        }
    }
}

impl Step {
    fn client(&self) -> Option<u64> {
        if let Step::Waits(client) = self { Some(*client) } else { None }
    }
}

impl Call {
    fn client(&self) -> u64 {
        match self {
            Call::Load(client, _) | Call::Hold(client, ..) | Call::Gone(client) => *client,
        }
    }
}

fn elements(set: Set) -> Vec<u8> {
    (0..8).filter(|element| set & 1 << element != 0).collect()
}
