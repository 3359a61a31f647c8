// SPDX-License-Identifier: MIT OR Apache-2.0
//! One client's connection: messages are cut out of what comes in, replies queue up to go out.
//!
//! It never waits. Bounded by one message in ([`LONGEST`]) and [`UNREAD`] replies out.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::UnixStream;

use super::protocol::{Reply, frame};
use super::wire::take;
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

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    /// The call that is being carried out.
    pub(super) call: Option<ReplyMode>,
    /// It is in the server's queue of connections that may have a message.
    pub(super) queued: bool,
    input: Vec<u8>,
    /// There may be more to read: the loop is told of that once.
    unread: bool,
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
        let (call, queued, input, unread, frames, written, stuck, at_end, closed) = Default::default();
        Self { stream, call, queued, input, unread, frames, written, stuck, at_end, closed }
    }

    /// The socket may be written to or read from; or the client has closed its own.
    pub(super) fn ready(&mut self, closed: bool, now: Time) -> Result<(), End> {
        self.closed |= closed;
        self.unread = true;
        // What a client sent before it closed still counts.
        if self.closed { Ok(()) } else { self.flush(now) }
    }

    /// The next message, unless a call is being carried out or replies lie unread.
    pub(super) fn next_message(&mut self) -> Result<Option<Vec<u8>>, End> {
        // Up to the longest message.
        let mut chunk = [0; 4096];
        while self.unread && self.input.len() < LONGEST {
            match unless_blocked(self.stream.read(&mut chunk))? {
                Some(0) => (self.at_end, self.unread) = (true, false),
                Some(read) => self.input.extend_from_slice(&chunk[..read]),
                None => self.unread = false,
            }
        }
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

    fn flush(&mut self, now: Time) -> Result<(), End> {
        while let Some(frame) = self.frames.front() {
            let Some(written) = unless_blocked(self.stream.write(&frame[self.written..]))? else {
                self.stuck.get_or_insert(now);
                break;
            };
            self.stuck = None;
            self.written += written;
            if self.written == frame.len() {
                self.written = 0;
                self.frames.pop_front();
            }
        }
        Ok(())
    }
}

/// None where nothing can be read or written now.
fn unless_blocked(transferred: io::Result<usize>) -> Result<Option<usize>, End> {
    match transferred {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some).map_err(|_| End::Gone),
    }
}
