// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce failed`: what is remembered as failed, and what would be tried again when.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::asking::Asking;
use crate::fatal::Fatal;

/// List the modules that are remembered as failed.
#[derive(Args, Debug)]
pub struct Command {
    #[command(flatten)]
    asking: Asking,
}

impl Command {
    /// Asks and prints.
    ///
    /// # Errors
    /// No daemon.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let reply = self.asking.look("Failures")?;
        self.asking.print(&reply, |reply| {
            reply["failures"].as_array().into_iter().flatten().map(sentence).collect()
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn sentence(failure: &Value) -> String {
    let text = |key: &str| failure[key].as_str().unwrap_or_default();
    let number = |key: &str| failure[key].as_u64();
    let module = text("module");
    let next = match number("again_in_ms") {
        Some(ms) => format!("attempted again in {:.1} s", ms as f64 / 1e3),
        None => format!("left alone until something changes: `addonce retry {module}` attempts it now"),
    };
    format!(
        "{module}: {}; {} attempts, asked for {} times by {} devices; {next}\n",
        text("reason"),
        number("attempts").unwrap_or_default(),
        number("asked").unwrap_or_default(),
        number("devices").unwrap_or_default(),
    )
}
