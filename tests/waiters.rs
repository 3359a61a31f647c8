// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events that nobody waits for, tried in all orders: the product's [`Waiters`] in a model of udevadm, udevd, the rule and the loop.
//!
//! What must hold: when udevd is done with an event that a udevadm waits for, what it asks for is loaded. An event whose program
//! is run is; one whose link the rule found is loaded afterwards.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use addonce::daemon::waiters::Waiters;

/// What a udevadm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Udevadm {
    /// `trigger`: writes its event and goes.
    Trigger,
    /// `trigger --settle`: opens its socket, writes its event, and waits for it.
    Settle,
    /// `monitor`: opens its socket, and goes at any time.
    Monitor,
}
use Udevadm::{Monitor, Settle, Trigger};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    New,
    Listening,
    /// To this event.
    Waiting(u64),
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Message {
    Announced(u64),
    Broadcast(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rule {
    NotYet,
    Program,
    FoundLink,
}

/// What the loop does, and mistakes it could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Right,
    LooksBeforeItReads,
    KeepsItsFirstAnswer,
    NeverLooks,
    LinksWhatIsOver,
    LeavesLinks,
}

/// The daemon, between two of its steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Daemon {
    waiters: Waiters,
    outstanding: BTreeSet<u64>,
    links: BTreeSet<u64>,
    has_read: bool,
    /// Whether somebody waits, once it has looked.
    answer: Option<bool>,
    first_answer: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    udevadms: Vec<(Udevadm, Stage)>,
    /// What udevd has not finished.
    events: BTreeMap<u64, Rule>,
    next: u64,
    socket: VecDeque<Message>,
    daemon: Daemon,
    deaths: u32,
    loaded: BTreeSet<u64>,
    /// So many rules found a link.
    found: u32,
}

impl World {
    fn new(udevadms: &[Udevadm], deaths: u32) -> Self {
        Self {
            udevadms: udevadms.iter().map(|udevadm| (*udevadm, Stage::New)).collect(),
            events: BTreeMap::new(),
            next: 1,
            socket: VecDeque::new(),
            daemon: Daemon::default(),
            deaths,
            loaded: BTreeSet::new(),
            found: 0,
        }
    }

    fn write_event(&mut self) -> u64 {
        let seqnum = self.next;
        self.next += 1;
        self.events.insert(seqnum, Rule::NotYet);
        self.socket.push_back(Message::Announced(seqnum));
        seqnum
    }

    fn somebody_listens(&self) -> bool {
        self.udevadms.iter().any(|(_, stage)| matches!(stage, Stage::Listening | Stage::Waiting(_)))
    }

    /// All that may happen next.
    fn steps(&self, turn: Turn) -> Result<Vec<Self>, String> {
        let mut steps = Vec::new();
        for number in 0..self.udevadms.len() {
            steps.extend(self.udevadm(number));
        }
        for (&seqnum, &rule) in &self.events {
            let mut next = self.clone();
            match rule {
                Rule::NotYet if self.daemon.links.contains(&seqnum) => {
                    next.events.insert(seqnum, Rule::FoundLink);
                    next.found += 1;
                }
                Rule::NotYet => {
                    self.must_be_without_link(seqnum, turn)?;
                    next.events.insert(seqnum, Rule::Program);
                }
                // It waits for the load.
                Rule::Program if !self.loaded.contains(&seqnum) => {
                    next.loaded.insert(seqnum);
                }
                Rule::Program | Rule::FoundLink => {
                    next.events.remove(&seqnum);
                    next.socket.push_back(Message::Broadcast(seqnum));
                    let is_waited_for =
                        self.udevadms.iter().any(|(_, stage)| *stage == Stage::Waiting(seqnum));
                    if is_waited_for && !self.loaded.contains(&seqnum) {
                        return Err(format!("event {seqnum} is over for who waits, and nothing is loaded"));
                    }
                }
            }
            steps.push(next);
        }
        steps.extend(self.daemon_goes_on(turn)?);
        if self.deaths > 0 {
            // The next daemon removes what it finds, and has the socket of the former.
            steps.push(Self { daemon: Daemon::default(), deaths: self.deaths - 1, ..self.clone() });
        }
        Ok(steps)
    }

    /// Where nobody ever listens, a program is run only for what the daemon had no turn to read.
    fn must_be_without_link(&self, seqnum: u64, turn: Turn) -> Result<(), String> {
        let somebody_may_listen = self.udevadms.iter().any(|(udevadm, _)| *udevadm != Trigger);
        let is_read = self.daemon.outstanding.contains(&seqnum) && !self.daemon.has_read;
        match turn == Turn::Right && is_read && !somebody_may_listen {
            true => Err(format!("event {seqnum} was read, nobody listens, and there is no link")),
            false => Ok(()),
        }
    }

    fn udevadm(&self, number: usize) -> Vec<Self> {
        let to = |stage: Stage| {
            let mut next = self.clone();
            next.udevadms[number].1 = stage;
            next
        };
        match self.udevadms[number] {
            (Trigger, Stage::New) => {
                let mut next = to(Stage::Gone);
                next.write_event();
                vec![next]
            }
            (Settle | Monitor, Stage::New) => vec![to(Stage::Listening)],
            (Settle, Stage::Listening) => {
                let mut next = to(Stage::New);
                next.udevadms[number].1 = Stage::Waiting(next.write_event());
                vec![next, to(Stage::Gone)]
            }
            (Monitor, Stage::Listening) => vec![to(Stage::Gone)],
            // It was heard, or the user does not want to wait any more.
            (_, Stage::Waiting(_)) => vec![to(Stage::Gone)],
            (_, Stage::Gone | Stage::Listening) => vec![],
        }
    }

    /// It reads, looks, and links, and the others may do something in between.
    fn daemon_goes_on(&self, turn: Turn) -> Result<Vec<Self>, String> {
        let daemon = &self.daemon;
        let looks_now = daemon.answer.is_none() && (daemon.has_read != (turn == Turn::LooksBeforeItReads));
        let reads_now = !daemon.has_read && !looks_now;
        let mut steps = Vec::new();
        if looks_now {
            let mut next = self.clone();
            let answer = match turn {
                Turn::NeverLooks => false,
                Turn::KeepsItsFirstAnswer => daemon.first_answer.unwrap_or(self.somebody_listens()),
                _ => self.somebody_listens(),
            };
            next.daemon.answer = Some(answer);
            next.daemon.first_answer = (turn == Turn::KeepsItsFirstAnswer).then_some(answer);
            // Or the world would have no end.
            if !self.socket.is_empty() || daemon.has_read {
                steps.push(next);
            }
        } else if reads_now {
            for count in 1..=self.socket.len() {
                let mut next = self.clone();
                for message in next.socket.drain(..count).collect::<Vec<_>>() {
                    next.read(message, turn);
                }
                next.daemon.has_read = true;
                steps.push(next);
            }
        } else {
            let mut next = self.clone();
            let Daemon { waiters, outstanding, links, answer, has_read, .. } = &mut next.daemon;
            let somebody_waits = answer.take().expect("it has looked");
            if waiters.is_look_due() {
                let is_outstanding = |seqnum| turn == Turn::LinksWhatIsOver || outstanding.contains(&seqnum);
                let linked = std::cell::RefCell::new(std::mem::take(links));
                waiters.looked(somebody_waits, is_outstanding, |seqnum| linked.borrow_mut().insert(seqnum));
                *links = linked.into_inner();
            }
            if let Some(seqnum) = links.iter().find(|seqnum| !outstanding.contains(seqnum)) {
                return Err(format!("event {seqnum} is over and has a link"));
            }
            if outstanding.is_empty() {
                for seqnum in waiters.done_with_all() {
                    links.remove(&seqnum);
                }
            }
            *has_read = false;
            steps.push(next);
        }
        Ok(steps)
    }

    fn read(&mut self, message: Message, turn: Turn) {
        match message {
            Message::Announced(seqnum) => {
                self.daemon.outstanding.insert(seqnum);
                self.daemon.waiters.announced(seqnum);
            }
            Message::Broadcast(seqnum) => {
                self.daemon.outstanding.remove(&seqnum);
                self.loaded.insert(seqnum);
                if self.daemon.waiters.done(seqnum) && turn != Turn::LeavesLinks {
                    self.daemon.links.remove(&seqnum);
                }
            }
        }
    }
}

/// Whether some rule found a link, or what does not hold.
fn explore(udevadms: &[Udevadm], deaths: u32, turn: Turn) -> Result<bool, String> {
    let start = World::new(udevadms, deaths);
    let mut seen = HashSet::from([start.clone()]);
    let mut todo = vec![start];
    let mut found = false;
    while let Some(world) = todo.pop() {
        found |= world.found > 0;
        let steps = world.steps(turn)?;
        if steps.is_empty() && !world.daemon.links.is_empty() {
            return Err("a link is left".into());
        }
        todo.extend(steps.into_iter().filter(|next| seen.insert(next.clone())));
    }
    Ok(found)
}

const CASES: [(&[Udevadm], u32); 6] = [
    (&[Trigger, Trigger, Trigger], 1),
    (&[Settle, Trigger], 1),
    (&[Settle, Settle], 1),
    (&[Settle, Trigger, Trigger], 0),
    (&[Settle, Monitor, Trigger], 0),
    (&[Settle, Settle, Trigger], 0),
];

#[test]
fn who_waits_for_an_event_finds_it_loaded_in_every_order() {
    for (udevadms, deaths) in CASES {
        let found = explore(udevadms, deaths, Turn::Right);
        let has_trigger = udevadms.contains(&Trigger);
        assert!(found.as_ref().is_ok_and(|found| *found || !has_trigger), "{udevadms:?}: {found:?}");
    }
}

#[test]
fn each_mistake_of_the_loop_is_seen() {
    let mistakes = [
        (Turn::LooksBeforeItReads, "nothing is loaded"),
        (Turn::KeepsItsFirstAnswer, "nothing is loaded"),
        (Turn::NeverLooks, "nothing is loaded"),
        (Turn::LinksWhatIsOver, "is over and has a link"),
        (Turn::LeavesLinks, "is over and has a link"),
    ];
    for (turn, why) in mistakes {
        let wrong = CASES.iter().find_map(|(udevadms, deaths)| explore(udevadms, *deaths, turn).err());
        assert!(wrong.as_ref().is_some_and(|wrong| wrong.contains(why)), "{turn:?}: {wrong:?}");
    }
}
