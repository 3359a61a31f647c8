// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce status`: what was asked, what was collapsed, and what is going on, on one screen.

use std::process::ExitCode;

use clap::Args;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::query::{Query, numbers, print, print_json};
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
        if let Some(limit) = self.top {
            let top = self.query.look("Top", json!({ "limit": limit }))?;
            self.query.print(&top, page_of_requests)?;
            return Ok(ExitCode::SUCCESS);
        }
        let status = self.query.look_or_read("Status", |published| published.status)?;
        if self.prometheus {
            print(&metrics(&status))?;
        } else if self.query.json {
            print_json(&status)?;
        } else {
            // A storm is what root may see: it is too large to be published all the time.
            let storm = if geteuid().is_root() { Some(self.query.look("Storm", Value::Null)?) } else { None };
            print(&screen(&status, storm.as_ref().map(|storm| &storm["storm"]), Colours::stdout()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn metrics(status: &Value) -> String {
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((metric, place)) if place.starts_with('/') => {
            format!("{metric} {}\n", status.pointer(place).and_then(Value::as_u64).unwrap_or_default())
        }
        _ => format!("{line}\n"),
    };
    METRICS.lines().map(line).collect()
}

fn page_of_requests(top: &Value) -> String {
    let mut page = format!("{:>10}  MODALIAS\n", "REQUESTS");
    for row in top["modaliases"].as_array().into_iter().flatten() {
        let [requests] = numbers(row, ["requests"]);
        page += &format!("{requests:>10}  {}\n", head(row["who"].as_str().unwrap_or_default(), 100));
    }
    page
}

fn screen(status: &Value, storm: Option<&Value>, colours: Colours) -> String {
    let [requests, no_module] = numbers(status, ["requests", "no_module"]);
    let [attempts, retries, came_in] = numbers(status, ["attempts", "retries", "live"]);
    let [live, loading, failing] = numbers(&status["duplicates"], ["live", "loading", "failed"]);
    let [read, drops, others] = numbers(&status["uevents"], ["read", "drops", "strangers"]);
    let [malformed, truncated] = numbers(&status["uevents"], ["malformed", "truncated"]);
    let [now, limit, strangers, slow] = numbers(&status["clients"], ["now", "limit", "strangers", "slow"]);
    let collapsed = live + loading + failing;
    let odd = malformed + truncated;
    let rows = [
        ("state", state(status, colours)),
        ("udev", udev(status)),
        ("storm", storm.map_or_else(|| "only root is told".into(), timeline)),
        ("requests", format!("{requests}, {no_module} of them without a module")),
        ("duplicates", format!("{collapsed} collapsed: {live} live, {loading} loading, {failing} failed")),
        ("attempts", format!("{attempts}, {retries} of them after a backoff")),
        ("live", format!("{} came in", count(came_in, "module"))),
        ("failed", failed(status, colours)),
        (
            "uevents",
            format!(
                "{read} read, {drops} dropped by the kernel, {others} not the kernel's, {odd} not understood"
            ),
        ),
        ("clients", format!("{now} of {limit}, {strangers} were not root, {slow} cut off for not reading")),
    ];
    let mut screen: String = rows.iter().map(|(what, value)| format!("{what:>11}: {value}\n")).collect();
    for load in status["running"].as_array().into_iter().flatten() {
        let module = load["module"].as_str().unwrap_or_default();
        let [ms] = numbers(load, ["ms"]);
        let since = duration(ms);
        screen += &format!("{:>11}: {} for {since}\n", "loading", colours.strong(module));
    }
    screen
}

fn state(status: &Value, colours: Colours) -> String {
    let [uptime, loading] = numbers(status, ["uptime_ms", "loading"]);
    let version = status["version"].as_str().unwrap_or_default();
    let state = match (status["disabled"] == true, status["settled"] == true) {
        (true, _) => colours.bad("disabled: kernel.modules_disabled is 1, nothing loads until the next boot"),
        (false, true) => colours.good("settled"),
        (false, false) => colours.strong(&format!("loading {}", count(loading, "module"))),
    };
    let dry = if status["dry_run"] == true { "dry run, nothing is loaded; " } else { "" };
    format!("{dry}{state}; addonce {version}, running for {}", duration(uptime))
}

fn udev(status: &Value) -> String {
    if status["with_udev"] != true {
        return "not running when the daemon began: requests are the kernel's uevents".into();
    }
    let [outstanding] = numbers(status, ["outstanding"]);
    let outstanding = count(outstanding, "uevent");
    let hold = match status["held_ms"].as_u64() {
        Some(ms) => format!("udevadm settle has been held up for {}", duration(ms)),
        None => "udevadm settle is not held up".into(),
    };
    format!("{outstanding} outstanding; {hold}")
}

fn timeline(storm: &Value) -> String {
    if storm.is_null() {
        return "none yet".into();
    }
    let sum = |key: &str| storm[key].as_array().into_iter().flatten().filter_map(Value::as_u64).sum::<u64>();
    let [began, lasted] = numbers(storm, ["began_ms_ago", "lasted_ms"]);
    let when = match storm["over"] == true {
        true => format!("over for {}", duration(began.saturating_sub(lasted))),
        false => "going on".into(),
    };
    let bars = storm["bars"].as_array().map_or(0, Vec::len) as u64;
    format!(
        "{} in {}, {when}, {} (`addonce plot` draws it)",
        count(sum("requests"), "request"),
        duration(lasted),
        count(bars, "load")
    )
}

fn failed(status: &Value, colours: Colours) -> String {
    let [failed, remembered] = numbers(status, ["failed", "remembered"]);
    match (failed, remembered) {
        (0, 0) => "nothing".into(),
        _ => format!(
            "{}; {} remembered: see `addonce failed`",
            colours.bad(&count(failed, "load")),
            count(remembered, "module")
        ),
    }
}
