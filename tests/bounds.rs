// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each bound is a flag, and each is kept.
//!
//! The scheduler's are shown by replays in the time of a simulation; the clients' by clients that come in numbers, that say
//! nothing, that never read, that never end, that may not ask. What uevents may cost: tests/flood.rs and tests/storm.rs.

mod common;

use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use addonce::control::client::Conversation;
use addonce::daemon::{hold, outstanding};
use common::fixture::Fixture;
use common::flood::event;
use common::namespace::{alone, as_user};
use common::proc::peak_memory;
use common::running::{Running, addonce};
use common::sender::Sender;
use common::slow::Slow;
use nix::sys::signal::Signal;
use serde_json::json;

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

fn asks(client: &mut UnixStream) {
    client.write_all(b"{\"method\":\"io.addonce.Status\"}\0").expect("write");
}

fn is_answered(client: &mut UnixStream) -> bool {
    client.read(&mut [0; 4096]).is_ok_and(|read| read > 0)
}

#[test]
fn the_client_after_the_last_waits_and_is_served_when_one_goes() {
    alone("the_client_after_the_last_waits_and_is_served_when_one_goes", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&[fixture.flags(), vec!["--clients=3".into()]].concat());
        let mut served: Vec<UnixStream> = (0..3).map(|_| connect(&running)).collect();
        for client in &mut served {
            asks(client);
            assert!(is_answered(client));
        }
        let mut one_more = connect(&running);
        asks(&mut one_more);
        one_more.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
        assert!(!is_answered(&mut one_more), "it waits");
        // Those that are connected are served meanwhile.
        asks(&mut served[0]);
        assert!(is_answered(&mut served[0]));
        served.pop();
        one_more.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        assert!(is_answered(&mut one_more), "there is room");
    });
}

#[test]
fn a_client_that_closed_makes_room_at_once_although_its_call_is_pending() {
    alone("a_client_that_closed_makes_room_at_once_although_its_call_is_pending", || {
        let fixture = Fixture::build("semantics");
        let slow = Slow::new(&fixture, "fx_opt");
        let running = Running::start(&[fixture.flags(), vec!["--clients=4".into()]].concat());
        let mut loads = connect(&running);
        loads
            .write_all(b"{\"method\":\"io.addonce.Load\",\"parameters\":{\"alias\":\"fx_opt\"}}\0")
            .expect("write");
        slow.wait(&running);
        for _ in 0..20 {
            let mut gone = connect(&running);
            gone.write_all(b"{\"method\":\"io.addonce.Settle\"}\0").expect("write");
        }
        drop(loads);
        let status = running.json(&["status", "--json"]);
        assert_eq!(status["clients"]["now"], 1, "who asks, and nobody else: {status:#}");
        assert_eq!(status["running"][0]["module"], "fx_opt", "what was asked for goes on: {status:#}");
        slow.let_go();
        assert_eq!(running.settled()["live"], 1);
    });
}

#[test]
fn without_descriptors_a_client_waits_and_is_served_when_some_are_free() {
    alone("without_descriptors_a_client_waits_and_is_served_when_some_are_free", || {
        let fixture = Fixture::build("semantics");
        // The daemon may not raise it: the hard limit is as low.
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(addonce().get_program());
        let mut running = Running::start_by(command, "info", &fixture.flags());
        let mut clients: Vec<UnixStream> = (0..60).map(|_| connect(&running)).collect();
        running.wait_for("no connection can be accepted");
        let mut last = clients.pop().expect("sixty");
        asks(&mut last);
        clients.truncate(10);
        assert!(is_answered(&mut last), "nobody has to connect for it to be accepted");
    });
}

#[test]
fn who_is_not_root_may_neither_connect_nor_is_served() {
    as_user("who_is_not_root_may_neither_connect_nor_is_served", || {
        let fixture = Fixture::build("semantics");
        let mut running = Running::start(&fixture.flags());
        let mode = std::fs::metadata(running.socket()).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else can connect");
        // This one can, for it is the owner.
        let mut client = connect(&running);
        assert!(is_closed(&mut client));
        running.wait_for("not root is disconnected");
        // What everybody may know it reads.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let status = running.json(&["status", "--json"]);
            if status["clients"]["strangers"] == 1 {
                break;
            }
            assert!(Instant::now() < deadline, "{status:#}");
        }
        assert_eq!(running.json(&["failed", "--json"])["failures"], serde_json::json!([]));
        let output = running.ask(&["load", "fx_top"]);
        assert!(!output.status.success(), "{output:?}");
        let socket = running.socket().clone();
        let directory = running.end(Signal::SIGKILL);
        assert!(directory.path().join("status.json").exists());
        let output = addonce().args(["status", "--socket"]).arg(socket).output().expect("addonce");
        assert_eq!(output.status.code(), Some(3), "what a dead daemon left is not believed: {output:?}");
    });
}

#[test]
fn root_without_the_capability_may_ask_and_not_load() {
    let test = "root_without_the_capability_may_ask_and_not_load";
    if let Some(socket) = std::env::var_os("ADDONCE_TEST_SOCKET") {
        let mut helper = Conversation::open(Path::new(&socket)).expect("a daemon");
        helper.ask("Autoload", json!({ "name": "fx_top" }), true).expect("asked");
        let refused = helper.next(None).expect_err("refused").to_string();
        assert!(refused.contains("CAP_SYS_MODULE"), "{refused}");
        return;
    }
    alone(test, || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let capless = |program: &OsStr| {
            let mut capless = std::process::Command::new("setpriv");
            capless.args(["--bounding-set=-sys_module", "--inh-caps=-sys_module"]).arg(program);
            capless
        };
        let output = |mut command: std::process::Command| {
            command.output().expect("these tests need the program setpriv (util-linux)")
        };
        let ask = |command: &[&str]| {
            let mut asks = capless(addonce().get_program());
            asks.args(command).arg("--socket").arg(running.socket());
            output(asks)
        };
        for command in [&["load", "fx_top"][..], &["retry", "fx_top"]] {
            let output = ask(command);
            assert_eq!(output.status.code(), Some(5), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stderr).contains("CAP_SYS_MODULE"), "{output:?}");
        }
        let mut helper = capless(std::env::current_exe().expect("this program").as_os_str());
        helper.args([test, "--exact"]).env("ADDONCE_TEST_SOCKET", running.socket());
        let output = output(helper);
        assert!(output.status.success(), "{output:?}");
        assert!(ask(&["status"]).status.success());
        let status = running.settled();
        assert_eq!((&status["requests"], &status["kernel"]["requests"]), (&0.into(), &0.into()));
    });
}

#[test]
fn root_of_a_namespace_of_its_own_may_not_load() {
    alone("root_of_a_namespace_of_its_own_may_not_load", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let mut inside = std::process::Command::new("unshare");
        // It has every capability, in there.
        inside.args(["--user", "--map-root-user"]).arg(addonce().get_program());
        inside.args(["load", "fx_top", "--socket"]).arg(running.socket());
        let output = inside.output().expect("unshare");
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        assert_eq!(running.settled()["requests"], 0);
    });
}

#[test]
fn a_flood_of_connects_does_not_delay_a_load() {
    alone("a_flood_of_connects_does_not_delay_a_load", || {
        let fixture = Fixture::build("semantics");
        let mut running = Running::start(&fixture.flags());
        let stop = Arc::new(AtomicBool::new(false));
        let floods: Vec<_> = (0..2)
            .map(|_| {
                let (stop, socket) = (Arc::clone(&stop), running.socket().clone());
                std::thread::spawn(move || {
                    let mut connects = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        connects += u64::from(UnixStream::connect(&socket).is_ok());
                    }
                    connects
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        let event = event("/devices/x", b"fxopt:1");
        Sender::open().expect("a sender").inject(&event).expect("injected");
        running.wait_for("add_once fx_opt live");
        let waited = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        let connects: u64 = floods.into_iter().map(|flood| flood.join().expect("a flood")).sum();
        println!("{connects} connections, the load ended after {waited:?}");
        assert!(connects > 1000, "{connects} are no flood");
        assert!(waited < Duration::from_secs(1), "{waited:?} for a load");
    });
}

#[test]
fn a_client_that_does_not_read_in_time_is_cut_off_and_counted() {
    alone("a_client_that_does_not_read_in_time_is_cut_off_and_counted", || {
        let fixture = Fixture::build("semantics");
        let mut running = Running::start(&[fixture.flags(), vec!["--client-timeout=1".into()]].concat());
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
            client.set_write_timeout(Some(Duration::from_millis(100))).expect("timeout");
            // Until nothing more is taken of it: its replies lie unread.
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

/// The design's table of bounds: what is bounded, by which flags or places, and their defaults.
fn bounds_of_the_design() -> Vec<[Vec<String>; 3]> {
    let design = include_str!("../docs/DESIGN.md");
    let (_, table) = design.split_once("| bound | flag or place | default |").expect("the table of bounds");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cell = |cell: &str| cell.split([';', ',']).map(|part| part.trim().to_owned()).collect();
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(cell).collect::<Vec<_>>());
    cells.map(|row| row.try_into().expect("three cells")).collect()
}

#[test]
fn every_bound_of_the_design_that_is_a_flag_is_one_of_the_daemon_with_this_default() {
    let help = addonce().args(["daemon", "--help"]).output().expect("addonce").stdout;
    let help = String::from_utf8(help).expect("text").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut flags = Vec::new();
    for [bound, places, defaults] in bounds_of_the_design() {
        for (at, place) in places.iter().enumerate() {
            let Some(flag) = place.strip_prefix("`--").and_then(|flag| flag.strip_suffix('`')) else {
                continue;
            };
            assert_eq!(places.len(), defaults.len(), "{bound:?}");
            flags.push(flag.to_owned());
            let (_, about) =
                help.split_once(&format!("--{flag} <")).unwrap_or_else(|| panic!("no --{flag} in the help"));
            let about = about.split(" --").next().expect("a first part");
            let shown = about.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
            let (shown, _) = shown.unwrap_or_else(|| panic!("--{flag} has no default: {about}"));
            // The design writes for people: 128 MiB, 10 s.
            let number = || defaults[at].split_whitespace().next()?.parse::<u64>().ok();
            let plain = match flag {
                "receive-buffer" => (number().expect("a number") << 20).to_string(),
                _ => number().expect("a number").to_string(),
            };
            assert_eq!(shown, plain, "--{flag}");
        }
    }
    flags.sort();
    assert_eq!(
        flags,
        ["aliases", "client-timeout", "clients", "jobs", "processes", "receive-buffer", "stop-timeout"]
    );
}

#[test]
fn the_bounds_of_the_design_that_are_no_flags_are_the_constants_of_the_hold() {
    let table = bounds_of_the_design();
    let row = |bound: &str| {
        let row = table.iter().find(|[bounds, ..]| bounds.iter().any(|one| one == bound));
        row.unwrap_or_else(|| panic!("no \"{bound}\" in the table"))[2].join("; ")
    };
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    assert_eq!(row("outstanding events"), format!("{}; {}", outstanding::MOST, outstanding::MOST_ASKED));
    let [silent, stuck] = [outstanding::GIVE_UP, outstanding::LONGEST_EVENT].map(seconds);
    assert_eq!(row("outstanding events given up: no sign of udevd"), format!("{silent}; {stuck}"));
    assert_eq!(row("a hold is taken from so many outstanding events on"), hold::TAKE_FROM.to_string());
    let age = seconds(hold::RENEW_AFTER);
    let [stall, again] = [hold::STALL, hold::AGAIN_STALL].map(|time| time.as_millis());
    let renewed = format!("{age}; {stall} ms doubling; {again} ms after asking again");
    assert_eq!(row("a hold is renewed after"), renewed);
    let again =
        format!("{}; half as many after each overflow meanwhile; {}", hold::AGAIN_AT_ONCE, hold::RECOVERIES);
    assert_eq!(row("events asked of udev again at a time"), again);
}

/// A replay's answer: a storm as text, each line a time in seconds, a device and a modalias, and what the kernel says.
fn replay(storm: &str, answers: &str, flags: &[&str]) -> serde_json::Value {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut capture = String::from("addonce-capture 1\n");
    for (seqnum, line) in storm.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [at, device, modalias] = words[..] else { panic!("{line}") };
        capture += &format!(
            "{at} add@/{device} ACTION=add DEVPATH=/{device} MODALIAS={modalias} SYNTH_UUID=0 SEQNUM={seqnum}\n"
        );
    }
    let [storm, declared] = ["storm", "answers"].map(|name| directory.path().join(name));
    std::fs::write(&storm, capture).expect("write");
    std::fs::write(&declared, answers).expect("write");
    let mut command = addonce();
    command.args(["replay", "--json"]).args(flags).arg(&storm).arg("--kernel-answers").arg(&declared);
    let output = command.args(Fixture::build("semantics").flags()).output().expect("addonce");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// How long a module had to wait for its load, in milliseconds.
fn waited(replay: &serde_json::Value, module: &str) -> u64 {
    let landings = replay["add_once"].as_array().expect("landings");
    let landing = landings.iter().find(|landing| landing["module"] == module).expect("it landed");
    landing["waited_us"].as_u64().expect("a number") / 1000
}

#[test]
fn no_more_loads_run_at_a_time_than_jobs_and_processes_allow() {
    if Fixture::try_build("semantics").is_none() {
        return;
    }
    let storm = "0 a fxopt:1\n0 b fxhidden:1";
    let slow = |ms: u64| format!("fx_opt takes {ms}\nfx_hidden takes {ms}");
    assert_eq!(waited(&replay(storm, &slow(1000), &["--jobs=1"]), "fx_hidden"), 1000);
    assert_eq!(waited(&replay(storm, &slow(1000), &["--jobs=2"]), "fx_hidden"), 0);
    assert_eq!(
        waited(&replay(storm, &slow(20_000), &["--jobs=1"]), "fx_hidden"),
        5000,
        "an old load is no job"
    );
    assert_eq!(waited(&replay(storm, &slow(20_000), &["--jobs=1", "--processes=1"]), "fx_hidden"), 20_000);
}
