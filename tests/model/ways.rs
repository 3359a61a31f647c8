// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way of a duplicate (`once/quiet.rs`) and the long one come to the same: attempts, answers, counters, and what
//! is remembered of who asked. A policy that rules a module out while a path exists keeps its requests on the long way, so
//! the same script is gone through with and without such a path, which never comes to exist.

use std::time::Duration;

use addonce::once::failures::Failure;
use addonce::once::limits::Limits;
use addonce::once::world::Name;
use proptest::prelude::*;

use super::harness::{Clock, Harness};
use super::invariants::{NARROW, RICH, prove};
use super::steps::{Case, Step, case};

/// Caught: `coalescer.rs`, `request`: clients go the short way; `quiet.rs`, `passes_quietly`: genuine events do, or no look at
/// `since` or `until`; `of`: no look at policy `always`, or roots are not sighted; `meet`: a dependent need not be attached to
/// the promise; `failures.rs`, `judge`: a promise is no change; `sightings.rs`, `gather`: what a device asked for before is
/// forgotten, or taken for what it asks for now.
#[test]
fn the_short_way_comes_to_the_same_as_the_long_one() {
    let cases = prop::sample::select(vec![RICH, NARROW]);
    prove(8, cases.prop_flat_map(|flavour| case(flavour, 40)), |case| {
        let cases = [false, true].map(|long| on_the_way(case, long));
        let [short, long] = [&cases[0], &cases[1]].map(|case| {
            let mut harness = Harness::through(case, Clock::Deadlines);
            let met = remembered(&harness);
            harness.pass(Duration::from_secs(100));
            (met, remembered(&harness), harness)
        });
        let same = (&short.0, &short.1) == (&long.0, &long.1)
            && short.2.core.tally() == long.2.core.tally()
            && (&short.2.attempts, &short.2.answers) == (&long.2.attempts, &long.2.answers);
        let told = |(met, remembered, harness): &(Vec<String>, Vec<String>, Harness<'_>)| {
            format!("{met:#?}\n{remembered:#?}\n{:#?}\n{:?}", harness.core.tally(), harness.attempts)
        };
        if same { Ok(()) } else { Err(format!("short: {}\nlong: {}", told(&short), told(&long))) }
    });
}

/// The script, with all requests for what is not live on the long way or none.
fn on_the_way(case: &Case, long: bool) -> Case {
    let mut case = case.clone();
    // A full table of sightings forgets others on the short way, where less has to be remembered.
    case.world.limits = Limits { sightings: 64, ..case.world.limits };
    case.world.modules.iter_mut().for_each(|module| module.unless = long);
    case.steps.retain(|step| !matches!(step, Step::Path));
    case
}

/// What is remembered of failures, the most recently used first.
fn remembered(harness: &Harness<'_>) -> Vec<String> {
    let of = |(name, failure): (&Name, &Failure)| {
        let Failure { asked, pending, .. } = failure;
        let asked = (asked.since, asked.requests, asked.devices);
        let pending = pending.as_ref().map(|pending| (pending.asked.requests, pending.asked.devices));
        format!("{name}: asked {asked:?} pending {pending:?} compared {:?}", failure.compared)
    };
    harness.core.failures().map(of).collect()
}
