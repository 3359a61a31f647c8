// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of the scheduler, one sentence a test, in declared worlds with a clock of their own.

#[path = "common/fake.rs"]
mod fake;
#[path = "common/simulated.rs"]
mod simulated;

use std::sync::Arc;
use std::time::Duration;

use addonce::once::Limits;
use addonce::once::Status;
use addonce::once::{Backoff, Mode, Policy};
use addonce::once::{Origin, Request};
use addonce::once::{Outcome, Stage};
use fake::{FakeModules, Simulation};
use simulated::{ByHand, Simulated};

fn world(declaration: &str) -> Simulation {
    world_with(declaration, Limits { jobs: 8, ..Limits::default() })
}

fn world_with(declaration: &str, limits: Limits) -> Simulation {
    Simulation::new(FakeModules::parse(declaration).expect("a declaration"), limits)
}

fn cpus(simulation: &mut Simulation, count: usize) {
    for cpu in 0..count {
        simulation.replay(&format!("/devices/system/cpu/cpu{cpu}"), "cpu:type:x");
        simulation.pass(Duration::from_millis(3));
    }
}

const FAILING: &str = "cpu:* -> pcc_cpufreq\npcc_cpufreq => ENODEV\npcc_cpufreq takes 5";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_storm_of_255_cpus_is_one_attempt() {
    let mut s = world(FAILING);
    cpus(&mut s, 255);
    s.pass(seconds(120));
    assert_eq!(s.attempts_of("pcc_cpufreq"), 1);
    assert_eq!(s.published.len(), 1);
    let stats = s.core.stats();
    assert_eq!((stats.requests, stats.duplicates()), (255, 254));
}

#[test]
fn a_storm_is_one_attempt_however_slow() {
    let mut s = world(FAILING);
    for cpu in 0..60 {
        s.replay(&format!("/devices/system/cpu/cpu{cpu}"), "cpu:type:x");
        s.pass(seconds(30));
    }
    assert_eq!(s.attempts_of("pcc_cpufreq"), 1);
}

#[test]
fn a_second_trigger_is_one_more_attempt() {
    let mut s = world(FAILING);
    for trigger in 1..=3 {
        cpus(&mut s, 255);
        s.pass(seconds(120));
        assert_eq!(s.attempts_of("pcc_cpufreq"), trigger);
    }
}

#[test]
fn a_trigger_within_the_backoff_is_one_attempt_at_its_end() {
    let mut s = world(FAILING);
    cpus(&mut s, 4);
    cpus(&mut s, 4);
    assert_eq!(s.attempts_of("pcc_cpufreq"), 1);
    s.pass(seconds(1));
    assert_eq!(s.attempts_of("pcc_cpufreq"), 2);
    s.pass(seconds(300));
    assert_eq!(s.attempts_of("pcc_cpufreq"), 2, "nobody asked again");
}

#[test]
fn a_scan_and_the_trigger_after_it_are_one_attempt() {
    let mut s = world(FAILING);
    for cpu in 0..64 {
        let devpath = format!("/devices/system/cpu/cpu{cpu}");
        s.request(b"cpu:type:x", Origin::Scan { devpath: devpath.as_bytes() });
        s.pass(Duration::from_millis(3));
    }
    cpus(&mut s, 64);
    s.pass(seconds(120));
    assert_eq!(s.attempts_of("pcc_cpufreq"), 1);
}

#[test]
fn hardware_that_appears_is_a_new_attempt_when_the_backoff_ends() {
    let mut s = world(FAILING);
    cpus(&mut s, 4);
    s.appear("/devices/system/cpu/cpu99", "cpu:type:x");
    assert_eq!(s.attempts_of("pcc_cpufreq"), 1);
    s.pass(seconds(2));
    assert_eq!(s.attempts_of("pcc_cpufreq"), 2);
}

#[test]
fn a_changed_cause_is_seen_by_the_next_who_asks() {
    let mut s = world(FAILING);
    cpus(&mut s, 4);
    s.world.module("pcc_cpufreq").version += 1;
    s.world.module("pcc_cpufreq").errno = 0;
    s.replay("/devices/system/cpu/cpu5", "cpu:type:x");
    s.settle();
    assert_eq!(s.attempts_of("pcc_cpufreq"), 2);
    assert_eq!(s.published[1].outcome, Outcome::Live);
}

#[test]
fn a_cause_that_changes_while_its_load_runs_is_seen_by_all_who_wait() {
    let mut s = world(FAILING);
    s.ask(Request { alias: b"pcc_cpufreq", origin: Origin::Admin, client: Some(1) });
    s.world.module("pcc_cpufreq").version += 1;
    s.pass(Duration::from_millis(5));
    s.world.module("pcc_cpufreq").errno = 0;
    s.settle();
    assert_eq!((s.attempts_of("pcc_cpufreq"), s.published.len()), (2, 1));
    assert_eq!(s.answers[0].1[0].1, Status::Live);
}

#[test]
fn an_event_that_is_heard_twice_is_one_request() {
    let mut s = world(FAILING);
    for synthetic in [true, false] {
        for seqnum in 1..=2 {
            for _ in 0..2 {
                let origin = Origin::Uevent { devpath: b"/devices/0", seqnum, synthetic };
                s.request(b"cpu:type:x", origin);
                s.pass(seconds(100));
            }
        }
    }
    assert_eq!(s.attempts_of("pcc_cpufreq"), 4, "one for each event, whether somebody asked for it or not");
    let (_, failure) = s.core.failures().next().expect("a failure");
    assert_eq!(failure.asked(), (1, 1));
}

#[test]
fn an_administrator_is_never_held_up() {
    let mut s = world(FAILING);
    cpus(&mut s, 4);
    for client in 1..=5 {
        s.client(client, "pcc_cpufreq");
        s.pass(Duration::from_millis(10));
    }
    assert_eq!(s.attempts_of("pcc_cpufreq"), 6);
    assert_eq!(s.answers.len(), 5);
}

#[test]
fn after_an_administrators_attempt_in_vain_the_next_trigger_is_one_more() {
    let mut s = world(FAILING);
    cpus(&mut s, 64);
    s.client(1, "pcc_cpufreq");
    s.pass(seconds(100));
    assert_eq!(s.attempts_of("pcc_cpufreq"), 2);
    cpus(&mut s, 64);
    s.pass(seconds(100));
    assert_eq!(s.attempts_of("pcc_cpufreq"), 3);
}

#[test]
fn a_failure_knows_how_many_asked() {
    let mut s = world("cpu:* -> a\na needs b\nb => ENODEV");
    for _ in 0..2 {
        cpus(&mut s, 64);
        s.pass(seconds(100));
    }
    for (name, failure) in s.core.failures() {
        assert_eq!((failure.requesters.requests, failure.requesters.devices()), (64, 64), "{name}");
    }
}

/// 50 devices that asked four times were "39 attempts, 193 of them after a backoff".
#[test]
fn the_counts_add_up() {
    let mut s = world(FAILING);
    (0..4).for_each(|_| cpus(&mut s, 50));
    s.pass(seconds(120));
    s.client(1, "pcc_cpufreq");
    s.pass(seconds(120));
    let stats = s.core.stats();
    assert_eq!((stats.requests, stats.by_hand, stats.no_module), (201, 1, 0));
    assert_eq!((stats.loads, stats.retries, stats.attempts), (3, 1, 3), "one of the three after a backoff");
    assert_eq!((stats.live, stats.failed), (0, 3));
}

#[test]
fn an_unload_ends_a_conflict() {
    let mut s = world("cpu:* -> acpi_cpufreq\nacpi_cpufreq => ENODEV\nintel_pstate is live");
    cpus(&mut s, 4);
    s.unloaded("intel_pstate");
    s.world.module("acpi_cpufreq").errno = 0;
    s.replay("/devices/system/cpu/cpu7", "cpu:type:x");
    s.settle();
    assert_eq!(s.attempts_of("acpi_cpufreq"), 2);
}

#[test]
fn an_unload_does_not_excuse_a_missing_symbol() {
    let mut s = world("cpu:* -> nfit\nnfit => ENOENT\nkvm is live");
    cpus(&mut s, 4);
    s.unloaded("kvm");
    s.replay("/devices/system/cpu/cpu7", "cpu:type:x");
    s.settle();
    assert_eq!(s.attempts_of("nfit"), 1);
}

#[test]
fn a_module_loaded_by_hand_is_found_live_and_its_failure_forgotten() {
    let mut s = world("cpu:* -> a\na needs b\nb => ENODEV");
    cpus(&mut s, 4);
    assert_eq!(s.core.failures().count(), 2, "the dependency and its dependent");
    s.loaded_by_hand("b");
    assert_eq!(s.core.failures().count(), 0);
    s.replay("/devices/system/cpu/cpu9", "cpu:type:x");
    s.settle();
    assert_eq!((s.attempts_of("a"), s.attempts_of("b")), (1, 1));
}

#[test]
fn a_failed_dependency_is_tried_once_and_named() {
    let mut s =
        world("cpu:* -> skx_edac i10nm_edac\nskx_edac needs nfit\ni10nm_edac needs nfit\nnfit => ENOENT");
    cpus(&mut s, 64);
    s.pass(seconds(100));
    assert_eq!(s.attempts.len(), 1);
    let failed: Vec<_> = s.published.iter().map(|record| (&*record.module, record.outcome.clone())).collect();
    assert_eq!(failed.len(), 3);
    for (module, outcome) in &failed[1..] {
        let Outcome::Failed(error) = outcome else { panic!("{module} cannot be live") };
        assert_eq!(error.stage, Stage::Dependency("nfit".into()));
        assert_eq!(error.errno, libc::ENOENT);
    }
    cpus(&mut s, 64);
    s.pass(seconds(100));
    assert_eq!(s.attempts_of("nfit"), 2, "a second trigger, through its dependents, is one more attempt");
}

#[test]
fn a_failed_dependency_fails_its_dependents_at_once_whatever_else_they_wait_for() {
    let mut s = world("a needs b c\nb => ENODEV\nb takes 10\nc takes 1000");
    s.client(1, "a");
    s.pass(Duration::from_millis(10));
    assert_eq!(s.answers.len(), 1);
}

#[test]
fn who_asks_for_a_module_while_it_waits_for_another_has_asked_for_that_one() {
    let mut s = world("x:a -> a\nx:b -> b\na needs b\nb => ENODEV\nb takes 10");
    s.replay("/devices/1", "x:a");
    s.pass(Duration::from_millis(5));
    s.replay("/devices/2", "x:a");
    s.pass(seconds(2));
    s.replay("/devices/2", "x:b");
    s.settle();
    assert_eq!(s.attempts_of("b"), 2, "it asks again");
}

#[test]
fn who_fails_for_a_dependency_that_is_to_be_attempted_again_is_so_with_it() {
    let mut s = world("x:a -> a\nx:c -> c\na needs b\nc needs b\nb => ENODEV");
    for (device, alias) in [("/devices/0", "x:a"), ("/devices/0", "x:a"), ("/devices/1", "x:c")] {
        s.appear(device, alias);
        s.pass(Duration::from_millis(10));
    }
    s.world.module("b").errno = 0;
    s.pass(seconds(2));
    assert!(s.world.live.contains("a") && s.world.live.contains("c"));
}

#[test]
fn a_retry_that_a_dependent_was_promised_is_made() {
    let mut s = world("cpu:* -> a\na needs b\nb => ENODEV\nb takes 5");
    cpus(&mut s, 2);
    s.world.module("b").errno = 0;
    cpus(&mut s, 2);
    assert_eq!(s.attempts.len(), 1);
    s.pass(seconds(2));
    let attempted: Vec<&str> = s.attempts.iter().map(|(_, name)| &**name).collect();
    assert_eq!(attempted, ["b", "b", "a"]);
    assert!(s.world.live.contains("a"));
}

#[test]
fn a_retry_that_a_dependent_was_promised_is_made_also_where_its_dependencys_was_promised_before() {
    let mut s = world("y:* -> b\ncpu:* -> a\na needs b\nb => ENODEV");
    s.appear("/devices/1", "cpu:a");
    s.pass(Duration::from_millis(10));
    s.appear("/devices/0", "y:b");
    s.appear("/devices/1", "cpu:a");
    s.world.module("b").errno = 0;
    s.pass(seconds(2));
    assert!(s.world.live.contains("b") && s.world.live.contains("a"));
}

#[test]
fn what_is_accepted_is_attempted_with_all_that_it_needs_when_the_backoff_ends() {
    let mut s = world("a needs b c\nb => ENODEV\nc => ENODEV");
    s.replay("/devices/0", "a");
    s.pass(Duration::from_millis(500));
    s.replay("/devices/0", "a");
    s.world.module("b").errno = 0;
    s.pass(seconds(5));
    assert_eq!(s.attempts_of("c"), 2);

    let mut s = world("a needs b c\nb => ENODEV\nc => ENODEV");
    for (device, alias) in
        [("/devices/0", "c"), ("/devices/0", "b"), ("/devices/0", "b"), ("/devices/1", "a")]
    {
        s.appear(device, alias);
        s.pass(Duration::from_millis(10));
    }
    s.world.module("b").errno = 0;
    s.pass(seconds(5));
    assert_eq!(s.attempts_of("c"), 2, "hardware appeared that needs both");
}

#[test]
fn twenty_modules_share_one_load_of_their_dependency() {
    let mut declaration = String::from("base takes 20\n");
    for n in 0..20 {
        declaration += &format!("dev:{n} -> m{n}\nm{n} needs base\n");
    }
    let mut s = world(&declaration);
    (0..20).for_each(|n| s.replay(&format!("/devices/{n}"), &format!("dev:{n}")));
    s.settle();
    assert_eq!(s.attempts_of("base"), 1);
    assert_eq!(s.world.live.len(), 21);
}

#[test]
fn two_hundred_clients_share_one_load_and_one_answer() {
    let mut s = world("slow takes 3000");
    for client in 0..200 {
        s.client(client, "slow");
        s.pass(Duration::from_millis(1));
    }
    s.settle();
    assert_eq!(s.attempts.len(), 1);
    assert_eq!(s.answers.len(), 200);
    assert!(s.answers.iter().all(|(_, answers)| *answers == [("slow".into(), Status::Live)]));
}

#[test]
fn a_client_that_asks_within_the_backoff_does_not_hang() {
    let mut s = world(FAILING);
    cpus(&mut s, 1);
    s.settle();
    let origin = Origin::Uevent { devpath: b"/devices/system/cpu/cpu0", seqnum: 0, synthetic: true };
    s.ask(Request { alias: b"cpu:type:x", origin, client: Some(7) });
    let (7, answers) = &s.answers[0] else { panic!("client 7 is answered") };
    let Status::Failed { error, retry_at: Some(again) } = &answers[0].1 else { panic!("with the failure") };
    assert_eq!(error.errno, libc::ENODEV);
    assert!(*again > s.now);
}

#[test]
fn independent_modules_load_in_parallel() {
    let mut s = world("takes takes 0\n");
    for n in 0..8 {
        s.world.module(&format!("m{n}")).takes = seconds(1);
        s.client(n, &format!("m{n}"));
    }
    assert_eq!(s.running.len(), 8);
    s.settle();
    assert!(s.now < seconds(2));
}

#[test]
fn the_modules_of_one_modalias_are_tried_in_order() {
    let mut s = world("pci:* -> ata_piix ata_generic\nata_piix takes 100");
    s.appear("/devices/pci0", "pci:v8086");
    assert_eq!(s.running.iter().map(|(_, plan)| &*plan.module).collect::<Vec<_>>(), ["ata_piix"]);
    s.settle();
    assert_eq!(s.attempts[1], (Duration::from_millis(100), "ata_generic".into()));
}

#[test]
fn a_load_that_hangs_delays_nobody_for_longer_than_five_seconds() {
    let limits = Limits { jobs: 1, ..Limits::default() };
    let mut s = world_with("pci:* -> hangs next\nhangs takes 60000\nusb:* -> other", limits);
    s.appear("/devices/pci0", "pci:v8086");
    s.appear("/devices/usb1", "usb:v1");
    s.pass(seconds(6));
    assert_eq!(s.attempts.len(), 3);
    assert!(!s.core.is_settled(), "the load that hangs is still running");
    assert!(s.world.live.contains("next") && s.world.live.contains("other"));
}

#[test]
fn a_fallback_does_not_overtake_a_driver_that_waits_for_what_it_needs() {
    for relation in ["needs", "pre"] {
        let mut s = world(&format!("pci:* -> first fallback\nfirst {relation} slow\nslow takes 60000"));
        s.appear("/devices/pci0", "pci:v8086");
        s.pass(seconds(59));
        assert_eq!(s.attempts.len(), 1, "{relation}");
        s.pass(seconds(2));
        let attempted: Vec<&str> = s.attempts.iter().map(|(_, name)| &**name).collect();
        assert_eq!(attempted, ["slow", "first", "fallback"]);
    }
}

#[test]
fn a_fallback_waits_for_three_minutes_and_no_longer() {
    let mut s = world("pci:* -> first fallback\nfirst needs hangs\nhangs takes 9000000");
    s.appear("/devices/pci0", "pci:v8086");
    s.pass(seconds(179));
    assert_eq!(s.attempts_of("fallback"), 0);
    s.pass(seconds(1));
    assert_eq!(s.attempts_of("fallback"), 1);
}

#[test]
fn a_load_that_hangs_is_a_load_still_after_three_minutes() {
    let mut s = world("a needs b\nb takes 9000000\nc takes 0");
    s.client(1, "a");
    s.pass(seconds(179));
    assert_eq!(s.core.next_deadline(s.now), Some(seconds(180)));
    s.pass(seconds(1));
    assert!(!s.core.is_settled());
    let loads: Vec<_> = s.core.loads().map(|load| (&**load.module, load.since, load.running)).collect();
    assert_eq!(loads, [("a", Duration::ZERO, None), ("b", Duration::ZERO, Some(Duration::ZERO))]);
    assert_eq!(s.core.next_deadline(s.now), None);
}

#[test]
fn a_module_whose_file_has_another_name_is_no_failure_of_it_nor_of_those_that_need_it() {
    let mut s = world("pci:* -> drm_current\ndrm_current needs current\ncurrent holds foo\nfoo is live");
    s.appear("/devices/pci0", "pci:v10de");
    s.client(1, "current");
    s.settle();
    let attempted: Vec<&str> = s.attempts.iter().map(|(_, name)| &**name).collect();
    assert_eq!(attempted[0], "current");
    assert!(s.world.live.contains("drm_current"));
    assert_eq!(s.core.failures().count(), 0);
    assert_eq!(s.answers[0].1, [("current".into(), Status::Live)]);
    assert!(s.published.iter().all(|record| record.outcome == Outcome::Live));
}

#[test]
fn a_module_of_another_name_than_its_files_is_loaded_again_after_it_was_unloaded() {
    let mut s = world("pci:* -> current\ncurrent holds foo");
    for attempt in 1..=2 {
        s.replay("/devices/pci0", "pci:v10de");
        s.settle();
        assert!(s.attempts_of("current") == attempt && s.world.live.contains("foo"));
        s.unloaded("foo");
    }
}

#[test]
fn a_storm_of_a_file_with_another_name_is_one_attempt() {
    let mut s = world("cpu:* -> current\ncurrent => EEXIST\ncurrent takes 1");
    cpus(&mut s, 255);
    s.pass(seconds(100));
    assert_eq!((s.attempts_of("current"), s.core.stats().duplicates_live), (1, 254));
    s.unloaded("other");
    s.replay("/devices/system/cpu/cpu999", "cpu:type:x");
    s.settle();
    assert_eq!(s.attempts_of("current"), 2, "an unload may have been its own");
}

#[test]
fn a_shortage_is_tried_again_without_anybody_asking() {
    for relation in ["", "\na needs b"] {
        let mut s = world(&format!("cpu:* -> a\nb takes 0{relation}"));
        let short = if relation.is_empty() { "a" } else { "b" };
        s.world.module(short).errno = libc::ENOMEM;
        cpus(&mut s, 4);
        s.pass(seconds(5));
        assert_eq!(s.attempts_of(short), 9, "three tries, after 1 s and after 2 s again");
        assert!(s.core.is_settled(), "nobody waits for that");
        s.world.module(short).errno = 0;
        s.pass(seconds(10));
        assert!(s.world.live.contains("a"));
    }
}

#[test]
fn a_shortage_is_not_tried_again_without_a_pause_whatever_hwdb_says() {
    let mut s = world("a => ENOMEM");
    let backoff = Backoff { min: Duration::ZERO, max: Duration::ZERO };
    s.world.module("a").policy = Arc::new(Policy { backoff, ..Policy::default() });
    s.client(1, "a");
    s.pass(seconds(10));
    assert!((10..=33).contains(&s.attempts.len()), "{:?}", s.attempts);
}

#[test]
fn what_is_live_is_live_whatever_its_load_came_to() {
    let mut s = world("x:* -> a\na => ENOENT\na takes 10");
    s.replay("/devices/x", "x:y");
    s.world.live.insert("a".into());
    s.settle();
    assert_eq!((s.core.failures().count(), &s.published[0].outcome), (0, &Outcome::Live));
}

#[test]
fn a_module_that_somebody_else_loads_is_waited_for() {
    let mut s = world("x:* -> a\na needs b");
    s.world.coming.insert("b".into());
    s.replay("/devices/x", "x:y");
    s.client(1, "b");
    s.pass(seconds(20));
    assert_eq!((s.attempts.len(), s.answers.len()), (0, 0));
    s.world.coming.clear();
    s.world.live.insert("b".into());
    s.pass(seconds(1));
    assert_eq!((s.attempts_of("b"), s.attempts_of("a")), (0, 1));
    assert_eq!(s.answers[0].1, [("b".into(), Status::Live)]);
}

#[test]
fn a_module_that_somebody_else_fails_to_load_is_attempted() {
    let mut s = world("x:* -> a");
    s.world.coming.insert("a".into());
    s.replay("/devices/x", "x:y");
    s.pass(Duration::from_millis(15));
    s.world.coming.clear();
    s.pass(Duration::from_millis(15));
    assert!(s.attempts_of("a") == 1 && s.world.live.contains("a"));
}

#[test]
fn a_module_that_is_coming_for_ever_is_asked_of_the_kernel_in_the_end() {
    let mut s = world("x:* -> a");
    s.world.coming.insert("a".into());
    s.replay("/devices/x", "x:y");
    s.pass(seconds(179));
    assert_eq!(s.attempts_of("a"), 0);
    let waits_for: Vec<_> = s.core.loads().map(|load| (&**load.module, load.running, load.coming)).collect();
    assert_eq!(waits_for, [("a", None, Some(Duration::ZERO))], "as `status` says");
    s.pass(seconds(2));
    assert_eq!(s.attempts_of("a"), 1);
}

#[test]
fn what_was_unloaded_is_loaded_by_who_asks_anew_and_by_no_scan() {
    let mut s = world("x:* -> a\nb takes 0");
    let scan = Origin::Scan { devpath: b"/devices/x" };
    s.replay("/devices/x", "x:y");
    s.settle();
    s.unloaded("a");
    s.request(b"x:y", scan);
    s.core.events_lost(&mut s.world);
    s.request(b"x:y", scan);
    assert_eq!(s.attempts_of("a"), 1);
    s.replay("/devices/x", "x:y");
    s.settle();
    assert_eq!(s.attempts_of("a"), 2);
    s.world.live.remove("a");
    s.core.events_lost(&mut s.world);
    s.request(b"x:y", scan);
    assert_eq!(s.attempts_of("a"), 2, "its unload was among the lost events");
    s.client(1, "a");
    s.settle();
    assert!(s.world.live.contains("a"));
}

#[test]
fn a_dependency_that_is_unloaded_unseen_between_two_tries_is_loaded_again() {
    let mut s = world("x:* -> a\na needs b\na => EBUSY");
    s.replay("/devices/x", "x:y");
    s.pass(Duration::from_millis(20));
    s.world.live.remove("b");
    s.core.events_lost(&mut s.world);
    s.world.module("a").errno = 0;
    s.settle();
    assert!(s.world.live.contains("a") && s.world.live.contains("b"));
}

#[test]
fn a_dependency_that_is_unloaded_while_its_dependent_waits_for_another_is_loaded_again() {
    let mut s = world("x:* -> a\na needs b c\nb is live\nc takes 1000");
    s.replay("/devices/x", "x:y");
    s.pass(Duration::from_millis(500));
    s.unloaded("b");
    s.settle();
    let attempted: Vec<&str> = s.attempts.iter().map(|(_, name)| &**name).collect();
    assert_eq!(attempted, ["c", "b", "a"]);
}

#[test]
fn a_transient_answer_is_tried_three_times() {
    let mut s = world("dev:* -> busy\nbusy => EBUSY");
    s.replay("/devices/x", "dev:x");
    s.settle();
    let times: Vec<u128> = s.attempts.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [0, 50, 150]);
    assert_eq!(s.published.len(), 1);
}

#[test]
fn soft_dependencies_come_before_and_after_and_may_fail() {
    let mut s =
        world("fs:* -> ext4\next4 pre crc32c gone\next4 post journal\ngone => ENOENT\ncrc32c takes 9");
    s.replay("/devices/x", "fs:ext4");
    s.settle();
    let attempted: Vec<&str> = s.attempts.iter().map(|(_, name)| &**name).collect();
    assert_eq!(attempted, ["crc32c", "gone", "ext4", "journal"]);
}

#[test]
fn a_client_is_answered_when_the_soft_dependencies_of_its_module_are_there_too() {
    let mut s = world("a post b\nb post c\nb takes 2000\nc takes 1000\nc => ENODEV");
    s.client(1, "a");
    s.pass(Duration::from_millis(2900));
    assert!(s.answers.is_empty(), "b and c are still loading: {:?}", s.answers);
    s.pass(Duration::from_millis(200));
    assert_eq!(s.answers, [(1, vec![("a".into(), Status::Live)])]);
}

#[test]
fn a_client_is_answered_when_a_soft_dependency_is_there_that_a_circle_put_behind_its_module() {
    let mut s = world("a pre b\nb pre a\nb takes 1000");
    s.client(1, "a");
    s.pass(Duration::from_millis(900));
    assert!(s.world.live.contains("a") && s.answers.is_empty(), "{:?}", s.answers);
    s.pass(Duration::from_millis(200));
    assert_eq!(s.answers.len(), 1);
}

#[test]
fn a_blacklist_does_not_end_what_was_promised_to_who_named_a_module_or_needs_it() {
    // Where another one has it loaded first, the blacklist of its own modalias does not matter.
    for (declaration, alias) in [("x -> a b\na pre b\nb => ENOMEM", "x"), ("b => ENOMEM", "b")] {
        let mut s = world(declaration);
        s.client(1, alias);
        s.pass(Duration::from_millis(300));
        s.world.module("b").blacklisted = true;
        s.world.changed = true;
        s.pass(seconds(4));
        assert_eq!(s.attempts_of("b"), 3 * 3, "{alias}: at once, after a second, and after two more");
    }
}

#[test]
fn that_another_module_needed_it_is_known_after_what_an_administrator_had_attempted() {
    let mut s = world("x -> a\na pre b\nb => ENODEV");
    s.replay("/devices/0", "x");
    s.settle();
    s.core.retry(&mut s.world, None, &["b".into()], s.now);
    s.act();
    s.settle();
    let (_, failure) = s.core.failures().next().expect("a failure");
    assert!(failure.pulled_in && failure.attempts == 2, "{failure:?}");
}

#[test]
fn what_was_blacklisted_since_is_not_attempted_for_a_promise() {
    for errno in ["ENOMEM", "ENODEV"] {
        let mut s = world(&format!("x -> a\na => {errno}"));
        s.appear("/devices/0", "x");
        s.pass(Duration::from_millis(10));
        s.appear("/devices/0", "x");
        s.pass(Duration::from_millis(300));
        let before = s.attempts_of("a");
        s.world.module("a").blacklisted = true;
        s.world.changed = true;
        s.pass(seconds(100));
        assert_eq!(s.attempts_of("a"), before, "{errno}");
        assert_eq!(s.core.next_deadline(s.now), None, "{errno}");
    }
}

#[test]
fn what_was_blacklisted_since_is_not_retried_and_is_no_failure_any_more() {
    for by_retry in [true, false] {
        let mut s = world("x -> a\na => ENODEV");
        s.appear("/devices/0", "x");
        s.settle();
        s.world.module("a").blacklisted = true;
        s.world.changed = true;
        match by_retry {
            true => {
                s.core.retry(&mut s.world, Some(1), &[], s.now);
                s.act();
                assert_eq!(s.answers, [(1, vec![("a".into(), Status::Blacklisted)])]);
            }
            false => s.replay("/devices/0", "x"),
        }
        s.settle();
        assert_eq!((s.attempts_of("a"), s.core.failures().count()), (1, 0), "{by_retry}");
    }
}

#[test]
fn a_retry_of_what_has_not_failed_loads_nothing() {
    let mut s = world("x -> a\nb takes 0");
    s.appear("/devices/0", "x");
    s.settle();
    s.core.retry(&mut s.world, Some(1), &["a".into(), "b".into(), "x".into()], s.now);
    s.act();
    s.settle();
    let unknown = |name: &str| (name.into(), Status::Unknown);
    assert_eq!(s.answers, [(1, vec![("a".into(), Status::Live), unknown("b"), unknown("x")])]);
    assert_eq!(s.attempts_of("b"), 0);
}

#[test]
fn soft_dependencies_in_a_circle_load_once_each() {
    let mut s = world("x:* -> a\na pre b\nb pre c\nc pre a\na takes 1\nb takes 1\nc takes 1");
    s.replay("/devices/x", "x:y");
    s.settle();
    assert_eq!(s.attempts.len(), 3);
    assert_eq!(s.world.live.len(), 3);
}

#[test]
fn a_soft_dependency_that_needs_its_dependent_gives_way() {
    let mut s = world("x:* -> m\nm pre a\na needs m\nm takes 1");
    s.replay("/devices/x", "x:y");
    s.settle();
    let attempted: Vec<&str> = s.attempts.iter().map(|(_, name)| &**name).collect();
    assert_eq!(attempted, ["m", "a"]);
}

#[test]
fn a_module_announced_by_the_kernel_while_it_waits_is_live() {
    let mut s = world("x:* -> a\na needs b\nb takes 1000");
    s.replay("/devices/x", "x:y");
    s.loaded_by_hand("a");
    s.settle();
    assert_eq!(s.attempts_of("a"), 0);
    assert_eq!(s.core.stats().live, 2);
}

#[test]
fn what_was_unloaded_is_loaded_again_when_asked_for() {
    let mut s = world("x:* -> a");
    s.replay("/devices/x", "x:y");
    s.settle();
    s.unloaded("a");
    s.replay("/devices/x", "x:y");
    s.settle();
    assert_eq!(s.attempts_of("a"), 2);
}

#[test]
fn after_lost_events_who_is_live_is_asked_anew() {
    let mut s = world("x:* -> a");
    s.replay("/devices/x", "x:y");
    s.settle();
    s.world.live.remove("a");
    s.core.events_lost(&mut s.world);
    s.replay("/devices/x", "x:y");
    s.settle();
    assert_eq!(s.attempts_of("a"), 2);
}

#[test]
fn a_blacklisted_module_loads_only_by_its_own_name() {
    let mut s = world("x:* -> fbdev\nfbdev blacklisted");
    s.replay("/devices/x", "x:y");
    s.client(1, "x:y");
    assert_eq!(s.attempts.len(), 0);
    s.client(2, "fbdev");
    s.settle();
    assert_eq!(s.attempts.len(), 1);
}

#[test]
fn policy_rules_a_module_out_while_a_path_exists() {
    let mut s = world("cpu:* -> acpi_cpufreq");
    let unless = Policy { unless: Some("/sys/active".into()), ..Policy::default() };
    s.world.module("acpi_cpufreq").policy = Arc::new(unless);
    s.world.paths.insert("/sys/active".into());
    cpus(&mut s, 4);
    assert_eq!(s.attempts.len(), 0);
    s.world.paths.clear();
    cpus(&mut s, 4);
    assert_eq!(s.attempts.len(), 1);
}

#[test]
fn policy_always_makes_every_request_an_attempt_and_never_makes_none() {
    for (mode, attempts) in [(Mode::Always, 5), (Mode::Never, 0)] {
        let mut s = world(FAILING);
        s.world.module("pcc_cpufreq").policy = Arc::new(Policy { mode, ..Policy::default() });
        for cpu in 0..5 {
            s.replay(&format!("/devices/cpu{cpu}"), "cpu:type:x");
            s.pass(Duration::from_millis(10));
        }
        assert_eq!(s.attempts.len(), attempts);
    }
}

#[test]
fn a_modalias_without_a_module_is_looked_up_again_when_the_index_changes() {
    let mut s = world("y:* -> other");
    s.replay("/devices/x", "x:y");
    s.world.aliases.push((b"x:*".to_vec(), vec!["other".into()]));
    s.replay("/devices/x", "x:y");
    assert_eq!(s.attempts.len(), 0, "remembered");
    s.world.changed = true;
    s.replay("/devices/x", "x:y");
    assert_eq!(s.attempts.len(), 1, "without a second between the two");
}

#[test]
fn a_blacklist_that_is_there_when_the_device_asks_holds() {
    let mut s = world("y:* -> other\nx:* -> old\nold => ENODEV");
    s.replay("/devices/y", "y:y");
    s.world.module("old").blacklisted = true;
    s.world.changed = true;
    s.replay("/devices/x", "x:y");
    assert_eq!(s.attempts_of("old"), 0);
}

#[test]
fn an_administrator_is_never_answered_from_memory() {
    let mut s = world("x:* -> a\nb takes 0");
    s.client(1, "x:y");
    s.settle();
    s.world.aliases.push((b"x:*".to_vec(), vec!["b".into()]));
    s.world.changed = true;
    s.client(2, "x:y");
    s.settle();
    assert_eq!(s.answers[1].1.len(), 2);
}

#[test]
fn an_install_command_that_changes_what_it_is_planned_by_is_not_run_for_ever() {
    let mut s = world("x:* -> a\na installs\na => EINVAL\na takes 10");
    s.replay("/devices/x", "x:y");
    for _ in 0..20 {
        s.world.module("a").version += 1;
        s.pass(Duration::from_millis(10));
    }
    assert_eq!((s.attempts_of("a"), s.published.len()), (4, 1));
}

#[test]
fn what_a_live_dependency_asks_for_besides_is_loaded_before_who_needs_it() {
    let mut s = world("x:a -> a\na needs b\nb pre c\nb post d\nc takes 10\nd takes 10");
    s.loaded_by_hand("b");
    s.replay("/devices/b", "b");
    s.settle();
    assert_eq!(s.attempts.len(), 0, "a live module's own device asks for nothing");
    s.replay("/devices/a", "x:a");
    s.settle();
    let order: Vec<&str> = s.attempts.iter().map(|(_, name)| &**name).collect();
    assert_eq!(order, ["c", "d", "a"]);
}

#[test]
fn a_module_comes_after_all_that_its_alias_names_before_it_whoever_has_asked_for_those() {
    let mut s = world("x:b -> b\nx:a -> a b c\na takes 1000\nb takes 10");
    s.replay("/devices/0", "x:b");
    s.replay("/devices/1", "x:a");
    s.settle();
    let began = |name| s.attempts.iter().find(|(_, attempted)| &**attempted == name).unwrap().0;
    assert!(began("c") >= began("a") + Duration::from_millis(1000), "{:?}", s.attempts);
}

#[test]
fn a_module_that_an_alias_names_besides_is_loaded_though_all_it_named_were_live() {
    let mut s = world("x:* -> a");
    s.replay("/devices/x", "x:y");
    s.settle();
    s.world.aliases[0].1.push("b".into());
    s.world.module("b");
    s.world.changed = true;
    s.replay("/devices/x", "x:y");
    s.settle();
    assert_eq!((s.attempts_of("a"), s.attempts_of("b")), (1, 1));
    s.replay("/devices/x", "x:y");
    assert_eq!((s.core.stats().requests, s.core.stats().duplicate_requests), (3, 1));
}

#[test]
fn when_modules_are_disabled_it_is_said_once_and_nothing_is_attempted_any_more() {
    let declaration = "x:a -> a\nx:b -> b\nx:c -> c\nc needs d\na takes 10\nb takes 10";
    let mut s = world_with(declaration, Limits { jobs: 1, ..Limits::default() });
    s.world.disabled = true;
    for name in ["a", "b", "c"] {
        s.replay(&format!("/devices/{name}"), &format!("x:{name}"));
    }
    s.client(1, "b");
    s.settle();
    s.pass(seconds(100));
    s.replay("/devices/b", "x:b");
    s.client(2, "c");
    assert_eq!((s.disabled, s.attempts.len(), s.published.len()), (1, 1, 0));
    assert_eq!(s.answers.len(), 2);
}

#[test]
fn the_backoff_doubles_from_min_to_max() {
    let backoff = Backoff::default();
    let seconds: Vec<u64> = (1..=8).map(|n| backoff.after(n).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(backoff.after(u32::MAX), Duration::from_secs(60));
}

#[test]
fn the_next_driver_does_not_overtake_what_comes_after_the_first() {
    let mut s = world("x:a -> a b\na post q\nq takes 1500\nx:c -> c d\nc post r\nr takes 60000");
    s.replay("/devices/0", "x:a");
    s.replay("/devices/1", "x:c");
    s.settle();
    let began =
        |name: &str| s.attempts.iter().find(|(_, attempted)| &**attempted == name).expect("it began").0;
    assert_eq!(began("b") - began("q"), Duration::from_millis(1500));
    assert_eq!(began("d") - began("r"), seconds(5), "r is old by then");
    let mut s = world("x:q -> q\nq takes 60000\nx:a -> a b\na post q");
    s.replay("/devices/0", "x:q");
    s.world.coming.insert("a".into());
    s.pass(seconds(10));
    s.replay("/devices/1", "x:a");
    s.loaded_by_hand("a");
    assert_eq!(s.attempts_of("b"), 1, "q was old before");
}

#[test]
fn what_needs_a_module_waits_for_what_comes_after_that_unless_it_is_waited_for_itself() {
    let mut s = world("x:a -> a\na needs d\nd post q r\nq takes 100\nq => ENODEV\nr needs a");
    s.replay("/devices/0", "x:a");
    s.settle();
    let order: Vec<_> = s.attempts.iter().map(|(at, name)| (at.as_millis(), &**name)).collect();
    assert_eq!(order, [(0, "d"), (0, "q"), (100, "a"), (100, "r")]);
}

#[test]
fn an_unload_while_a_load_runs_ends_the_conflict_that_it_comes_to() {
    let mut s = world("x:a -> a\na => ENODEV\na takes 800\nb is live");
    s.replay("/devices/0", "x:a");
    s.pass(Duration::from_millis(200));
    s.unloaded("b");
    s.settle();
    s.replay("/devices/1", "x:a");
    s.settle();
    s.replay("/devices/2", "x:a");
    s.settle();
    assert_eq!(s.attempts_of("a"), 2, "once");
    // And one that came before it began ends none.
    let mut s = world("x:a -> a\na => ENODEV\na needs d\nd takes 500\nb is live");
    s.replay("/devices/0", "x:a");
    s.pass(Duration::from_millis(200));
    s.unloaded("b");
    s.settle();
    s.replay("/devices/1", "x:a");
    s.settle();
    assert_eq!(s.attempts_of("a"), 1);
}

#[test]
fn a_module_that_fails_for_somebody_else_was_not_unloaded() {
    let mut s = world("x:a -> a\na => ENODEV\nb takes 1");
    let announced = |s: &mut Simulation| {
        s.world.coming.insert("b".into());
        s.core.module_added(&mut s.world, "b", s.now);
        s.world.coming.remove("b");
    };
    s.replay("/devices/0", "x:a");
    s.settle();
    for device in 1..4 {
        announced(&mut s);
        s.pass(Duration::from_millis(50));
        s.unloaded("b");
        s.replay(&format!("/devices/{device}"), "x:a");
        s.settle();
    }
    assert_eq!(s.attempts_of("a"), 1);
    announced(&mut s);
    s.loaded_by_hand("b");
    s.unloaded("b");
    s.replay("/devices/4", "x:a");
    s.settle();
    assert_eq!(s.attempts_of("a"), 2, "it was live");
    announced(&mut s);
    s.pass(seconds(6));
    s.unloaded("b");
    s.replay("/devices/5", "x:a");
    assert_eq!(s.attempts_of("a"), 3, "it has been live, most likely");
}
