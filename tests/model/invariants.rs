// SPDX-License-Identifier: MIT OR Apache-2.0
//! One property for each invariant.

use std::fmt::Debug;
use std::time::Duration;

use addonce::once::Mode;
use addonce::once::{Answer, Status};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

use super::harness::{Clock, Harness, Invariant};
use super::ledger::Who;
use super::rules::{Model, Word};
use super::steps::{Case, Step, case};
use super::world::{Flavour, Module, name, number};

pub const RICH: Flavour = Flavour { related: true, narrow: false, options: false, disabling: false };
pub const NARROW: Flavour = Flavour { narrow: true, ..RICH };
const ALONE: Flavour = Flavour { related: false, ..RICH };

/// Runs a property with its share, in percent, of all cases.
pub fn prove<T: Debug>(
    percent: u32,
    strategy: impl Strategy<Value = T>,
    property: impl Fn(&T) -> Result<(), String>,
) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|value| value.parse::<u64>().ok());
    let all = number("ADDONCE_CASES").unwrap_or(100_000);
    let config = Config {
        cases: u32::try_from(all * u64::from(percent) / 100).unwrap_or(u32::MAX).max(1),
        failure_persistence: None,
        max_shrink_iters: 50_000,
        max_shrink_time: 20_000,
        rng_seed: RngSeed::Fixed(number("ADDONCE_SEED").unwrap_or(0)),
        ..Config::default()
    };
    match TestRunner::new(config).run(&strategy, |value| property(&value).map_err(TestCaseError::fail)) {
        Ok(()) => {}
        Err(TestError::Fail(reason, value)) => panic!("{reason}\n\n{value:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn prove_in_mixed_worlds(percent: u32, invariant: Invariant) {
    let flavours = [RICH, NARROW, Flavour { options: true, disabling: true, ..NARROW }];
    let cases = prop::sample::select(flavours.to_vec()).prop_flat_map(|flavour| case(flavour, 30));
    prove(percent, cases, |case| {
        let mut harness = Harness::through(case, Clock::Deadlines);
        harness.drain();
        harness.verdict(invariant)
    });
}

/// Invariant 1.
#[test]
fn there_are_never_two_loads_of_one_module() {
    prove_in_mixed_worlds(8, Invariant::OneLoad);
}

/// Invariant 2.
#[test]
fn every_client_is_answered_once_and_none_hangs() {
    prove_in_mixed_worlds(8, Invariant::Answers);
}

/// Invariant 3, as an upper bound.
#[test]
fn no_failure_is_attempted_again_without_a_rule_that_allows_it() {
    let cases = prop_oneof![case(RICH, 40), case(NARROW, 40)];
    prove(10, cases, |case| {
        let mut harness = Harness::through(case, Clock::Deadlines);
        harness.drain();
        harness.verdict(Invariant::Attempts)
    });
}

/// Invariant 3, exactly, and what clients are told.
#[test]
fn modules_without_relations_are_attempted_exactly_when_the_rules_say() {
    let alone = case(ALONE, 40).prop_map(|mut case| {
        alone(&mut case);
        case
    });
    prove(30, alone, |case| {
        let mut harness = Harness::through(case, Clock::Deadlines);
        let mut model = Model::through(case);
        harness.pass(Duration::from_secs(100));
        model.pass(Duration::from_secs(100));
        let mut actual: Vec<(Duration, usize)> =
            harness.attempts.iter().map(|(at, module)| (*at, number(module))).collect();
        actual.sort();
        model.attempts.sort();
        equal("attempts", &actual, &model.attempts)?;
        let word = |standing: &Status| match standing {
            Status::Live => Word::Live,
            Status::Builtin => Word::Builtin,
            Status::Blacklisted => Word::Blacklisted,
            Status::RuledOut => Word::RuledOut,
            Status::Unknown => unreachable!("every name is known"),
            Status::Failed { error, retry_at } => Word::Failed(error.errno, *retry_at),
            Status::Loading => unreachable!("a client is never told so"),
        };
        let answer = |(at, answers): &(Duration, Vec<Answer>)| {
            let answers = answers.iter().map(|(module, standing)| (number(module), word(standing)));
            let mut answers: Vec<(usize, Word)> = answers.collect();
            answers.sort();
            (*at, answers)
        };
        let answers = harness.answers.iter().map(|(client, answers)| (*client, answer(answers))).collect();
        equal("answers", &answers, &model.answers)
    });
}

/// The model knows aliases of one module only.
fn alone(case: &mut Case) {
    let world = case.world.clone();
    let mut lengths: Vec<Option<usize>> = world.aliases.iter().map(|alias| alias.first().copied()).collect();
    case.steps.retain(|step| {
        let Step::Alias(a, m) = *step else { return true };
        let (a, m) = (a % lengths.len(), m % world.modules.len());
        let fits = lengths[a].is_none_or(|module| module == m);
        if fits {
            lengths[a] = if lengths[a].is_none() { Some(m) } else { None };
        }
        fits
    });
}

fn equal<T: Debug + PartialEq>(what: &str, actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected {
        return Ok(());
    }
    Err(format!("{what} differ from the model's\nexpected: {expected:?}\n  actual: {actual:?}"))
}

/// Invariant 4.
#[test]
fn every_request_that_the_rules_accept_leads_to_an_attempt() {
    let cases = prop_oneof![case(RICH, 40), case(NARROW, 40)];
    prove(10, cases, |case| {
        let mut harness = Harness::through(case, Clock::Deadlines);
        harness.drain();
        let owed = harness.ledger.owed();
        harness.holds(Invariant::Retries, owed.is_none(), || owed.unwrap_or_default());
        harness.verdict(Invariant::Retries)
    });
}

/// Invariant 5.
#[test]
fn all_bounds_are_kept() {
    let cases = prop_oneof![case(NARROW, 40), case(Flavour { options: true, ..NARROW }, 40)];
    prove(8, cases, |case| {
        let mut harness = Harness::through(case, Clock::Deadlines);
        harness.drain();
        harness.verdict(Invariant::Bounds)
    });
}

/// Invariant 6.
#[test]
fn nothing_is_loaded_before_what_it_needs_and_failures_name_what_failed() {
    prove_in_mixed_worlds(8, Invariant::Dependencies);
}

/// Invariant 7.
#[test]
fn all_settles_and_a_fix_is_never_locked_out() {
    let cases = prop_oneof![case(RICH, 30), case(NARROW, 30)];
    prove(10, cases, |case| {
        let mut harness = Harness::through(case, Clock::Deadlines);
        harness.drain();
        harness.verdict(Invariant::Progress)?;
        // Whoever asks, be it a device that nobody has seen, with a replayed event: in the second before a
        // fix, in the second after it, and when that has passed.
        let world = &case.world;
        let needs = |other: &Module, number| {
            other.mode != Mode::Never && !other.builtin && other.deps.contains(&number)
        };
        let bottom: Vec<usize> =
            (0..world.modules.len()).filter(|&m| world.modules[m].deps.is_empty()).collect();
        let top: Vec<usize> = (0..world.modules.len())
            .filter(|&m| !world.modules.iter().any(|other| needs(other, m)))
            .collect();
        let mut device = 100;
        let mut ask = |harness: &mut Harness<'_>, modules: &[usize]| {
            for &module in modules {
                device += 1;
                harness.ask(&name(module), Who::Device(device, false), None);
            }
        };
        ask(&mut harness, &bottom);
        harness.pass(Duration::from_millis(500));
        fix_everything(&mut harness);
        ask(&mut harness, &top);
        harness.pass(Duration::from_secs(1));
        ask(&mut harness, &top);
        harness.drain();
        harness.verdict(Invariant::Progress)?;
        let is_live = |harness: &Harness<'_>, number| harness.tree.fake.live.contains(&name(number));
        for (number, module) in case.world.modules.iter().enumerate() {
            let live = is_live(&harness, number);
            let wanted = module.mode != Mode::Never && !module.builtin;
            // What others need may be there by another name, and then nobody asks for it: the core was told so, or the kernel took
            // it for that, since what needs it is live. One that is not there makes the kernel refuse what needs it.
            let mut others =
                (0..world.modules.len()).filter(|&other| world.modules[other].deps.contains(&number));
            let used = others.any(|other| is_live(&harness, other));
            let elsewhere = used || harness.elsewhere.contains(&name(number));
            let there = !top.contains(&number) && elsewhere;
            harness.holds(Invariant::Progress, live || there || !wanted, || {
                format!("everything was fixed and asked for, and {} is not live", name(number))
            });
        }
        harness.verdict(Invariant::Progress)
    });
}

/// An administrator corrects all there is.
fn fix_everything(harness: &mut Harness<'_>) {
    for module in harness.tree.fake.modules.values_mut() {
        module.errno = 0;
        module.blacklisted = false;
        module.version += 1;
    }
    harness.tree.fake.paths.clear();
    harness.index_changed();
    harness.lost();
}

/// Invariant 8.
#[test]
fn ticking_at_deadlines_is_as_good_as_ticking_every_10_ms() {
    let all = Flavour { options: true, disabling: true, ..NARROW };
    let cases = prop_oneof![case(RICH, 20), case(NARROW, 20), case(all, 20)];
    prove(8, cases.prop_map(foreseeable), |case| {
        let mut by_deadlines = Harness::through(case, Clock::Deadlines);
        by_deadlines.pass(Duration::from_secs(10));
        by_deadlines.verdict(Invariant::Deadlines)?;
        let mut by_ticks = Harness::through(case, Clock::Ticks);
        by_ticks.pass(Duration::from_secs(10));
        by_deadlines.attempts.sort();
        by_ticks.attempts.sort();
        equal("attempts", &by_deadlines.attempts, &by_ticks.attempts)?;
        equal("answers", &by_deadlines.answers, &by_ticks.answers)
    });
}

/// Keeps what makes the order of two things at one instant matter out of a case.
fn foreseeable(mut case: Case) -> Case {
    let transient = |errno| matches!(errno, libc::EBUSY | libc::EEXIST | libc::EAGAIN);
    let mut any = case.world.modules.iter().any(|Module { errno, .. }| transient(*errno));
    for step in &mut case.steps {
        match step {
            Step::Answer(_, errno) => any |= transient(*errno),
            Step::Pass(ms) => *ms = (*ms).min(8_000),
            _ => {}
        }
    }
    let limits = &mut case.world.limits;
    if any {
        (limits.jobs, limits.processes) = (64, 64);
    }
    case
}
