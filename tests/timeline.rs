// SPDX-License-Identifier: MIT OR Apache-2.0
//! The timeline of a storm, who asks most and what was spared, one sentence a test, in declared worlds with a clock of
//! their own; and that all of it goes over the socket in the shape that the interface says.

use std::collections::HashMap;
use std::time::Duration;

use addonce::control::timeline;
use addonce::once::askers::{Devices, Frequent};
use addonce::once::bins::Bins;
use addonce::once::fake::FakeModules;
use addonce::once::limits::Limits;
use addonce::once::outcome::Outcome;
use addonce::once::simulation::Simulation;
use addonce::once::tally::FailedAt;
use addonce::once::timeline::{Bar, Timeline};
use proptest::prelude::*;
use serde_json::Value;

/// What most tests need.
const MODULES: &str = "cpu -> a\nslow takes 2000\nbad => ENODEV\ntop needs bad";

fn world(declaration: &str) -> Simulation {
    world_with(declaration, Limits::default())
}

fn world_with(declaration: &str, limits: Limits) -> Simulation {
    Simulation::new(FakeModules::parse(declaration).expect("a declaration"), Limits { jobs: 16, ..limits })
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// So many CPUs ask, 3 ms apart.
fn cpus(s: &mut Simulation, count: usize) {
    for cpu in 0..count {
        s.replay(&format!("/devices/system/cpu/cpu{cpu}"), "cpu");
        s.pass(ms(3));
    }
}

fn storm(s: &Simulation) -> Timeline<'_> {
    s.core.storm(s.now()).expect("somebody has asked")
}

fn bar<'a>(timeline: &Timeline<'a>, module: &str) -> Bar<'a> {
    *timeline.bars.iter().find(|bar| &**bar.module == module).expect("a bar")
}

#[test]
fn before_anybody_asks_there_is_no_storm() {
    assert!(world(MODULES).core.storm(ms(1)).is_none());
}

#[test]
fn a_storm_ends_after_five_quiet_seconds() {
    let mut s = world(MODULES);
    s.pass(ms(700));
    cpus(&mut s, 64);
    let lasted = ms(63 * 3);
    s.pass(ms(4996));
    assert!(!storm(&s).over);
    s.pass(ms(1));
    let storm = storm(&s);
    assert!(storm.over);
    assert_eq!((storm.began, storm.lasted, storm.bins.total()), (ms(700), lasted, 64));
}

#[test]
fn a_storm_is_not_over_while_something_of_it_is_in_the_air() {
    let mut s = world("cpu -> a\na takes 20000");
    cpus(&mut s, 64);
    s.pass(ms(10_000));
    assert!(!storm(&s).over);
    assert_eq!(storm(&s).lasted, s.now());
    s.pass(ms(30_000));
    assert!(storm(&s).over);
    assert_eq!(storm(&s).lasted, ms(20_000));
}

#[test]
fn requests_less_than_five_seconds_apart_are_one_storm_however_long() {
    let mut s = world(MODULES);
    for _ in 0..990 {
        s.pass(ms(4999));
        s.replay("/devices/0", "cpu");
    }
    let bins = &storm(&s).bins;
    assert!(bins.total() == 990 && bins.width() > Limits::QUIET);
    s.pass(ms(5000));
    s.replay("/devices/0", "cpu");
    assert_eq!(storm(&s).bins.total(), 990, "a pause is one even within a bin");
}

#[test]
fn what_a_landing_brings_up_belongs_to_the_storm() {
    let mut s = world("cpu -> hba\nhba takes 8000");
    cpus(&mut s, 64);
    s.pass(ms(8000));
    s.appear("/devices/disk", "cpu");
    assert_eq!(storm(&s).bins.total(), 65);
}

#[test]
fn a_hot_plug_does_not_replace_the_last_storm() {
    let mut s = world(MODULES);
    cpus(&mut s, 64);
    s.pass(ms(60_000));
    s.appear("/devices/usb", "slow");
    s.pass(ms(60_000));
    let storm = storm(&s);
    assert_eq!((storm.began, storm.bins.total(), storm.bars.len()), (ms(0), 64, 1));
}

#[test]
fn a_second_storm_replaces_the_first_with_its_sixty_fourth_request() {
    let mut s = world(MODULES);
    cpus(&mut s, 64);
    s.pass(ms(60_000));
    let second = s.now();
    cpus(&mut s, 63);
    assert_eq!(storm(&s).began, ms(0));
    cpus(&mut s, 1);
    assert_eq!(storm(&s).began, second);
}

#[test]
fn as_long_as_there_was_no_storm_the_latest_episode_is_shown() {
    let mut s = world(MODULES);
    cpus(&mut s, 3);
    s.pass(ms(60_000));
    cpus(&mut s, 2);
    assert_eq!(storm(&s).bins.total(), 2);
}

#[test]
fn a_landing_belongs_to_the_storm_in_which_its_flight_took_off() {
    let mut s = world("cpu -> a\nhung takes 30000\nusb takes 0");
    s.replay("/devices/0", "hung");
    cpus(&mut s, 64);
    s.pass(ms(10_000));
    s.appear("/devices/usb", "usb");
    s.pass(ms(1000));
    assert_eq!(bar(&storm(&s), "hung").end, None);
    s.pass(ms(60_000));
    let storm = storm(&s);
    assert_eq!(bar(&storm, "hung").end, Some(ms(30_000)));
    assert_eq!((storm.bars.len(), storm.lasted), (2, ms(30_000)));
}

#[test]
fn a_bar_goes_from_the_first_who_asked_to_the_landing() {
    let mut s = world("cpu -> top\ntop needs base\nbase takes 30\ntop takes 40\ntop => ENODEV");
    s.pass(ms(1000));
    cpus(&mut s, 2);
    s.pass(ms(14));
    let timeline = storm(&s);
    let (top, base) = (bar(&timeline, "top"), bar(&timeline, "base"));
    assert_eq!((top.outcome, top.start, top.end), (None, None, None), "it waits");
    assert_eq!((base.outcome, base.start, base.end), (None, Some(ms(1000)), None), "it loads");
    s.settle();
    let timeline = storm(&s);
    let (top, base) = (bar(&timeline, "top"), bar(&timeline, "base"));
    assert_eq!((top.took_off, top.start, top.end), (ms(1000), Some(ms(1030)), Some(ms(1070))));
    assert!(matches!(top.outcome, Some(Outcome::Failed(_))) && base.outcome == Some(&Outcome::Live));
    assert_eq!((top.asked, top.alias, top.devpath), (2, &b"cpu"[..], Some(&b"/devices/system/cpu/cpu0"[..])));
    assert_eq!((top.pulled_in_by, base.pulled_in_by.map(|name| &**name)), (None, Some("top")));
}

#[test]
fn bars_beyond_the_limit_are_counted() {
    let mut s = world_with("slow takes 100", Limits { bars: 3, ..Limits::default() });
    let names: Vec<String> = (0..5).map(|n| format!("m{n}")).collect();
    for name in &names {
        s.world.module(name).errno = 0;
        s.replay("/devices/0", name);
        s.pass(ms(1));
    }
    s.replay("/devices/0", "slow");
    let storm = storm(&s);
    assert_eq!((storm.bars.len(), storm.bars_left_out), (4, 2), "what is in the air is always shown");
}

#[test]
fn bins_double_their_width() {
    let mut bins = Bins::new();
    for n in 0..256 {
        bins.open(ms(10 * n));
        bins.count(1, n % 2);
    }
    assert_eq!((bins.width(), bins.requests()), (ms(10), &[1; 256][..]));
    assert_eq!(bins.open(ms(2560)), ms(2580));
    bins.count(7, 0);
    assert_eq!((bins.width(), bins.requests().len()), (ms(20), 129));
    assert_eq!((bins.requests()[127], bins.requests()[128], bins.duplicates()[127]), (2, 7, 1));
    bins.open(ms(3_600_000));
    assert_eq!((bins.width(), bins.requests()[0], bins.total()), (ms(20_480), 263, 263));
}

#[test]
fn duplicates_stand_in_the_bin_in_which_they_came() {
    let mut s = world("cpu -> a b");
    cpus(&mut s, 2);
    s.pass(ms(14));
    cpus(&mut s, 1);
    assert_eq!(storm(&s).bins.requests(), [2, 0, 1]);
    assert_eq!(storm(&s).bins.duplicates(), [2, 0, 2]);
}

#[test]
fn modaliases_and_directories_are_named_by_how_often_they_ask() {
    let mut s = world(MODULES);
    cpus(&mut s, 5);
    for n in 0..3 {
        s.replay(&format!("/devices/LNXSYSTM:00/ACPI0007:0{n}"), "acpi:none");
    }
    s.client(1, "a");
    let top = s.core.askers(2);
    let exactly = |who: &'static str, requests| Frequent { who: who.as_bytes(), requests, excess: 0 };
    assert_eq!(top.modaliases, [exactly("cpu", 5), exactly("acpi:none", 3)]);
    assert_eq!(
        top.devices,
        [exactly("/devices/system/cpu", 5), exactly("/devices/LNXSYSTM:00", 3)],
        "an administrator has no device"
    );
}

#[test]
fn a_modalias_that_the_memo_forgot_counts_anew() {
    let limits = Limits { memo: std::num::NonZeroUsize::MIN, ..Limits::default() };
    let mut s = world_with(MODULES, limits);
    cpus(&mut s, 5);
    s.replay("/devices/0", "slow");
    cpus(&mut s, 1);
    let top = s.core.askers(9).modaliases;
    assert_eq!(top, [Frequent { who: b"cpu", requests: 1, excess: 0 }]);
}

#[test]
fn what_failed_is_counted_by_its_stage() {
    let mut s = world(MODULES);
    s.replay("/devices/0", "top");
    s.replay("/devices/1", "bad");
    s.replay("/devices/2", "slow");
    s.settle();
    let tally = s.core.tally();
    assert_eq!(tally.failed_at, FailedAt { insert: 1, dependency: 1, ..FailedAt::default() });
    assert_eq!(tally.failed, 2);
}

#[test]
fn a_duplicate_of_a_module_that_failed_or_is_in_the_air_spares_its_file() {
    let mut s = world("cpu -> a\na => ENODEV\na weighs 1000\na takes 10");
    cpus(&mut s, 1);
    assert_eq!(s.core.tally().spared_bytes, 0, "an attempt");
    cpus(&mut s, 3);
    assert_eq!(s.core.tally().spared_bytes, 3000, "in the air until 10 ms have passed");
    s.settle();
    s.replay("/devices/system/cpu/cpu9", "cpu");
    assert_eq!((s.core.tally().duplicates_failed, s.core.tally().spared_bytes), (1, 4000));
}

#[test]
fn a_duplicate_of_a_live_module_spares_no_file() {
    let mut s = world("cpu -> a\na weighs 1000");
    cpus(&mut s, 1);
    s.settle();
    cpus(&mut s, 9);
    assert_eq!((s.core.tally().duplicates_live, s.core.tally().spared_bytes), (9, 0));
}

#[test]
fn a_duplicate_of_a_failed_dependent_spares_the_file_of_the_dependency() {
    let mut s = world("cpu -> top\ntop needs bad\nbad => ENODEV\ntop weighs 5000\nbad weighs 30");
    cpus(&mut s, 1);
    s.settle();
    s.replay("/devices/system/cpu/cpu9", "cpu");
    assert_eq!((s.core.tally().duplicates_failed, s.core.tally().spared_bytes), (1, 30));
}

/// The names of the fields of a type of the interface, in alphabetical order.
fn fields_of(what: &str) -> Vec<String> {
    let contract = include_str!("../src/control/io.addonce.varlink");
    let (_, rest) = contract.split_once(&format!("{what} (")).expect("a type or a method");
    // An enumeration may stand inside of it.
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    let mut names: Vec<String> = rest[..end.expect("its end")]
        .split_whitespace()
        .filter_map(|word| word.strip_suffix(':'))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

fn fields(value: &Value) -> Vec<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn the_json_has_the_fields_of_the_interface() {
    let mut s = world(MODULES);
    s.pass(ms(100));
    cpus(&mut s, 64);
    s.replay("/devices/0", "bad");
    s.replay("/devices/\u{fc}", "slow");
    s.pass(ms(10));
    let json = timeline::timeline(&storm(&s), s.now());
    assert_eq!(fields(&json), fields_of("type Timeline"));
    let shown = |field: &str| json[field].to_string();
    assert_eq!(["began_ms_ago", "lasted_ms", "over", "bin_ms"].map(shown), ["202", "202", "false", "10"]);
    let sum =
        |field: &str| json[field].as_array().expect("an array").iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!([sum("requests"), sum("duplicates")], [66, 63]);
    let bars = json["bars"].as_array().expect("an array");
    bars.iter().for_each(|bar| assert_eq!(fields(bar), fields_of("type Bar")));
    let about = |bar: &Value| {
        ["module", "state", "error", "asked_ms", "start_ms", "end_ms", "devpath", "asked"]
            .map(|field| bar[field].to_string())
            .join(" ")
    };
    assert_eq!(
        bars.iter().map(about).collect::<Vec<_>>(),
        [
            r#""a" "live" null 0 0 0 "/devices/system/cpu/cpu0" 1"#,
            r#""bad" "failed" "ENODEV" 192 192 192 "/devices/0" 1"#,
            r#""slow" "in_air" null 192 192 null "/devices/\\xc3\\xbc" 1"#,
        ]
    );
    let top = timeline::askers(&s.core.askers(10));
    assert_eq!(fields(&top), fields_of("method Top(limit: ?int) ->"));
    assert_eq!(fields(&top["devices"][0]), fields_of("type Asker"));
    let failed = timeline::failed(&s.core.tally().failed_at);
    assert_eq!(fields(&failed), fields_of("type Failed"));
}

proptest! {
    /// And of the duplicates, and of the bars; whatever the pauses, as long as they are no pauses.
    #[test]
    fn the_sum_of_the_bins_is_the_number_of_requests(
        steps in prop::collection::vec((prop_oneof![0..3u64, 0..40u64, 0..5000u64], 0..4usize), 1..400),
    ) {
        let mut s = world_with("x -> a b\ny -> b c\nb => ENODEV\nc takes 700", Limits { bars: 2, ..Limits::default() });
        for (n, (pause, alias)) in steps.iter().enumerate() {
            s.pass(ms(*pause));
            s.replay(&format!("/devices/{}", n % 50), ["x", "y", "c", "none"][*alias]);
        }
        let storm = storm(&s);
        let tally = s.core.tally();
        prop_assert_eq!(storm.bins.total(), steps.len() as u64);
        prop_assert_eq!(storm.bins.duplicates().iter().map(|&n| u64::from(n)).sum::<u64>(), tally.duplicates());
        prop_assert!(storm.bins.requests().len() <= Bins::MOST);
        prop_assert_eq!(storm.bins.requests().len(), storm.bins.duplicates().len());
        let until = storm.bins.width() * u32::try_from(storm.bins.requests().len()).expect("few");
        prop_assert!(s.now() - storm.began < until);
        let flights = tally.live + tally.failed + s.core.in_air() as u64;
        prop_assert_eq!(storm.bars.len() as u64 + storm.bars_left_out, flights);
    }

    /// Against a naive count of episodes.
    #[test]
    fn the_storm_that_is_shown_is_the_last_episode_of_sixty_four(
        steps in prop::collection::vec((prop_oneof![20 => 0..100u64, 1 => 4990..5010u64, 1 => 5000..9000u64], 1..9u64), 1..60),
    ) {
        let mut s = world("x -> a");
        let mut episodes: Vec<(Duration, u64)> = Vec::new();
        let mut last = None;
        for (pause, requests) in steps {
            s.pass(ms(pause));
            if last.is_none_or(|last| s.now() - last >= ms(5000)) {
                episodes.push((s.now(), 0));
            }
            last = Some(s.now());
            episodes.last_mut().expect("one").1 += requests;
            (0..requests).for_each(|_| s.replay("/devices/0", "x"));
        }
        let storm_or_latest = episodes.iter().rev().find(|(_, n)| *n >= 64).or(episodes.last());
        let storm = storm(&s);
        prop_assert_eq!(Some(&(storm.began, storm.bins.total())), storm_or_latest);
    }

    /// Space-Saving's promises, against exact counts: nothing frequent is missed, nothing counted too low, and nothing
    /// more than N/64 too high.
    #[test]
    fn a_heavy_hitter_is_never_missed(
        directories in prop::collection::vec(prop_oneof![0..8u32, 0..70u32, 0..1000u32], 0..2000),
    ) {
        let (mut devices, mut exact) = (Devices::default(), HashMap::<String, u64>::new());
        for (n, directory) in directories.iter().enumerate() {
            devices.count(format!("/devices/{directory}/{n}").as_bytes());
            *exact.entry(format!("/devices/{directory}")).or_default() += 1;
        }
        let top = devices.top(usize::MAX);
        let share = directories.len() as u64 / Devices::ENTRIES as u64;
        prop_assert!(top.len() <= Devices::ENTRIES);
        prop_assert!(top.is_sorted_by(|one, next| one.requests >= next.requests));
        for Frequent { who, requests, excess } in &top {
            let exact = exact[std::str::from_utf8(who).expect("text")];
            prop_assert!(requests - excess <= exact && exact <= *requests, "{requests} {excess} {exact}");
            prop_assert!(*excess <= share);
        }
        for (who, _) in exact.iter().filter(|(_, requests)| **requests > share) {
            prop_assert!(top.iter().any(|frequent| frequent.who == who.as_bytes()), "{who}");
        }
        if exact.len() <= Devices::ENTRIES {
            prop_assert!(top.iter().all(|frequent| frequent.excess == 0) && top.len() == exact.len());
        }
    }
}
