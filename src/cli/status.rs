// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce status`: what was asked, what was collapsed, and what is going on, on one screen.

use std::process::ExitCode;

use clap::Args;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::query::{Query, list, number, show, text};
use crate::escape::head;
use crate::fatal::Fatal;
use crate::format::{Colours, count, duration};

/// What `--prometheus` prints, with the place of its value in the status for each. Counters begin with the daemon and end in `_total`; a
/// name once given stays.
const METRICS: &str = include_str!("metrics.prom");

/// Show what was asked, what was collapsed, and what is going on.
#[derive(Args, Debug)]
pub struct Command {
    /// Who asked most, instead: so many modaliases.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10", conflicts_with = "prometheus")]
    top: Option<usize>,
    /// As metrics, instead: the text format of node_exporter's textfile collector.
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,
    #[command(flatten)]
    query: Query,
}

impl Command {
    /// Asks and prints.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let json = self.query.json;
        if let Some(limit) = self.top {
            return show(json, &self.query.look("Top", json!({ "limit": limit }))?, page_of_requests);
        }
        let status = self.query.look_or_read("Status", |mut published| published["status"].take())?;
        if json || self.prometheus {
            return show(json, &status, metrics);
        }
        // A storm is what root may see: it is too large to be published all the time.
        let storm = if geteuid().is_root() { Some(self.query.look("Storm", Value::Null)?) } else { None };
        let storm = storm.map_or_else(|| "only root is told".into(), |reply| timeline(&reply["storm"]));
        show(json, &status, |status| screen(status, &storm, Colours::stdout()))
    }
}

fn metrics(status: &Value) -> String {
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((metric, place)) if place.starts_with('/') => format!("{metric} {}\n", number(status, place)),
        _ => format!("{line}\n"),
    };
    METRICS.lines().map(line).collect()
}

fn page_of_requests(top: &Value) -> String {
    let rows = list(top, "/modaliases").iter();
    let row = |row| format!("{:>10}  {}\n", number(row, "/requests"), head(text(row, "/who"), 100));
    format!("{:>10}  MODALIAS\n", "REQUESTS") + &rows.map(row).collect::<String>()
}

fn screen(status: &Value, storm: &str, colours: Colours) -> String {
    let n = |place| number(status, place);
    let [live, loading, failing] = ["/duplicates/live", "/duplicates/loading", "/duplicates/failed"].map(n);
    let rows = [
        ("state", state(status, colours)),
        ("udev", udev(status)),
        ("storm", storm.to_owned()),
        ("requests", format!("{}, {} of them without a module", n("/requests"), n("/no_module"))),
        (
            "duplicates",
            format!(
                "{} collapsed: {live} live, {loading} loading, {failing} failed",
                live + loading + failing
            ),
        ),
        ("attempts", format!("{}, {} of them after a backoff", n("/attempts"), n("/retries"))),
        ("live", format!("{} came in", count(n("/live"), "module"))),
        ("failed", failed(status, colours)),
        (
            "uevents",
            format!(
                "{} read, {} dropped by the kernel, {} not the kernel's, {} not understood",
                n("/uevents/read"),
                n("/uevents/drops"),
                n("/uevents/strangers"),
                n("/uevents/malformed") + n("/uevents/truncated")
            ),
        ),
        (
            "clients",
            format!(
                "{} of {}, {} were not root, {} cut off for not reading",
                n("/clients/now"),
                n("/clients/limit"),
                n("/clients/strangers"),
                n("/clients/slow")
            ),
        ),
    ];
    let running = list(status, "/running").iter().map(|load| {
        let since = duration(number(load, "/ms"));
        ("loading", format!("{} for {since}", colours.strong(text(load, "/module"))))
    });
    rows.into_iter().chain(running).map(|(what, value)| format!("{what:>11}: {value}\n")).collect()
}

fn state(status: &Value, colours: Colours) -> String {
    let state = match (status["disabled"] == true, status["settled"] == true) {
        (true, _) => colours.bad("disabled: kernel.modules_disabled is 1, nothing loads until the next boot"),
        (false, true) => colours.good("settled"),
        (false, false) => colours.strong(&format!("loading {}", count(number(status, "/loading"), "module"))),
    };
    let dry = if status["dry_run"] == true { "dry run, nothing is loaded; " } else { "" };
    let (version, uptime) = (text(status, "/version"), duration(number(status, "/uptime_ms")));
    format!("{dry}{state}; addonce {version}, running for {uptime}")
}

fn udev(status: &Value) -> String {
    if status["with_udev"] != true {
        return "not running when the daemon began: requests are the kernel's uevents".into();
    }
    let hold = match status["held_ms"].as_u64() {
        Some(ms) => format!("udevadm settle has been held up for {}", duration(ms)),
        None => "udevadm settle is not held up".into(),
    };
    format!("{} outstanding; {hold}", count(number(status, "/outstanding"), "uevent"))
}

fn timeline(storm: &Value) -> String {
    if storm.is_null() {
        return "none yet".into();
    }
    let [began, lasted] = ["/began_ms_ago", "/lasted_ms"].map(|place| number(storm, place));
    let when = match storm["over"] == true {
        true => format!("over for {}", duration(began.saturating_sub(lasted))),
        false => "going on".into(),
    };
    let requests = list(storm, "/requests").iter().filter_map(Value::as_u64).sum();
    let (requests, loads) = (count(requests, "request"), count(list(storm, "/bars").len() as u64, "load"));
    format!("{requests} in {}, {when}, {loads} (`addonce plot` draws it)", duration(lasted))
}

fn failed(status: &Value, colours: Colours) -> String {
    match (number(status, "/failed"), number(status, "/remembered")) {
        (0, 0) => "nothing".into(),
        (failed, remembered) => {
            let failed = colours.bad(&count(failed, "load"));
            format!("{failed}; {} remembered: see `addonce failed`", count(remembered, "module"))
        }
    }
}
