// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hold, tried in all orders: the product's state machine in a model of udevd, its programs and their deaths.
//!
//! Breadth first over all states that can be reached. In each, what must always hold is checked; where nothing happens any
//! more, what must hold in the end; and from each some end must be reachable, or something goes round in circles.

mod file;
mod rules;
mod world;

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};

use addonce::daemon::hold::RECOVERIES;
use world::{Case, Fault, World, Wrong};

/// More states than this and a case is too big to be tried here.
const MOST: usize = 6_000_000;

/// What was found.
struct Found {
    states: usize,
    /// What does not hold, and how it came to that.
    wrong: Option<(String, Vec<String>)>,
}

fn explore(case: &Case) -> Found {
    let start = World::new(case);
    let mut index = HashMap::from([(fingerprint(&start), 0)]);
    // For each state, the one it was first reached from, and by which of its steps.
    let mut origin = vec![(0, 0)];
    // Reversed.
    let mut edges = Vec::new();
    let mut ends = Vec::new();
    let mut queue = VecDeque::from([(0, start)]);
    while let Some((from, world)) = queue.pop_front() {
        let (steps, others) = world.steps(case);
        let is_end = steps.is_empty();
        let checked = world.check().and_then(|()| if is_end { world.check_end(case) } else { Ok(()) });
        if let Err(wrong) = checked {
            return Found { states: index.len(), wrong: Some((wrong, way(case, &origin, from))) };
        }
        if is_end {
            ends.push(from);
        }
        let expected = steps.len();
        for (number, (_, next)) in steps.into_iter().chain(others).enumerate() {
            let new = index.len();
            let to = *index.entry(fingerprint(&next)).or_insert(new);
            if to == new {
                assert!(new < MOST, "{case:?} has more than {MOST} states");
                origin.push((from, number));
                queue.push_back((new, next));
            }
            if number < expected {
                edges.push((to, from));
            }
        }
    }
    let wrong = trapped(index.len(), edges, &ends).map(|state| {
        let mut way = way(case, &origin, state);
        way.push("...".into());
        ("no end is reached any more".into(), way)
    });
    Found { states: index.len(), wrong }
}

/// A state from which no end can be reached.
fn trapped(states: usize, mut edges: Vec<(usize, usize)>, ends: &[usize]) -> Option<usize> {
    edges.sort_unstable();
    let mut is_good = vec![false; states];
    let mut todo = ends.to_vec();
    while let Some(state) = todo.pop() {
        if std::mem::replace(&mut is_good[state], true) {
            continue;
        }
        let first = edges.partition_point(|(to, _)| *to < state);
        todo.extend(edges[first..].iter().take_while(|(to, _)| *to == state).map(|(_, from)| *from));
    }
    is_good.iter().position(|is_good| !is_good)
}

/// The names of the steps to a state.
fn way(case: &Case, origin: &[(usize, usize)], state: usize) -> Vec<String> {
    let mut numbers = Vec::new();
    let mut at = state;
    while at != 0 {
        let (from, number) = origin[at];
        numbers.push(number);
        at = from;
    }
    let mut world = World::new(case);
    let mut names = Vec::new();
    for number in numbers.into_iter().rev() {
        let (steps, others) = world.steps(case);
        let (name, next) = steps.into_iter().chain(others).nth(number).expect("the same steps");
        names.push(format!("{} {}", name.0, name.1));
        world = next;
    }
    names
}

fn fingerprint(world: &World) -> u128 {
    let mut hasher = Fingerprint(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);
    world.hash(&mut hasher);
    u128::from(hasher.0) << 64 | u128::from(hasher.1)
}

/// Fast, and with 128 bits: two states that were taken for one would hide what follows.
struct Fingerprint(u64, u64);

impl Fingerprint {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.1 = (self.1.rotate_left(29) ^ word ^ self.0 >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for bytes in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.add(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.add(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.1
    }
}

const ALL: &[Fault] = &[
    Fault::KillDaemon,
    Fault::StopDaemon,
    Fault::KillProgram,
    Fault::KillHolder,
    Fault::KillUdevd,
    Fault::Overflow,
    Fault::NoEvent,
    Fault::NoFile,
];

const SERVICE: Case = Case {
    devices: 2,
    workers: 2,
    take_from: 1,
    on_demand: false,
    child: false,
    is_cleared: false,
    dead: None,
    batches: true,
    faults: 0,
    kinds: ALL,
    races: 1,
    wrong: None,
};
const ON_DEMAND: Case = Case { on_demand: true, ..SERVICE };

fn holds(cases: &[Case]) {
    for case in cases {
        let begin = std::time::Instant::now();
        let found = explore(case);
        println!("{} states in {:.1} s: {case:?}", found.states, begin.elapsed().as_secs_f32());
        if let Some((wrong, way)) = found.wrong {
            panic!("{wrong}, in {case:?}:\n{}", way.join("\n"));
        }
    }
}

/// Larger cases are tried where this is set.
const LONG: &str = "ADDONCE_TEST_LONG";

fn is_long() -> bool {
    std::env::var_os(LONG).is_some()
}

/// What `make check` has time for; or all of it.
fn long_or(long: u8, short: u8) -> u8 {
    if is_long() { long } else { short }
}

#[test]
fn when_settle_returns_a_service_has_loaded_everything() {
    for workers in 1..=4 {
        for take_from in 1..=2 {
            holds(&[Case { devices: 3, workers, take_from, races: long_or(1, 0), ..SERVICE }]);
        }
    }
    holds(&[SERVICE, Case { child: true, ..SERVICE }, Case { races: 2, workers: 1, ..SERVICE }]);
}

#[test]
fn when_settle_returns_a_daemon_started_on_demand_has_loaded_everything() {
    for workers in 1..=usize::from(long_or(3, 2)) {
        for take_from in 1..=2 {
            holds(&[Case { devices: 3, workers, take_from, races: 0, ..ON_DEMAND }]);
        }
    }
    holds(&[ON_DEMAND, Case { child: true, ..ON_DEMAND }, Case { races: 2, workers: 1, ..ON_DEMAND }]);
}

/// One fault, at any time, of a service and of a daemon started on demand.
fn survives(kinds: &'static [Fault]) {
    for case in [SERVICE, ON_DEMAND] {
        for workers in 1..=usize::from(long_or(2, 1)) {
            // A daemon started on demand, two workers and batches are more states than the search allows.
            let batches = is_long() && !(case.on_demand && workers == 2);
            holds(&[Case { faults: 1, workers, races: 0, batches, kinds, ..case }]);
        }
        holds(&[Case { faults: 1, devices: 1, races: 1, kinds, ..case }]);
        if is_long() {
            holds(&[Case { faults: 2, devices: 1, workers: 1, races: 0, kinds, ..case }]);
        }
    }
}

#[test]
fn a_killed_daemon_loses_nothing_and_where_it_held_settle_waits_for_the_next() {
    survives(&[Fault::KillDaemon]);
}

/// In vain, over more lives than ask for what they knew while they hold.
#[test]
fn however_often_a_daemon_is_killed_nothing_is_lost() {
    for dead in (1..=RECOVERIES).map(Some) {
        let killed = Case { dead, faults: 2, devices: 1, races: 0, kinds: &[Fault::KillDaemon], ..SERVICE };
        let killed = Case { workers: 1, batches: false, ..killed };
        holds(&[killed, Case { on_demand: true, ..killed }]);
    }
}

#[test]
fn a_stopped_daemon_loses_nothing_and_where_it_held_settle_waits_for_the_next() {
    survives(&[Fault::StopDaemon]);
}

#[test]
fn where_no_daemon_can_be_started_any_more_udev_loads_and_settle_waits_for_it() {
    survives(&[Fault::Remove]);
}

#[test]
fn a_killed_program_loses_nothing() {
    survives(&[Fault::KillProgram]);
}

#[test]
fn a_killed_hold_program_loses_nothing() {
    survives(&[Fault::KillHolder]);
}

#[test]
fn a_killed_udevd_loses_nothing_where_there_was_a_hold() {
    survives(&[Fault::KillUdevd]);
}

#[test]
fn an_overflow_loses_nothing_and_settle_waits_for_what_is_asked_for_again() {
    survives(&[Fault::Overflow]);
    holds(&[Case {
        faults: 2,
        devices: 1,
        workers: 1,
        races: 0,
        batches: false,
        kinds: &[Fault::Overflow],
        ..SERVICE
    }]);
}

#[test]
fn without_an_event_or_a_file_programs_ask() {
    survives(&[Fault::NoEvent, Fault::NoFile]);
}

#[test]
fn what_udevd_does_not_broadcast_is_waited_for_by_settle_and_not_for_minutes() {
    survives(&[Fault::Silent]);
    holds(&[Case {
        faults: 2,
        devices: 2,
        workers: 1,
        races: 0,
        kinds: &[Fault::Silent],
        batches: false,
        ..SERVICE
    }]);
}

#[test]
fn where_a_rule_keeps_the_programs_of_holds_away_there_is_a_hold_once() {
    for workers in 1..=2 {
        holds(&[
            Case { is_cleared: true, workers, ..SERVICE },
            Case { is_cleared: true, workers, races: 0, ..ON_DEMAND },
        ]);
    }
}

/// What finds this mistake, and what it says.
fn caught(wrong: Wrong, case: Case, says: &str) {
    let found = explore(&Case { wrong: Some(wrong), ..case });
    let (wrong_is, way) = found.wrong.unwrap_or_else(|| panic!("{wrong:?} is not caught"));
    println!("{wrong:?}: {wrong_is}, after {} steps, in {} states", way.len(), found.states);
    assert!(wrong_is.contains(says), "{wrong:?}: {wrong_is}:\n{}", way.join("\n"));
}

#[test]
fn each_mistake_is_caught() {
    let killed = Case { faults: 1, kinds: &[Fault::KillDaemon], races: 0, batches: false, ..SERVICE };
    let settle = "settle returns before";
    caught(Wrong::PublishedBeforeWritten, SERVICE, settle);
    caught(Wrong::NotOutstanding, Case { devices: 3, ..SERVICE }, settle);
    caught(Wrong::NotDrained, SERVICE, settle);
    caught(Wrong::NotFenced, SERVICE, settle);
    caught(Wrong::AnsweredTooEarly, SERVICE, settle);
    caught(Wrong::NoDeadlines, Case { workers: 1, ..SERVICE }, "settle never returns");
    caught(Wrong::EndedByStall, Case { workers: 1, ..SERVICE }, settle);
    caught(Wrong::EvidenceIgnored, killed, settle);
    caught(Wrong::EvidenceTooShort, killed, settle);
    caught(Wrong::NoRecovery, Case { kinds: &[Fault::Overflow], ..killed }, settle);
    caught(Wrong::HolderGoes, killed, settle);
    caught(Wrong::ProgramGoes, killed, settle);
    caught(Wrong::NoFallback, Case { faults: 2, devices: 1, on_demand: true, ..killed }, settle);
    caught(Wrong::NoLock, ON_DEMAND, "two daemons");
    caught(Wrong::GoesTooEarly, ON_DEMAND, "is lost");
    caught(Wrong::NothingPresumed, Case { devices: 3, races: 0, ..ON_DEMAND }, settle);
    caught(Wrong::AskedTwice, SERVICE, "one event became two requests");
    caught(Wrong::LateHolderWaits, SERVICE, "settle never returns");
    let killed_program = Case { on_demand: true, kinds: &[Fault::KillProgram], ..killed };
    caught(Wrong::DeathUnseen, killed_program, "is lost");
    let silent = Case { kinds: &[Fault::Silent], ..killed };
    caught(Wrong::NotAskedOnceMore, silent, "is waited for");
    caught(Wrong::NotHandedBack, Case { kinds: &[Fault::Remove], ..killed }, settle);
    caught(Wrong::AskedByBroadcast, Case { faults: 2, ..silent }, "is waited for");
}
