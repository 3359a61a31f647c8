// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verdicts over traces made by hand.

use super::*;
use crate::cases::Fact;
use crate::trace::Mark;

/// A trace from words: "CASE/PHASE" is a mark, "+MODULE" a call by addonce, "MODULE" one by modprobe; each takes a
/// tenth of a second.
fn trace(words: &str) -> Trace {
    let mut trace = Trace::default();
    for (index, word) in words.split_whitespace().chain(["end/end"]).enumerate() {
        let at = index as f64 / 10.0;
        match word.split_once('/') {
            Some((case, phase)) => {
                let (text, calls) = (format!("{case} {phase}"), trace.calls.len());
                trace.marks.push(Mark { text, at, calls });
            }
            None => {
                let caller = if word.starts_with('+') { word } else { "modprobe" }.into();
                let module = format!("addonce_{}", word.trim_start_matches('+'));
                trace.calls.push(Call { module, caller, errno: Some(19), called: at, returned: Some(at) });
            }
        }
    }
    trace
}

/// A module that is attempted twice in vain and fixed.
fn case() -> Case {
    Case {
        name: "a",
        title: "the case",
        attempts: vec![("a".into(), vec![1, 1, 1])],
        live: vec!["a".into()],
        ..Case::default()
    }
}

fn judged(case: Case, words: &str, observed: &str) -> Row {
    compare(&[case], &trace(words), observed).unwrap().remove(0)
}

const WELL: &str = "a/ask +a a/again +a a/fix +a";
const LIVE: &str = "a live addonce_bus addonce_a\na failed\n";

#[test]
fn a_case_that_went_as_expected_has_no_faults() {
    let row = judged(case(), WELL, LIVE);
    assert_eq!((row.expected.as_slice(), row.seen.as_slice()), (&[1, 1, 1][..], &[1, 1, 1][..]));
    assert_eq!((row.live, row.faults), (Some(true), vec![]));
}

#[test]
fn too_many_and_too_few_attempts_are_faults_of_their_phase() {
    let row = judged(case(), "a/ask +a +a a/again a/fix +a", LIVE);
    assert_eq!(row.faults, ["ask: a 2 times, not 1", "again: a 0 times, not 1"]);
    assert_eq!(row.seen, [2, 0, 1]);
}

#[test]
fn attempts_at_two_modules_do_not_make_up_for_each_other() {
    let mut case = case();
    case.attempts = vec![("a".into(), vec![1]), ("b".into(), vec![1])];
    let row = judged(case, "a/ask +a +a", LIVE);
    assert_eq!(row.expected, row.seen);
    assert_eq!(row.faults, ["ask: a 2 times, not 1", "ask: b 0 times, not 1"]);
}

#[test]
fn a_phase_that_was_left_out_is_a_fault() {
    let row = judged(case(), "a/ask +a a/again +a", LIVE);
    assert_eq!(row.faults, ["not performed: fix", "fix: a 0 times, not 1"]);
    assert_eq!(row.expected, [1, 1, 1]);
}

#[test]
fn what_nobody_expects_is_a_fault_whoever_inserted_it() {
    assert_eq!(judged(case(), &format!("{WELL} +b"), LIVE).faults, ["addonce_b was inserted by addonce"]);
    let by_hand = judged(case(), &format!("a/before b {WELL}"), LIVE);
    assert_eq!(by_hand.faults, ["inserted by others: [\"b\"], not []"]);
    let expected = Case { by_hand: vec!["b"], ..case() };
    assert!(judged(expected, &format!("a/before b {WELL}"), LIVE).faults.is_empty());
}

#[test]
fn addonce_does_not_count_for_what_is_done_by_hand() {
    assert_eq!(judged(case(), "a/ask +a a/again +a a/fix a", LIVE).faults[0], "fix: a 0 times, not 1");
}

#[test]
fn not_live_and_still_remembered_are_faults() {
    let row = judged(case(), WELL, "a live addonce_bus\na failed addonce_b addonce_a\n");
    assert_eq!(row.live, Some(false));
    assert_eq!(row.faults, ["not live: [\"a\"]", "a is still remembered as failed"]);
    let idle = Case { live: vec![], idle: vec!["a"], ..case() };
    assert_eq!(judged(idle, WELL, LIVE).faults, ["a is live"]);
}

#[test]
fn the_order_is_that_of_the_attempts() {
    let case = |ordered| Case {
        attempts: vec![("a".into(), vec![1]), ("b".into(), vec![1])],
        live: vec![],
        ordered,
        ..case()
    };
    assert_eq!(judged(case(true), "a/ask +a +b", "").notes, ["in this order"]);
    assert_eq!(judged(case(true), "a/ask +b +a", "").faults.len(), 1);
    assert!(judged(case(false), "a/ask +b +a", "").faults.is_empty());
}

#[test]
fn together_are_calls_of_which_the_last_begins_before_the_first_returns() {
    let together = || Case { attempts: vec![("a".into(), vec![2])], together: true, ..case() };
    assert_eq!(
        judged(together(), "a/ask +a +a", LIVE).faults,
        ["the last began 0.10 s after the first returned"]
    );
    let mut trace = trace("a/ask +a +a");
    (trace.calls[0].returned, trace.calls[1].returned) = (Some(0.5), Some(0.6));
    let row = compare(&[together()], &trace, LIVE).unwrap().remove(0);
    assert_eq!((row.notes, row.faults), (vec!["all at a time".into()], vec![]));
    let none = Case { attempts: vec![("a".into(), vec![0])], live: vec![], ..together() };
    assert_eq!(judged(none, "a/ask", "").faults.len(), 1, "nothing returned");
}

#[test]
fn a_fact_holds_only_if_it_was_observed_once_and_so() {
    let case = || {
        let facts = vec![Fact { name: "said", value: "once more", means: "said" }];
        Case { facts, ..case() }
    };
    assert_eq!(judged(case(), WELL, &format!("{LIVE}a said once  more\n")).notes, ["said"]);
    for other in ["", "a said twice\n", "a said once more\na said twice\n"] {
        assert_eq!(judged(case(), WELL, &format!("{LIVE}{other}")).faults.len(), 1, "{other}");
    }
}

#[test]
fn a_case_nobody_knows_and_a_call_outside_of_all_are_errors() {
    let error = |words| compare(&[case()], &trace(words), LIVE).unwrap_err();
    assert!(error("b/ask +b").contains("'b'"));
    assert!(error("+b a/ask +a").contains("addonce_b"));
    assert!(error("a/later +a").contains("a later"));
    let mut open = trace(WELL);
    open.marks.pop();
    assert!(compare(&[case()], &open, LIVE).is_err());
    assert!(compare(&[case()], &Trace::default(), LIVE).is_err());
}

#[test]
fn the_table_shows_expected_and_seen_side_by_side() {
    let rows = [judged(case(), "a/ask +a +a a/again a/fix +a", LIVE)];
    let text = render(&rows);
    assert_eq!(text.lines().map(str::len).collect::<BTreeSet<_>>().len(), 1);
    let row = text.lines().nth(2).unwrap();
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    assert_eq!(cells, ["", "the case", "1 + 1 + 1", "2 + 0 + 1", "yes", "NO", "", ""]);
    assert_eq!(faults(&rows)[0], "a: ask: a 2 times, not 1");
}
