// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the commands show: a terminal has 80 columns, and words stay whole.
//!
//! A case is a folder in tests/cases/screens: `replies.json` has what a daemon would reply to Status, Failures and Storm, `loads` is the
//! file that it leaves, `expected` has a file for each command, by its words. `ADDONCE_BLESS=1 cargo test --test screens` writes what
//! is in `expected` anew, to be looked at.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Output;

use addonce::control::process::Process;
use addonce::control::{LOADS, STATUS};
use common::fixture::Fixture;
use common::flood::event;
use common::namespace::alone;
use common::running::{Running, addonce};
use common::sender::Sender;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const COMMANDS: [&[&str]; 9] = [
    &["status"],
    &["status", "--prometheus"],
    &["failed"],
    &["failed", "mlx5-core"],
    &["failed", "pcc_cpufreq", "mlx5_ib", "vendor_hook"],
    &["failed", "ext4"],
    &["blame"],
    &["blame", "--json"],
    &["monitor"],
];

/// A daemon that has nothing but its replies.
struct Daemon {
    directory: tempfile::TempDir,
}

impl Daemon {
    fn new(case: &Path) -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        let replies: Value =
            serde_json::from_slice(&fs::read(case.join("replies.json")).expect("replies.json"))
                .expect("JSON");
        let loads = fs::read_to_string(case.join(LOADS)).expect(LOADS);
        fs::write(directory.path().join(LOADS), &loads).expect("write");
        // Who is not root reads this.
        let Process { pid, started } = Process::this().expect("a process");
        let mut published = json!({ "pid": pid, "started": started });
        ["status", "failures"].iter().for_each(|key| published[key] = replies[key].clone());
        fs::write(directory.path().join(STATUS), published.to_string()).expect("write");
        let listener = UnixListener::bind(directory.path().join("io.addonce")).expect("bind");
        std::thread::spawn(move || {
            listener.incoming().for_each(|client| answer(client.expect("a client"), &replies, &loads));
        });
        Self { directory }
    }

    fn ask(&self, command: &[&str]) -> Output {
        let socket = self.directory.path().join("io.addonce");
        addonce().args(command).arg("--socket").arg(socket).output().expect("addonce")
    }
}

fn answer(client: UnixStream, replies: &Value, loads: &str) {
    let mut call = Vec::new();
    BufReader::new(&client).read_until(0, &mut call).expect("a call");
    let call: Value = serde_json::from_slice(&call[..call.len() - 1]).expect("JSON");
    let reply = |reply: Value| (&client).write_all(format!("{reply}\0").as_bytes()).expect("a reader");
    match call["method"].as_str() {
        Some("io.addonce.Status") => reply(json!({ "parameters": replies["status"] })),
        Some("io.addonce.Failures") => reply(json!({ "parameters": { "failures": replies["failures"] } })),
        Some("io.addonce.Storm") => reply(json!({ "parameters": { "storm": replies["storm"] } })),
        Some("io.addonce.Monitor") => {
            let loads = loads.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            loads.for_each(|load| reply(json!({ "parameters": { "add_once": load }, "continues": true })));
        }
        other => panic!("{other:?}"),
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/screens");
    let cases: Vec<_> = fs::read_dir(folder).expect("cases").flatten().map(|entry| entry.path()).collect();
    assert!(!cases.is_empty());
    cases
}

/// Without what is another each time: dates, and how long ago that was.
fn lasting(screen: &str) -> String {
    let line = |line: &str| {
        let cut = |at: &str| line.split_once(at).map(|(before, _)| format!("{before}{at} ...\n"));
        cut("since: 20").or(cut("start_time_seconds 1")).unwrap_or(format!("{line}\n"))
    };
    screen.lines().map(line).collect()
}

#[test]
fn screens_are_as_expected() {
    for case in cases() {
        let daemon = Daemon::new(&case);
        for command in COMMANDS {
            let output = daemon.ask(command);
            let errors = String::from_utf8_lossy(&output.stderr);
            let shown = format!("{}{errors}", String::from_utf8_lossy(&output.stdout));
            let shown = lasting(&shown.replace(daemon.directory.path().to_str().expect("text"), "DIRECTORY"));
            let expected = case.join("expected").join(command.join(" "));
            if std::env::var_os("ADDONCE_BLESS").is_some() {
                fs::write(&expected, &shown).expect("write");
            }
            let wanted = fs::read_to_string(&expected)
                .unwrap_or_else(|error| panic!("{}: {error}", expected.display()));
            assert_eq!(shown, wanted, "{}", expected.display());
        }
    }
}

#[test]
fn no_screen_is_wider_than_a_terminal() {
    for case in cases() {
        let daemon = Daemon::new(&case);
        for command in COMMANDS.iter().filter(|command| !command.iter().any(|word| word.starts_with("--"))) {
            let output = daemon.ask(command);
            let shown = String::from_utf8(output.stdout).expect("text");
            for line in shown.lines() {
                assert!(line.chars().count() <= 80, "{command:?}: {line}");
            }
        }
    }
}

#[test]
fn help_is_wrapped_at_80_columns_for_every_command() {
    let help = |arguments: &[&str]| {
        let output = addonce().args(arguments).arg("--help").output().expect("addonce");
        String::from_utf8(output.stdout).expect("text")
    };
    let all = help(&[]);
    let (_, commands) = all.split_once("Commands:\n").expect("commands");
    let names: Vec<_> = commands.lines().take_while(|line| !line.is_empty()).collect();
    let names = names
        .iter()
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let mut seen = 0;
    for name in names.filter(|name| *name != "help") {
        seen += 1;
        for line in help(&[name]).lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
    }
    assert!(seen > 10 && all.lines().all(|line| line.chars().count() <= 80), "{all}");
}

#[test]
fn a_typo_is_told_what_was_meant() {
    for (typed, meant) in [("statsu", "status"), ("blam", "blame"), ("explan", "explain")] {
        let output = addonce().arg(typed).output().expect("addonce");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(&format!("'{meant}'")), "{error}");
    }
    let output = addonce().args(["settle", "--timout=1"]).output().expect("addonce");
    assert!(String::from_utf8_lossy(&output.stderr).contains("'--timeout'"), "{output:?}");
}

#[test]
fn what_was_loaded_is_known_without_a_daemon_and_the_next_one_goes_on_with_it() {
    alone("what_was_loaded_is_known_without_a_daemon_and_the_next_one_goes_on_with_it", || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        let mut sender = Sender::open().expect("a sender");
        let device = "/devices/pci0000:00/0000:00:03.0";
        sender.inject(&event(device, b"fxbus:topmost")).expect("sent");
        running.settle();
        // By a death that nobody can prepare for.
        let directory = running.end(Signal::SIGKILL);
        let loads = directory.path().join(LOADS);
        assert_eq!(fs::metadata(&loads).expect("written").permissions().mode() & 0o777, 0o644);
        let blame = |directory: &Path| {
            let socket = directory.join("io.addonce");
            let output = addonce().args(["blame", "--socket"]).arg(socket).output().expect("addonce");
            (output.status.code(), String::from_utf8(output.stdout).expect("text"))
        };
        let (code, shown) = blame(directory.path());
        assert_eq!((code, shown.lines().count()), (Some(0), 5), "{shown}");
        let line = |module: &str, rest: &str| {
            let found = shown.lines().find(|line| line.split_whitespace().nth(3) == Some(module));
            let found = found.unwrap_or_else(|| panic!("no {module} in {shown}"));
            assert!(found.ends_with(rest), "{found}");
        };
        line("fx_top", "dry run   0000:00:03.0");
        line("fx_base", "dry run   needed by fx_top");
        // A line that was cut short is passed over, here and by the next daemon.
        let text = fs::read_to_string(&loads).expect("read");
        fs::write(&loads, format!("{text}{{\"module\":")).expect("write");
        assert_eq!(blame(directory.path()).1.lines().count(), 5);
        let running = Running::start_in(directory, addonce(), "debug", &fixture.flags());
        running.ask(&["load", "fx_opt"]);
        let known = running.json(&["blame", "--json"]);
        let modules: Vec<_> =
            known["loads"].as_array().expect("loads").iter().map(|load| &load["module"]).collect();
        assert_eq!(modules.len(), 5, "{modules:?}");
        assert!(fs::read_to_string(running.directory().join(LOADS)).expect("read").ends_with("}\n"));
        let ended =
            known["loads"].as_array().expect("loads").iter().filter_map(|load| load["ended_us"].as_u64());
        let now = fs::read_to_string("/proc/uptime").expect("uptime");
        let now: f64 = now.split(' ').next().expect("a number").parse().expect("a number");
        let now = (now * 1e6) as u64;
        ended.for_each(|ended| {
            assert!((now - 60_000_000..=now + 1_000_000).contains(&ended), "{ended} {now}")
        });
    });
}

#[test]
fn what_failed_is_known_without_a_daemon_to_who_may_read_what_the_next_one_would() {
    let name = "what_failed_is_known_without_a_daemon_to_who_may_read_what_the_next_one_would";
    alone(name, || {
        let fixture = Fixture::build("semantics");
        let running = Running::start(&fixture.flags());
        running.ask(&["load", "fx_gone"]);
        let directory = running.end(Signal::SIGTERM);
        let failed = || {
            let socket = directory.path().join("io.addonce");
            addonce().args(["failed", "--socket"]).arg(socket).output().expect("addonce")
        };
        // A dry run's is none of a daemon that loads.
        let state = directory.path().join("state.json");
        let text = fs::read_to_string(&state).expect("read");
        assert_eq!(failed().status.code(), Some(3));
        fs::write(&state, text.replace("\"dry_run\":true", "\"dry_run\":false")).expect("write");
        let output = failed();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("\nfx_gone "), "{output:?}");
        fs::remove_file(&state).expect("remove");
        let output = failed();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(3) && error.contains("udev starts one"), "{error}");
    });
}

#[test]
fn where_nothing_was_loaded_that_is_said() {
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    let output = addonce().args(["blame", "--socket"]).arg(&socket).output().expect("addonce");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(3) && error.contains("has loaded nothing since the boot"),
        "{error}"
    );
}

/// The metrics that a text names.
fn metrics(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("addonce_")).collect()
}

#[test]
fn every_metric_that_an_alert_or_the_dashboard_asks_for_exists() {
    let exists =
        |metric: &&str| include_str!("../src/cli/metrics.prom").contains(&format!("# TYPE {metric} "));
    let dashboard: Value =
        serde_json::from_str(include_str!("../contrib/addonce-dashboard.json")).expect("JSON");
    let rules = include_str!("../contrib/addonce.rules.yml");
    for text in [rules.to_owned(), dashboard.to_string()] {
        let asked = metrics(&text);
        assert!(asked.len() > 4);
        assert_eq!(asked.iter().find(|metric| !exists(metric)), None);
    }
    // Where it is, Prometheus' own tool reads them, too.
    if let Ok(output) = std::process::Command::new("promtool")
        .args(["check", "rules", "contrib/addonce.rules.yml"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
    {
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn metrics_are_of_the_form_that_prometheus_reads() {
    for case in cases() {
        let output = Daemon::new(&case).ask(&["status", "--prometheus"]);
        let text = String::from_utf8(output.stdout).expect("text");
        let mut declared = Vec::new();
        for line in text.lines() {
            if let Some(declaration) = line.strip_prefix("# TYPE ") {
                declared.push(declaration.split(' ').next().expect("a name"));
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let name = series.split('{').next().expect("a name");
                assert_eq!(declared.last(), Some(&name), "{line}");
                assert!(value.parse::<u64>().is_ok(), "{line}");
                assert!(series.matches('"').count() % 2 == 0, "{line}");
            }
        }
        assert!(
            declared.contains(&"addonce_failed_attempts") && text.contains("{module=\"pcc_cpufreq\","),
            "{text}"
        );
    }
}
