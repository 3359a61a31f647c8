// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce failed`: what is remembered as failed, why, and when it would be tried again.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::query::{Query, list, number, show, text};
use crate::escape::head;
use crate::fatal::Fatal;
use crate::format::{count, duration};

/// Lists it.
pub fn run(query: &Query) -> Result<ExitCode, Fatal> {
    let read = |published: Value| json!({ "failures": published["failures"] });
    let reply = query.look_or_read("Failures", read)?;
    let failures = list(&reply, "/failures");
    show(query.json, &reply, |_| failures.iter().map(|failure| entry(failure, failures)).collect())
}

/// Three lines: what the kernel said, who asked, and what comes next.
fn entry(failure: &Value, all: &[Value]) -> String {
    let [attempts, asked, devices] =
        [("/attempts", "attempt"), ("/asked", "request"), ("/devices", "device")]
            .map(|(place, thing)| count(number(failure, place), thing));
    let kernel = match number(failure, "/by_kernel") {
        0 => String::new(),
        requests => format!(" and {} of the kernel's own", count(requests, "request")),
    };
    format!(
        "{}: {}{}\n    {attempts}, the last {} ago; {asked} since{kernel}, {devices} in all, first for {}\n    {}\n",
        text(failure, "/module"),
        text(failure, "/reason"),
        hint(text(failure, "/error"), text(failure, "/stage")),
        duration(number(failure, "/failed_ms_ago")),
        head(text(failure, "/alias"), 48),
        next(failure, all)
    )
}

/// What the errno usually means, where its own words do not say it: for a driver that the kernel refused.
fn hint(error: &str, stage: &str) -> &'static str {
    match (stage, error) {
        ("insert", "ENODEV" | "ENXIO") => ": there is nothing here that it could drive",
        ("insert", "ENOENT") => ": it wants a symbol or something else that is not there, see dmesg",
        ("insert", "ENOEXEC") => ": it was built for another kernel, see dmesg",
        ("insert", "EINVAL") => ": an option or a symbol does not fit, see dmesg",
        ("insert", "EKEYREJECTED" | "ENOKEY") => ": it is not signed with a key that this kernel trusts",
        ("insert", "EPERM") => {
            ": module_blacklist= on the kernel command line names it, or this kernel is locked down"
        }
        ("died", "EFAULT") => {
            ": its init crashed in the kernel; what it had taken stays taken until the next boot"
        }
        ("insert", "EEXIST" | "EBUSY") => ": another driver has what it wants",
        _ => "",
    }
}

/// When it is tried again: the once rules, as far as they are open for this failure.
fn next(failure: &Value, all: &[Value]) -> String {
    let now = format!("or now: addonce retry {}", text(failure, "/module"));
    if let Some(ms) = failure["again_in_ms"].as_u64() {
        return format!("tried again in {}, or when a daemon next starts, {now}", duration(ms));
    }
    if let Some(root) = failure["because_of"].as_str() {
        return format!("tried again with {root}: see there, {now}");
    }
    // What needs it is live without it, or that would have failed as well.
    let is_soft = failure["pulled_in"] == true;
    if is_soft && all.iter().all(|other| other["because_of"] != failure["module"]) {
        return format!(
            "tried again for a device of its own, or with a module that needs it and is not live, {now}"
        );
    }
    let conflict = match text(failure, "/error") {
        "EEXIST" | "EBUSY" | "ENODEV" => "when a module was unloaded, ",
        _ => "",
    };
    format!(
        "tried again when its files, options or dependencies changed, {conflict}for new hardware, \
         at the next `udevadm trigger --action=add`, {now}"
    )
}
