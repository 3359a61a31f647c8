// SPDX-License-Identifier: MIT OR Apache-2.0
//! One test for every bug that was fixed. Most were found by the property tests in `tests/model`.

#[path = "common/fake.rs"]
mod fake;
#[path = "common/simulated.rs"]
mod simulated;

use std::sync::Arc;
use std::time::Duration;

use addonce::once::Limits;
use addonce::once::Status;
use addonce::once::{Backoff, Origin, Policy, Request};
use fake::{FakeModules, Simulation};
use simulated::{ByHand, Simulated};

fn world(declaration: &str) -> Simulation {
    let world = FakeModules::parse(declaration).expect("a declaration");
    Simulation::new(world, Limits { jobs: 16, ..Limits::default() })
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The retry hung on the dependency's failure, and was forgotten with it.
#[test]
fn a_retry_for_a_dependent_outlives_the_failure_of_its_dependency() {
    let mut s = world("a needs b\nb => ENODEV");
    s.appear("/devices/0", "a");
    s.pass(ms(10));
    s.appear("/devices/0", "a");
    s.loaded_by_hand("b");
    s.pass(ms(100_000));
    assert!(s.world.live.contains("a"));
}

/// The retry was kept with the dependency that is named, while the attempt waits for one that is deeper.
#[test]
fn a_retry_is_made_through_a_chain_of_dependencies() {
    let mut s = world("a needs c b\nb needs c\nb => ENODEV");
    s.appear("/devices/0", "a");
    s.pass(ms(2000));
    s.unloaded("c");
    s.world.module("c").errno = libc::EINVAL;
    s.appear("/devices/1", "b");
    s.pass(ms(10));
    s.appear("/devices/0", "a");
    s.world.module("b").errno = 0;
    s.world.module("c").errno = 0;
    s.pass(ms(100_000));
    assert!(s.world.live.contains("a"));
}

/// A changed cause was noticed while ruling for a dependent, noted as compared, and so missed for the dependency itself.
#[test]
fn a_fix_of_a_dependency_is_seen_when_a_dependent_asks() {
    let mut s = world("a needs b\nb => ENODEV");
    s.replay("/devices/0", "b");
    s.pass(ms(1200));
    s.replay("/devices/1", "b");
    s.pass(ms(100));
    s.world.module("b").errno = 0;
    s.world.module("b").version += 1;
    for n in 2..20 {
        s.replay(&format!("/devices/{n}"), "a");
        s.pass(ms(10_000));
    }
    assert!(s.world.live.contains("a"));
}

/// It waited for order's sake, and nothing was due that would have ended the wait.
#[test]
fn a_module_does_not_get_in_line_behind_a_load_that_is_old() {
    let mut s = world("x -> h n\nh takes 60000");
    s.appear("/devices/0", "h");
    s.pass(ms(6000));
    s.appear("/devices/1", "x");
    assert_eq!(s.running.len(), 2);
}

/// The deadline of a retry that cannot be made any more stayed in the past, and the loop would have spun.
#[test]
fn once_modules_are_disabled_nothing_is_due() {
    let mut s = world("a => ENODEV\nb takes 0");
    s.appear("/devices/0", "a");
    s.pass(ms(10));
    s.appear("/devices/0", "a");
    s.world.disabled = true;
    s.replay("/devices/1", "b");
    s.pass(ms(500));
    assert_eq!(s.core.next_deadline(ms(1200)), None);
}

/// What waited for a load that was running still waited when all that waits was ended, and was attempted after it.
#[test]
fn once_modules_are_disabled_what_waits_for_a_load_that_runs_is_not_attempted_after_it() {
    let mut s = world("b takes 10\nc pre d\nd takes 20");
    s.world.disabled = true;
    for name in ["b", "c"] {
        s.replay(&format!("/devices/{name}"), name);
    }
    s.pass(ms(100));
    let attempted: Vec<&str> = s.attempts.iter().map(|(_, name)| &**name).collect();
    assert_eq!(attempted, ["b", "d"]);
    assert!(s.core.is_settled());
}

/// A failed module was not looked at again, though the event that said it was live may have been among the lost ones.
#[test]
fn after_lost_events_a_failed_module_may_turn_out_to_be_live() {
    let mut s = world("a => ENOENT");
    s.replay("/devices/0", "a");
    s.pass(ms(5000));
    s.world.live.insert("a".into());
    s.core.events_lost(&mut s.world);
    let origin = Origin::Uevent { devpath: b"/devices/9", seqnum: 0, synthetic: true };
    s.ask(Request { alias: b"a", origin, client: Some(1) });
    assert_eq!(s.answers[0].1[0].1, Status::Live);
}

/// Two failed dependencies of one dependent took each other's retry for a request that must be served.
#[test]
fn retries_do_not_keep_each_other_going() {
    let mut s = world("x -> c\nc takes 200\nc post d\nd needs a b\na => ENODEV\na takes 200\nb => ENODEV");
    s.appear("/devices/0", "x");
    s.replay("/devices/0", "b");
    s.pass(ms(2_000_000));
    assert!(s.attempts.len() < 10, "{:?}", s.attempts);
}

/// Both were kept with one failure, and the attempt of an administrator made a new one.
#[test]
fn an_administrators_attempt_does_not_make_the_next_trigger_a_duplicate() {
    let mut s = world("a => ENODEV");
    s.replay("/devices/0", "a");
    s.pass(ms(5000));
    s.client(1, "a");
    s.pass(ms(5000));
    s.replay("/devices/0", "a");
    s.pass(ms(5000));
    assert_eq!(s.attempts_of("a"), 3);
}

/// A device was known by its path alone.
#[test]
fn a_device_that_asks_for_something_else_does_not_ask_again() {
    let mut s = world("x -> a\ny -> b\na => ENODEV\nb => ENODEV");
    s.replay("/devices/0", "x");
    s.pass(ms(2000));
    s.replay("/devices/1", "y");
    s.pass(ms(2000));
    s.replay("/devices/1", "x");
    s.pass(ms(2000));
    assert_eq!(s.attempts_of("a"), 1);
}

/// The doubt was settled while ruling for the dependent, and the dependency then taken for failed.
#[test]
fn after_lost_events_a_dependency_may_turn_out_to_be_live() {
    let mut s = world("b needs a\na => ENOENT");
    s.replay("/devices/0", "b");
    s.pass(ms(10));
    s.world.live.insert("a".into());
    s.core.events_lost(&mut s.world);
    s.replay("/devices/1", "b");
    s.settle();
    assert!(s.world.live.contains("b"));
}

/// A dependent's retry was made in the administrator's name, with everything else it needs.
#[test]
fn an_administrators_word_for_a_dependency_is_no_word_for_what_its_dependents_need() {
    let mut s = world("c needs b\nc pre a\na => ENODEV\nb => ENODEV");
    s.replay("/devices/0", "a");
    s.replay("/devices/0", "c");
    s.pass(ms(10));
    s.replay("/devices/0", "c");
    s.client(1, "b");
    s.pass(ms(10));
    assert_eq!((s.attempts_of("b"), s.attempts_of("a")), (2, 1));
}

/// Every event of a storm waited for its turn by itself, without bound, behind a load that hung.
#[test]
fn a_storm_that_waits_for_its_turn_is_one_request_in_line() {
    let mut s = world("x -> a\na takes 3000");
    s.replay("/devices/0", "x");
    s.world.module("a").version += 1;
    s.world.module("a").errno = libc::ENODEV;
    s.world.changed = true;
    s.pass(ms(1100));
    for n in 1..=1000 {
        s.replay(&format!("/devices/{n}"), "x");
    }
    s.pass(ms(10_000));
    assert_eq!(s.attempts_of("a"), 2);
    assert!(s.core.stats().duplicates() <= 1001, "{:?}", s.core.stats());
}

/// With --sync-udev every event came twice, from the kernel and from udev's program, and the second counted as the device
/// asking again: one attempt too many for every failed module.
#[test]
fn udevs_word_for_an_event_is_no_second_request_of_its_device() {
    let mut s = world("cpu:* -> a\na => ENODEV");
    for cpu in 0..8 {
        let devpath = format!("/devices/system/cpu/cpu{cpu}");
        s.replay(&devpath, "cpu:x");
        s.ask(Request {
            alias: b"cpu:x",
            origin: Origin::Scan { devpath: devpath.as_bytes() },
            client: Some(cpu),
        });
    }
    s.pass(ms(100_000));
    assert_eq!(s.attempts.len(), 1);
    assert_eq!(s.answers.len(), 8);
    // Its own next event is: a trigger is one more attempt, with its echo and without.
    s.replay("/devices/system/cpu/cpu3", "cpu:x");
    s.ask(Request {
        alias: b"cpu:x",
        origin: Origin::Scan { devpath: b"/devices/system/cpu/cpu3" },
        client: Some(9),
    });
    s.settle();
    assert_eq!(s.attempts.len(), 2);
}

/// The short way of a duplicate used them in another order than the long one, and so another one was evicted.
#[test]
fn a_duplicate_by_the_short_way_uses_failures_in_the_order_of_the_long_one() {
    let mut s = world("a => EINVAL\nc needs a");
    s.appear("/devices/1", "c");
    s.pass(ms(2000));
    s.replay("/devices/1", "c");
    s.pass(ms(10));
    s.replay("/devices/1", "c");
    s.replay("/devices/0", "c");
    assert_eq!(s.core.failures().map(|(name, _)| &**name).collect::<Vec<_>>(), ["a", "c"]);
}

/// `udevadm trigger` announced a module whose init was running; when that failed, the kernel took the announcement back, and
/// the `remove` was believed to be an unload that may have ended a conflict: one attempt too many.
#[test]
fn a_module_that_was_announced_before_its_init_failed_was_neither_live_nor_unloaded() {
    let mut s = world("cpu:* -> a b\na => ENODEV\nb => ENODEV\nc needs b");
    s.replay("/devices/system/cpu/cpu0", "cpu:x");
    s.settle();
    for name in ["a", "b"] {
        let now = s.now;
        s.core.module_added(&mut s.world, name, now);
        s.core.module_removed(&mut s.world, name, s.now);
    }
    for cpu in 1..8 {
        s.replay(&format!("/devices/system/cpu/cpu{cpu}"), "cpu:x");
    }
    s.pass(ms(100_000));
    assert_eq!((s.attempts_of("a"), s.attempts_of("b")), (1, 1));
    // One that was live is unloaded when it is removed, and that is another thing.
    s.loaded_by_hand("c");
    s.replay("/devices/1", "c");
    s.unloaded("c");
    s.replay("/devices/system/cpu/cpu9", "cpu:x");
    s.settle();
    assert_eq!((s.attempts_of("a"), s.attempts_of("b")), (2, 2));
}

/// A module that the kernel said exists was a success with each attempt, had its soft dependency attempted, and that attempted
/// what it needs: the module.
#[test]
fn a_request_attempts_a_module_once_however_many_ways_lead_to_it() {
    let mut s = world("a => EEXIST\na takes 40\na post c\nc needs a b\nb => ENODEV");
    s.client(1, "a");
    s.pass(ms(10_000));
    assert_eq!((s.attempts_of("a"), s.attempts_of("b"), s.answers.len()), (1, 1, 1));
    s.client(2, "c");
    s.pass(ms(10_000));
    assert_eq!((s.attempts_of("a"), s.attempts_of("b"), s.answers.len()), (2, 2, 2));
}

/// Of two that were due at one instant the first had the second attempted, which failed for another reason; as one that was due it
/// was attempted once more, and with it what it needs, for which nobody had asked.
#[test]
fn what_was_due_and_has_been_attempted_is_due_no_more() {
    let mut s = world("a pre c\na => EAGAIN\nc needs a b\nb pre a\nb => ENODEV");
    let backoff = Backoff { min: ms(2000), max: ms(4000) };
    s.world.module("a").policy = Arc::new(Policy { backoff, ..Policy::default() });
    s.replay("/devices/0", "a");
    s.pass(ms(3000));
    assert_eq!((s.attempts_of("a"), s.attempts_of("b")), (6, 1));
}

/// Whoever was told when a shortage is tried again counted as one who had asked for that, so that it attempted all it needs.
#[test]
fn a_duplicate_that_meets_a_shortage_asks_for_nothing_else() {
    let mut s = world("a pre b\na => EAGAIN\nb => ENODEV");
    s.replay("/devices/0", "a");
    s.pass(ms(500));
    s.replay("/devices/1", "a");
    s.pass(ms(10_000));
    assert_eq!((s.attempts_of("a"), s.attempts_of("b")), (12, 1));
}

/// The request went no further than the first dependency that had failed, and the others never learned of it.
#[test]
fn who_asks_for_a_module_has_asked_for_all_its_dependencies_whichever_of_them_fails_it() {
    for tried_before in ["b c", "a"] {
        let mut s = world("a needs b c\nb => ENODEV\nc => ENODEV");
        tried_before.split(' ').for_each(|alias| s.replay("/devices/0", alias));
        s.pass(ms(5000));
        s.replay("/devices/1", "a");
        s.loaded_by_hand("b");
        s.replay("/devices/2", "a");
        assert_eq!(s.attempts_of("c"), 1, "this one had not asked");
        s.replay("/devices/1", "a");
        assert_eq!(s.attempts_of("c"), 2, "this one asks again");
    }
}

/// At the others it was known by an event that had not come so far, and counted there as heard twice if it came by another way; or
/// an attempt that was due there forgot it.
#[test]
fn an_event_that_stops_short_of_a_module_is_ruled_on_where_it_comes_there() {
    for (synthetic, attempts) in [(true, 1), (false, 2)] {
        let mut s = world("x -> a d\na needs b c\nb => EINVAL\nc => EINVAL\nd takes 10\nd post c");
        s.replay("/devices/0", "c");
        s.pass(ms(5000));
        s.replay("/devices/0", "b");
        s.pass(ms(10));
        s.event("/devices/1", "x", synthetic);
        s.pass(ms(100));
        assert_eq!((s.attempts_of("b"), s.attempts_of("c")), (1, attempts));
    }
    let mut s = world("a needs b c\nb => EINVAL\nc => EINVAL");
    ["b", "c", "c", "a"].iter().zip([0, 0, 0, 1]).for_each(|(alias, n)| {
        s.replay(&format!("/devices/{n}"), alias);
        s.pass(ms(10));
    });
    s.pass(ms(5000));
    s.loaded_by_hand("b");
    s.replay("/devices/1", "a");
    assert_eq!(s.attempts_of("c"), 3, "with one that was due");
}

/// It stayed due for ever: what it had met was over, and the retry for it was a duplicate.
#[test]
fn what_met_a_retry_that_somebody_else_made_is_due_no_more() {
    let mut s = world("b needs a\na => ENODEV");
    s.replay("/devices/0", "b");
    s.appear("/devices/1", "a");
    s.pass(ms(100));
    s.appear("/devices/1", "a");
    s.replay("/devices/2", "b");
    s.client(1, "a");
    s.pass(ms(10));
    s.core.tick(&mut s.world, ms(5000));
    s.core.tick(&mut s.world, ms(5000));
    assert_eq!(s.core.next_deadline(ms(5000)), None);
}

/// It was looked for among those who had asked for the attempt that ran short, and not among those who have met the promise since.
#[test]
fn a_device_that_asks_again_after_a_shortage_is_owed_an_attempt_though_another_comes_between() {
    let mut s = world("a => EAGAIN\nb needs a");
    s.appear("/devices/0", "b");
    s.pass(ms(200));
    s.replay("/devices/1", "a");
    s.replay("/devices/1", "b");
    s.world.module("a").errno = libc::ENOENT;
    s.client(1, "a");
    s.pass(ms(10));
    s.world.module("a").errno = 0;
    s.pass(ms(10_000));
    assert!(s.world.live.contains("b"));
}

/// It stayed due for ever, since what had failed it was a success for others only, and nothing was attempted.
#[test]
fn an_accepted_attempt_is_made_when_the_dependency_turns_out_to_be_there_under_another_name() {
    let mut s = world("a => ENODEV\nb needs a");
    s.appear("/devices/0", "b");
    s.pass(ms(10));
    s.appear("/devices/1", "b");
    s.world.module("a").errno = libc::EEXIST;
    s.client(1, "a");
    s.pass(ms(10));
    assert!(s.world.live.contains("b"));
    assert_eq!(s.core.next_deadline(ms(10_000)), None);
}

/// A stick that was plugged in between had its attempt, and who had asked before it was forgotten.
#[test]
fn a_trigger_after_a_fix_is_an_attempt_although_a_new_device_had_one_and_is_gone() {
    let mut s = world("x -> a\na => ENODEV");
    (0..64).for_each(|n| s.replay(&format!("/devices/{n}"), "x"));
    s.pass(ms(10_000));
    s.appear("/devices/stick", "x");
    s.pass(ms(10_000));
    s.world.module("a").errno = 0;
    (0..64).for_each(|n| s.replay(&format!("/devices/{n}"), "x"));
    s.pass(ms(10_000));
    assert!(s.world.live.contains("a"));
}

/// The kernel announces it by its own name, and so only that was forgotten, and whoever asked was told that it is live.
#[test]
fn a_module_whose_file_has_another_name_is_loaded_again_after_rmmod_for_who_needs_it_too() {
    let mut s = world("x:a -> a\na holds z\nx:b -> b\nb needs a\nx:c -> c\nc takes 0");
    for (times, alias) in [(1, "x:a"), (2, "x:a"), (3, "x:b")] {
        s.replay("/devices/0", "x:c");
        s.replay(&format!("/devices/{times}"), alias);
        s.pass(ms(10));
        s.loaded_by_hand("z");
        assert_eq!((s.attempts_of("a"), s.world.live.contains("z")), (times, true));
        s.unloaded("z");
    }
    assert_eq!((s.attempts_of("b"), s.attempts_of("c")), (1, 1));
}

/// It was looked up as an alias, which leads nowhere, or to another module.
#[test]
fn a_retry_by_name_is_one_of_what_is_remembered_by_that_name() {
    let mut s = world("x -> no_such\nno_such => ENODEV\nno* -> other\nother takes 0");
    s.replay("/devices/0", "x");
    s.pass(ms(10));
    for (number, name) in [(1, "no_such"), (2, "no-such")] {
        s.core.retry(&mut s.world, Some(number), &[name.into()], s.now);
        s.act();
        s.pass(ms(10));
        assert_eq!((s.attempts_of("no_such"), s.attempts_of("other")), (1 + number as usize, 0));
    }
    s.world.module("no_such").errno = 0;
    s.core.retry(&mut s.world, Some(3), &["no_such".into()], s.now);
    s.act();
    s.pass(ms(10));
    assert_eq!(s.answers[2], (3, vec![("no_such".into(), Status::Live)]));
}

/// "2 attempts, 2 of them after a backoff": dependents that were not attempted counted as well, and of those that were each try once.
#[test]
fn what_is_attempted_after_a_backoff_is_counted_as_all_attempts_are() {
    for (errno, attempts, retries) in [(libc::ENODEV, 2, 1), (libc::EBUSY, 6, 3)] {
        let mut s = world("x -> a\na needs b\nb takes 0");
        s.world.module("b").errno = errno;
        s.appear("/devices/0", "x");
        s.pass(ms(500));
        s.appear("/devices/0", "x");
        s.pass(ms(5000));
        let stats = s.core.stats();
        assert_eq!((stats.attempts, stats.retries, stats.failed), (attempts, retries, 4));
    }
}
