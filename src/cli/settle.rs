// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce settle`: wait until nothing is left to load.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::options::{SocketOption, seconds};
use super::query::{list, number, text};
use crate::control::client::{Conversation, call};
use crate::escape::head;
use crate::fatal::Fatal;
use crate::format::duration;

/// Between two looks at what is still loading.
const LOOK: Duration = Duration::from_millis(500);

/// Wait until the daemon has taken in all uevents and nothing is being loaded. On a terminal, a line names what is still
/// loading.
#[derive(Args, Debug)]
pub struct Command {
    /// Time to wait at most, in seconds, or with ms, s, min; then the exit code is 4.
    #[arg(long, value_name = "TIME", default_value = "120", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    socket: SocketOption,
}

impl Command {
    /// Asks and waits.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let socket = &self.socket.socket;
        let mut answer = Conversation::open(socket)?;
        answer.ask("Settle", Value::Null, false)?;
        if !std::io::stderr().is_terminal() {
            return answer.next(Some(self.timeout)).map(|_| ExitCode::SUCCESS);
        }
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match answer.next(Some(left.min(LOOK))) {
                Err(Fatal::TimedOut(_)) if left > LOOK => {}
                end => {
                    progress("");
                    return end.map(|_| ExitCode::SUCCESS);
                }
            }
            // Who cannot be asked will not settle either: that is said by the answer that does not come.
            if let Ok(status) = call(socket, "Status", Value::Null, Some(LOOK)) {
                progress(&waiting_for(list(&status, "/running")));
            }
        }
    }
}

/// One line, written over the last one.
fn progress(line: &str) {
    // What cannot be shown is not missed: the exit code tells.
    let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
}

fn waiting_for(running: &[Value]) -> String {
    let load = |load| format!("{} ({})", text(load, "/module"), duration(number(load, "/ms")));
    match running.iter().map(load).collect::<Vec<_>>().join(", ") {
        loads if loads.is_empty() => {
            "nothing is loading; uevents, or devices in /sys, are still being read".into()
        }
        // As much as fits a narrow terminal: a line that wraps could not be written over.
        loads => format!("loading {}", head(&loads, 65)),
    }
}
