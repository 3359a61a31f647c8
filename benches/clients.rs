// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a thousand clients cost a storm.
//!
//! A daemon hears the storm of the guest with 255 CPUs (tests/captures) with a thousand clients that each connect and ask
//! for its status meanwhile, and without them, by turns; what is compared is the time from the first event to settled.
//! The storm comes as fast as the kernel takes it, a hundred times over: then there is nothing but the daemon's own work to wait for.
//! Nothing is inserted.

mod common;
#[path = "../tests/common/mod.rs"]
mod tests;

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use addonce::control::client::call;
use addonce::uevent::capture::{Reader, Record};
use common::alone;
use serde_json::{Value, json};
use tests::figures::Figures;
use tests::fixture::Fixture;
use tests::running::{Running, addonce};
use tests::sender::Sender;

const CLIENTS: u32 = 1000;
const ROUNDS: usize = 5;
const TIMES: usize = 100;
/// So many threads play the clients, one after the other.
const THREADS: u32 = 20;

fn main() -> ExitCode {
    alone(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures/guest-255-cpus.capture");
        let reader = Reader::new(BufReader::new(File::open(path).expect("the capture"))).expect("a capture");
        let storm: Vec<Record> = reader.map(|record| record.expect("a record")).collect();
        let mut figures = Figures::of("clients");
        figures.add(&compare("as fast as the kernel takes it, 100 times over", &storm));
    })
}

fn compare(what: &str, storm: &[Record]) -> Value {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(run(storm, 0));
        with.push(run(storm, CLIENTS));
    }
    let [without, with] = [&mut without, &mut with].map(|times| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    });
    println!(
        "255 CPUs, {what}: {without:.3} s alone, {with:.3} s with {CLIENTS} clients, ratio {:.3}",
        with / without
    );
    json!({"what": what, "alone_s": without, "with_s": with})
}

/// From the first event to settled.
fn run(storm: &[Record], clients: u32) -> Duration {
    let fixture = Fixture::build("semantics");
    let real = "alias cpu:* fx_top\nalias cpu:* fx_twin\nalias acpi:* fx_opt\n";
    std::fs::write(fixture.config().join("storm.conf"), real).expect("write");
    let running = Running::start_by(addonce(), "info", &fixture.flags());
    let began = Instant::now();
    let asking: Vec<_> = (0..THREADS)
        .map(|thread| {
            let socket = running.socket().clone();
            std::thread::spawn(move || {
                for _ in (thread..clients).step_by(THREADS as usize) {
                    let status = call(&socket, "Status", Value::Null, Some(Duration::from_secs(60)));
                    assert!(status.expect("a status")["uptime_ms"].is_u64());
                }
            })
        })
        .collect();
    let mut sender = Sender::open().expect("a sender");
    for _ in 0..TIMES {
        for Record { datagram, .. } in storm {
            // A few of the kernel's own events are longer than what it takes from others.
            let _ = sender.inject(datagram);
        }
    }
    running.settle();
    let took = began.elapsed();
    asking.into_iter().for_each(|thread| thread.join().expect("a client"));
    took
}
