// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce settle`: wait until nothing is left to load.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::options::{SocketOption, seconds};
use super::query::numbers;
use crate::control::client::{Conversation, call};
use crate::fatal::Fatal;
use crate::format::duration;

/// Between two looks at what is still loading.
const LOOK: Duration = Duration::from_millis(500);

/// Wait until the daemon has taken in all uevents and nothing is being loaded. On a terminal, a line names what is still
/// loading.
#[derive(Args, Debug)]
pub struct Command {
    /// Seconds to wait at most; then the exit code is 4.
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    socket: SocketOption,
}

impl Command {
    /// Asks and waits.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let mut answer = Conversation::open(&self.socket.socket)?;
        answer.ask("Settle", Value::Null, false)?;
        if std::io::stderr().is_terminal() {
            self.watch(&mut answer)?;
        } else {
            answer.next(Some(self.timeout))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Waits, and says what for.
    fn watch(&self, answer: &mut Conversation) -> Result<(), Fatal> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match answer.next(Some(left.min(LOOK))) {
                Err(Fatal::TimedOut(_)) if left > LOOK => {}
                end => {
                    progress("");
                    return end.map(drop);
                }
            }
            // Who cannot be asked will not settle either: that is said by the answer that does not come.
            if let Ok(status) = call(&self.socket.socket, "Status", Value::Null, Some(LOOK)) {
                progress(&waiting_for(&status));
            }
        }
    }
}

/// One line, written over the last one.
fn progress(line: &str) {
    // What cannot be shown is not missed: the exit code tells.
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
}

fn waiting_for(status: &Value) -> String {
    let loads: Vec<String> = status["running"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|load| {
            let [ms] = numbers(load, ["ms"]);
            let module = load["module"].as_str().unwrap_or_default();
            format!("{module} ({})", duration(ms))
        })
        .collect();
    if loads.is_empty() {
        return "nothing is loading; uevents, or devices in /sys, are still being read".into();
    }
    // As much as fits a narrow terminal: a line that wraps could not be written over.
    const SHOWN: usize = 3;
    let more = match loads.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("loading {}{more}", loads[..loads.len().min(SHOWN)].join(", "))
}
