// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Cli: bad input, and what is said to it
//!
//! Each mistake gets one line that names the path or the value and the way out, and the exit code that belongs to it.

mod common;

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use addonce::cli::settings::Settings;
use addonce::control::lock;
use addonce::control::process::Process;
use common::fixture::Fixture;
use common::namespace::allowed;
use common::running::addonce;
use log::LevelFilter;
use serde_json::{Value, json};

/// The namespaces that a test needs which mounts something.
const MOUNTS: [&str; 3] = ["--user", "--map-root-user", "--mount"];

/// One line on standard error with these words in it, nothing on standard output, this exit code.
fn refused(output: &Output, code: i32, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(error.starts_with("addonce: "), "{error}");
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    assert!(output.stdout.is_empty());
}

fn run(arguments: &[&str]) -> Output {
    addonce().args(arguments).output().expect("addonce")
}

#[test]
fn a_missing_module_tree_is_named_with_the_way_out() {
    for command in [&["explain", "ext4"][..], &["scan", "--dry-run"]] {
        let output = run(&[command, &["--kernel=0.0.0-none", "--modules-dir=/nowhere"]].concat());
        refused(&output, 5, &["/nowhere/0.0.0-none/modules.dep.bin", "depmod", "--kernel", "--modules-dir"]);
    }
}

#[test]
fn a_kernel_without_modules_is_named_with_the_way_out() {
    if !allowed(&MOUNTS) {
        return;
    }
    // A /proc without `modules` in it, whatever this kernel has.
    let script = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    for command in ["daemon", "scan"] {
        let output = Command::new("unshare")
            .args(MOUNTS)
            .args(["sh", "-c", script])
            .args([env!("CARGO_BIN_EXE_addonce"), command])
            .output()
            .expect("unshare (util-linux)");
        refused(&output, 5, &["/proc/modules", "CONFIG_MODULES", "--dry-run"]);
    }
}

#[test]
fn who_may_not_load_modules_is_told_so() {
    if !allowed(&MOUNTS) {
        return;
    }
    // /proc/modules has to be there, or this kernel's lack of modules would be what is said.
    let script = "mkdir \"$TMP/self\" && touch \"$TMP/modules\" && cp /proc/self/status \"$TMP/self/\" && \
                  sed -i 's/^CapEff:.*/CapEff: 0000000000000000/' \"$TMP/self/status\" && \
                  mount --bind \"$TMP\" /proc && exec \"$0\" \"$@\"";
    let directory = tempfile::tempdir().expect("tempdir");
    let output = Command::new("unshare")
        .args(MOUNTS)
        .args(["sh", "-c", script])
        .args([env!("CARGO_BIN_EXE_addonce"), "scan"])
        .env("TMP", directory.path())
        .output()
        .expect("unshare (util-linux)");
    refused(&output, 5, &["CAP_SYS_MODULE", "root", "--dry-run"]);
}

#[test]
fn an_unknown_flag_is_a_usage_error_that_names_it() {
    let output = run(&["daemon", "--frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--frobnicate"));
}

#[test]
fn neither_a_dry_run_nor_a_daemon_elsewhere_answers_the_kernels_requests() {
    for flag in ["--dry-run", "--socket=/run/another/io.addonce"] {
        let output = run(&["daemon", flag, "--kernel-requests"]);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("--kernel-requests") && error.contains(&flag[..8]), "{error}");
    }
}

#[test]
fn a_bound_of_zero_is_a_usage_error() {
    for flag in ["--jobs=0", "--failures=0", "--memo=0", "--receive-buffer=0", "--clients=x"] {
        let output = run(&["daemon", flag]);
        assert_eq!(output.status.code(), Some(2), "{flag}");
        let name = flag.split('=').next().expect("a name");
        assert!(String::from_utf8_lossy(&output.stderr).contains(name), "{flag}");
    }
}

#[test]
fn sizes_and_times_have_units_and_bounds() {
    let fails = |command: &str, flag: &str| {
        let output = run(&[command, flag, "--kernel=0.0.0-none", "--dry-run"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for value in ["0", "1k", "-1", "M", "1.5M", "99999999999999999G"] {
        let (code, error) = fails("scan", &format!("--receive-buffer={value}"));
        assert!(code == Some(2) && error.contains("512K, 128M or 1G"), "{value}: {error}");
    }
    for value in ["", "s", "1h", "-1s", "5000000000min", "99999999999999999min"] {
        for flag in ["--idle", "--stop-timeout"] {
            let (code, error) = fails("scan", &format!("{flag}={value}"));
            assert!(code == Some(2) && error.contains("it is a time, such as "), "{flag}={value}: {error}");
        }
    }
    for good in ["--receive-buffer=512K", "--receive-buffer=1G", "--idle=2s", "--stop-timeout=1500ms"] {
        let (code, error) = fails("scan", good);
        assert!(code == Some(5) && error.contains("0.0.0-none"), "{good}: {error}");
    }
    let began = std::time::Instant::now();
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    let _listener = UnixListener::bind(&socket).expect("bind");
    let output = run(&["settle", "--timeout=300ms", "--socket", socket.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!((300..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn what_is_wrong_with_a_number_or_a_level_is_said_in_addonces_words() {
    for (flag, word) in [
        ("--jobs=0", "from 1 to 1000000"),
        ("--clients=x", "from 1 to 1000000"),
        // More than there is memory for.
        ("--aliases=4294967296", "from 1 to 1000000"),
        ("--aliases=18446744073709551615", "from 1 to 1000000"),
        ("--stop-timeout=18446744073709551615", "136 years at most"),
        ("--log=loud", "debug or trace"),
        ("--log=off", "debug or trace"),
    ] {
        let output = run(&["daemon", flag]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(word), "{flag}: {error}");
    }
}

#[test]
fn a_scan_that_cannot_read_its_devices_says_so() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let scan = |flag: &str| {
        addonce().args(["scan", "--dry-run"]).args(fixture.flags()).arg(flag).output().expect("addonce")
    };
    refused(&scan("--sysfs=/nowhere"), 2, &["/nowhere: No such file or directory"]);
    refused(&scan("--config=/nowhere"), 2, &["/nowhere: No such file or directory"]);
    let empty = tempfile::tempdir().expect("tempdir");
    let flag = format!("--sysfs={}", empty.path().display());
    refused(&scan(&flag), 5, &["no sysfs is mounted here: bus: No such file"]);
}

#[test]
fn where_no_daemon_listens_the_way_to_one_is_told() {
    for command in ["settle", "status", "failed", "plot"] {
        let output = run(&[command, "--socket=/nowhere/io.addonce"]);
        // Who is not root reads of these what the daemon writes beside its socket.
        if matches!(command, "status" | "failed") && !nix::unistd::geteuid().is_root() {
            refused(&output, 3, &["/nowhere/io.addonce", "udev starts one", "addonce blame"]);
        } else {
            refused(&output, 3, &["/nowhere/io.addonce", "udev starts one", "addonce blame", "--socket"]);
        }
    }
}

#[test]
fn a_retry_starts_a_daemon_where_none_listens() {
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    // It cannot have its turn here.
    let _lock = lock::take(&socket, Duration::ZERO, || false).expect("a lock");
    let output = run(&["retry", "--socket", socket.to_str().expect("text")]);
    let why = match nix::unistd::geteuid().is_root() {
        true => "addonce serve: exit status: 5: nothing can be loaded here",
        false => "to start one takes root",
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && said.contains(why), "{said}");
}

#[test]
fn where_no_file_may_have_a_size_that_is_an_error_and_no_death() {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -f 0; exec \"$0\" record x"]).arg(addonce().get_program());
    refused(&shell.current_dir(directory.path()).output().expect("sh"), 5, &["x: File too large"]);
}

#[test]
fn what_is_too_long_for_a_call_is_a_usage_error() {
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    let _listener = UnixListener::bind(&socket).expect("bind");
    let mut retry = addonce();
    retry.args(["retry", "--socket"]).arg(&socket).args((0..9000).map(|n| format!("module_{n}")));
    refused(&retry.output().expect("addonce"), 2, &["65536 bytes are the most"]);
}

#[test]
fn a_daemon_that_does_not_answer_is_a_timeout() {
    let directory = tempfile::tempdir().expect("tempdir");
    let socket = directory.path().join("io.addonce");
    let _listener = UnixListener::bind(&socket).expect("bind");
    let output = run(&["settle", "--timeout=1", "--socket", socket.to_str().expect("text")]);
    refused(&output, 4, &["no answer within 1 s", "addonce status"]);
    // That asks the same daemon.
    let output = run(&["plot", "--socket", socket.to_str().expect("text")]);
    refused(&output, 4, &["no answer within 10 s: the daemon is stopped or hangs", "/status.json"]);
}

#[test]
fn a_load_of_nothing_is_a_usage_error_whoever_runs_it() {
    // As udev would run it: what udev runs is addonce-load.
    let device = [("ACTION", "add"), ("DEVPATH", "/devices/test/0"), ("MODALIAS", "x:1")];
    let output = addonce().arg("load").envs(device).output().expect("addonce");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("<ALIAS>"), "{output:?}");
}

#[test]
fn a_path_that_is_no_device_is_named() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let explain =
        |what: &str| addonce().args(["explain", what]).args(fixture.flags()).output().expect("addonce");
    refused(&explain("/nowhere/device"), 1, &["/nowhere/device: it is no device's directory"]);
    refused(&explain("/nowhere/fx-hyphen.ko.xz"), 1, &["give the module's name: fx_hyphen"]);
    refused(
        &explain("/etc/passwd"),
        1,
        &["/etc/passwd: it is no device's directory", "/etc/uevent: No such"],
    );
    refused(&run(&["load", "/sys/devices"]), 2, &["/sys/devices: it takes a modalias", "addonce explain"]);
    let directory = tempfile::tempdir().expect("tempdir");
    std::fs::write(directory.path().join("uevent"), "DRIVER=x\n").expect("write");
    refused(&explain(directory.path().to_str().expect("text")), 1, &["no MODALIAS"]);
    // The others are told all the same.
    let mut both = addonce();
    let output = both.args(["explain", "/nowhere/device", "fx_base"]).args(fixture.flags()).output();
    let output = output.expect("addonce");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("fx_base: not loaded\n"), "{output:?}");
}

/// A machine with one network interface, `eth0`, on a PCI function that asks for `fxbus:topmost`, and with what a daemon has left of
/// it in `run`: that fx_top came in, and that fx_twin failed.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("tempdir");
    let path = |place: &str| root.path().join(place);
    let write = |place: &str, text: &str| {
        std::fs::create_dir_all(path(place).parent().expect("a directory")).expect("mkdir");
        std::fs::write(path(place), text).expect("write");
    };
    let function = "devices/pci0000:00/0000:00:03.0";
    write(&format!("{function}/uevent"), "PCI_ID=1AF4:1000\n");
    write(&format!("{function}/modalias"), "fxbus:topmost\n");
    write(&format!("{function}/net/eth0/uevent"), "INTERFACE=eth0\n");
    write("module/fx_top/initstate", "live\n");
    for (link, to) in [
        (format!("{function}/driver"), "../../../bus/pci/drivers/fx_top"),
        ("class/net/eth0".into(), "../../devices/pci0000:00/0000:00:03.0/net/eth0"),
        ("bus/pci/devices/0000:00:03.0".into(), "../../../devices/pci0000:00/0000:00:03.0"),
        // Another name of it.
        ("bus/virtio/devices/virtio7".into(), "../../../devices/pci0000:00/0000:00:03.0"),
        // The numbers of /dev/null.
        ("dev/char/1:3".into(), "../../devices/pci0000:00/0000:00:03.0"),
    ] {
        std::fs::create_dir_all(path(&link).parent().expect("a directory")).expect("mkdir");
        std::os::unix::fs::symlink(to, path(&link)).expect("link");
    }
    let load = |module: &str, error: Value| {
        let devpath = "/devices/pci0000:00/0000:00:03.0";
        json!({ "module": module, "outcome": "x", "error": error, "stage": "insert", "devpath": devpath, "asked": 2,
                "load_us": 41_200, "ended_us": 2_130_456 })
    };
    write("run/loads", &format!("{}\n{}\n", load("fx_twin", json!("ENODEV")), load("fx_top", Value::Null)));
    let Process { pid, started } = Process::this().expect("a process");
    let failure = json!({
        "module": "fx_twin", "alias": "fxbus:topmost", "errno": 19, "error": "ENODEV", "stage": "insert",
        "reason": "No such device (ENODEV)", "attempts": 1, "asked": 1, "devices": 1, "by_kernel": 0,
        "failed_ms_ago": 65_200, "backoff_ms": 0,
    });
    write("run/status.json", &json!({ "pid": pid, "started": started, "failures": [failure] }).to_string());
    root
}

/// `addonce explain` on that machine, told of the configuration by a path that is the same each time.
fn explain_on(machine: &tempfile::TempDir, fixture: &Fixture) -> Command {
    let config = fixture.config();
    let mut explain = addonce();
    explain.arg("explain").current_dir(config.parent().expect("a directory")).arg("--config=modprobe.d");
    explain.args(fixture.flags().iter().filter(|flag| !flag.starts_with("--config")));
    explain.arg("--sysfs").arg(machine.path()).arg("--socket").arg(machine.path().join("run/io.addonce"));
    explain
}

/// What it says of these, its lines as they were before they were wrapped.
fn told_on(machine: &tempfile::TempDir, fixture: &Fixture, what: &[&str]) -> String {
    let output = explain_on(machine, fixture).args(what).output().expect("addonce");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(machine.path().to_str().expect("text"), "SYSFS")
}

#[test]
fn explain_says_what_is_true_of_a_live_module_now() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let machine = machine();
    for module in ["fx_twin", "fx_black"] {
        let state = machine.path().join("module").join(module);
        std::fs::create_dir_all(&state).expect("mkdir");
        std::fs::write(state.join("initstate"), "live\n").expect("write");
    }
    // The daemon's file may be a second old.
    let told = told_on(&machine, &fixture, &["eth0"]);
    assert!(
        told.contains("fx_twin: live fx_black: live, although blacklisted (modprobe.d/a.conf:10)"),
        "{told}"
    );
    assert!(!told.contains("to load it") && !told.contains("in this order: fx"), "{told}");
}

#[test]
fn explain_says_why_a_device_has_no_driver() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let machine = machine();
    let function = machine.path().join("devices/pci0000:00/0000:00:03.0");
    std::fs::remove_file(function.join("driver")).expect("remove");
    std::os::unix::fs::symlink("../../../bus/pci", function.join("subsystem")).expect("link");
    std::fs::write(machine.path().join("bus/pci/drivers_probe"), "").expect("write");
    std::fs::write(function.join("driver_override"), "(null)\n").expect("write");
    let told = told_on(&machine, &fixture, &["eth0"]);
    let offer = "what is live has not taken this device: see dmesg; to offer it again: \
                 echo 0000:00:03.0 > SYSFS/bus/pci/drivers_probe";
    assert!(told.contains(&format!("no driver has it {offer} fxbus:topmost")), "{told}");
    std::fs::write(function.join("driver_override"), "none\n").expect("write");
    let told = told_on(&machine, &fixture, &["eth0"]);
    assert!(
        told.contains("driver_override is \"none\": only a driver of that name takes it fxbus"),
        "{told}"
    );
    assert!(!told.contains("drivers_probe"), "{told}");
}

#[test]
fn explain_says_what_a_module_waits_for() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let machine = machine();
    let file = machine.path().join("run/status.json");
    let mut published: Value = serde_json::from_slice(&std::fs::read(&file).expect("read")).expect("JSON");
    published["status"] = json!({
        "running": [{ "module": "fx_base", "ms": 41_200 }], "waiting": [{ "module": "fx_mid", "ms": 12_000 }],
    });
    std::fs::write(&file, published.to_string()).expect("write");
    let told = told_on(&machine, &fixture, &["fx_base", "fx_mid", "fx_opt"]);
    for line in [
        "fx_base: being loaded, for 41.2 s",
        "fx_mid: waiting to be loaded, for 12.0 s",
        "fx_opt: not loaded",
    ] {
        assert!(told.contains(line), "{told}");
    }
    // fx_top was loaded, and is not there any more.
    std::fs::remove_dir_all(machine.path().join("module/fx_top")).expect("remove");
    let told = told_on(&machine, &fixture, &["fx_top"]);
    assert!(told.contains("fx_top: not loaded was loaded 2.130 s after the kernel's start"), "{told}");
    assert!(told.contains("for 0000:00:03.0 (2 requests), and unloaded since"), "{told}");
    // A device whose request nobody heard.
    std::fs::remove_file(machine.path().join("run/loads")).expect("remove");
    let told = told_on(&machine, &fixture, &["eth0"]);
    assert!(
        told.contains("fx_top: not loaded to load it: addonce load fx_top nothing is recorded of it"),
        "{told}"
    );
}

#[test]
fn explain_tells_modules_verdicts_and_steps() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let machine = machine();
    let explain = |what: &[&str]| {
        let mut explain = explain_on(&machine, &fixture);
        explain.args(what).output().expect("addonce")
    };
    let told = |what: &[&str]| {
        let output = explain(what);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.lines().all(|line| line.len() <= 80 || !line.contains(' ')), "{text}");
        text.replace(machine.path().to_str().expect("text"), "SYSFS")
    };
    for (case, what) in [
        ("explain-topmost", &["fxbus:topmost"][..]),
        ("explain-eth0", &["eth0"]),
        // Its dependency is blacklisted, is not there, and has an install line that counts for nothing.
        ("explain-needs-black", &["fx_needs_black"]),
        ("explain-needs-gone", &["fx_needs_gone"]),
        ("explain-needs-inst-soft", &["fx_needs_inst_soft"]),
        ("explain-several", &["fx_builtin", "fxblack:1"]),
    ] {
        let shown = told(what);
        if std::env::var_os("ADDONCE_BLESS").is_some() {
            std::fs::write(fixture.expectation(case), &shown).expect("write");
        }
        assert_eq!(shown, fixture.expected(case), "{case}");
    }
    let by_path = machine.path().join("class/net/eth0");
    for name in ["0000:00:03.0", "00:03.0", "virtio7", "/dev/null", by_path.to_str().expect("text")] {
        assert_eq!(told(&[name]), fixture.expected("explain-eth0"), "{name}");
    }
    // A node that no device is known for, and what is no node.
    refused(
        &explain(&["/dev/zero"]),
        1,
        &["/dev/zero: it is no device's directory", "dev/char/1:5/uevent: No such"],
    );
    refused(&explain(&["/dev"]), 1, &["/dev: it is no device node"]);
    let output = explain(&["fxnone:1"]);
    let none = "fxnone:1: no module, and no device of this name\n\
                request_module(\"fxnone:1\") would fail: there is no module\n";
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), none.as_bytes()));
    assert_eq!(explain(&["fxnone:1", "fx_base"]).status.code(), Some(1));
    let json = explain(&["eth0", "fx_base", "--json"]).stdout;
    let told: Vec<Value> =
        serde_json::Deserializer::from_slice(&json).into_iter().map(|it| it.expect("JSON")).collect();
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[0]["driver"], &told[0]["modules"][1]["failure"]["error"]),
        (&json!("fx_top"), &json!("ENODEV"))
    );
}

#[test]
fn explain_says_what_a_request_of_the_kernels_own_would_come_to() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    for (name, expected) in [
        ("fx_base", "would load: fx_base"),
        ("fx_black", "would load: fx_black"),
        ("fx-black", "would load: fx_black"),
        ("fxblack:1", "would succeed, and load nothing"),
        ("fxbuiltin:x", "would succeed, and load nothing"),
        ("fx_inst", "would be left to modprobe: an install command takes part, or there is no file"),
        ("fx_needs_inst", "would be left to modprobe: an install command takes part, or there is no file"),
        ("net-pf-1", "would be left to modprobe: addonce-modprobe does not ask for this name"),
        ("fxbuiltin:/", "would be left to modprobe: addonce-modprobe does not ask for this name"),
        ("fxoff", "would be left to modprobe: an install command takes part, or there is no file"),
    ] {
        let explain = |flags: &[&str]| {
            let output = addonce().args(["explain", name]).args(fixture.flags()).args(flags).output();
            output.expect("addonce").stdout
        };
        let told: Value = serde_json::from_slice(&explain(&["--json"])).expect("JSON");
        assert_eq!(told["kernel"], expected, "{name}");
        // Who asks for a module by its name, or for a device, has no use for that, unless the daemon answers the kernel.
        let text = String::from_utf8(explain(&["--socket=/nowhere/io.addonce"])).expect("text");
        assert_eq!(
            text.contains("request_module("),
            !name.starts_with("fx_") && name != "fx-black",
            "{text}"
        );
    }
    let run = tempfile::tempdir().expect("tempdir");
    std::os::unix::fs::symlink("/sbin/modprobe", run.path().join("modprobe")).expect("link");
    if !allowed(&MOUNTS) {
        return;
    }
    // What a kernel runs that runs anything; a daemon that ended has left the link alone.
    let explain = |stands: &str| {
        let sysctl = run.path().join("sysctl");
        std::fs::write(&sysctl, stands).expect("write");
        let script = "[ ! -e /proc/sys/kernel ] || mount -t tmpfs none /proc/sys/kernel && \
                      cp \"$SYSCTL\" /proc/sys/kernel/modprobe && exec \"$0\" \"$@\"";
        let mut explain = Command::new("unshare");
        explain.args(MOUNTS).args(["sh", "-c", script]).arg(env!("CARGO_BIN_EXE_addonce"));
        explain.args(["explain", "fx_base", "--socket"]).arg(run.path().join("io.addonce"));
        let output = explain.args(fixture.flags()).env("SYSCTL", sysctl).output().expect("unshare");
        String::from_utf8(output.stdout).expect("text")
    };
    let text = explain("/usr/bin/addonce-modprobe\n");
    assert!(text.ends_with("request_module(\"fx_base\") would load: fx_base\n"), "{text}");
    let text = explain("/sbin/modprobe\n");
    assert!(text.contains("fx_base") && !text.contains("request_module"), "{text}");
}

#[test]
fn explain_names_a_module_as_its_file_and_as_the_kernel_does_and_says_where_a_file_is_missing() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let sysfs = tempfile::tempdir().expect("tempdir");
    let explain = |what: &str| {
        let mut explain = addonce();
        explain.args(["explain", what]).args(fixture.flags()).arg("--sysfs").arg(sysfs.path());
        String::from_utf8(explain.output().expect("addonce").stdout).expect("text")
    };
    let shown = explain("fxother:1");
    assert!(shown.contains("fx_current: not loaded\n"), "{shown}");
    assert!(shown.contains("the kernel will know it as fx_other"), "{shown}");
    let state = sysfs.path().join("module/fx_other");
    std::fs::create_dir_all(&state).expect("mkdir");
    std::fs::write(state.join("initstate"), "live\n").expect("write");
    let shown = explain("fxother:1");
    assert!(shown.contains("fx_current: live\n"), "{shown}");
    assert!(!shown.contains("missing"), "{shown}");
    std::fs::remove_file(fixture.file("fx-current")).expect("remove");
    let shown = explain("fxother:1");
    assert!(shown.contains("fx-current.ko (this file is missing)\n"), "{shown}");
}

#[test]
fn a_scan_does_not_wait_for_udev() {
    if !allowed(&MOUNTS) {
        return;
    }
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let sysfs = tempfile::tempdir().expect("tempdir");
    std::fs::create_dir(sysfs.path().join("bus")).expect("mkdir");
    let script =
        "mount -t tmpfs none /run && mkdir /run/udev && : >/run/udev/queue && exec timeout 30 \"$0\" \"$@\"";
    let mut scan = Command::new("unshare");
    scan.args(MOUNTS).args(["sh", "-c", script]).arg(env!("CARGO_BIN_EXE_addonce"));
    scan.args(["scan", "--dry-run", "--sysfs"]).arg(sysfs.path());
    let output = scan.args(fixture.flags().iter().filter(|flag| !flag.starts_with("--sysfs"))).output();
    let output = output.expect("unshare");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_alias_that_is_off_is_blacklisted_and_no_failure() {
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let output = addonce().args(["explain", "fxoff"]).args(fixture.flags()).output().expect("addonce");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("off: blacklisted (an alias in modprobe.d)\n"), "{told}");
}

#[test]
fn explain_says_where_a_blacklist_of_the_kernel_command_line_is_to_be_ended() {
    let Some(fixture) = Fixture::try_build("semantics").filter(|_| allowed(&MOUNTS)) else { return };
    let flags = fixture.flags();
    let arguments: Vec<_> =
        ["explain", "fxopt:1"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let output = booted_with("quiet modprobe.blacklist=fx_opt", &arguments);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        told.contains("fx_opt: blacklisted (modprobe.blacklist= on the kernel command line)\n"),
        "{told}"
    );
    assert!(
        told.contains("  to end that: remove it from the boot loader's configuration, and boot\n"),
        "{told}"
    );
}

/// addonce on a machine that was booted with this kernel command line.
fn booted_with(line: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("tempdir");
    let cmdline = directory.path().join("cmdline");
    std::fs::write(&cmdline, line).expect("write");
    let script = "mount --bind \"$CMDLINE\" /proc/cmdline && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(MOUNTS).args(["sh", "-c", script]);
    command.arg(env!("CARGO_BIN_EXE_addonce")).args(arguments).env("CMDLINE", cmdline);
    command.env_remove("JOURNAL_STREAM");
    command.output().expect("unshare (util-linux)")
}

#[test]
fn with_addonce_off_on_the_kernel_command_line_nothing_is_done() {
    if !allowed(&MOUNTS) {
        return;
    }
    for (line, command) in [("quiet addonce=off\n", "daemon"), ("addonce=0 nomodule", "scan")] {
        let output = booted_with(line, &[command]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), error.lines().count()), (Some(0), 1), "{error}");
        assert!(error.contains("addonce=off"), "{error}");
    }
    // Who asks by hand is told that, and not how to start a daemon; nor is one started.
    for command in
        [&["settle"][..], &["status"], &["failed"], &["blame"], &["plot"], &["retry"], &["load", "x"]]
    {
        let began = Instant::now();
        let output = booted_with("addonce=off", &[command, &["--socket=/nowhere/x"]].concat());
        refused(&output, 3, &["addonce is off (addonce=off on the kernel command line)", "use modprobe"]);
        assert!(began.elapsed() < Duration::from_secs(4), "{command:?}");
    }
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let flags = fixture.flags();
    let arguments: Vec<_> =
        ["explain", "fx_base"].into_iter().chain(flags.iter().map(String::as_str)).collect();
    let output = booted_with("addonce=off", &arguments);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("to load it: modprobe fx_base\n"), "{told}");
}

#[test]
fn a_bad_setting_of_the_kernel_command_line_is_one_warning_each_and_no_more() {
    if !allowed(&MOUNTS) {
        return;
    }
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    let sysfs = common::devices::Devices::none();
    let flags = [fixture.flags(), vec![sysfs.flag()]].concat();
    let mut arguments = vec!["scan", "--dry-run"];
    arguments.extend(flags.iter().map(String::as_str));
    let output = booted_with("addonce.jobs=2 addonce.log=loud addonce=perhaps addonce.log=warn", &arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), error.lines().count()), (Some(0), 3), "{error}");
    for word in ["addonce.jobs=2", "addonce.log=loud", "addonce=perhaps"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn the_last_word_counts_and_what_is_meant_for_others_is_left_to_them() {
    assert_eq!(Settings::parse("addonce=off addonce=on", false).off, None);
    assert_eq!(Settings::parse("addonce.log=warn addonce.log=debug\n", false).log, Some(LevelFilter::Debug));
    let others = "root=/dev/sda addonceX=off addonce2.log=warn xaddonce=off nomodule";
    assert_eq!(Settings::parse(others, false), Settings::default());
}

#[test]
fn what_makes_no_sense_is_named_and_nothing_else_happens() {
    let words = ["addonce.jobs=2", "addonce.log=loud", "addonce.log", "addonce=perhaps"];
    let settings = Settings::parse(&words.join(" "), false);
    assert_eq!((settings.off, settings.log, settings.complaints.len()), (None, None, words.len()));
    for (complaint, word) in settings.complaints.iter().zip(words) {
        assert!(complaint.contains(&format!(" {word}: ")), "{complaint}");
    }
}

#[test]
fn off_is_off_everywhere_and_rd_off_in_an_initramfs() {
    for (line, on_the_host, in_an_initramfs) in [
        ("addonce=off", true, true),
        ("addonce=0", true, true),
        ("rd.addonce=0", false, true),
        ("rd.addonce=off", false, true),
        ("addonce rd.addonce=1", false, false),
        ("addonce=on addonce.off=1", false, false),
    ] {
        let is_off = |initramfs| Settings::parse(line, initramfs).off.is_some();
        assert_eq!((is_off(false), is_off(true)), (on_the_host, in_an_initramfs), "{line}");
    }
}

#[test]
fn the_journal_gets_priorities_where_standard_error_is_its_stream() {
    let directory = tempfile::tempdir().expect("tempdir");
    let path = directory.path().join("stderr");
    for (inode, before) in [(0, "<3>/nowhere/x: "), (1, "addonce: /nowhere/x: ")] {
        let stderr = std::fs::File::create(&path).expect("create");
        let file = stderr.metadata().expect("stat");
        let stream = format!("{}:{}", file.dev(), file.ino() + inode);
        let mut addonce = addonce();
        addonce.args(["settle", "--socket=/nowhere/x"]).env("JOURNAL_STREAM", stream).stderr(stderr);
        addonce.status().expect("addonce");
        let said = std::fs::read_to_string(&path).expect("read");
        assert!(said.starts_with(before), "{said}");
    }
}

#[test]
fn what_nobody_would_read_goes_to_the_kernels_log() {
    if !allowed(&MOUNTS) {
        return;
    }
    let kernel = tempfile::NamedTempFile::new().expect("a file");
    for (stderr, is_kernels) in [("/dev/null", true), ("/dev/zero", false)] {
        let script = format!("mount --bind \"$LOG\" /dev/kmsg && exec \"$0\" \"$@\" 2>{stderr}");
        let status = Command::new("unshare")
            .args(MOUNTS)
            .args(["sh", "-c", &script])
            .args([env!("CARGO_BIN_EXE_addonce"), "settle", "--socket=/nowhere/x"])
            .env("LOG", kernel.path())
            .env_remove("JOURNAL_STREAM")
            .status()
            .expect("unshare (util-linux)");
        assert_eq!(status.code(), Some(3));
        let said = std::fs::read_to_string(kernel.path()).expect("read");
        let is_said = said.starts_with("<3>addonce[") && said.contains("]: /nowhere/x: ");
        assert_eq!(is_said, is_kernels, "{stderr}: {said}");
        std::fs::write(kernel.path(), "").expect("write");
    }
}
