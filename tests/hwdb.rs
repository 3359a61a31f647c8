// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policy, as it is written, compiled by systemd and read through libudev. The last needs the feature `udev`; without it there is
//! only what we ship.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use addonce::kmod::hwdb::{self, Policies, set};
use addonce::once::{Mode, Policy};
use common::fixture::Fixture;
use common::namespace::{again, allowed, depth};
use common::tool::{have, tool};

/// Compiles these files as `systemd-hwdb update --strict` does, and returns the directory it did that in; nothing where
/// the test is left out.
fn compile(files: &[(&str, &str)]) -> Option<tempfile::TempDir> {
    if !have(&["systemd-hwdb"]) {
        return None;
    }
    let root = tempfile::tempdir().expect("tempdir");
    let sources = root.path().join("etc/udev/hwdb.d");
    fs::create_dir_all(&sources).expect("mkdir");
    for (name, text) in files {
        fs::write(sources.join(name), text).expect("write");
    }
    let arguments =
        [OsStr::new("update"), OsStr::new("--strict"), OsStr::new("--root"), root.path().as_os_str()];
    tool("systemd-hwdb", &arguments, "", Path::new("/"));
    Some(root)
}

/// Puts it where libudev looks, which has fixed places only.
fn put(hwdb: &tempfile::TempDir) {
    let mount =
        Command::new("mount").arg("--bind").arg(hwdb.path().join("etc/udev")).arg("/etc/udev").status();
    assert!(mount.expect("mount").success());
}

const SHIPPED: (&str, &str) = ("60-addonce.hwdb", hwdb::SHIPPED);

#[test]
fn the_shipped_file_is_accepted_by_systemd() {
    compile(&[SHIPPED]);
}

#[test]
#[cfg_attr(not(feature = "udev"), ignore = "hwdb is not read")]
fn what_hwdb_says_is_what_holds() {
    let namespaces = ["--user", "--map-root-user", "--mount"];
    if !allowed(&namespaces) {
        return;
    }
    let local = "addonce:module:fx_opt\n ADDONCE=never\n\n\
                 addonce:module:fx_base\n ADDONCE_UNLESS=/proc/self\n\n\
                 addonce:module:fx_twin\n ADDONCE_UNLESS=/nowhere\n\n\
                 addonce:modalias:fxopt:2\n ADDONCE=once\n";
    let Some(hwdb) = compile(&[SHIPPED, ("90-local.hwdb", local)]) else { return };
    let Some(fixture) = Fixture::try_build("semantics") else { return };
    // libudev looks in fixed places only: there it is put, for this process alone.
    let script = "mount --bind \"$HWDB\" /etc/udev && exec \"$0\" \"$@\"";
    let explain = |what: &str| {
        let output = Command::new("unshare")
            .args(namespaces)
            .args(["sh", "-c", script])
            .args([env!("CARGO_BIN_EXE_addonce"), "explain", what])
            .args(fixture.flags())
            .env("HWDB", hwdb.path().join("etc/udev"))
            .output()
            .expect("unshare (util-linux)");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let see = |key: &str| format!("; see systemd-hwdb query 'addonce:module:{key}')");
    assert!(explain("fxopt:1").contains(&format!("fx_opt: ruled out (hwdb: ADDONCE=never{}", see("fx_opt"))));
    assert!(explain("fxopt:2").contains("fx_opt: not loaded"), "the modalias goes over the module");
    let exists = format!("fx_base: ruled out (hwdb: /proc/self exists{}", see("fx_base"));
    assert!(explain("fx_base").contains(&exists));
    assert!(explain("fxbus:only").contains("fx_twin: not loaded"));
}

/// As that of an image may be, or one that was compiled before addonce was installed.
#[test]
#[cfg_attr(not(feature = "udev"), ignore = "hwdb is not read")]
fn what_we_ship_holds_in_a_database_without_it_unless_that_says_otherwise() {
    let test = "what_we_ship_holds_in_a_database_without_it_unless_that_says_otherwise";
    if depth().is_none() {
        return again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    let active = "/sys/devices/system/cpu/cpufreq/policy0";
    for (text, unless) in [
        ("test:others\n ID_OTHERS=1\n", active),
        ("addonce:module:others\n ADDONCE=never\n", active),
        ("addonce:module:pcc*\n ADDONCE_UNLESS=/nowhere\n", "/nowhere"),
    ] {
        let Some(hwdb) = compile(&[("90-local.hwdb", text)]) else { return };
        put(&hwdb);
        let policies = Policies::open();
        let policy = policies.lookup("pcc_cpufreq", Some(b"cpu:type:x86"));
        assert_eq!(policy.unless.as_deref(), Some(Path::new(unless)), "{text}");
        // It is mapped.
        let umount = Command::new("umount").args(["--lazy", "/etc/udev"]).status();
        assert!(umount.expect("umount").success());
    }
}

#[test]
fn a_property_that_does_not_parse_is_named_and_left_alone() {
    let mut policy = Policy::default();
    for (key, value) in [
        ("ADDONCE", "twice"),
        ("ADDONCE_UNLESS", "sys/module/kvm"),
        ("ADDONCE_BACKOFF_SEC", "9-3"),
        ("ADDONCE_BACKOFF_SEC", "5"),
    ] {
        let error = set(&mut policy, key, value).expect_err(value);
        assert!(error.starts_with(&format!("{key}={value}: expected ")), "{error}");
    }
    assert_eq!(policy, Policy::default());
}

#[test]
fn properties_of_other_programs_are_none_of_ours() {
    let mut policy = Policy::default();
    set(&mut policy, "ID_VENDOR_FROM_DATABASE", "Intel").expect("ignored");
    set(&mut policy, "ADDONCE", "never").expect("known");
    assert_eq!(policy, Policy { mode: Mode::Never, ..Policy::default() });
}

#[test]
fn without_hwdb_a_second_cpufreq_driver_is_ruled_out_while_one_is_active() {
    for module in ["acpi_cpufreq", "p4_clockmod", "pcc_cpufreq", "powernow_k8"] {
        let policy = Policies::shipped().lookup(module, Some(b"cpu:type:x86"));
        assert_eq!(policy.unless.as_deref(), Some(Path::new("/sys/devices/system/cpu/cpufreq/policy0")));
    }
}

#[test]
fn every_property_that_we_ship_is_understood() {
    let properties = hwdb::SHIPPED.lines().filter_map(|line| line.strip_prefix(' ')?.split_once('='));
    for (name, value) in properties {
        let mut policy = Policy::default();
        assert_eq!(set(&mut policy, name, value), Ok(()));
        assert_ne!(policy, Policy::default(), "{name}");
    }
}

#[test]
fn modules_that_nobody_wrote_about_share_the_default() {
    let policies = Policies::shipped();
    let (one, other) = (policies.lookup("ext4", None), policies.lookup("xfs", Some(b"fs-xfs")));
    assert!(Arc::ptr_eq(&one, &other) && *one == Policy::default());
}

#[test]
fn every_key_that_we_ship_is_one_module() {
    let keys = hwdb::SHIPPED.lines().filter(|line| line.starts_with("addonce:"));
    for name in keys.map(|key| key.strip_prefix("addonce:module:").expect("a module's")) {
        assert!(!name.contains(['*', '?', '[']), "{name}");
        assert_ne!(*Policies::shipped().lookup(name, None), Policy::default(), "{name}");
    }
}

#[test]
fn any_bytes_may_be_asked_for() {
    let policies = Policies::open();
    for modalias in [&b"\xff\xfe"[..], b"a\0b", b"", b"["] {
        assert_eq!(*policies.lookup("addonce_test", Some(modalias)), Policy::default());
    }
    assert_eq!(*policies.lookup("a\0b", None), Policy::default());
}

#[test]
#[cfg_attr(not(feature = "udev"), ignore = "hwdb is not read")]
fn what_is_no_text_is_matched_as_well() {
    let test = "what_is_no_text_is_matched_as_well";
    if depth().is_none() {
        return again(test, &["--user", "--map-root-user", "--mount"], "1");
    }
    let text = "addonce:modalias:crypto-w*\n ADDONCE=never\n";
    let Some(hwdb) = compile(&[("90-local.hwdb", text)]) else { return };
    put(&hwdb);
    let policy = Policies::open().lookup("any", Some(b"crypto-w\xff"));
    assert_eq!(policy.mode, Mode::Never);
}
