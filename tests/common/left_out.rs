// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests that this machine cannot run.
//!
//! Each says so in a line of its own, past libtest, which shows nothing of a test that passes. With
//! ADDONCE_LEAVE_OUT=nothing, as `make check` sets it, it fails instead.

use std::io::Write;

use super::namespace;

/// How a test in namespaces of its own tells the one outside, which is the one to say it, that it was not run.
pub const STATUS: i32 = 77;

/// The test that calls this was not run, for this reason. In a namespace, where a test has a process to itself, it does not
/// return.
pub fn left_out(why: &str) {
    let mut stderr = std::io::stderr();
    if namespace::depth().is_some() {
        let _ = writeln!(stderr, "{why}");
        std::process::exit(STATUS);
    }
    let thread = std::thread::current();
    let line = format!("{} was not run: {why}", thread.name().unwrap_or("a test"));
    let may = std::env::var_os("ADDONCE_LEAVE_OUT").is_none_or(|what| what != "nothing");
    assert!(may, "{line}");
    let _ = writeln!(stderr, "{line}");
}
