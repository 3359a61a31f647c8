// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules for the kernel's own requests, one sentence a test, in declared worlds with a clock of their own.

#[path = "common/fake.rs"]
mod fake;
#[path = "common/simulated.rs"]
mod simulated;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use addonce::once::{Limits, Mode, Origin, Outcome, Policy, Scheduler, Status};
use fake::{FakeModules, Simulation};
use simulated::{ByHand, Simulated};

const FAILING: &str = "fs-x -> x\nx => ENODEV\nx takes 5";

fn world(declaration: &str) -> Simulation {
    world_with(declaration, Limits { jobs: 8, ..Limits::default() })
}

fn world_with(declaration: &str, limits: Limits) -> Simulation {
    Simulation::new(FakeModules::parse(declaration).expect("a declaration"), limits)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What the kernel's requests were answered, of the last module.
fn last(s: &Simulation) -> Option<&Status> {
    s.answers.last().and_then(|(_, answers)| answers.last()).map(|(_, status)| status)
}

#[test]
fn a_storm_of_58_requests_is_one_load() {
    let mut s = world("fs-x -> x\nx needs y\nx takes 50\ny takes 50");
    for client in 1..=58 {
        s.kernel(client, "fs-x");
        s.pass(ms(1));
    }
    s.settle();
    assert_eq!((s.attempts.len(), s.answers.len()), (2, 58));
    assert!(s.answers.iter().all(|(_, answers)| answers[0].1 == Status::Live));
    let record = s.published.last().expect("a record");
    assert_eq!((record.asked, record.by_kernel), (58, 58));
}

#[test]
fn inside_the_window_the_outcome_is_remembered_and_after_it_the_next_is_an_attempt() {
    let mut s = world(FAILING);
    for client in 1..=58 {
        s.kernel(client, "fs-x");
        s.pass(ms(10));
    }
    assert_eq!((s.attempts_of("x"), s.answers.len()), (1, 58));
    assert!(
        s.answers.iter().all(|(_, answers)| matches!(answers[0].1, Status::Failed { retry_at: None, .. }))
    );
    s.pass(ms(1000));
    s.kernel(59, "fs-x");
    s.settle();
    assert_eq!(s.attempts_of("x"), 2);
}

#[test]
fn the_window_doubles_to_5_seconds_with_each_attempt_that_the_kernel_made() {
    let mut s = world("fs-x -> x\nx => ENODEV");
    let mut client = 0;
    while s.now < ms(60_000) {
        client += 1;
        s.kernel(client, "fs-x");
        s.pass(ms(10));
    }
    let times: Vec<u128> = s.attempts.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times[..5], [0, 1000, 3000, 7000, 12_000]);
    assert_eq!(times.len(), 14, "an attempt in 5 s: {times:?}");
}

#[test]
fn nothing_is_accepted_for_later() {
    let mut s = world("fs-x -> x\nx => ENOMEM");
    s.kernel(1, "fs-x");
    s.settle();
    s.pass(ms(1_000_000));
    assert_eq!(s.attempts_of("x"), 1, "a shortage as well");
    assert_eq!(s.core.next_deadline(s.now), None);
}

#[test]
fn what_may_pass_is_tried_once_for_the_kernel_as_by_modprobe_and_more_often_for_a_device_that_waits_too() {
    let mut s = world("fs-x -> x\nx:y -> x\nx => EBUSY\nx takes 5");
    s.kernel(1, "fs-x");
    s.settle();
    assert_eq!(s.attempts_of("x"), 1);
    s.kernel(2, "fs-x");
    s.replay("/devices/x", "x:y");
    s.settle();
    assert_eq!(s.attempts_of("x"), 1 + Limits::TRIES as usize);
}

#[test]
fn that_a_module_failed_for_the_kernel_alone_is_news_once() {
    let mut s = world(FAILING);
    let is_again = |s: &Simulation| s.published.last().expect("a record").is_again;
    for client in 0..3 {
        s.kernel(client, "fs-x");
        s.pass(ms(10_000));
        assert_eq!((s.published.len(), is_again(&s)), (client as usize + 1, client > 0));
    }
    s.world.module("x").version += 1;
    s.kernel(3, "fs-x");
    s.pass(ms(10_000));
    assert!(!is_again(&s), "it fails for another cause");
    s.appear("/devices/x", "x");
    s.pass(ms(10_000));
    assert!(!is_again(&s), "a device has asked");
    s.world.module("x").errno = 0;
    s.kernel(4, "fs-x");
    s.pass(ms(10_000));
    assert!(!is_again(&s), "it is live");
}

/// The kernel says EEXIST, which is a success to who asks, as often as that.
#[test]
fn that_a_file_holds_a_module_that_is_live_by_another_name_is_news_once() {
    let mut s = world("fs-x -> x\nx holds y\ny is live");
    for client in 0..3 {
        s.kernel(client, "fs-x");
        s.pass(ms(10_000));
        assert_eq!(last(&s), Some(&Status::Live));
        assert_eq!(s.published.last().expect("a record").is_again, client > 0);
    }
    assert_eq!((s.attempts_of("x"), s.core.stats().live), (3, 1));
}

#[test]
fn where_all_loading_is_forbidden_what_is_live_is_live() {
    let mut s = world("fs-x -> x\nnet-pf-10 -> y\ny is live");
    s.world.disabled = true;
    s.kernel(1, "fs-x");
    s.settle();
    assert!(matches!(last(&s), Some(Status::Failed { .. })));
    s.kernel(2, "net-pf-10");
    assert_eq!(last(&s), Some(&Status::Live));
}

#[test]
fn a_shortage_or_a_conflict_that_passes_has_no_window() {
    for errno in ["EAGAIN", "ENOMEM", "EINTR", "EBUSY"] {
        let mut s = world(&format!("fs-x -> x\nx => {errno}"));
        s.kernel(1, "fs-x");
        s.settle();
        s.world.module("x").errno = 0;
        s.kernel(2, "fs-x");
        s.settle();
        assert_eq!(last(&s), Some(&Status::Live), "{errno}");
    }
}

#[test]
fn a_fix_is_seen_by_the_next_request() {
    let mut s = world(FAILING);
    s.kernel(1, "fs-x");
    s.settle();
    s.world.module("x").version += 1;
    s.world.module("x").errno = 0;
    s.kernel(2, "fs-x");
    s.settle();
    assert_eq!((s.attempts_of("x"), last(&s)), (2, Some(&Status::Live)));
}

#[test]
fn a_module_that_was_unloaded_since_lets_a_conflict_be_attempted() {
    let mut s = world(&format!("{FAILING}\nother is live"));
    s.kernel(1, "fs-x");
    s.settle();
    s.client(9, "other");
    s.unloaded("other");
    s.kernel(2, "fs-x");
    s.settle();
    assert_eq!(s.attempts_of("x"), 2);
}

#[test]
fn a_blacklisted_module_is_loaded_by_its_name_and_not_by_an_alias() {
    let mut s = world("fs-x -> my_x\nmy_x blacklisted");
    s.kernel(1, "fs-x");
    assert_eq!((s.attempts.len(), last(&s)), (0, Some(&Status::Blacklisted)));
    s.kernel(2, "my-x");
    s.kernel(3, "my_x");
    s.settle();
    assert_eq!((s.attempts.len(), last(&s)), (1, Some(&Status::Live)));
}

#[test]
fn policy_refuses_by_a_name_and_by_an_alias() {
    let mut s = world("fs-x -> x");
    s.world.module("x").policy = Arc::new(Policy { mode: Mode::Never, ..Policy::default() });
    for (client, name) in [(1, "fs-x"), (2, "x")] {
        s.kernel(client, name);
        assert_eq!((s.attempts.len(), last(&s)), (0, Some(&Status::RuledOut)), "{name}");
    }
}

#[test]
fn what_takes_an_install_command_is_modprobes() {
    let mut s = world("a -> one two\ntwo needs three\nthree installs\nb -> one");
    s.kernel(1, "a");
    s.kernel(2, "two");
    s.kernel(3, "b");
    s.settle();
    assert_eq!(s.handed_back, [1, 2]);
    assert_eq!((s.attempts.len(), s.answers.len()), (1, 1));
}

#[test]
fn what_policy_refuses_is_not_left_to_modprobe() {
    let mut s = world("a -> one two\none installs\ntwo takes 1\nb -> one");
    s.world.module("one").policy = Arc::new(Policy { mode: Mode::Never, ..Policy::default() });
    s.kernel(1, "b");
    assert_eq!(last(&s), Some(&Status::RuledOut));
    s.kernel(2, "a");
    s.settle();
    assert_eq!((s.handed_back.len(), s.attempts_of("one"), s.attempts_of("two")), (0, 0, 1));
}

#[test]
fn what_modprobe_would_do_against_policy_in_part_is_refused_as_a_whole() {
    let mut s = world("a -> one two three\none installs");
    s.world.module("two").policy = Arc::new(Policy { mode: Mode::Never, ..Policy::default() });
    s.kernel(1, "a");
    s.settle();
    assert_eq!((s.handed_back.len(), s.attempts.len()), (0, 0));
    let (_, answers) = s.answers.pop().expect("an answer");
    assert!(answers.iter().all(|(_, status)| *status == Status::RuledOut), "{answers:?}");
}

#[test]
fn a_load_with_an_install_command_that_a_device_began_is_not_joined() {
    let mut s = world("x:y -> a\na installs\na takes 100");
    s.replay("/devices/x", "x:y");
    s.kernel(1, "a");
    assert_eq!(s.handed_back, [1]);
}

#[test]
fn names_without_a_module_are_answered_and_leave_nothing() {
    let mut s = world("x:y -> a");
    s.replay("/devices/x", "x:y");
    s.settle();
    for client in 0..10_000 {
        s.kernel(client, &format!("crypto-{client}"));
    }
    assert_eq!(s.answers.len(), 10_000);
    assert!(s.answers.iter().all(|(_, answers)| answers.is_empty()));
    assert_eq!(s.core.stats().requests, 1, "the kernel's are counted apart");
    assert_eq!((s.core.stats().no_module, s.core.failures().count()), (0, 0));
}

#[test]
fn of_the_kernels_names_the_last_is_remembered_and_in_no_devices_place() {
    let limits = Limits { aliases: NonZeroUsize::MIN.saturating_add(1), ..Limits::default() };
    let mut s = world_with("x:y -> a\nfs-x -> a", limits);
    s.replay("/devices/x", "x:y");
    s.kernel(1, "fs-x");
    s.settle();
    // Who remembers does not see it: nothing says that something has changed.
    s.world.aliases.clear();
    s.kernel(2, "fs-x");
    assert_eq!(last(&s), Some(&Status::Live));
    s.kernel(3, "fs-y");
    s.kernel(4, "fs-x");
    assert_eq!(s.answers.last(), Some(&(4, vec![])));
    s.replay("/devices/y", "x:y");
    assert_eq!(s.core.stats().no_module, 0);
}

#[test]
fn a_name_that_has_come_to_mean_another_module_is_loaded_though_the_old_one_is_live() {
    let mut s = world("fs-x -> x\ny takes 1");
    s.kernel(1, "fs-x");
    s.settle();
    s.world.aliases[0].1 = vec!["y".into()];
    s.world.changed = true;
    s.kernel(2, "fs-x");
    s.settle();
    assert_eq!(s.attempts_of("y"), 1);
}

#[test]
fn a_name_that_gets_a_module_is_loaded_by_the_next_request() {
    let mut s = world("fs-y -> y");
    s.kernel(1, "fs-x");
    assert_eq!(s.answers.pop(), Some((1, vec![])));
    s.world = FakeModules::parse("fs-x -> x").expect("a declaration");
    s.world.changed = true;
    s.kernel(2, "fs-x");
    s.settle();
    assert_eq!(last(&s), Some(&Status::Live));
}

#[test]
fn to_devices_an_attempt_of_the_kernels_is_none() {
    let mut s = world("fs-x -> x\nx:y -> x\nx => EINVAL");
    s.kernel(1, "fs-x");
    s.settle();
    for cpu in 0..64 {
        s.replay(&format!("/devices/{cpu}"), "x:y");
        s.pass(ms(3));
    }
    s.pass(ms(100_000));
    assert_eq!(s.attempts_of("x"), 2, "one for the kernel, one for the storm");
}

#[test]
fn who_asked_before_and_what_is_pending_outlive_an_attempt_of_the_kernels() {
    let mut s = world("fs-x -> x\nx:y -> x\nx => EINVAL");
    let storm = |s: &mut Simulation| (0..4).for_each(|cpu| s.replay(&format!("/devices/{cpu}"), "x:y"));
    storm(&mut s);
    s.settle();
    // Pending until a second after the first attempt.
    storm(&mut s);
    s.pass(ms(500));
    s.kernel(1, "fs-x");
    s.settle();
    assert_eq!(s.attempts_of("x"), 1, "inside the window");
    s.world.module("x").version += 1;
    s.kernel(2, "fs-x");
    s.settle();
    assert_eq!(s.attempts_of("x"), 2, "another cause");
    s.pass(ms(500));
    let times: Vec<u128> = s.attempts.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [0, 501, 1000], "what was promised to devices comes when it was promised");
    storm(&mut s);
    s.pass(ms(100_000));
    assert_eq!(s.attempts_of("x"), 4, "and they ask again");
}

#[test]
fn a_duplicate_of_the_kernels_ends_nothing_that_is_pending() {
    let mut s = world("fs-x -> x\nx:y -> x\nx => ENOMEM");
    s.replay("/devices/a", "x:y");
    s.settle();
    let promised = s.core.next_deadline(s.now).expect("a shortage is tried again");
    s.world.module("x").errno = libc::ENODEV;
    for client in 1..=2 {
        s.kernel(client, "fs-x");
        s.settle();
    }
    assert_eq!(s.attempts_of("x"), 4);
    s.pass(ms(60_000));
    assert_eq!((s.attempts_of("x"), s.attempts[4].0), (5, promised));
}

#[test]
fn the_kernels_loads_take_no_slot_from_others() {
    let mut s = world_with("one takes 4000\nd:2 -> two", Limits { jobs: 1, ..Limits::default() });
    s.kernel(1, "one");
    s.replay("/devices/2", "d:2");
    s.pass(ms(1));
    assert_eq!(s.attempts_of("two"), 1);
}

#[test]
fn the_kernels_attempts_do_not_lengthen_the_backoff_of_devices() {
    let mut s = world("fs-x -> x\nx:y -> x\nx => EINVAL");
    s.replay("/devices/a", "x:y");
    s.settle();
    for client in 0..10 {
        s.pass(ms(6000));
        s.kernel(client, "fs-x");
        s.settle();
    }
    let before = s.attempts.len();
    s.replay("/devices/a", "x:y");
    s.settle();
    assert_eq!((before, s.attempts.len()), (11, 12), "its backoff was a second, and is long over");
}

#[test]
fn a_load_that_the_kernel_began_is_a_devices_from_the_time_on_that_one_asks() {
    let mut s = world("fs-x -> x\nx:y -> x\nx => EINVAL\nx takes 100");
    s.kernel(1, "fs-x");
    assert!(s.core.loads().all(|load| load.for_kernel));
    s.replay("/devices/a", "x:y");
    assert!(s.core.loads().all(|load| !load.for_kernel), "udev's queue is held for it");
    s.settle();
    s.replay("/devices/b", "x:y");
    s.pass(ms(100_000));
    assert_eq!(s.attempts_of("x"), 1, "another device of the storm is a duplicate");
    s.replay("/devices/a", "x:y");
    s.pass(ms(100_000));
    assert_eq!(s.attempts_of("x"), 2, "the same one asks again");
}

#[test]
fn what_the_kernel_waits_for_takes_no_slot_and_waits_for_none() {
    let mut s = world_with(
        "d:1 -> one\nd:2 -> two\ntwo needs three\none takes 4000\ntwo takes 10\nthree takes 10",
        Limits { jobs: 1, ..Limits::default() },
    );
    s.replay("/devices/1", "d:1");
    s.replay("/devices/2", "d:2");
    s.pass(ms(100));
    assert_eq!(s.attempts.len(), 1, "the one slot is taken");
    // The init of `one` asks.
    s.kernel(1, "two");
    s.pass(ms(50));
    assert_eq!((s.attempts.len(), last(&s)), (3, Some(&Status::Live)));
}

#[test]
fn what_the_kernel_waits_for_does_not_wait_for_a_modalias_order() {
    let mut s = world("d:* -> one two\none takes 4000");
    s.replay("/devices/1", "d:1");
    s.pass(ms(100));
    assert_eq!(s.attempts.len(), 1);
    // The init of `one` asks.
    s.kernel(1, "two");
    s.pass(ms(1));
    assert_eq!(last(&s), Some(&Status::Live));
}

#[test]
fn even_the_kernels_loads_are_bounded_by_the_number_of_processes() {
    let modules: String = (0..20).map(|n| format!("m{n} takes 1000\n")).collect();
    let mut s = world_with(&modules, Limits { jobs: 1, processes: 8, ..Limits::default() });
    for client in 0..20 {
        s.kernel(client, &format!("m{client}"));
    }
    s.pass(ms(1));
    assert_eq!(s.running.len(), 8);
    s.settle();
    assert_eq!(s.answers.len(), 20);
}

#[test]
fn the_modules_of_one_request_load_in_their_order() {
    let mut s = world("fs-x -> a b\na takes 10\nb => ENODEV");
    s.kernel(1, "fs-x");
    s.kernel(2, "fs-x");
    s.settle();
    let order: Vec<(u128, &str)> = s.attempts.iter().map(|(at, name)| (at.as_millis(), &**name)).collect();
    assert_eq!(order, [(0, "a"), (10, "b")]);
    assert!(matches!(last(&s), Some(Status::Failed { .. })));
}

#[test]
fn a_restart_keeps_window_and_devices_apart() {
    let mut s = world("fs-x -> x\nx:y -> x\nx => EINVAL");
    s.kernel(1, "fs-x");
    s.settle();
    s.core = Scheduler::restore(Limits::default(), s.core.snapshot(), s.now);
    s.kernel(2, "fs-x");
    s.settle();
    assert_eq!(s.attempts_of("x"), 1);
    s.replay("/devices/a", "x:y");
    s.settle();
    assert_eq!(s.attempts_of("x"), 2);
    let outcomes: Vec<bool> = s.published.iter().map(|record| record.outcome == Outcome::Live).collect();
    assert_eq!(outcomes, [false, false]);
}

#[test]
fn a_module_that_somebody_unloaded_is_loaded_when_the_kernel_asks() {
    let mut s = world("fs-x -> x");
    s.kernel(1, "fs-x");
    s.settle();
    s.unloaded("x");
    s.request(b"x", Origin::Scan { devpath: b"/devices/x" });
    assert_eq!(s.attempts_of("x"), 1);
    s.kernel(2, "fs-x");
    s.settle();
    assert_eq!(s.attempts_of("x"), 2);
}

#[test]
fn what_was_unloaded_is_not_live_to_the_kernel_before_that_event_was_read() {
    let mut s = world("fs-x -> x\nx needs y\nz needs y\nw installs");
    s.kernel(1, "fs-x");
    s.client(2, "w");
    s.settle();
    s.world.live.clear();
    s.kernel(3, "fs-x");
    s.kernel(4, "w");
    s.settle();
    assert_eq!((s.attempts_of("x"), s.attempts_of("y"), &s.handed_back[..]), (2, 2, &[4][..]));
    s.world.live.remove("y");
    s.kernel(5, "z");
    s.settle();
    assert_eq!((last(&s), s.attempts_of("y")), (Some(&Status::Live), 3));
}

#[test]
fn the_kernel_waits_for_soft_dependencies_as_modprobe_does() {
    let mut s = world("fs-x -> x\nx post after\nafter takes 50\nafter => ENODEV");
    s.kernel(1, "fs-x");
    s.pass(ms(49));
    assert_eq!(last(&s), None);
    s.pass(ms(1));
    assert_eq!(last(&s), Some(&Status::Live), "what became of them does not matter");
    s.world.module("after").errno = 0;
    s.kernel(2, "fs-x");
    assert_eq!(s.answers.len(), 2, "what is live was waited for");
}

#[test]
fn a_soft_dependency_that_the_kernel_waits_for_takes_no_slot() {
    let mut s = world_with(
        "d:1 -> one\nd:2 -> two\ntwo post three\none takes 4000\ntwo takes 10\nthree takes 10",
        Limits { jobs: 1, ..Limits::default() },
    );
    s.replay("/devices/2", "d:2");
    s.kernel(1, "two");
    s.replay("/devices/1", "d:1");
    s.replay("/devices/2", "d:1");
    s.pass(ms(50));
    assert_eq!((s.attempts_of("one"), last(&s)), (1, Some(&Status::Live)));
}

/// The kernel had named the module, and a promise for who names it overrules the blacklist.
#[test]
fn what_was_promised_by_an_alias_heeds_the_blacklist_though_the_kernel_named_the_module() {
    for joined in [false, true] {
        let mut s = world("x:y -> x\nx => EINVAL\nx takes 100");
        if joined {
            s.kernel(1, "x");
        }
        s.replay("/devices/a", "x:y");
        s.settle();
        s.replay("/devices/a", "x:y");
        if !joined {
            s.world.module("x").version += 1;
            s.kernel(1, "x");
            s.settle();
        }
        let before = s.attempts_of("x");
        s.world.module("x").blacklisted = true;
        s.world.changed = true;
        s.pass(ms(100_000));
        assert_eq!(s.attempts_of("x"), before, "joined: {joined}");
    }
}
