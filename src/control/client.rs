// SPDX-License-Identifier: MIT OR Apache-2.0
//! A call to the daemon, from the client's side: connect, ask, and read the reply, or one reply after another.
//!
//! It waits at most as long as the caller says, and a reply is bounded, since whoever listens at the path may not be addonce.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::STATUS;
use super::connection::LONGEST as MOST;
use super::protocol::{Call, NAME, Reply, frame};
use super::wire::{reach, receive};
use crate::fatal::Fatal;

/// To connect and to send a call may take so long in all, where the backlog is full or the daemon is stopped.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least that a reply is waited for: no time at all cannot be asked for.
const LEAST: Duration = Duration::from_millis(1);

/// Calls a method and returns the reply's parameters. The error is that there is no daemon, no reply in time, or what it replied.
pub fn call(
    socket: &Path,
    method: &'static str,
    parameters: Value,
    timeout: Option<Duration>,
) -> Result<Value, Fatal> {
    let mut conversation = Conversation::open(socket)?;
    conversation.ask(method, parameters, false)?;
    conversation.next(timeout)
}

/// That nobody listens at this socket, which is no mistake: without the units there is a daemon only while it has something to do.
pub fn no_daemon(socket: &Path) -> Fatal {
    let lasting = match Path::new("/run/systemd/system").exists() {
        true => "systemctl start addonce.socket addonce.service",
        false => "addonce daemon",
    };
    Fatal::NoDaemon(format!(
        "{}: no daemon runs now, or --socket is another: udev starts one when there is something to load; \
         `addonce blame` shows what was loaded; `{lasting}` starts one that stays",
        socket.display()
    ))
}

/// A connection, and the call that is being answered.
#[derive(Debug)]
pub struct Conversation {
    socket: PathBuf,
    method: &'static str,
    stream: UnixStream,
    input: Vec<u8>,
}

impl Conversation {
    /// Connects.
    pub fn open(path: &Path) -> Result<Self, Fatal> {
        let at = path.display();
        let stream = reach(path, Instant::now() + PATIENCE).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => no_daemon(path),
            ErrorKind::PermissionDenied => Fatal::System(format!(
                "{at}: only root may ask the daemon; `addonce status`, `failed`, `blame` and `explain` work for everybody"
            )),
            ErrorKind::WouldBlock => Fatal::TimedOut(format!(
                "{at}: the daemon accepts no connection within {} s: its log says why",
                PATIENCE.as_secs()
            )),
            _ => Fatal::System(format!("{at}: {error}")),
        })?;
        Ok(Self { socket: path.to_owned(), method: "", stream, input: Vec::new() })
    }

    /// Asks, once the last call is answered; with `more`, for reply after reply.
    pub fn ask(&mut self, method: &'static str, parameters: Value, more: bool) -> Result<(), Fatal> {
        self.method = method;
        let call = frame(&Call { method: format!("{}.{method}", NAME), parameters, more, oneway: false });
        if call.len() > MOST {
            return Err(Fatal::Usage(format!(
                "{method}: {MOST} bytes are the most that can be asked at a time"
            )));
        }
        self.stream.write_all(&call).map_err(|error| self.broken(&error, None))
    }

    /// The next reply's parameters.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Value, Fatal> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout.max(LEAST));
        let reply = receive(&mut self.stream, &mut self.input, deadline);
        let reply = reply.map_err(|error| self.broken(&error, timeout))?;
        let (socket, method) = (self.socket.display(), self.method);
        let reply: Reply = serde_json::from_slice(&reply)
            .map_err(|error| Fatal::System(format!("{socket}: no Varlink reply: {error}")))?;
        match reply.error.as_deref() {
            None => Ok(reply.parameters),
            Some("org.varlink.service.PermissionDenied") => {
                Err(Fatal::System(format!("{method} changes what is loaded: it takes CAP_SYS_MODULE")))
            }
            Some(error) => {
                Err(Fatal::System(format!("{method}: the daemon replied {error} {}", reply.parameters)))
            }
        }
    }

    fn broken(&self, error: &io::Error, timeout: Option<Duration>) -> Fatal {
        let (socket, method) = (self.socket.display(), self.method);
        match error.kind() {
            // It is full, or it ended.
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
                Fatal::NoDaemon(format!("{socket}: the daemon closed the connection: its log says why"))
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                let seconds = timeout.unwrap_or(PATIENCE).as_secs_f64();
                let said = self.socket.with_file_name(STATUS);
                let why = match method {
                    "Settle" => "`addonce status` names what is loading, if the daemon answers".to_owned(),
                    _ => format!("the daemon is stopped or hangs; {} is what it said last", said.display()),
                };
                Fatal::TimedOut(format!("{method}: no answer within {seconds} s: {why}"))
            }
            _ => Fatal::System(format!("{socket}: {error}")),
        }
    }
}
