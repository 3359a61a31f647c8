// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policy, as it is written, compiled by systemd and read through libudev. The last needs the feature `udev`; without it there is
//! only what we ship, which the unit tests know.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use addonce::kmod::hwdb::set;
use addonce::once::{Mode, Policy};
use common::fixture::Fixture;
use common::namespace::allowed;
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

const SHIPPED: (&str, &str) = ("60-addonce.hwdb", include_str!("../hwdb/60-addonce.hwdb"));

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
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(explain("fxopt:1").contains("fx_opt: ruled out (hwdb: ADDONCE=never)"));
    assert!(explain("fxopt:2").contains("fx_opt: load"), "the modalias goes over the module");
    assert!(explain("fx_base").contains("fx_base: ruled out (hwdb: /proc/self exists)"));
    assert!(explain("fxbus:only").contains("fx_twin: load"));
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
