// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Namespace: a test in namespaces of its own
//!
//! Where the test is root and the only one who speaks to the kernel's uevent group. Needs no privilege.

use std::process::Command;

use super::left_out::left_out;

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
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(namespaces)
        .arg("--")
        .arg(program)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, depth)
        .output()
        .expect("these tests need the program unshare (util-linux)");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if err.starts_with("unshare: ") {
        let root = "as root: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0";
        return left_out(&format!("this system forbids user namespaces ({root}): {}", err.trim()));
    }
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}
