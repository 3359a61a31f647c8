// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the commands that ask the daemon share: how it is asked, and how its answers are printed.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nix::unistd::geteuid;
use serde::Deserialize;
use serde_json::Value;

use super::options::SocketOption;
use crate::control::STATUS;
use crate::control::client::call;
use crate::control::process::Process;
use crate::fatal::Fatal;

/// Which daemon is asked, and how its answer is printed.
#[derive(Args, Debug)]
pub struct Query {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub socket: SocketOption,
}

impl Query {
    /// Asks what is answered at once.
    ///
    /// # Errors
    /// No daemon, or one that does not answer.
    pub fn look(&self, method: &'static str, parameters: Value) -> Result<Value, Fatal> {
        call(&self.socket.socket, method, parameters, Some(Duration::from_secs(10)))
    }

    /// Asks for what everybody may know. Who is not root reads it from the daemon's file, which is up to a second old, or as old
    /// as it is true.
    pub fn look_or_read(
        &self,
        method: &'static str,
        read: impl Fn(Published) -> Value,
    ) -> Result<Value, Fatal> {
        if geteuid().is_root() {
            return self.look(method, Value::Null);
        }
        Published::read(&self.socket.socket).map(read)
    }

    /// Asks for loads, which take as long as they take.
    ///
    /// # Errors
    /// No daemon, or one that refuses.
    pub fn order(&self, method: &'static str, parameters: Value) -> Result<Value, Fatal> {
        call(&self.socket.socket, method, parameters, None)
    }

    /// Prints a reply: as JSON, or as the text that `page` makes of it.
    pub fn print(&self, reply: &Value, page: impl Fn(&Value) -> String) -> Result<bool, Fatal> {
        if self.json { print_json(reply) } else { print(&page(reply)) }
    }
}

/// What a daemon has published in [`STATUS`].
#[derive(Deserialize)]
pub struct Published {
    pid: u32,
    started: u64,
    /// The reply to `Status`.
    pub status: Value,
    /// The failures of the reply to `Failures`.
    pub failures: Value,
}

impl Published {
    /// Reads the file of the daemon at this socket.
    ///
    /// # Errors
    /// [`Fatal::NoDaemon`] where there is none, or the one that wrote it is gone.
    fn read(socket: &Path) -> Result<Self, Fatal> {
        let path = socket.with_file_name(STATUS);
        let path = path.display();
        let no_daemon =
            || Fatal::NoDaemon(format!("{path}: no daemon runs: start one with `addonce daemon`"));
        let text = match std::fs::read(socket.with_file_name(STATUS)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_daemon()),
            text => text.map_err(|error| Fatal::System(format!("{path}: {error}")))?,
        };
        let published: Self = serde_json::from_slice(&text)
            .map_err(|error| Fatal::System(format!("{path}: not addonce's: {error}")))?;
        let daemon = Process { pid: published.pid, started: published.started };
        if daemon.is_alive() { Ok(published) } else { Err(no_daemon()) }
    }
}

/// Numbers of a reply.
pub fn numbers<const N: usize>(reply: &Value, keys: [&str; N]) -> [u64; N] {
    keys.map(|key| reply[key].as_u64().unwrap_or_default())
}

/// Prints on standard output. False where the reader has seen enough, which is no error.
///
/// # Errors
/// [`Fatal::System`] where standard output refuses otherwise.
pub fn print(text: &str) -> Result<bool, Fatal> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Fatal::System(format!("standard output: {error}"))),
    }
}

/// Prints JSON, indented.
pub fn print_json(value: &Value) -> Result<bool, Fatal> {
    print(&format!("{value:#}\n"))
}

/// Prints what became of the modules that were asked for: a line for each, as text or as JSON. The exit code is 1
/// where one of them failed, or where there was none.
pub fn print_answers(reply: &Value, asked: &str, json: bool) -> Result<ExitCode, Fatal> {
    let answers = reply["answers"].as_array().map_or(&[][..], Vec::as_slice);
    if json {
        print_json(reply)?;
    } else {
        print(&answers.iter().map(line).collect::<String>())?;
        if answers.is_empty() && !asked.is_empty() {
            log::error!("no module is known for {asked}: `addonce explain` shows how it is looked up");
        }
    }
    let failed = answers.iter().any(|answer| answer["state"] == "failed");
    let nothing = answers.is_empty() && !asked.is_empty();
    Ok(if failed || nothing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn line(answer: &Value) -> String {
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let why = match text("state").as_str() {
        "failed" => {
            let again = match answer["again_in_ms"].as_u64() {
                Some(ms) => format!("; attempted again in {:.1} s", ms as f64 / 1e3),
                None => String::new(),
            };
            format!("failed: {}{again}", text("reason"))
        }
        "blacklisted" => "not loaded: blacklisted in modprobe.d or on the kernel command line".into(),
        "ruled_out" => "not loaded: ruled out by hwdb (ADDONCE, ADDONCE_UNLESS)".into(),
        state => state.to_owned(),
    };
    format!("{}: {why}\n", text("module"))
}
