// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which process a client is, and what it may.

use std::fs;
use std::os::unix::net::UnixStream;

use addonce::control::process::{
    Process, grandparent, has_capability, is_in_our_user_namespace, is_root, may_load,
};

#[test]
fn a_client_may_what_its_process_may() {
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    // The client is this process: whatever it is, the answers have to agree.
    assert_eq!(is_root(&ours), nix::unistd::geteuid().is_root());
    assert_eq!(may_load(&ours), has_capability("/proc/self"));
}

#[test]
fn the_clients_grandparent_is_known_and_when_it_was_started() {
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let Process { pid, started } = grandparent(&ours).expect("a grandparent");
    let ours = fs::read_to_string("/proc/self/status").expect("status");
    let parent = ours.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("a parent");
    let parents = fs::read_to_string(format!("/proc/{parent}/status")).expect("status");
    assert!(parents.contains(&format!("\nPPid:\t{pid}\n")), "{pid}: {parents}");
    let started_ourselves = Process::this().expect("we run").started;
    assert!(started <= started_ourselves, "{started} {started_ourselves}");
}

#[test]
fn a_process_is_known_by_more_than_its_pid() {
    let this = Process::this().expect("we run");
    assert!(this.is_alive());
    assert!(!Process { started: this.started + 1, ..this }.is_alive());
}

#[test]
fn a_process_that_is_not_there_may_nothing() {
    assert!(!has_capability("/proc/0") && !is_in_our_user_namespace("/proc/0"));
}
