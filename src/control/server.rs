// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Server: the control socket and its clients
//!
//! Owns who is connected to the [door](Door). It turns messages into [`Order`]s and sends replies, and knows nothing of
//! what an order means. Bounded: so many clients of all users together, and so many of root's, so that nobody
//! keeps an administrator or udev out; per client what a [`Peer`] may hold; and so much patience with who does not read. No
//! client can make the loop wait.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::Value;

use super::door::Door;
use super::peer::{End, LONGEST, Manner, Peer, UNREAD};
use super::protocol::{Call, Order, Reply};
use crate::fatal::Fatal;
use crate::once::{ClientId, Time};

/// How a server is bounded.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Clients at a time, without root's.
    pub clients: usize,
    /// Root's clients at a time: in a storm, udev may have a worker for every few events.
    pub root_clients: usize,
    /// So long a client may leave its replies unread.
    pub patience: Time,
}

/// Who came and who had to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visits {
    /// Connections that were let in.
    pub welcomed: u64,
    /// Connections that were refused, because there were too many.
    pub turned_away: u64,
    /// Connections that were closed, because they were not read from.
    pub slow: u64,
}

/// The control socket.
#[derive(Debug)]
pub struct Server {
    door: Door,
    registry: Registry,
    /// Tokens from here on are clients: a token is a client's number, and is not given twice.
    next: usize,
    bounds: Bounds,
    peers: HashMap<Token, Peer>,
    visits: Visits,
    /// Somebody was turned away since somebody was let in last: it is said once, for anybody may knock.
    full: bool,
    orders: VecDeque<(ClientId, Order)>,
    gone: Vec<ClientId>,
}

impl Server {
    /// Serves who comes to this door.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the path.
    pub fn behind(mut door: Door, registry: Registry, token: Token, bounds: Bounds) -> Result<Self, Fatal> {
        door.register(&registry, token)?;
        let (peers, visits, full, orders, gone) = Default::default();
        Ok(Self { door, registry, next: token.0 + 1, bounds, peers, visits, full, orders, gone })
    }

    /// Nobody finds the door any more; who has found it is still let in.
    pub fn close_door(&mut self) {
        self.door.close();
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.door.path()
    }

    /// Lets in who has knocked.
    pub fn accept(&mut self) {
        loop {
            match self.door.accept() {
                Ok(stream) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Out of descriptors, say: who knocked will have to knock again.
                Err(error) => {
                    return log::warn!("{}: a client could not be let in: {error}", self.path().display());
                }
            }
        }
    }

    /// A client has news.
    pub fn ready(&mut self, event: &Event, now: Time) {
        let Some(peer) = self.peers.get_mut(&event.token()) else { return };
        let result = peer.ready(event.is_write_closed(), now);
        self.proceed(event.token(), result, now);
    }

    /// The next order of any client.
    pub fn next_order(&mut self) -> Option<(ClientId, Order)> {
        self.orders.pop_front()
    }

    /// The clients that went away since this was asked last.
    pub fn take_gone(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.gone)
    }

    /// Replies to an order. A client that is gone is not missed.
    pub fn reply(&mut self, client: ClientId, reply: &Reply, now: Time) {
        let token = token(client);
        let Some(peer) = self.peers.get_mut(&token) else { return };
        let result = match peer.call.take() {
            Some(Manner::Never) => Ok(()),
            _ => peer.send(reply, now),
        };
        self.proceed(token, result, now);
    }

    /// From now on the client gets what is [published](Self::publish).
    pub fn subscribe(&mut self, client: ClientId) {
        if let Some(peer) = self.peers.get_mut(&token(client)) {
            peer.call = Some(Manner::Stream);
        }
    }

    /// Sends a record to every client that subscribed.
    pub fn publish(&mut self, record: impl FnOnce() -> Value, now: Time) {
        let listens = |peer: &Peer| peer.call == Some(Manner::Stream);
        let listeners: Vec<Token> =
            self.peers.iter().filter(|(_, peer)| listens(peer)).map(|(&token, _)| token).collect();
        if listeners.is_empty() {
            return;
        }
        let reply = Reply::continued(record());
        for token in listeners {
            let Some(peer) = self.peers.get_mut(&token) else { continue };
            let result = peer.send(&reply, now);
            self.proceed(token, result, now);
        }
    }

    /// Gives up clients that have not read for too long.
    pub fn tick(&mut self, now: Time) {
        let patience = self.bounds.patience;
        let late = |peer: &Peer| peer.deadline(patience).is_some_and(|deadline| deadline <= now);
        let late: Vec<Token> =
            self.peers.iter().filter(|(_, peer)| late(peer)).map(|(&token, _)| token).collect();
        for token in late {
            self.close(token, &End::Slow);
        }
    }

    /// When [`Server::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.peers.values().filter_map(|peer| peer.deadline(self.bounds.patience)).min()
    }

    /// How many clients are connected, and how many there may be.
    pub fn clients(&self) -> (usize, usize) {
        (self.peers.len(), self.bounds.clients + self.bounds.root_clients)
    }

    /// Who came and who had to go.
    pub fn visits(&self) -> Visits {
        self.visits
    }

    fn welcome(&mut self, mut stream: UnixStream) {
        let root = getsockopt(&stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0);
        let (limit, flag) = match root {
            true => (self.bounds.root_clients, "--root-clients"),
            false => (self.bounds.clients, "--clients"),
        };
        if self.peers.values().filter(|peer| peer.root == root).count() >= limit {
            let level = if self.full { log::Level::Debug } else { log::Level::Warn };
            self.full = true;
            self.visits.turned_away += 1;
            return log::log!(
                level,
                "{}: {limit} clients are being served already: one more was turned away (see {flag})",
                self.path().display(),
            );
        }
        self.full = false;
        let token = Token(self.next);
        self.next += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut stream, token, interest) {
            return log::warn!("{}: a client could not be let in: {error}", self.path().display());
        }
        self.visits.welcomed += 1;
        self.peers.insert(token, Peer::new(stream, root));
    }

    /// Takes the next order out of a client's input, where it is its turn; closes the client where that is due.
    fn proceed(&mut self, token: Token, mut result: Result<(), End>, now: Time) {
        while result.is_ok() {
            let Some(peer) = self.peers.get_mut(&token) else { return };
            let message = match peer.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => {
                    result = peer.check_length();
                    break;
                }
                Err(end) => {
                    result = Err(end);
                    break;
                }
            };
            let call = serde_json::from_slice::<Call>(&message)
                .map_err(|error| (Reply::invalid_parameter(&error.to_string()), false));
            let order = call.and_then(|call| {
                let oneway = call.oneway;
                let order = call.order().map_err(|reply| (reply, oneway))?;
                let may = peer.may(&order);
                if may { Ok((order, oneway)) } else { Err((Reply::permission_denied(), oneway)) }
            });
            match order {
                Ok((order, oneway)) => {
                    peer.call = Some(if oneway { Manner::Never } else { Manner::Once });
                    self.orders.push_back((token.0 as ClientId, order));
                }
                Err((_, true)) => {}
                Err((reply, false)) => result = peer.send(&reply, now),
            }
        }
        if let Err(end) = result {
            self.close(token, &end);
        }
    }

    fn close(&mut self, token: Token, end: &End) {
        let Some(mut peer) = self.peers.remove(&token) else { return };
        let path = self.door.path().display();
        match end {
            End::Gone => {}
            End::TooLong => log::debug!("{path}: a client sent more than {LONGEST} bytes: it is cut off"),
            End::Slow => {
                // Said once, counted always: anybody may connect and not read.
                let level = if self.visits.slow == 0 { log::Level::Warn } else { log::Level::Debug };
                self.visits.slow += 1;
                log::log!(
                    level,
                    "{path}: a client left {UNREAD} replies unread, or one for {} s: it is cut off (see `addonce status`)",
                    self.bounds.patience.as_secs()
                );
            }
        }
        if let Err(error) = self.registry.deregister(&mut peer.stream) {
            log::debug!("{path}: deregistering a client: {error}");
        }
        self.gone.push(token.0 as ClientId);
    }
}

fn token(client: ClientId) -> Token {
    Token(usize::try_from(client).unwrap_or(usize::MAX))
}

impl AsRawFd for Server {
    fn as_raw_fd(&self) -> RawFd {
        self.door.as_raw_fd()
    }
}
