// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Client: one call to the daemon
//!
//! Owns the client's side of one call: connect, ask, wait for the reply, at most as long as the caller says. A
//! reply is bounded, since whoever listens at the path may not be addonce.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::protocol::{Call, Reply};
use crate::fatal::Fatal;

/// The longest reply: some thousands of failures.
const LONGEST: usize = 4 << 20;

/// Calls a method and returns the reply's parameters.
///
/// # Errors
/// No daemon, no reply in time, or the error that the daemon replied.
pub fn call(
    socket: &Path,
    method: &str,
    parameters: Value,
    timeout: Option<Duration>,
) -> Result<Value, Fatal> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut stream = connect(socket)?;
    let broken = |error: std::io::Error| Fatal::System(format!("{}: {error}", socket.display()));
    let mut message =
        serde_json::to_vec(&Call { method: format!("io.addonce.{method}"), parameters, ..Call::default() })
            .map_err(|error| Fatal::System(format!("{method}: {error}")))?;
    message.push(0);
    stream.write_all(&message).map_err(broken)?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    while reply.last() != Some(&0) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(timed_out(method, timeout));
        }
        stream.set_read_timeout(left).map_err(broken)?;
        match stream.read(&mut chunk) {
            Ok(0) => {
                return Err(Fatal::NoDaemon(format!(
                    "{}: the daemon closed the connection",
                    socket.display()
                )));
            }
            Ok(read) => reply.extend_from_slice(&chunk[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(timed_out(method, timeout));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
        if reply.len() > LONGEST {
            return Err(Fatal::System(format!(
                "{}: the reply is longer than {LONGEST} bytes",
                socket.display()
            )));
        }
    }
    reply.pop();
    parse(socket, method, &reply)
}

fn parse(socket: &Path, method: &str, reply: &[u8]) -> Result<Value, Fatal> {
    let reply: Reply = serde_json::from_slice(reply)
        .map_err(|error| Fatal::System(format!("{}: no Varlink reply: {error}", socket.display())))?;
    match reply.error.as_deref() {
        None => Ok(reply.parameters),
        Some("org.varlink.service.PermissionDenied") => {
            Err(Fatal::System(format!("{method} changes what is loaded: only root may ask for it")))
        }
        Some(error) => {
            Err(Fatal::System(format!("{method}: the daemon replied {error} {}", reply.parameters)))
        }
    }
}

fn connect(socket: &Path) -> Result<UnixStream, Fatal> {
    UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Fatal::NoDaemon(format!(
            "{}: no daemon listens here: start one with `addonce daemon`, or name its socket with --socket",
            socket.display()
        )),
        _ => Fatal::System(format!("{}: {error}", socket.display())),
    })
}

fn timed_out(method: &str, timeout: Option<Duration>) -> Fatal {
    let seconds = timeout.unwrap_or_default().as_secs_f64();
    Fatal::TimedOut(format!("{method}: no answer within {seconds} s: `addonce status` names what is loading"))
}
