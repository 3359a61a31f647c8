// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order of the turns, and what becomes of a file that is there already.

use super::*;
use std::cell::RefCell;

fn asked(name: &str, rounds: u32) -> Asked {
    let dir = std::env::temp_dir().join(format!("addonce-lab-bench-{name}-{}", std::process::id()));
    let addonce = dir.join("addonce");
    tools::write(&addonce, "an addonce").expect("written");
    let (cpus, out) = (vec![8, 64], dir.join("out.json"));
    Asked { rounds, cpus, addonce, deb: None, release: None, out, seconds: None }
}

fn result(way: &str, cpus: u32) -> LabResult {
    LabResult { scenario: way.into(), cpus, round: 1, order: vec!["usbcore".into()], ..LabResult::default() }
}

#[test]
fn with_another_release_stock_and_addonce_have_their_turns() {
    let asked = Asked { release: Some("trixie".into()), ..asked("release", 1) };
    let ways: Vec<_> = turns(&asked, &Measured::default()).iter().map(|turn| (turn.cpus, turn.way)).collect();
    let three = |cpus| ["stock", "service", "program"].map(|way| (cpus, way));
    assert_eq!(ways, [three(8), three(64)].concat());
}

#[test]
fn each_way_has_its_turn_before_any_has_its_next() {
    let asked = asked("turns", 2);
    let mut measured = Measured::default();
    let all = turns(&asked, &measured);
    assert_eq!(all.len(), 2 * 2 * WAYS.len());
    assert!(all[..2 * WAYS.len()].iter().all(|turn| turn.round == 1));
    let ways = |turns: &[Turn]| turns.iter().map(|turn| turn.way).collect::<Vec<_>>();
    assert_eq!(ways(&all[..WAYS.len()]), WAYS);
    assert_eq!(
        ways(&all[2 * WAYS.len()..][..WAYS.len()]),
        [&WAYS[1..], &WAYS[..1]].concat(),
        "another one is first"
    );
    measured.results = vec![result("stock", 8)];
    assert_eq!(turns(&asked, &measured)[0], Turn { round: 1, cpus: 8, way: "service" });
    let at_eight = |turn: &&Turn| (turn.way, turn.cpus) == ("stock", 8);
    assert_eq!(turns(&asked, &measured).iter().filter(at_eight).count(), 1);
}

#[test]
fn with_a_package_a_round_ends_with_the_boots() {
    let asked = Asked { deb: Some("addonce.deb".into()), ..asked("boots", 2) };
    let mut measured = Measured::default();
    let all = turns(&asked, &measured);
    let boots = |turns: &[Turn]| {
        let boots = turns.iter().filter(|turn| turn.boots());
        boots.map(|turn| (turn.way, turn.cpus, turn.round)).collect::<Vec<_>>()
    };
    let [stock, package] = BOOTS;
    let first = boots::CPUS.map(|cpus| [(stock, cpus, 1), (package, cpus, 1)]).concat();
    let second = [8, 64].map(|cpus| [(package, cpus, 2), (stock, cpus, 2)]).concat();
    assert_eq!(boots(&all), [first.clone(), second].concat(), "with 255 CPUs once");
    assert_eq!(boots(&all[2 * WAYS.len()..][..6]), first);
    measured.results = vec![result("boot-stock", boots::CPUS[0])];
    assert_eq!(boots(&turns(&asked, &measured))[0], ("boot-service", boots::CPUS[0], 1));
}

#[test]
fn a_file_may_get_its_boots_later_but_never_those_of_another_package() {
    let with = |deb: Option<&str>| Measured { deb: deb.map(Into::into), ..Measured::default() };
    assert!(with(None).goes_with(&with(Some("a"))) && with(Some("a")).goes_with(&with(None)));
    assert!(with(Some("a")).goes_with(&with(Some("a"))));
    assert!(!with(Some("a")).goes_with(&with(Some("b"))));
    assert!(!with(None).goes_with(&Measured { addonce: "another".into(), ..with(None) }));
    assert!(!with(None).goes_with(&Measured { release: Some("trixie".into()), ..with(None) }));
}

#[test]
fn what_is_left_is_judged_by_what_was_done() {
    let turn = |way, cpus| Turn { round: 1, cpus, way };
    let took = [(turn("stock", 8), Duration::from_secs(10)), (turn("scan", 8), Duration::from_secs(20))];
    let left = |turns: &[Turn]| left(turns, &took).as_secs();
    assert_eq!(left(&[turn("stock", 8)]), 10);
    assert_eq!(left(&[turn("floor", 8), turn("scan", 8)]), 15 + 20);
    assert!(left(&[turn("stock", 255)]) > left(&[turn("stock", 64)]));
    assert!(left(&[turn("boot-stock", 8)]) > 100, "a boot is no storm");
}

/// Guests without QEMU: all succeed but this one. The file is written for real.
fn ran(asked: &Asked, fails: &str) -> (Result<(), String>, Vec<String>) {
    let seen = RefCell::new(Vec::new());
    let measure = |run: &Run, scenario: Scenario| {
        seen.borrow_mut().push(format!("{}-{}", run.scenario, run.cpus));
        assert!(!scenario.needs_order || scenario.order == ["usbcore"], "the floor comes after stock");
        if run.scenario == fails { Err("the guest died".into()) } else { Ok(result(&run.scenario, run.cpus)) }
    };
    let write = |path: &Path, measured: &Measured| {
        tools::write(path, serde_json::to_string(measured).map_err(|e| e.to_string())?)
    };
    let end = run(asked, measure, write);
    (end, seen.into_inner())
}

#[test]
fn a_guest_that_fails_keeps_nobody_from_their_turn_and_is_made_up_for_the_next_time() {
    if tools::find("qemu-system-x86_64").is_err() {
        return;
    }
    let asked = asked("resumed", 1);
    let (end, seen) = ran(&asked, "scan");
    assert!(end.unwrap_err().contains("scan at 64 CPUs, round 1"));
    assert_eq!(seen.len(), 2 * WAYS.len());
    let (end, seen) = ran(&asked, "");
    assert_eq!((end, seen), (Ok(()), vec!["scan-8".to_string(), "scan-64".into()]));
    assert_eq!(read(&asked.out).unwrap().results.len(), 2 * WAYS.len());
    let deb = asked.out.with_file_name("addonce.deb");
    tools::write(&deb, "a package").expect("written");
    let asked = Asked { deb: Some(deb.clone()), ..asked };
    let (end, seen) = ran(&asked, "");
    let boots = boots::CPUS.map(|cpus| BOOTS.map(|way| format!("{way}-{cpus}"))).concat();
    assert_eq!((end, seen), (Ok(()), boots));
    tools::write(&deb, "another package").expect("written");
    assert!(ran(&asked, "").0.unwrap_err().contains("another addonce, package"));
    let asked = Asked { deb: None, ..asked };
    assert_eq!(ran(&asked, ""), (Ok(()), vec![]), "what was booted is no hindrance to who boots nothing");
    tools::write(&asked.addonce, "another addonce").expect("written");
    assert!(ran(&asked, "").0.unwrap_err().contains("another addonce"));
    std::fs::remove_dir_all(asked.out.parent().expect("a directory")).expect("removed");
}

#[test]
fn a_run_of_addonce_that_loads_less_than_stock_is_not_taken() {
    let turn = |way| Turn { round: 1, cpus: 8, way };
    let live = |way| LabResult { live: vec!["evdev".into()], ..result(way, 8) };
    let stock = Measured { results: vec![live("stock")], ..Measured::default() };
    assert_eq!(checked(live("service"), &turn("service"), &stock), Ok(live("service")));
    let less = checked(result("service", 8), &turn("service"), &stock);
    assert!(less.unwrap_err().contains("not live, but live with stock: evdev"));
    assert!(checked(live("service"), &turn("service"), &Measured::default()).is_err());
    assert!(checked(result("oneliner", 8), &turn("oneliner"), &stock).is_ok(), "nobody says that of others");
}
