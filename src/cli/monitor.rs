// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce monitor`: each load that ends, until interrupted.

use std::process::ExitCode;

use serde_json::Value;

use super::query::{Query, print};
use crate::control::client::Conversation;
use crate::control::json::line;
use crate::fatal::Fatal;

/// Prints each load that ends: the line of the log, or an object.
pub fn monitor(query: &Query) -> Result<ExitCode, Fatal> {
    let mut records = Conversation::open(&query.socket.socket)?;
    records.ask("Monitor", Value::Null, true)?;
    loop {
        let record = records.next(None)?["add_once"].take();
        let line = if query.json { record.to_string() } else { line(&record) };
        if !print(&format!("{line}\n"))? {
            return Ok(ExitCode::SUCCESS);
        }
    }
}
