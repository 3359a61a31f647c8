// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce monitor`: each load that ends.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::asking::{Asking, Stop, print_line};
use super::paint::Paint;
use crate::daemon::log_lines;
use crate::fatal::Fatal;

/// Print every add_once as it happens, until interrupted: the line of the log, or with --json an object per line.
#[derive(Args, Debug)]
pub struct Command {
    #[command(flatten)]
    asking: Asking,
}

impl Command {
    /// Asks, and prints until nobody listens or nobody tells.
    ///
    /// # Errors
    /// No daemon, or one that ended.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let paint = Paint::stdout();
        let mut records = self.asking.stream("Monitor")?;
        loop {
            let reply = records.next(None)?;
            let record = &reply["add_once"];
            let line = if self.asking.json { record.to_string() } else { coloured(record, paint) };
            if print_line(&line)? == Stop::ReaderGone {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn coloured(record: &Value, paint: Paint) -> String {
    let line = log_lines::line(record);
    match record["outcome"].as_str() {
        Some("failed") => line.replacen(" failed ", &format!(" {} ", paint.bad("failed")), 1),
        _ => line.replacen(" live ", &format!(" {} ", paint.good("live")), 1),
    }
}
