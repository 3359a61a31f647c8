// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Bounds: each is a flag, and each is kept
//!
//! The core's are shown by replays in the time of a simulation; the clients' by clients that come in numbers, that
//! say nothing, that never read, that never end. What uevents may cost: tests/flood.rs and tests/storm.rs.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::fixture::Fixture;
use common::namespace::{alone, as_user};
use common::proc::peak_memory;
use common::running::{Running, addonce};

fn connect(running: &Running) -> UnixStream {
    let client = UnixStream::connect(running.socket()).expect("connect");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    client
}

/// Whether the daemon has closed the connection.
fn is_closed(client: &mut UnixStream) -> bool {
    match client.read(&mut [0; 4096]) {
        Ok(read) => read == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

/// So many clients are let in, and the next one is turned away until one goes.
fn turns_away_the_client_after_the_last(flag: &str, given: Option<usize>, clients: usize) {
    let fixture = Fixture::build("semantics");
    let flags = given.map(|clients| format!("{flag}={clients}"));
    let mut running = Running::start(&[fixture.flags(), flags.into_iter().collect()].concat());
    let mut idle: Vec<UnixStream> = (0..clients).map(|_| connect(&running)).collect();
    let mut one_more = connect(&running);
    let line = running.wait_for("turned away");
    assert!(line.contains(&format!("{clients} clients")) && line.contains(&format!("see {flag})")), "{line}");
    assert!(is_closed(&mut one_more));
    // Those that were let in are served.
    let mut first = idle.swap_remove(0);
    first.write_all(b"{\"method\":\"io.addonce.Status\"}\0").expect("write");
    assert_ne!(first.read(&mut [0; 4096]).expect("a reply"), 0);
    drop(first);
    // The daemon takes leave of it in one turn and lets somebody in, in the next.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !running.ask(&["status"]).status.success() {
        assert!(std::time::Instant::now() < deadline, "there is no room for anybody");
    }
}

#[test]
fn the_client_after_the_last_is_turned_away_with_a_reason_and_room_is_made_when_one_goes() {
    let test = "the_client_after_the_last_is_turned_away_with_a_reason_and_room_is_made_when_one_goes";
    as_user(test, || {
        turns_away_the_client_after_the_last("--clients", None, 64);
        turns_away_the_client_after_the_last("--clients", Some(3), 3);
    });
}

#[test]
fn roots_clients_are_counted_for_themselves() {
    alone("roots_clients_are_counted_for_themselves", || {
        turns_away_the_client_after_the_last("--root-clients", Some(5), 5);
    });
}

#[test]
fn a_client_that_does_not_read_in_time_is_cut_off_and_counted() {
    alone("a_client_that_does_not_read_in_time_is_cut_off_and_counted", || {
        let fixture = Fixture::build("semantics");
        let mut running = Running::start(&[fixture.flags(), vec!["--patience=1".into()]].concat());
        let mut deaf: Vec<UnixStream> = (0..10).map(|_| connect(&running)).collect();
        for client in &mut deaf {
            // More replies than a socket's buffer holds.
            client.write_all(&b"{\"method\":\"io.addonce.Status\"}\0".repeat(1000)).expect("write");
        }
        running.wait_for("it is cut off");
        while running.json(&["status", "--json"])["clients"]["slow"] != 10 {
            std::thread::sleep(Duration::from_millis(50));
        }
        running.settled();
    });
}

#[test]
fn a_client_that_asks_and_never_reads_costs_no_memory_and_nobody_elses_time() {
    alone("a_client_that_asks_and_never_reads_costs_no_memory_and_nobody_elses_time", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start_by(addonce(), "info", &fixture.flags());
        running.settled();
        let idle = peak_memory(running.id());
        let mut deaf: Vec<UnixStream> = (0..32).map(|_| connect(&running)).collect();
        for client in &mut deaf {
            client.set_write_timeout(Some(Duration::from_secs(20))).expect("timeout");
            // Until it is closed: it sent more than a message, and its replies lie unread.
            while client.write_all(b"{\"method\":\"io.addonce.Status\"}\0").is_ok() {}
        }
        running.settled();
        let peak = peak_memory(running.id());
        println!("{idle} KiB idle, {peak} KiB at the peak");
        assert!(peak - idle <= 8 * 1024, "{idle} KiB idle, {peak} KiB at the peak");
    });
}

#[test]
fn a_message_that_does_not_end_is_cut_off_at_the_bound() {
    alone("a_message_that_does_not_end_is_cut_off_at_the_bound", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let mut endless = connect(&running);
        let (mut sent, chunk) = (0, [b' '; 4096]);
        while let Ok(written) = endless.write(&chunk) {
            sent += written;
            assert!(sent < 8 << 20, "{sent} bytes and no end");
        }
        assert!(is_closed(&mut endless));
        running.settled();
    });
}

/// Flag and default of every row in the table of bounds.
fn bounds_of_the_design() -> Vec<(String, String)> {
    let design = include_str!("../docs/DESIGN.md");
    let (_, table) = design.split_once("| bound | flag | default |").expect("the table of bounds");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>());
    cells
        .filter_map(|row| Some((row[2].strip_prefix('`')?.strip_suffix('`')?.to_owned(), row[3].clone())))
        .collect()
}

#[test]
fn every_bound_of_the_design_is_a_flag_of_the_daemon_with_its_default() {
    let help = addonce().args(["daemon", "--help"]).output().expect("addonce").stdout;
    let help = String::from_utf8(help).expect("text").split_whitespace().collect::<Vec<_>>().join(" ");
    let bounds = bounds_of_the_design();
    assert!(bounds.len() >= 8, "{bounds:?}");
    for (flag, default) in bounds {
        let (_, about) =
            help.split_once(&format!("{flag} <")).unwrap_or_else(|| panic!("no {flag} in the help"));
        let about = about.split(" --").next().expect("a first part");
        let shown =
            about.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']')).map(|(shown, _)| shown);
        let shown = shown.unwrap_or_else(|| panic!("{flag} has no default: {about}"));
        // The design writes for people: 128 MiB, 10 s, 2 x CPUs.
        let number = default.split_whitespace().next().expect("a word").parse::<u64>().expect("a number");
        let plain = match flag.as_str() {
            "--jobs" => continue,
            "--receive-buffer" => number << 20,
            _ => number,
        };
        assert_eq!(shown, plain.to_string(), "{flag}");
    }
}

/// A replay's answer: a storm as text, each line a time in seconds, a device and a modalias, and a world.
fn replay(storm: &str, world: &str, flags: &[&str]) -> serde_json::Value {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut capture = String::from("addonce-capture 1\n");
    for (seqnum, line) in storm.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [at, device, modalias] = words[..] else { panic!("{line}") };
        capture += &format!(
            "\n{at} add@/{device}\nACTION=add\nDEVPATH=/{device}\nMODALIAS={modalias}\nSYNTH_UUID=0\nSEQNUM={seqnum}\n"
        );
    }
    let [storm, declared] = ["storm", "world"].map(|name| directory.path().join(name));
    std::fs::write(&storm, capture).expect("write");
    std::fs::write(&declared, world).expect("write");
    let output =
        addonce().args(["replay", "--json"]).args(flags).arg(&storm).arg("--world").arg(&declared).output();
    let output = output.expect("addonce");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// How long a module had to wait for its load, in milliseconds.
fn waited(replay: &serde_json::Value, module: &str) -> u64 {
    let landings = replay["add_once"].as_array().expect("landings");
    let landing = landings.iter().find(|landing| landing["module"] == module).expect("it landed");
    landing["waited_us"].as_u64().expect("a number") / 1000
}

#[test]
fn no_more_loads_run_at_a_time_than_jobs_and_threads_allow() {
    let storm = "0 a m:a\n0 b m:b";
    let slow = |ms: u64| format!("m:a -> a\nm:b -> b\na takes {ms}\nb takes {ms}");
    assert_eq!(waited(&replay(storm, &slow(1000), &["--jobs=1"]), "b"), 1000);
    assert_eq!(waited(&replay(storm, &slow(1000), &["--jobs=2"]), "b"), 0);
    assert_eq!(waited(&replay(storm, &slow(20_000), &["--jobs=1"]), "b"), 5000, "an old load is no job");
    assert_eq!(waited(&replay(storm, &slow(20_000), &["--jobs=1", "--threads=1"]), "b"), 20_000);
}

#[test]
fn a_failure_beyond_the_bound_is_forgotten_and_costs_an_attempt() {
    let storm = "0 x m:a\n1 y m:b\n2 z m:a";
    let world = "m:a -> a\nm:b -> b\na => ENODEV\nb => ENODEV";
    assert_eq!(replay(storm, world, &[])["attempts"], 2);
    assert_eq!(replay(storm, world, &["--failures=1"])["attempts"], 3);
}

#[test]
fn beyond_the_devices_of_a_failure_a_silence_makes_a_request_new() {
    let world = "m:a -> a\na => ENODEV";
    // z asks again.
    assert_eq!(replay("0 x m:a\n1 y m:a\n2 z m:a\n4 z m:a", world, &[])["attempts"], 2);
    // z is not remembered: after seven seconds of silence it is new all the same.
    assert_eq!(replay("0 x m:a\n1 y m:a\n2 z m:a\n4 z m:a", world, &["--sightings=1"])["attempts"], 1);
    assert_eq!(replay("0 x m:a\n1 y m:a\n2 z m:a\n9 z m:a", world, &["--sightings=1"])["attempts"], 2);
}
