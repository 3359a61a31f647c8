// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Flood: hostile devices without end
//!
//! Distinct modaliases, as long as the kernel lets through, each made to be misread ([`common::flood`]). What they may
//! cost is time. Over the socket it is 100 000 of them; ADDONCE_FLOOD=1000000 makes it a million, which takes
//! minutes. Past the socket, into the core and libkmod, it is a million at any rate, in release builds; a tenth
//! of that in debug builds.

mod common;

use std::num::NonZeroUsize;
use std::time::Duration;

use addonce::kmod::Resolver;
use addonce::once::Outcome;
use addonce::once::{Action, Limits, Origin, Request, Scheduler};
use common::figures::Figures;
use common::fixture::Fixture;
use common::flood::{Flood, TRACE, event};
use common::namespace::alone;
use common::proc::{peak_memory, uevent_socket};
use common::running::{Running, addonce};
use common::sender::Sender;
use serde_json::json;

/// What a flood may cost above the idle daemon, in KiB.
const MEMORY: u64 = 16 * 1024;
/// Between two looks at the daemon.
const ROUND: u64 = 100;

fn events() -> u64 {
    std::env::var("ADDONCE_FLOOD").map_or(100_000, |count| count.parse().expect("ADDONCE_FLOOD is a number"))
}

#[test]
fn hostile_modaliases_cost_bounded_memory_and_nobody_is_kept_waiting() {
    alone("hostile_modaliases_cost_bounded_memory_and_nobody_is_kept_waiting", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start_by(addonce(), "info", &fixture.flags());
        let mut sender = Sender::open().unwrap();
        let mut real = |n: u64, modalias: &str| {
            sender.inject(&event(&format!("/devices/real/{n}"), modalias.as_bytes())).unwrap();
        };
        real(0, "fxhidden:1");
        running.settled();
        let idle = peak_memory(running.id());
        let (count, mut asked) = (events(), 1);
        for begin in (0..count).step_by(ROUND as usize) {
            Flood::Hostile.inject(begin..count.min(begin + ROUND)).unwrap();
            real(begin + 1, "fxopt:1");
            asked += 1;
            // As many at a time as the queue of an unprivileged listener holds.
            running.settle();
        }
        real(0, "fxdash:a-b0");
        let status = running.settled();
        let peak = peak_memory(running.id());
        println!("{count} hostile modaliases: {idle} KiB idle, {peak} KiB at the peak");
        if std::env::var_os("ADDONCE_FLOOD").is_some() {
            Figures::of("flood").add(&json!({"modaliases": count, "idle_kib": idle, "peak_kib": peak}));
        }
        assert!(peak - idle <= MEMORY, "{idle} KiB idle, {peak} KiB at the peak");
        let uevents = &status["uevents"];
        assert_eq!((&uevents["drops"], uevent_socket(running.id()).drops), (&0.into(), 0));
        assert_eq!(uevents["read"], count + asked + 1);
        assert_eq!(uevents["malformed"], 0);
        assert_eq!(status["requests"], count + asked + 1);
        assert_eq!(status["no_module"], count);
        assert_eq!(status["attempts"], 3);
        assert_eq!(status["duplicates"]["live"], asked - 2);
        let files = std::fs::read_dir(running.directory()).unwrap().flatten();
        let mut files: Vec<_> = files.map(|entry| entry.file_name()).collect();
        files.sort();
        // The processes of loads are the only ones there are; a shell would have made one more file.
        assert_eq!(files, ["io.addonce", "loads", "lock", "state.json", "status.json"], "{TRACE}");
        let log = running.stop();
        for module in ["fx_hidden", "fx_opt", "fx_dash"] {
            let landing = format!("addonce: add_once {module} live");
            assert_eq!(log.iter().filter(|line| line.starts_with(&landing)).count(), 1, "{log:#?}");
        }
        assert!(log.len() < 10, "{log:#?}");
    });
}

/// The core behind the socket, and libkmod behind the core: as many as it takes, in a process that does nothing else.
#[test]
fn a_million_hostile_modaliases_leave_the_core_as_it_was() {
    alone("a_million_hostile_modaliases_leave_the_core_as_it_was", || {
        let fixture = Fixture::build("semantics");
        let mut resolver = Resolver::open(fixture.tree()).unwrap();
        let mut core =
            Scheduler::new(Limits { aliases: NonZeroUsize::new(1024).unwrap(), ..Limits::default() });
        let ask = |core: &mut Scheduler, resolver: &mut Resolver, alias: &[u8], n: u64| {
            let devpath = format!("/devices/{n}");
            let (devpath, synthetic) = (devpath.as_bytes(), false);
            let origin = Origin::Uevent { devpath, seqnum: n, synthetic };
            core.request(resolver, Request { alias, origin, client: None }, Duration::from_micros(20 * n));
            while let Some(action) = core.next_action() {
                if let Action::Load(plan) = action {
                    core.finished(resolver, &plan.module, Outcome::Live, Duration::from_micros(20 * n));
                }
            }
        };
        ask(&mut core, &mut resolver, b"fxopt:1", 1);
        let idle = peak_memory(std::process::id());
        let count = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
        for n in 0..count {
            ask(&mut core, &mut resolver, &Flood::Hostile.modalias(n), n + 2);
        }
        ask(&mut core, &mut resolver, b"fxopt:1", count + 2);
        let peak = peak_memory(std::process::id());
        println!("{count} hostile modaliases: {idle} KiB before, {peak} KiB at the peak");
        assert!(peak - idle <= MEMORY, "{idle} KiB before, {peak} KiB at the peak");
        let tally = core.stats();
        assert_eq!((tally.requests, tally.no_module), (count + 2, count));
        assert_eq!((tally.attempts, tally.live, tally.duplicates_live), (1, 1, 1));
        assert!(core.is_settled() && core.failures().next().is_none());
    });
}
