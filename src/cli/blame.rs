// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce blame`: what was loaded since the boot, the longest load first; and how others come by the record of a load.

use std::cmp::Reverse;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::query::{Query, number, show, text};
use crate::control::LOADS;
use crate::fatal::Fatal;
use crate::format::{count, row, took};

/// Lists it.
pub fn run(query: &Query) -> Result<ExitCode, Fatal> {
    let mut loads = loads(&query.socket.socket)?;
    loads.sort_by_key(|load| Reverse(number(load, "/load_us")));
    let line = |time: &str, ended: &str, module: &str, outcome: &str, who: &str| {
        row(&[(time, -9), (ended, -9), (module, 20), (outcome, 9)], who)
    };
    let rows = loads.iter().map(|load| {
        let ended = format!("{:.3}", number(load, "/ended_us") as f64 / 1e6);
        line(&time(load), &ended, text(load, "/module"), outcome(load), &asked_by(load))
    });
    let page = line("TIME", "ENDED", "MODULE", "OUTCOME", "ASKED BY") + &rows.collect::<String>();
    show(query.json, &json!({ "loads": loads }), |_| page.clone())
}

/// The loads that have ended since the boot, in their order: those that are remembered of a daemon's at this socket.
pub fn loads(socket: &Path) -> Result<Vec<Value>, Fatal> {
    let file = socket.with_file_name(LOADS);
    let path = file.display();
    let text = std::fs::read_to_string(&file).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let why = "addonce has loaded nothing since the boot, or --socket is another";
            Fatal::NoDaemon(format!("{path}: not there: {why}"))
        }
        _ => Fatal::at(path)(error),
    })?;
    // The last line may be half a line.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// How long it took.
pub fn time(load: &Value) -> String {
    took(number(load, "/load_us"))
}

/// What it came to, in a word.
pub fn outcome(load: &Value) -> &str {
    let live = if load["dry_run"] == true { "dry run" } else { "live" };
    load["error"].as_str().unwrap_or(live)
}

/// Who asked for it first, and how many requests there were.
pub fn asked_by(load: &Value) -> String {
    let (devpath, alias) = (text(load, "/devpath"), text(load, "/modalias"));
    let who = match (load["pulled_in_by"].as_str(), devpath.rsplit('/').next()) {
        (Some(module), _) => return format!("needed by {module}"),
        (None, Some(device)) if !device.is_empty() => device.into(),
        _ if number(load, "/by_kernel") > 0 => format!("the kernel, for {alias}"),
        _ => format!("by hand, for {alias}"),
    };
    match number(load, "/asked") {
        0 | 1 => who,
        asked => format!("{who} ({})", count(asked, "request")),
    }
}
