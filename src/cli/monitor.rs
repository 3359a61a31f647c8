// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce monitor`: each load that ends.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::query::{Query, print};
use crate::control::client::Conversation;
use crate::control::json::line;
use crate::fatal::Fatal;

/// Print every add_once as it happens, until interrupted: the line of the log, or with --json an object per line.
#[derive(Args, Debug)]
pub struct Command {
    #[command(flatten)]
    query: Query,
}

impl Command {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let mut records = Conversation::open(&self.query.socket.socket)?;
        records.ask("Monitor", Value::Null, true)?;
        loop {
            let record = records.next(None)?["add_once"].take();
            let line = if self.query.json { record.to_string() } else { line(&record) };
            if !print(&format!("{line}\n"))? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}
