// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Left out: tests that this machine cannot run
//!
//! Each says so in a line of its own, past libtest, which shows nothing of a test that passes. With
//! ADDONCE_LEAVE_OUT=nothing, as `make check` sets it, it fails instead.

use std::io::Write;

/// The test that calls this was not run, for this reason.
pub fn left_out(why: &str) {
    let thread = std::thread::current();
    let line = format!("{} was not run: {why}", thread.name().unwrap_or("a test"));
    let may = std::env::var_os("ADDONCE_LEAVE_OUT").is_none_or(|what| what != "nothing");
    assert!(may, "{line}");
    let _ = writeln!(std::io::stderr(), "{line}");
}
