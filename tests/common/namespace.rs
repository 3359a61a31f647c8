// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Namespace: a test in namespaces of its own
//!
//! Where the test is root and the only one who speaks to the kernel's uevent group. Needs no privilege.

use std::process::Command;

use super::left_out::{self, left_out};
use super::tool;

const INSIDE: &str = "ADDONCE_TEST_INSIDE_NAMESPACE";

/// Runs the body in a fresh user and network namespace, by running this one test of this program again there.
pub fn alone(test: &str, body: impl FnOnce()) {
    match depth() {
        Some(_) => body(),
        None => again(test, &["--user", "--map-root-user", "--net"], "1"),
    }
}

/// Like [`alone`], on a machine where udevd runs, by its socket.
pub fn with_udev(test: &str, body: impl FnOnce()) {
    match depth() {
        Some(_) => {
            let mount = Command::new("mount").args(["-t", "tmpfs", "none", "/run"]).status();
            assert!(mount.expect("mount").success());
            std::fs::create_dir("/run/udev").expect("mkdir");
            std::fs::write("/run/udev/control", "").expect("write");
            body();
        }
        None => again(test, &["--user", "--map-root-user", "--net", "--mount"], "1"),
    }
}

/// Like [`alone`], but as a user that is not root there.
pub fn as_user(test: &str, body: impl FnOnce()) {
    match depth() {
        Some(_) => body(),
        None => again(test, &["--user", "--map-user=1000", "--net"], "1"),
    }
}

/// How deep in namespaces we are; nothing outside.
pub fn depth() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Runs this one test of this program again, in new namespaces.
pub fn again(test: &str, namespaces: &[&str], depth: &str) {
    if !allowed(namespaces) {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(namespaces)
        .arg("--")
        .arg(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, depth)
        .output()
        .expect("unshare");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(left_out::STATUS) {
        return left_out(err.lines().next_back().unwrap_or_default());
    }
    print!("{out}");
    assert!(output.status.success() && out.contains("1 passed"), "{err}");
}

/// Whether this user may have such namespaces; if not, the test is left out.
pub fn allowed(namespaces: &[&str]) -> bool {
    if !tool::have(&["unshare"]) {
        return false;
    }
    let output = Command::new("unshare").args(namespaces).arg("true").output().expect("unshare");
    if !output.status.success() {
        let root = "as root: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0";
        let why = String::from_utf8_lossy(&output.stderr);
        left_out(&format!("this system forbids user namespaces ({root}): {}", why.trim()));
    }
    output.status.success()
}
