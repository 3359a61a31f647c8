// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce failed`: what is remembered as failed, why, and when it would be tried again.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::query::{Query, number, show, text};
use crate::escape::head;
use crate::fatal::Fatal;
use crate::format::{count, duration, row, wrapped};

const MORE: &str = "`addonce failed MODULE` says why and what helps, `addonce retry` tries all again now. ENODEV needs no \
                    action: there is nothing here for that driver to drive.";

/// List the modules that are remembered as failed.
///
/// A line for each: the error and where it occurred, who asked, and when it is tried again.
#[derive(Args, Debug)]
pub struct Command {
    /// Say all that is known of these.
    #[arg(value_name = "MODULE")]
    modules: Vec<String>,
    #[command(flatten)]
    query: Query,
}

impl Command {
    /// Lists it. The exit code is 1 where a module that was named has not failed.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let (query, names) = (self.query, self.modules.iter().map(|name| name.replace('-', "_")));
        let mut failures = query.failures()?;
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            return show(query.json, &json!({ "failures": failures }), |_| table(&failures));
        }
        let all = failures.clone();
        failures.retain(|failure| names.iter().any(|name| failure["module"] == **name));
        let reply = json!({ "failures": failures });
        show(query.json, &reply, |_| failures.iter().map(|failure| entry(failure, &all)).collect())?;
        let is_strange = |name: &&String| all.iter().all(|failure| failure["module"] != ***name);
        let mut strange = names.iter().filter(is_strange).peekable();
        let code = if strange.peek().is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        strange.for_each(|name| {
            log::error!("{name}: not remembered as failed: `addonce explain {name}` says more")
        });
        Ok(code)
    }
}

fn table(failures: &[Value]) -> String {
    if failures.is_empty() {
        return "No module is remembered as failed.\n".into();
    }
    let line = |[module, error, stage, tries, asked, next]: [&str; 6]| {
        row(&[(module, 21), (error, 12), (stage, 10), (tries, -5), (asked, 13)], next)
    };
    let rows = failures.iter().map(|failure| {
        let asked = match number(failure, "/devices") {
            0 => count(number(failure, "/asked") + number(failure, "/by_kernel"), "request"),
            devices => count(devices, "device"),
        };
        let next = match (failure["again_in_ms"].as_u64(), failure["because_of"].as_str()) {
            (Some(ms), _) => format!("in {}", duration(ms)),
            (None, Some(root)) => format!("with {root}"),
            (None, None) if is_for_kernel(failure) => "next request".into(),
            (None, None) => "after a change".into(),
        };
        let [module, error, stage] = ["/module", "/error", "/stage"].map(|place| text(failure, place));
        line([module, error, stage, &number(failure, "/attempts").to_string(), &asked, &next])
    });
    line(["MODULE", "ERRNO", "STAGE", "TRIES", "ASKED BY", "NEXT TRY"])
        + &rows.collect::<String>()
        + &wrapped(MORE, 0)
}

fn entry(failure: &Value, all: &[Value]) -> String {
    let [why, who, next, retry] = lines(failure, all);
    let why = wrapped(&format!("{}: {why}", text(failure, "/module")), 4);
    why + &[who, next, retry].map(|line| wrapped(&format!("    {line}"), 4)).concat()
}

/// What the kernel said, who asked, what comes next, and what to type.
pub fn lines(failure: &Value, all: &[Value]) -> [String; 4] {
    let [attempts, asked, devices] =
        [("/attempts", "attempt"), ("/asked", "request"), ("/devices", "device")]
            .map(|(place, thing)| count(number(failure, place), thing));
    let kernel = match number(failure, "/by_kernel") {
        0 => String::new(),
        requests => format!(", {} of the kernel's own", count(requests, "request")),
    };
    let why = text(failure, "/reason").to_owned() + hint(text(failure, "/error"), text(failure, "/stage"));
    let who = format!(
        "{attempts}, the last {} ago; {asked}, {devices}{kernel}, first for {}",
        duration(number(failure, "/failed_ms_ago")),
        head(text(failure, "/alias"), 48)
    );
    let module = text(failure, "/module");
    let alone = match (text(failure, "/stage"), text(failure, "/error")) {
        ("insert", "ENODEV" | "ENXIO") => {
            &format!("nothing to do; to have it left alone: `blacklist {module}` in /etc/modprobe.d; ")
        }
        _ => "",
    };
    let retry = format!("{alone}to try it now: addonce retry {module}");
    [why, who, next(failure, all), retry]
}

/// What the errno usually means, where its own words do not say it: for a driver that the kernel refused.
fn hint(error: &str, stage: &str) -> &'static str {
    match (stage, error) {
        ("insert", "ENODEV" | "ENXIO") => ": there is nothing here that it could drive: usual and harmless",
        ("insert", "ENOENT") => ": it wants a symbol or something else that is not there, see dmesg",
        ("read", "EINVAL") => ": it is empty, or cannot be decompressed; reinstall the package that it is of",
        ("insert", "ENOEXEC") => {
            ": the file is damaged or cut short, or was built for another kernel: dmesg says which; \
             reinstall the package that it is of"
        }
        ("insert", "EINVAL") => ": an option or a symbol does not fit, see dmesg",
        ("insert", "EKEYREJECTED" | "ENOKEY") => ": it is not signed with a key that this kernel trusts",
        ("insert", "EPERM") => {
            ": module_blacklist= on the kernel command line names it, or this kernel is locked down"
        }
        ("died", "EFAULT") => {
            ": its init crashed in the kernel; what it had taken stays taken until the next boot"
        }
        ("insert" | "init", "EEXIST" | "EBUSY") => ": another driver has what it wants",
        _ => "",
    }
}

/// Whether nobody but the kernel has had it tried: for a device that does not count.
fn is_for_kernel(failure: &Value) -> bool {
    failure["attempts"] == failure["for_kernel"]
}

/// When it is tried again: the once rules, as far as they are open for this failure.
fn next(failure: &Value, all: &[Value]) -> String {
    if let Some(ms) = failure["again_in_ms"].as_u64() {
        return format!("tried again in {}, or when a daemon next starts", duration(ms));
    }
    if let Some(root) = failure["because_of"].as_str() {
        return format!("tried again with {root}: see `addonce failed {root}`");
    }
    // What needs it is live without it, or that would have failed as well.
    let is_soft = failure["pulled_in"] == true;
    if is_soft && all.iter().all(|other| other["because_of"] != failure["module"]) {
        return "tried again for a device of its own, or with a module that needs it and is not live".into();
    }
    if is_for_kernel(failure) {
        return "tried again at the next request of a device, or of the kernel's after a pause of 1 to 5 s"
            .into();
    }
    let conflict = match text(failure, "/error") {
        "EEXIST" | "EBUSY" | "ENODEV" => " or another module was unloaded",
        _ => "",
    };
    format!(
        "tried again at the next request after its file, options or dependencies changed{conflict}, for new \
         hardware, or at the next `udevadm trigger --action=add`"
    )
}
