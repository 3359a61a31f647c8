// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Peer: one connection of a client
//!
//! Owns the bytes of one client on their way in and out: messages are cut out of the one, replies queue up in the
//! other. Bounded: one message in ([`LONGEST`]) and [`UNREAD`] replies out; who does not read for as long as the
//! server has patience is given up. It never waits: what the socket does not take stays queued.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::UnixStream;

use super::protocol::{Order, Reply};
use crate::once::Time;

/// The longest message of a client: a modalias is about 2 KiB at most, four times that when escaped.
pub const LONGEST: usize = 64 << 10;
/// Replies that may lie unread, a stream's records included.
pub const UNREAD: usize = 256;

/// What a call that is being carried out gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// One reply.
    Once,
    /// Reply after reply, until the connection ends.
    Stream,
    /// No reply: a `oneway` call.
    Never,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client went, or the socket failed.
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
pub(super) struct Peer {
    pub(super) stream: UnixStream,
    /// The client is uid 0.
    pub(super) root: bool,
    /// The call that is being carried out.
    pub(super) call: Option<Manner>,
    input: Vec<u8>,
    frames: VecDeque<Vec<u8>>,
    /// So much of the first frame is written.
    written: usize,
    /// Since when the socket has taken nothing of what is queued.
    stuck: Option<Time>,
    /// It has sent all it will send.
    hung_up: bool,
    /// It reads no more.
    deaf: bool,
}

impl Peer {
    pub(super) fn new(stream: UnixStream, root: bool) -> Self {
        let (call, input, frames, written, stuck, hung_up, deaf) = Default::default();
        Self { stream, root, call, input, frames, written, stuck, hung_up, deaf }
    }

    /// Whether the order is its to give.
    pub(super) fn may(&self, order: &Order) -> bool {
        self.root || !order.is_privileged()
    }

    /// The socket may be written to or read from; `deaf`, it is closed for writing.
    pub(super) fn ready(&mut self, deaf: bool, now: Time) -> Result<(), End> {
        self.deaf |= deaf;
        // What a client that is gone sent before it went still counts.
        if !self.deaf {
            self.flush(now)?;
        }
        self.fill()
    }

    /// The next message, unless a call is being carried out or replies lie unread.
    pub(super) fn next_message(&mut self) -> Result<Option<Vec<u8>>, End> {
        if self.call.is_some() || !self.frames.is_empty() {
            // Nothing else would end a stream that is silent.
            return if self.deaf && self.call == Some(Manner::Stream) { Err(End::Gone) } else { Ok(None) };
        }
        let Some(end) = memchr::memchr(0, &self.input) else {
            return match self.hung_up {
                true => Err(End::Gone),
                false => Ok(None),
            };
        };
        let rest = self.input.split_off(end + 1);
        let mut message = std::mem::replace(&mut self.input, rest);
        message.pop();
        Ok(Some(message))
    }

    /// Whether there is more than a message.
    pub(super) fn check_length(&self) -> Result<(), End> {
        if self.input.len() > LONGEST { Err(End::TooLong) } else { Ok(()) }
    }

    /// Queues a reply, and sends what can be sent.
    pub(super) fn send(&mut self, reply: &Reply, now: Time) -> Result<(), End> {
        if self.frames.len() >= UNREAD {
            return Err(End::Slow);
        }
        self.frames.push_back(reply.frame());
        self.flush(now)
    }

    /// When this client is given up unless it reads.
    pub(super) fn deadline(&self, patience: Time) -> Option<Time> {
        self.stuck.map(|since| since + patience)
    }

    /// Reads what is there, up to a little more than the longest message.
    fn fill(&mut self) -> Result<(), End> {
        let mut chunk = [0; 4096];
        while self.input.len() <= LONGEST {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.hung_up = true;
                    return Ok(());
                }
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
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
