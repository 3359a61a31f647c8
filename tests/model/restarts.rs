// SPDX-License-Identifier: MIT OR Apache-2.0
//! A core that was saved, and restored in another process, rules as if it had gone on: the same attempts at the same times,
//! the same answers, the same failures. The same script is gone through with restarts and without.
//!
//! What a restored core knows better is kept out of the way: it looks where the other one believes.

use std::time::Duration;

use addonce::once::Failure;
use addonce::once::Mode;
use addonce::once::Name;
use addonce::once::failure::Requesters;
use proptest::prelude::*;

use super::harness::{Clock, Harness};
use super::invariants::{RICH, prove};
use super::steps::{Case, Step, case};
use super::world::Flavour;

#[test]
fn a_restored_core_rules_as_the_one_that_was_saved() {
    let cases = prop::sample::select(vec![RICH, Flavour { options: true, ..RICH }]);
    prove(8, cases.prop_flat_map(|flavour| case(flavour, 60)), |case| {
        let cases = [false, true].map(|restarts| told_of_everything(case, restarts));
        let [on, again] = [&cases[0], &cases[1]].map(|case| {
            let mut harness = Harness::through(case, Clock::Deadlines);
            harness.pass(Duration::from_secs(100));
            let mut remembered: Vec<String> = harness.core.failures().map(failure).collect();
            remembered.sort();
            harness.attempts.sort();
            (remembered, harness)
        });
        let same =
            on.0 == again.0 && (&on.1.attempts, &on.1.answers) == (&again.1.attempts, &again.1.answers);
        let told = |(remembered, harness): &(Vec<String>, Harness<'_>)| {
            format!("{remembered:#?}\n{:?}\n{:?}", harness.attempts, harness.answers)
        };
        if same { Ok(()) } else { Err(format!("going on: {}\nrestarted: {}", told(&on), told(&again))) }
    });
}

/// The script without what happens unheard, with an administrator's request after every change of an alias, and with restarts
/// or without.
fn told_of_everything(case: &Case, restarts: bool) -> Case {
    let mut case = case.clone();
    case.steps.retain(|step| match step {
        Step::UnloadUnseen(_) | Step::ByHandUnseen(_) | Step::Blacklist(_) | Step::Path => false,
        Step::Restart => restarts,
        // Of a file with another name the next process knows nothing.
        Step::Answer(_, errno) => *errno != libc::EEXIST,
        _ => true,
    });
    // That a module which is ruled out is live all the same is not looked at.
    for module in &mut case.world.modules {
        (module.blacklisted, module.unless) = (false, false);
        module.mode = if module.mode == Mode::Never { Mode::Once } else { module.mode };
        module.errno = if module.errno == libc::EEXIST { libc::EBUSY } else { module.errno };
    }
    let aliases = case.world.aliases.len();
    let looks = |step: &Step| match *step {
        Step::Alias(alias, _) => Some(Step::Client { alias: alias % aliases, device: None }),
        _ => None,
    };
    case.steps = case.steps.iter().flat_map(|step| [Some(*step), looks(step)]).flatten().collect();
    case
}

fn failure((name, failure): (&Name, &Failure)) -> String {
    let Failure { error, attempts, retry_at, requesters, pending, .. } = failure;
    let of = |requesters: &Requesters| (requesters.requests, requesters.devices());
    let (requesters, pending) = (of(requesters), pending.as_ref().map(of));
    format!("{name}: {error:?} {attempts} {retry_at:?} {requesters:?} {pending:?}")
}
