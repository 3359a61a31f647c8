// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce monitor`: each load that ends, until interrupted.

use std::process::ExitCode;

use serde_json::Value;

use super::blame::{asked_by, outcome, time};
use super::query::{Query, number, print, text};
use crate::control::client::Conversation;
use crate::fatal::Fatal;
use crate::format::row;

/// Prints each load that ends: a line of a table, or an object.
pub fn monitor(query: &Query) -> Result<ExitCode, Fatal> {
    let mut records = Conversation::open(&query.socket.socket)?;
    records.ask("Monitor", Value::Null, true)?;
    let line = |at: &str, module: &str, outcome: &str, time: &str, who: &str| {
        row(&[(at, -12), (module, 21), (outcome, 10), (time, -9)], who)
    };
    let mut going_on = query.json || print(&line("ENDED", "MODULE", "OUTCOME", "TIME", "ASKED BY"))?;
    while going_on {
        let load = records.next(None)?["add_once"].take();
        let ended = format!("{:.6}", number(&load, "/ended_us") as f64 / 1e6);
        going_on = print(&match query.json {
            true => format!("{load}\n"),
            false => line(&ended, text(&load, "/module"), outcome(&load), &time(&load), &asked_by(&load)),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}
