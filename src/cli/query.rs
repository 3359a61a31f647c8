// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the commands that ask the daemon share: how it is asked, and how its answers are printed.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nix::unistd::geteuid;
use serde::Deserialize;
use serde_json::Value;

use super::options::SocketOption;
use crate::control::STATUS;
use crate::control::client::{call, no_daemon};
use crate::control::process::Process;
use crate::daemon::state_file::replace;
use crate::daemon::status::left;
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
    pub fn look(&self, method: &'static str, parameters: Value) -> Result<Value, Fatal> {
        call(&self.socket.socket, method, parameters, Some(Duration::from_secs(10)))
    }

    /// Asks for what everybody may know. Who is not root reads it from the daemon's file, which is up to a second old, or as old
    /// as it is true.
    pub fn look_or_read(&self, method: &'static str, read: impl Fn(Value) -> Value) -> Result<Value, Fatal> {
        if geteuid().is_root() {
            return self.look(method, Value::Null);
        }
        published(&self.socket.socket).map(read)
    }

    /// What is remembered as failed; where no daemon runs, by the next one.
    pub fn failures(&self) -> Result<Vec<Value>, Fatal> {
        match self.look_or_read("Failures", |published| published) {
            Err(Fatal::NoDaemon(why)) => left(&self.socket.socket).ok_or(Fatal::NoDaemon(why)),
            reply => Ok(list(&reply?, "/failures").to_vec()),
        }
    }
}

/// What the daemon at this socket has published in [`STATUS`]. [`Fatal::NoDaemon`] where the one that wrote it is gone.
pub fn published(socket: &Path) -> Result<Value, Fatal> {
    let file = socket.with_file_name(STATUS);
    let path = file.display();
    let text = match std::fs::read(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_daemon(socket)),
        text => text.map_err(Fatal::at(&path))?,
    };
    let strange = Fatal::at(format!("{path}: not addonce's"));
    let mut published: Value = serde_json::from_slice(&text).map_err(&strange)?;
    if !Process::deserialize(&published).map_err(&strange)?.is_alive() {
        return Err(no_daemon(socket));
    }
    // Since then nothing has happened but that time has passed.
    let written = file.metadata().and_then(|file| file.modified()).map_err(Fatal::at(&path))?;
    let age = written.elapsed().map_or(0, |age| age.as_millis() as i64);
    for failure in published["failures"].as_array_mut().into_iter().flatten() {
        for (key, passed) in [("failed_ms_ago", age), ("backoff_ms", -age), ("again_in_ms", -age)] {
            if let Some(ms) = failure[key].as_i64() {
                failure[key] = (ms + passed).max(0).into();
            }
        }
    }
    Ok(published)
}

/// The number at this place of a reply, a JSON pointer; 0 where there is none, 1 for what is true.
pub fn number(reply: &Value, place: &str) -> u64 {
    let value = reply.pointer(place);
    value.and_then(|value| value.as_u64().or(value.as_bool().map(u64::from))).unwrap_or_default()
}

/// The text at this place; empty where there is none.
pub fn text<'a>(reply: &'a Value, place: &str) -> &'a str {
    reply.pointer(place).and_then(Value::as_str).unwrap_or_default()
}

/// The objects of this list; none where there is no list.
pub fn list<'a>(reply: &'a Value, place: &str) -> &'a [Value] {
    reply.pointer(place).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text with the values of a reply in it, each at its place in braces: `{/clients/now}`.
pub fn fill(template: &str, reply: &Value) -> String {
    let mut parts = template.split("{/");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |filled, part| {
        let (place, rest) = part.split_once('}').unwrap_or_default();
        let place = format!("/{place}");
        let text = reply.pointer(&place).and_then(Value::as_str);
        filled + &text.map_or_else(|| number(reply, &place).to_string(), str::to_owned) + rest
    })
}

/// Prints a reply: as JSON, or as the text that `page` makes of it.
pub fn show(json: bool, reply: &Value, page: impl Fn(&Value) -> String) -> Result<ExitCode, Fatal> {
    print(&if json { format!("{reply:#}\n") } else { page(reply) })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes to a file, which is replaced in one step, or to what is none, as a pipe.
pub fn write<T>(path: &Path, writer: impl FnOnce(File) -> io::Result<T>) -> io::Result<T> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if path.exists() && !path.is_file() { writer(File::create(path)?) } else { replace(&path, 0o666, writer) }
}

/// Prints on standard output. False where the reader has seen enough, which is no error.
pub fn print(text: &str) -> Result<bool, Fatal> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Fatal::System(format!("standard output: {error}"))),
    }
}
