// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce settle` and `addonce monitor`: wait until nothing is left to load, and for each load that ends.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::options::{SocketOption, seconds};
use super::query::{Query, print};
use crate::control::client::{Conversation, call};
use crate::control::json::line;
use crate::fatal::Fatal;

/// Wait until the daemon has taken in all uevents and nothing is being loaded.
#[derive(Args, Debug)]
pub struct Settle {
    /// Time to wait at most, in seconds, or with ms, s, min; then the exit code is 4.
    #[arg(long, value_name = "TIME", default_value = "120", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    socket: SocketOption,
}

impl Settle {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        call(&self.socket.socket, "Settle", Value::Null, Some(self.timeout)).map(|_| ExitCode::SUCCESS)
    }
}

/// Prints each load that ends, until interrupted: the line of the log, or an object.
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
