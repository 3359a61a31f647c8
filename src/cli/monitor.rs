// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce monitor`: each load that ends.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::query::{Query, print};
use crate::control::client::Conversation;
use crate::daemon::log_lines;
use crate::fatal::Fatal;
use crate::format::{bad, good};

/// Print every add_once as it happens, until interrupted: the line of the log, or with --json an object per line.
#[derive(Args, Debug)]
pub struct Command {
    #[command(flatten)]
    query: Query,
}

impl Command {
    /// Asks, and prints until nobody listens or nobody tells.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let mut records = Conversation::open(&self.query.socket.socket)?;
        records.ask("Monitor", Value::Null, true)?;
        loop {
            let record = records.next(None)?["add_once"].take();
            let line = if self.query.json { record.to_string() } else { coloured(&record) };
            if !print(&format!("{line}\n"))? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn coloured(record: &Value) -> String {
    let line = log_lines::line(record);
    match record["outcome"].as_str() {
        Some("failed") => line.replacen(" failed ", &format!(" {} ", bad("failed")), 1),
        _ => line.replacen(" live ", &format!(" {} ", good("live")), 1),
    }
}
