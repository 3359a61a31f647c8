// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce status`: what was asked, what was a duplicate, and what is going on, on one screen.

use std::process::ExitCode;

use clap::Args;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::query::{Query, fill, list, number, show, text};
use crate::control::json::millis;
use crate::daemon::clock;
use crate::daemon::history::STORM;
use crate::fatal::Fatal;
use crate::format::{ago, count, date, duration, wrapped};

/// What is shown, with the places of the values in the status; what has to be put in words is added to it as `screen`.
const SCREEN: &str = include_str!("status.txt");
/// What `--prometheus` prints. Counters begin with the daemon and end in `_total`; a name once given stays.
const METRICS: &str = include_str!("metrics.prom");

/// Show what was asked, what was a duplicate, and what is going on.
#[derive(Args, Debug)]
pub struct Command {
    /// As metrics: the text format of node_exporter's textfile collector.
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,
    #[command(flatten)]
    query: Query,
}

impl Command {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let json = self.query.json;
        let mut status = self.query.look_or_read("Status", |mut published| published["status"].take())?;
        if json {
            return show(json, &status, |_| String::new());
        }
        // In the file for everybody it is as old as that.
        let uptime = millis(clock()).saturating_sub(number(&status, "/began_ms"));
        let since = ago(uptime);
        if self.prometheus {
            let failures: String = self.query.failures()?.iter().map(metric).collect();
            status["screen"] = json!({ "since": since });
            return show(json, &status, |status| fill(METRICS, status) + &failures);
        }
        // A storm is what root may see: it is too large to be published all the time.
        let storm = match geteuid().is_root() {
            true => timeline(&self.query.look("Storm", Value::Null)?["storm"]),
            false => "only root is told".into(),
        };
        status["screen"] = json!({ "since": date(since), "uptime": duration(uptime), "storm": storm });
        show(json, &status, |status| screen(status.clone()))
    }
}

/// A module that is remembered as failed, as a line of the last metric. JSON's quotes are such as its labels have.
fn metric(failure: &Value) -> String {
    let [module, error, stage, attempts] = ["module", "error", "stage", "attempts"].map(|key| &failure[key]);
    format!("addonce_failed_attempts{{module={module},error={error},stage={stage}}} {attempts}\n")
}

fn screen(mut status: Value) -> String {
    let n = |place| number(&status, place);
    let is = |key: &str| status[key] == true;
    let mode = [
        if is("with_udev") { "requests come from udev" } else { "without udev: requests are the kernel's" },
        if is("on_demand") { "; started on demand, ends when nothing is left" } else { "" },
        if is("dry_run") { "; dry run: nothing is loaded" } else { "" },
    ];
    let mode = mode.concat();
    let state = match (status["disabled"] == true, status["settled"] == true) {
        (true, _) => "disabled: kernel.modules_disabled is 1 until the next boot".into(),
        (false, true) => "settled".into(),
        (false, false) if n("/loading") == 0 => "waiting for udev".into(),
        (false, false) => format!("loading {}", count(n("/loading"), "module")),
    };
    let udev = match (status["with_udev"] == true, status["held_ms"].as_u64()) {
        (false, _) => "not running when the daemon began".into(),
        (true, held) => {
            let outstanding = count(n("/outstanding"), "uevent");
            let hold = held.map_or("has not to wait for addonce".into(), |ms| {
                format!("has been waiting for addonce for {}", duration(ms))
            });
            format!("{outstanding} outstanding; udevadm settle {hold}")
        }
    };
    let failed = match n("/failed") + n("/remembered") {
        0 => "nothing".into(),
        _ => format!(
            "{}, counting what needs a module that failed; {} remembered: see `addonce failed`",
            count(n("/failed"), "load"),
            count(n("/remembered"), "module")
        ),
    };
    let running = list(&status, "/running").iter().map(|load| {
        let since = duration(number(load, "/ms"));
        format!("{:>11}: {} for {since}\n", "loading", text(load, "/module"))
    });
    let running: String = running.collect();
    let words = [
        ("state", state),
        ("mode", mode),
        ("udev", udev),
        (
            "duplicates",
            (n("/duplicates/live") + n("/duplicates/loading") + n("/duplicates/failed")).to_string(),
        ),
        ("live", count(n("/live"), "module")),
        ("failed", failed),
        ("odd", (n("/uevents/malformed") + n("/uevents/truncated")).to_string()),
    ];
    words.into_iter().for_each(|(key, text)| status["screen"][key] = text.into());
    let lines = fill(SCREEN, &status) + &running;
    lines.lines().map(|line| wrapped(line, 13)).collect()
}

/// The last storm.
fn timeline(storm: &Value) -> String {
    if storm.is_null() {
        return "none yet".into();
    }
    let [began, lasted] = ["/began_ms_ago", "/lasted_ms"].map(|place| number(storm, place));
    let when = duration(began.saturating_sub(lasted));
    let requests: u64 = list(storm, "/requests").iter().filter_map(Value::as_u64).sum();
    let what = if requests < STORM { "none yet; last came " } else { "" };
    let requests = count(requests, "request");
    let loads = count(list(storm, "/bars").len() as u64, "load");
    format!("{what}{requests} and {loads} in {}, the last {when} ago: see `addonce plot`", duration(lasted))
}
