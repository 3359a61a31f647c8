// SPDX-License-Identifier: MIT OR Apache-2.0
//! A call to the daemon, from the client's side: connect, ask, and read the reply, or one reply after another.
//!
//! It waits at most as long as the caller says, and a reply is bounded, since whoever listens at the path may not be addonce.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::Value;

use super::protocol::{Call, NAME, Reply, frame, take};
use crate::fatal::Fatal;

/// The longest reply: some thousands of failures.
const LONGEST: usize = 4 << 20;
/// To connect and to send a call may take so many seconds in all, where the backlog is full or the daemon is stopped.
const PATIENCE: u32 = 10;
/// The least that a read may wait.
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
        let stream = connected(path).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ECONNREFUSED => Fatal::NoDaemon(format!(
                "{at}: no daemon listens here: start one with `addonce daemon`, or name its socket with --socket"
            )),
            Errno::EACCES | Errno::EPERM => Fatal::System(format!(
                "{at}: {}: only root may ask the daemon; `addonce status` and `addonce failed` work for everybody",
                errno.desc()
            )),
            Errno::EAGAIN => Fatal::TimedOut(format!(
                "{at}: the daemon accepts no connection within {PATIENCE} s: its log says why"
            )),
            _ => Fatal::System(format!("{at}: {}", errno.desc())),
        })?;
        Ok(Self { socket: path.to_owned(), method: "", stream, input: Vec::new() })
    }

    /// Asks, once the last call is answered; with `more`, for reply after reply.
    pub fn ask(&mut self, method: &'static str, parameters: Value, more: bool) -> Result<(), Fatal> {
        self.method = method;
        let call = Call { method: format!("{}.{method}", NAME), parameters, more, oneway: false };
        self.stream.write_all(&frame(&call)).map_err(|error| self.broken(&error, None))
    }

    /// The next reply's parameters.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Value, Fatal> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut chunk = [0; 4096];
        loop {
            if let Some(reply) = take(&mut self.input) {
                return self.parse(&reply);
            }
            if self.input.len() > LONGEST {
                let socket = self.socket.display();
                return Err(Fatal::System(format!("{socket}: the reply is longer than {LONGEST} bytes")));
            }
            // No time at all cannot be asked for.
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).max(LEAST));
            match self.stream.set_read_timeout(left).and_then(|()| self.stream.read(&mut chunk)) {
                Ok(0) => return Err(self.broken(&ErrorKind::UnexpectedEof.into(), timeout)),
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error, timeout)),
            }
        }
    }

    fn parse(&self, reply: &[u8]) -> Result<Value, Fatal> {
        let (socket, method) = (self.socket.display(), self.method);
        let reply: Reply = serde_json::from_slice(reply)
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
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Fatal::TimedOut(format!(
                "{method}: no answer within {} s: `addonce status` names what is loading",
                timeout.map_or(PATIENCE.into(), |timeout| timeout.as_secs_f64())
            )),
            _ => Fatal::System(format!("{socket}: {error}")),
        }
    }
}

/// Connects, with a bound for connecting and sending: unix(7), net/unix/af_unix.c `unix_wait_for_peer()`.
fn connected(path: &Path) -> nix::Result<UnixStream> {
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&stream, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE.into()))?;
    let address = UnixAddr::new(path)?;
    while let Err(errno) = connect(stream.as_raw_fd(), &address) {
        if errno != Errno::EINTR {
            return Err(errno);
        }
    }
    Ok(stream.into())
}
