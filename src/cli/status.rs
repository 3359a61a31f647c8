// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce status`: the counters, and what is going on.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::asking::Asking;
use crate::fatal::Fatal;

/// Show what was asked, what was collapsed, and what is going on.
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
        let status = self.asking.look("Status", Value::Null)?;
        self.asking.print(&status, screen)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn screen(status: &Value) -> String {
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1e3);
    let state = match (status["disabled"] == true, status["settled"] == true) {
        (true, _) => {
            "disabled: kernel.modules_disabled is 1, nothing can be loaded until the next boot".into()
        }
        (false, true) => "settled".into(),
        (false, false) => format!("{} flights in the air", number("/in_air")),
    };
    let rows = [
        ("state", state),
        ("running for", seconds(number("/uptime_ms"))),
        ("requests", format!("{} ({} without a module)", number("/requests"), number("/no_module"))),
        (
            "duplicates",
            format!(
                "{} of live modules, {} joined a flight, {} of failed modules",
                number("/duplicates/live"),
                number("/duplicates/in_flight"),
                number("/duplicates/failed")
            ),
        ),
        ("attempts", format!("{} ({} waited for a backoff)", number("/attempts"), number("/deferred"))),
        ("came in", number("/live").to_string()),
        (
            "failed",
            format!("{}, {} remembered: see `addonce failed`", number("/failed"), number("/remembered")),
        ),
        (
            "uevents",
            format!(
                "{} read, {} dropped by the kernel, {} not the kernel's, {} not understood",
                number("/uevents/read"),
                number("/uevents/drops"),
                number("/uevents/strangers"),
                number("/uevents/malformed") + number("/uevents/truncated")
            ),
        ),
    ];
    let mut screen: String = rows.iter().map(|(what, value)| format!("{what:<12} {value}\n")).collect();
    for load in status["loading"].as_array().into_iter().flatten() {
        let module = load["module"].as_str().unwrap_or_default();
        screen +=
            &format!("{:<12} {module} for {}\n", "loading", seconds(load["ms"].as_u64().unwrap_or_default()));
    }
    screen
}
