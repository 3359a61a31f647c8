// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a core that takes over from another one believes, one sentence a test. That it rules as the other one did is
//! proved in `tests/model`.

#[path = "common/fake.rs"]
mod fake;
#[path = "common/simulated.rs"]
mod simulated;

use std::time::Duration;

use addonce::once::{Limits, Origin, Scheduler, Snapshot};
use fake::{FakeModules, Simulation};
use serde_json::Value;
use simulated::{ByHand, Simulated};

const FAILING: &str = "x:a -> a\nx:b -> b\na => ENODEV\nb => ENODEV";

fn world(declaration: &str) -> Simulation {
    Simulation::new(FakeModules::parse(declaration).expect("a declaration"), Limits::default())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Another process takes over, after something was done to the file.
fn restart(s: &mut Simulation, limits: Limits, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::to_value(s.core.snapshot()).expect("a value");
    change(&mut value);
    let snapshot: Snapshot = serde_json::from_value(value).expect("a snapshot");
    s.core = Scheduler::restore(limits, snapshot, s.now);
}

fn same(_: &mut Value) {}

#[test]
fn a_restart_alone_is_no_attempt_and_who_asks_again_is_known() {
    let mut s = world(FAILING);
    for cpu in 0..20 {
        s.replay(&format!("/devices/cpu{cpu}"), "x:a");
        s.pass(seconds(1));
    }
    restart(&mut s, Limits::default(), same);
    s.replay("/devices/cpu20", "x:a");
    s.pass(seconds(10));
    assert_eq!(s.attempts_of("a"), 1, "another device of the same storm");
    s.replay("/devices/cpu7", "x:a");
    s.pass(seconds(10));
    assert_eq!(s.attempts_of("a"), 2, "the same device again");
}

#[test]
fn a_retry_that_was_promised_is_made_by_the_next_process() {
    let mut s = world(FAILING);
    s.appear("/devices/0", "x:a");
    s.pass(Duration::from_millis(10));
    s.appear("/devices/0", "x:a");
    restart(&mut s, Limits::default(), same);
    s.pass(seconds(10));
    assert_eq!(s.attempts_of("a"), 2);
}

#[test]
fn what_was_unloaded_before_a_restart_is_not_loaded_by_a_scan_after_it() {
    let mut s = world("x:a -> a");
    s.replay("/devices/0", "x:a");
    s.settle();
    s.unloaded("a");
    restart(&mut s, Limits::default(), same);
    s.request(b"x:a", Origin::Scan { devpath: b"/devices/0" });
    s.settle();
    assert_eq!(s.attempts_of("a"), 1);
}

#[test]
fn an_event_that_is_heard_before_a_restart_and_after_it_is_one_request() {
    let mut s = world(FAILING);
    let events = [(b"/devices/0", 7), (b"/devices/1", 0)].map(|(devpath, seqnum)| Origin::Uevent {
        devpath,
        seqnum,
        synthetic: true,
    });
    for origin in events {
        s.request(b"x:a", origin);
    }
    s.pass(seconds(10));
    restart(&mut s, Limits::default(), same);
    s.request(b"x:a", events[0]);
    assert_eq!(s.attempts_of("a"), 1);
    s.request(b"x:a", events[1]);
    assert_eq!(s.attempts_of("a"), 2, "of one without a number nobody knows: it asks again");
}

#[test]
fn a_shortage_is_tried_again_by_the_next_process() {
    let mut s = world("x:a -> a\na => ENOMEM");
    s.replay("/devices/0", "x:a");
    s.settle();
    s.world.module("a").errno = 0;
    restart(&mut s, Limits::default(), same);
    s.pass(seconds(10));
    assert!(s.world.live.contains("a"));
}

#[test]
fn the_backoff_goes_on_doubling() {
    let mut s = world(FAILING);
    for _ in 0..3 {
        s.appear("/devices/0", "x:a");
        s.pass(seconds(100));
        restart(&mut s, Limits::default(), same);
    }
    let (_, failure) = s.core.failures().next().expect("a failure");
    assert_eq!((failure.attempts, failure.retry_at - failure.failed_at), (3, seconds(4)));
}

#[test]
fn what_was_loaded_between_two_processes_is_looked_up_before_its_failure_is_believed() {
    let mut s = world(FAILING);
    s.replay("/devices/0", "x:a");
    s.pass(seconds(10));
    s.world.live.insert("a".into());
    restart(&mut s, Limits::default(), same);
    s.replay("/devices/1", "x:a");
    assert_eq!((s.core.failures().count(), s.attempts_of("a")), (0, 1));
}

#[test]
fn a_dependency_that_was_loaded_between_two_processes_is_looked_up_before_its_dependents_failure_is_believed()
{
    let mut s = world("x:a -> a\na needs b\nb => ENODEV");
    s.replay("/devices/0", "x:a");
    s.pass(seconds(10));
    s.world.live.insert("b".into());
    restart(&mut s, Limits::default(), same);
    s.replay("/devices/1", "x:a");
    s.settle();
    assert!(s.world.live.contains("a"));
}

#[test]
fn what_was_fixed_between_two_processes_is_attempted_by_the_first_who_asks() {
    let mut s = world(FAILING);
    s.replay("/devices/0", "x:a");
    s.pass(Duration::from_millis(1));
    s.world.module("a").version += 1;
    s.world.module("a").errno = 0;
    restart(&mut s, Limits::default(), same);
    s.replay("/devices/1", "x:a");
    s.settle();
    assert!(s.world.live.contains("a"));
}

#[test]
fn times_that_cannot_be_lock_nobody_out() {
    let mut s = world(FAILING);
    s.replay("/devices/0", "x:a");
    s.pass(seconds(10));
    restart(&mut s, Limits::default(), |value| {
        value["failures"][0][1]["failed_at"]["secs"] = (1_u64 << 40).into();
        value["failures"][0][1]["retry_at"]["secs"] = ((1_u64 << 40) + 1).into();
    });
    s.appear("/devices/0", "x:a");
    s.pass(seconds(2));
    assert_eq!(s.attempts_of("a"), 2);
}

#[test]
fn what_is_there_by_another_name_is_asked_of_the_kernel_by_the_next_process() {
    let mut s = world("x:a -> a\na => EEXIST");
    s.replay("/devices/0", "x:a");
    s.pass(seconds(1));
    restart(&mut s, Limits::default(), same);
    s.replay("/devices/1", "x:a");
    assert_eq!(s.attempts_of("a"), 2);
}

#[test]
fn what_comes_after_a_module_is_loaded_by_the_next_process() {
    let mut s = world("x:p -> p\np post q\nq needs r\nr takes 1000");
    s.replay("/devices/0", "x:p");
    s.pass(Duration::from_millis(100));
    assert!(s.world.live.contains("p"));
    s.running.clear();
    restart(&mut s, Limits::default(), same);
    restart(&mut s, Limits::default(), same);
    s.pass(Duration::ZERO);
    s.pass(seconds(10));
    assert!(s.world.live.contains("q"));
}

#[test]
fn what_comes_after_a_module_that_outlived_its_daemon_is_loaded_when_that_is_live() {
    let mut s = world("x:p -> p\np post q\np takes 500");
    s.replay("/devices/0", "x:p");
    s.running.clear();
    assert!(s.core.changes > 0, "it was written down");
    restart(&mut s, Limits::default(), same);
    s.world.coming.insert("p".into());
    s.pass(Duration::from_millis(400));
    s.world.coming.remove("p");
    s.world.live.insert("p".into());
    s.pass(seconds(10));
    assert!(s.world.live.contains("q"));
    assert_eq!(s.attempts_of("p"), 1);
}

#[test]
fn what_came_after_a_module_and_was_unloaded_is_not_loaded_by_the_next_process() {
    let mut s = world("x:p -> p\np post q r\nr takes 1000");
    s.replay("/devices/0", "x:p");
    s.pass(Duration::from_millis(100));
    s.unloaded("q");
    s.running.clear();
    restart(&mut s, Limits::default(), same);
    s.pass(seconds(10));
    assert_eq!((s.attempts_of("q"), s.attempts_of("r")), (1, 2));
}
