// SPDX-License-Identifier: MIT OR Apache-2.0
//! One client's connection: messages are cut out of what comes in, replies queue up to go out.
//!
//! It never waits. Bounded by one message in ([`LONGEST`]) and [`UNREAD`] replies out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::UnixStream;

use super::protocol::{Reply, frame, take};
use crate::once::Time;

/// The longest message of a client, in bytes: a modalias is about 2 KiB at most, four times that when escaped.
pub const LONGEST: usize = 64 << 10;
/// Replies that may lie unread, a stream's records included.
pub const UNREAD: usize = 256;

/// The replies that a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyMode {
    /// One.
    Once,
    /// One, after several that say that more will come.
    More,
    /// One after another, until the connection ends.
    Stream,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed it, or the socket failed.
    Gone,
    /// It sent more than a message may be long.
    TooLong,
    /// It does not read what it asked for.
    Slow,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Gone
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    /// The call that is being carried out.
    pub(super) call: Option<ReplyMode>,
    /// It is in the server's queue of connections that may have a message.
    pub(super) queued: bool,
    input: Vec<u8>,
    /// The socket was read until there was nothing more in it.
    drained: bool,
    frames: VecDeque<Vec<u8>>,
    /// So much of the first frame is written.
    written: usize,
    /// Since when the socket has taken nothing of what is queued.
    stuck: Option<Time>,
    /// The client has sent all it will send.
    at_end: bool,
    /// The client has closed its socket.
    closed: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            call: None,
            queued: false,
            input: Vec::new(),
            drained: true,
            frames: VecDeque::new(),
            written: 0,
            stuck: None,
            at_end: false,
            closed: false,
        }
    }

    /// The socket may be written to or read from; or the client has closed its own.
    pub(super) fn ready(&mut self, closed: bool, now: Time) -> Result<(), End> {
        self.closed |= closed;
        self.drained = false;
        // What a client sent before it closed still counts.
        if self.closed { Ok(()) } else { self.flush(now) }
    }

    /// The next message, unless a call is being carried out or replies lie unread.
    pub(super) fn next_message(&mut self) -> Result<Option<Vec<u8>>, End> {
        self.fill()?;
        if self.call.is_some() || !self.frames.is_empty() {
            // Nobody will read the reply.
            return if self.closed { Err(End::Gone) } else { Ok(None) };
        }
        match take(&mut self.input) {
            None if self.input.len() >= LONGEST => Err(End::TooLong),
            None if self.at_end => Err(End::Gone),
            message => Ok(message),
        }
    }

    /// Queues a reply, and sends what can be sent.
    pub(super) fn send(&mut self, reply: &Reply, now: Time) -> Result<(), End> {
        if self.frames.len() >= UNREAD {
            return Err(End::Slow);
        }
        self.frames.push_back(frame(reply));
        self.flush(now)
    }

    /// When this client is given up unless it reads.
    pub(super) fn deadline(&self, patience: Time) -> Option<Time> {
        self.stuck.map(|since| since + patience)
    }

    /// Reads what is there, up to the longest message.
    fn fill(&mut self) -> Result<(), End> {
        let mut chunk = [0; 4096];
        while !self.drained && self.input.len() < LONGEST {
            match self.stream.read(&mut chunk) {
                Ok(0) => (self.at_end, self.drained) = (true, true),
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.drained = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn flush(&mut self, now: Time) -> Result<(), End> {
        while let Some(frame) = self.frames.front() {
            match self.stream.write(&frame[self.written..]) {
                Ok(written) => {
                    self.stuck = None;
                    self.written += written;
                    if self.written == frame.len() {
                        self.written = 0;
                        self.frames.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stuck.get_or_insert(now);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
