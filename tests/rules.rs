// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who loads for a MODALIAS, as udev reads our rules.
//!
//! `udevadm test` says what udev would run for a device of this machine, with our rules in place of systemd's. The kernel
//! command line that it sees is systemd's SYSTEMD_PROC_CMDLINE, and whether it is in an initramfs its SYSTEMD_IN_INITRD.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::left_out::left_out;
use common::namespace::allowed;
use common::tool::{command, have};

/// Where udevadm sees our rules, and nobody else does.
const NAMESPACES: [&str; 3] = ["--user", "--map-root-user", "--mount"];
const RULES: &str = include_str!("../rules.d/80-drivers.rules.in");
/// The file that ours stands in for: this system's, unless STOCK names another's.
const THEIRS: [&str; 2] = ["/usr/lib/udev/rules.d/80-drivers.rules", "/lib/udev/rules.d/80-drivers.rules"];
const STOCK: &str = "ADDONCE_STOCK_RULES";

/// For the program alone: what is in a directory are the rules of /etc, and /run has nothing but what the test puts there.
const PLACE: &str = "mount -t tmpfs none /run && cp -r \"$1\" /run/rules && mkdir /run/addonce && \
                     { [ -z \"$4\" ] || ln -s \"$4\" /run/addonce/hold; } && \
                     mount --bind /run/rules /etc/udev/rules.d && exec udevadm test --action=\"$2\" \"$3\"";

/// What udev would do.
struct Udev {
    directory: tempfile::TempDir,
    device: PathBuf,
    action: &'static str,
    command_line: &'static str,
    is_initramfs: bool,
    /// What `hold` leads to.
    hold: &'static str,
}

impl Udev {
    /// None where the test is left out.
    fn new() -> Option<Self> {
        if !have(&["udevadm"]) || !allowed(&NAMESPACES) {
            return None;
        }
        let device = device()?;
        let directory = tempfile::tempdir().expect("tempdir");
        fs::create_dir(directory.path().join("rules")).expect("mkdir");
        fs::write(directory.path().join("addonce-load"), "").expect("write");
        let udev =
            Self { directory, device, action: "add", command_line: "quiet", is_initramfs: false, hold: "" };
        udev.rules("80-drivers.rules", &RULES.replace("@BINDIR@", &udev.directory.path().to_string_lossy()));
        Some(udev)
    }

    fn rules(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join("rules").join(name), text).expect("write");
    }

    fn program(&self, arguments: &str) -> String {
        format!("{}{arguments}", self.directory.path().join("addonce-load").display())
    }

    /// What it would run of what concerns loading, in its own words.
    fn runs(&self) -> Vec<String> {
        let output = Command::new("unshare")
            .args(NAMESPACES)
            .args(["sh", "-c", PLACE, "sh"])
            .args([&self.directory.path().join("rules"), Path::new(self.action), &self.device])
            .arg(self.hold)
            .env("SYSTEMD_PROC_CMDLINE", self.command_line)
            .env("SYSTEMD_IN_INITRD", if self.is_initramfs { "1" } else { "0" })
            .output()
            .expect("unshare (util-linux)");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.contains("DEVPATH="), "{said}");
        let runs = said.lines().filter_map(run);
        runs.filter(|run| run.contains("kmod") || run.contains("addonce")).map(str::to_owned).collect()
    }
}

/// What a line of `udevadm test` says of what is run: `run: 'COMMAND'`, and from systemd 257 on (dump_event() in src/udev/udev-dump.c)
/// `  RUN{program} : COMMAND`, or builtin.
fn run(line: &str) -> Option<&str> {
    let until_256 = line.strip_prefix("run: '").and_then(|rest| rest.strip_suffix('\''));
    let since_257 =
        || ["program", "builtin"].iter().find_map(|kind| line.strip_prefix(&format!("  RUN{{{kind}}} : ")));
    until_256.or_else(since_257)
}

#[test]
fn what_udevadm_test_prints_is_understood_of_each_systemd() {
    for (line, runs) in [
        ("run: 'kmod load 'test:1''", Some("kmod load 'test:1'")),
        ("  RUN{builtin} : kmod load 'test:1'", Some("kmod load 'test:1'")),
        ("  RUN{program} : /usr/bin/addonce-load", Some("/usr/bin/addonce-load")),
        ("  ID_RUN=/usr/bin/addonce-load", None),
    ] {
        assert_eq!(run(line), runs, "{line}");
    }
}

/// Any device that has a MODALIAS; where there is none the test is left out.
fn device() -> Option<PathBuf> {
    let buses = fs::read_dir("/sys/bus").expect("/sys/bus").flatten();
    let devices = buses.filter_map(|bus| fs::read_dir(bus.path().join("devices")).ok()).flatten().flatten();
    let device = devices.map(|device| device.path()).find(|path| modalias(path).is_some());
    if device.is_none() {
        left_out("no device here has a MODALIAS");
    }
    device.map(|device| device.canonicalize().expect("a device"))
}

fn modalias(device: &Path) -> Option<String> {
    let text = fs::read_to_string(device.join("uevent")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("MODALIAS=").map(str::to_owned))
}

#[test]
fn without_a_hold_a_program_asks() {
    let Some(udev) = Udev::new() else { return };
    assert_eq!(udev.runs(), [udev.program("")]);
    // The link of a daemon that is dead.
    let udev = Udev { hold: "/proc/4194305/fd/9/io.addonce", ..udev };
    assert_eq!(udev.runs(), [udev.program("")]);
}

#[test]
fn while_addonce_holds_udev_runs_nothing() {
    let Some(udev) = Udev::new() else { return };
    fs::write(udev.directory.path().join("rules/io.addonce"), "").expect("write");
    let udev = Udev { hold: "/run/rules", ..udev };
    assert_eq!(udev.runs(), [""; 0]);
    // As with `udevadm trigger`, with `udevadm trigger --settle`, and where addonce asks again.
    let uuid = "9b0d1d7e-1b3c-4a56-8f6e-0c5f3d3a7c11";
    for (keys, runs) in [
        ("ENV{SYNTH_UUID}=\"0\"".to_owned(), vec![]),
        (format!("ENV{{SYNTH_UUID}}=\"{uuid}\""), vec![udev.program("")]),
        (format!("ENV{{SYNTH_UUID}}=\"{uuid}\", ENV{{SYNTH_ARG_ADDONCE}}=\"again\""), vec![]),
        (format!("ENV{{SYNTH_UUID}}=\"{uuid}\", ENV{{SYNTH_ARG_ADDONCE}}=\"ask\""), vec![udev.program("")]),
    ] {
        udev.rules("00-test.rules", &format!("{keys}\n"));
        assert_eq!(udev.runs(), runs, "{keys}");
    }
    // As addonce says that nobody waits for it. `udevadm test` gives its event no SEQNUM, so the directory stands for the link in it.
    udev.rules("00-test.rules", &format!("ENV{{SYNTH_UUID}}=\"{uuid}\"\n"));
    fs::create_dir(udev.directory.path().join("rules/nobody-waits")).expect("create");
    assert_eq!(udev.runs(), [""; 0]);
    udev.rules("00-test.rules", &format!("ENV{{SYNTH_UUID}}=\"{uuid}\", ENV{{SYNTH_ARG_ADDONCE}}=\"ask\"\n"));
    assert_eq!(udev.runs(), [udev.program("")], "the hold asks for it");
    // Somebody's file, or his directory.
    for hold in ["/proc/self/mounts", "/proc/self/task"] {
        let udev = Udev { hold, ..Udev::new().expect("as before") };
        assert_eq!(udev.runs(), [udev.program("")], "{hold}");
    }
}

#[test]
fn the_event_of_a_hold_waits() {
    let Some(udev) = Udev::new() else { return };
    let udev = Udev { action: "change", device: "/sys/module/kernel".into(), ..udev };
    assert_eq!(udev.runs(), [""; 0], "any other change");
    // As the kernel adds it to what was written with ADDONCE=.
    for (what, runs) in [("hold", vec![udev.program(" --hold")]), ("again", vec![])] {
        udev.rules("00-test.rules", &format!("ENV{{SYNTH_ARG_ADDONCE}}=\"{what}\"\n"));
        assert_eq!(udev.runs(), runs, "{what}");
    }
}

#[test]
fn what_is_asked_again_is_asked_like_anything_else() {
    let Some(udev) = Udev::new() else { return };
    udev.rules("00-test.rules", "ENV{SYNTH_ARG_ADDONCE}=\"again\"\n");
    assert_eq!(udev.runs(), [udev.program("")]);
}

/// The hold does not matter: whose it was is gone, or stands still.
#[test]
fn what_the_program_of_a_hold_hands_back_udev_loads_by_itself() {
    let Some(mut udev) = Udev::new() else { return };
    let uuid = "00000000-0000-4000-8000-000000000000";
    let event = format!("ENV{{SYNTH_UUID}}=\"{uuid}\", ENV{{SYNTH_ARG_ADDONCE}}=\"off\"\n");
    udev.rules("00-test.rules", &event);
    let modalias = modalias(&udev.device).expect("a MODALIAS");
    for hold in ["", "/proc/1/fd/2"] {
        udev.hold = hold;
        let runs = udev.runs();
        assert!(runs.len() == 1 && runs[0].contains("kmod load") && runs[0].contains(&modalias), "{runs:?}");
    }
}

#[test]
fn a_modalias_that_a_rule_cleared_is_nobodys() {
    let Some(udev) = Udev::new() else { return };
    udev.rules("00-test.rules", "ENV{MODALIAS}=\"\"\n");
    assert_eq!(udev.runs(), [""; 0]);
}

#[test]
fn a_rule_may_name_another_modalias() {
    let Some(udev) = Udev::new() else { return };
    let udev = Udev { command_line: "addonce=off", ..udev };
    udev.rules("79-test.rules", "ENV{MODALIAS}=\"test:another\"\n");
    assert_eq!(udev.runs(), ["kmod load 'test:another'"]);
}

#[test]
fn with_addonce_off_udev_loads_as_it_always_did() {
    let Some(mut udev) = Udev::new() else { return };
    let stock = [format!("kmod load '{}'", modalias(&udev.device).expect("a MODALIAS"))];
    for (command_line, is_initramfs, is_off) in [
        ("quiet", false, false),
        ("addonce=on rd.addonce=1", true, false),
        ("quiet addonce=off", false, true),
        ("addonce=0", true, true),
        ("rd.addonce=0", true, true),
        ("rd.addonce=off", true, true),
        ("rd.addonce=0", false, false),
    ] {
        udev = Udev { command_line, is_initramfs, ..udev };
        let expected = if is_off { stock.clone() } else { [udev.program("")] };
        assert_eq!(udev.runs(), expected, "{command_line}, initramfs: {is_initramfs}");
    }
}

#[test]
fn without_the_program_udev_loads_as_it_always_did() {
    let Some(udev) = Udev::new() else { return };
    fs::remove_file(udev.directory.path().join("addonce-load")).expect("remove");
    let stock = [format!("kmod load '{}'", modalias(&udev.device).expect("a MODALIAS"))];
    assert_eq!(udev.runs(), stock);
    // It was removed under a daemon that holds: nobody would wait for what that loads.
    fs::write(udev.directory.path().join("rules/io.addonce"), "").expect("write");
    let udev = Udev { hold: "/run/rules", ..udev };
    assert_eq!(udev.runs(), stock);
}

/// The builtin takes what the rule gives it: a quoted modalias, in the syntax of every version.
#[test]
fn the_builtin_understands_the_argument() {
    if !have(&["udevadm"]) {
        return;
    }
    let Some(device) = device() else { return };
    let output = command("udevadm")
        .args(["test-builtin", "kmod load 'test:none'"])
        .arg(device)
        .env("SYSTEMD_LOG_LEVEL", "debug")
        .output()
        .expect("udevadm");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("Invalid argument") && said.contains("test:none"), "{said}");
    assert!(!said.contains("'test:none''"), "{said}");
}

/// A line that systemd's file has and ours lacks would be lost where addonce is installed.
#[test]
fn everything_else_that_systemds_file_does_is_done() {
    let theirs = match std::env::var_os(STOCK) {
        Some(path) => fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")),
        None => match THEIRS.iter().find_map(|path| fs::read_to_string(path).ok()) {
            Some(theirs) => theirs,
            None => return left_out("udev's own 80-drivers.rules is not here"),
        },
    };
    let rules = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    };
    let ours = rules(RULES);
    let lost: Vec<_> = rules(&theirs).into_iter().filter(|line| !ours.contains(line)).collect();
    // The one line that addonce stands in for.
    assert_eq!(lost, [r#"ENV{MODALIAS}=="?*", RUN{builtin}+="kmod load""#]);
}
