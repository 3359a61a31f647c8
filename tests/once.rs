// SPDX-License-Identifier: MIT OR Apache-2.0
//! The once rules, one sentence a test, in declared worlds with a clock of their own.

use std::sync::Arc;
use std::time::Duration;

use addonce::once::Limits;
use addonce::once::Status;
use addonce::once::{Mode, Policy};
use addonce::once::{Origin, Request};
use addonce::once::{Outcome, Stage};
use addonce::replay::fake::FakeModules;
use addonce::replay::simulation::Simulation;

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
    let tally = s.core.stats();
    assert_eq!((tally.requests, tally.duplicates()), (255, 254));
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
fn a_changed_cause_is_seen_within_a_second() {
    let mut s = world(FAILING);
    cpus(&mut s, 4);
    s.world.module("pcc_cpufreq").version += 1;
    s.world.module("pcc_cpufreq").errno = 0;
    s.pass(seconds(1));
    s.replay("/devices/system/cpu/cpu5", "cpu:type:x");
    s.settle();
    assert_eq!(s.attempts_of("pcc_cpufreq"), 2);
    assert_eq!(s.published[1].outcome, Outcome::Live);
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
fn a_promise_made_to_a_dependent_is_kept() {
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
    assert!(*again > s.now());
}

#[test]
fn independent_modules_load_in_parallel() {
    let mut s = world("takes takes 0\n");
    for n in 0..8 {
        s.world.module(&format!("m{n}")).takes = seconds(1);
        s.client(n, &format!("m{n}"));
    }
    assert_eq!(s.running().count(), 8);
    s.settle();
    assert!(s.now() < seconds(2));
}

#[test]
fn the_modules_of_one_modalias_are_tried_in_order() {
    let mut s = world("pci:* -> ata_piix ata_generic\nata_piix takes 100");
    s.appear("/devices/pci0", "pci:v8086");
    assert_eq!(s.running().map(|name| &**name).collect::<Vec<_>>(), ["ata_piix"]);
    s.settle();
    assert_eq!(s.attempts[1], (Duration::from_millis(100), "ata_generic".into()));
}

#[test]
fn a_module_that_hangs_delays_nobody_for_longer_than_five_seconds() {
    let limits = Limits { jobs: 1, ..Limits::default() };
    let mut s = world_with("pci:* -> hangs next\nhangs takes 60000\nusb:* -> other", limits);
    s.appear("/devices/pci0", "pci:v8086");
    s.appear("/devices/usb1", "usb:v1");
    s.pass(seconds(6));
    assert_eq!(s.attempts.len(), 3);
    assert!(!s.core.is_settled(), "the hung load is still in the air");
    assert!(s.world.live.contains("next") && s.world.live.contains("other"));
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
    s.core.events_lost();
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
fn a_reload_has_a_changed_cause_seen_at_once_and_forgets_no_other_failure() {
    let mut s = world("x:a -> a\nx:b -> b\na => ENODEV\nb => ENODEV");
    for name in ["a", "b"] {
        s.replay(&format!("/devices/{name}"), &format!("x:{name}"));
        s.pass(Duration::from_millis(1));
    }
    s.world.module("a").version += 1;
    s.replay("/devices/c", "x:a");
    assert_eq!(s.attempts_of("a"), 1, "compared less than a second ago");
    let now = s.now();
    assert!(!s.core.reload(&mut s.world, now), "no index has changed");
    s.replay("/devices/c", "x:a");
    s.replay("/devices/c", "x:b");
    assert_eq!((s.attempts_of("a"), s.attempts_of("b")), (2, 1));
}

#[test]
fn a_reload_has_an_alias_resolved_anew_at_once() {
    let mut s = world("y:* -> other");
    s.replay("/devices/x", "x:y");
    s.world.aliases.push((b"x:*".to_vec(), vec!["other".into()]));
    s.world.changed = true;
    let now = s.now();
    assert!(s.core.reload(&mut s.world, now));
    s.replay("/devices/x", "x:y");
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
    s.pass(seconds(1));
    s.replay("/devices/x", "x:y");
    assert_eq!(s.attempts.len(), 1);
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
