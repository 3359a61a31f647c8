// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is connected to the control socket: messages become calls, replies go out.
//!
//! What a call means is not known here. No client can keep the loop from its other work: a turn accepts so many connections and
//! takes so many messages, and says whether there is more.

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use serde::Serialize;
use serde_json::{Value, json};

use super::connection::{Connection, End, LONGEST, ReplyMode, UNREAD};
use super::listener::Listener;
use super::process;
use super::protocol::{Call, Method, Reply};
use crate::fatal::Fatal;
use crate::once::{ClientId, Time};

/// Connections accepted in a turn of the loop.
const ACCEPTS: usize = 16;
/// Messages taken in a turn of the loop.
const MESSAGES: usize = 16;
/// After accepting failed (too many open files, say) it is tried again so much later, or when a connection goes.
const PAUSE: Duration = Duration::from_secs(1);

/// So often a client that takes more replies than one is told that we live: see SILENCE in client/src/main.rs.
const BEAT: Duration = Duration::from_secs(1);

/// How a server is bounded.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Clients at a time; who comes then waits until one goes.
    pub clients: usize,
    /// So long a client may leave its replies unread.
    pub patience: Time,
}

/// Connections, in numbers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ConnectionStats {
    /// There are so many.
    pub now: usize,
    /// And may be so many.
    pub limit: usize,
    /// Refused: the client was not uid 0.
    pub strangers: u64,
    /// Closed, because they were not read from.
    pub slow: u64,
}

/// The control socket.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    registry: Registry,
    token: Token,
    /// Tokens from here on are clients: a token is a client's number, and is not given twice.
    next: usize,
    bounds: Bounds,
    connections: HashMap<Token, Connection>,
    stats: ConnectionStats,
    /// There may be connections to accept. The loop is told of each once, so this is true until there are none.
    unaccepted: bool,
    /// Accepting failed, and is tried again then.
    accept_at: Option<Time>,
    /// The next time that who waits is told that we live.
    beat_at: Time,
    stopped: bool,
    /// Connections that may have a message.
    ready: VecDeque<Token>,
    calls: VecDeque<(Option<ClientId>, Method)>,
    gone: Vec<ClientId>,
}

impl Server {
    /// Serves who connects to this listener; tokens from this one on are the server's.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the path.
    pub fn new(
        mut listener: Listener,
        registry: Registry,
        token: Token,
        bounds: Bounds,
    ) -> Result<Self, Fatal> {
        listener.watch(&registry, token)?;
        Ok(Self {
            listener,
            registry,
            token,
            next: token.0 + 1,
            bounds,
            connections: HashMap::new(),
            stats: ConnectionStats { limit: bounds.clients, ..ConnectionStats::default() },
            unaccepted: true,
            accept_at: None,
            beat_at: Time::ZERO,
            stopped: false,
            ready: VecDeque::new(),
            calls: VecDeque::new(),
            gone: Vec::new(),
        })
    }

    /// Accepts nobody any more; who connects to a supervisor's socket waits for the next daemon.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.listener.close();
    }

    /// Whether nobody can connect any more, because the socket's name was removed or taken.
    pub fn is_lost(&self) -> bool {
        self.listener.is_lost()
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.listener.path()
    }

    /// The loop has an event of one of the server's tokens.
    pub fn event(&mut self, event: &Event, now: Time) {
        let token = event.token();
        if token == self.token {
            self.unaccepted = true;
            return;
        }
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.ready(event.is_write_closed(), now) {
            Ok(()) => self.enqueue(token),
            Err(end) => self.close(token, &end),
        }
    }

    /// Accepts connections and takes messages, some of each. True where there is more to be done at once.
    pub fn turn(&mut self, now: Time) -> bool {
        self.close_slow(now);
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
        }
        for _ in 0..ACCEPTS {
            if !self.may_accept() || !self.unaccepted {
                break;
            }
            self.accept(now);
        }
        for _ in 0..MESSAGES {
            let Some(token) = self.ready.pop_front() else { break };
            self.take_message(token, now);
        }
        self.has_more()
    }

    /// The next call. The client is the one to [reply](Self::reply) to; nobody wants a reply to a `oneway` call, or has gone.
    pub fn next_call(&mut self) -> Option<(Option<ClientId>, Method)> {
        self.calls.pop_front()
    }

    /// The next client that went away.
    pub fn next_gone(&mut self) -> Option<ClientId> {
        self.gone.pop()
    }

    /// Replies to a call, for the last time. A client that is gone is not missed.
    pub fn reply(&mut self, client: ClientId, reply: &Reply, now: Time) {
        let token = token(client);
        let Some(connection) = self.connections.get_mut(&token) else { return };
        connection.call = None;
        match connection.send(reply, now) {
            Ok(()) => self.enqueue(token),
            Err(end) => self.close(token, &end),
        }
    }

    /// Says that we live to all who take more replies than one and wait for the last, if that is due.
    pub fn beat(&mut self, now: Time) {
        if self.beat_at <= now {
            self.beat_at = now + BEAT;
            self.send_to(ReplyMode::More, || json!({}), now);
        }
    }

    /// Whose worker started this client, where udev runs it: udevd's PID, and when it was started, in clock ticks since boot.
    pub fn grandparent(&self, client: ClientId) -> Option<(i32, u64)> {
        process::grandparent(&self.connections.get(&token(client))?.stream)
    }

    /// From now on the client gets what is [published](Self::publish).
    pub fn subscribe(&mut self, client: ClientId) {
        if let Some(connection) = self.connections.get_mut(&token(client)) {
            connection.call = Some(ReplyMode::Stream);
        }
    }

    /// Sends a record to every client that subscribed.
    pub fn publish(&mut self, record: impl FnOnce() -> Value, now: Time) {
        self.send_to(ReplyMode::Stream, record, now);
    }

    fn send_to(&mut self, mode: ReplyMode, parameters: impl FnOnce() -> Value, now: Time) {
        let tokens = self.tokens(|connection| connection.call == Some(mode));
        if tokens.is_empty() {
            return;
        }
        let reply = Reply::continued(parameters());
        for token in tokens {
            let Some(connection) = self.connections.get_mut(&token) else { continue };
            if let Err(end) = connection.send(&reply, now) {
                self.close(token, &end);
            }
        }
    }

    /// When [`Server::turn`] or [`Server::beat`] has something to do that no event tells of.
    pub fn next_deadline(&self) -> Option<Time> {
        let waits = |connection: &Connection| connection.call == Some(ReplyMode::More);
        let beat = self.connections.values().any(waits).then_some(self.beat_at);
        if self.stopped {
            return beat;
        }
        let slow =
            self.connections.values().filter_map(|connection| connection.deadline(self.bounds.patience));
        // A client that was answered since the last turn may have called again before.
        let ready = self.has_more().then_some(Time::ZERO);
        slow.chain(self.accept_at).chain(ready).chain(beat).min()
    }

    /// How many connections there are, and what became of others.
    pub fn stats(&self) -> ConnectionStats {
        ConnectionStats { now: self.connections.len(), ..self.stats }
    }

    fn has_more(&self) -> bool {
        !self.ready.is_empty() || (self.unaccepted && self.may_accept())
    }

    fn may_accept(&self) -> bool {
        !self.stopped && self.accept_at.is_none() && self.connections.len() < self.bounds.clients
    }

    fn accept(&mut self, now: Time) {
        match self.listener.accept() {
            Ok(stream) if process::is_root(&stream) => self.connect(stream),
            Ok(_) => {
                // Said once, counted always.
                let level = if self.stats.strangers == 0 { log::Level::Warn } else { log::Level::Debug };
                self.stats.strangers += 1;
                log::log!(level, "{}: a client that is not root is disconnected", self.path().display());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.unaccepted = false,
            // Gone before it was accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                self.accept_at = Some(now + PAUSE);
                log::warn!("{}: no connection can be accepted: {error}", self.path().display());
            }
        }
    }

    fn connect(&mut self, mut stream: UnixStream) {
        let token = Token(self.next);
        self.next += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut stream, token, interest) {
            return log::warn!("{}: a client cannot be served: {error}", self.path().display());
        }
        self.connections.insert(token, Connection::new(stream));
    }

    fn enqueue(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token).filter(|connection| !connection.queued) {
            connection.queued = true;
            self.ready.push_back(token);
        }
    }

    /// Takes one message of a client, where it may call.
    fn take_message(&mut self, token: Token, now: Time) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        connection.queued = false;
        let message = match connection.next_message() {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(end) => return self.close(token, &end),
        };
        let (call, method) = Call::parse(&message);
        let method = method.and_then(|method| {
            match !method.is_privileged() || process::may_load(&connection.stream) {
                true => Ok(method),
                false => Err(Reply::error("PermissionDenied", json!({}))),
            }
        });
        let sent = match method {
            Ok(method) => {
                let mode = if call.more { ReplyMode::More } else { ReplyMode::Once };
                connection.call = (!call.oneway).then_some(mode);
                let accepted = connection.call == Some(ReplyMode::More) && matches!(method, Method::Load(_));
                self.calls.push_back((connection.call.map(|_| token.0 as ClientId), method));
                if accepted { connection.send(&Reply::continued(json!({})), now) } else { Ok(()) }
            }
            Err(_) if call.oneway => Ok(()),
            Err(reply) => connection.send(&reply, now),
        };
        match sent {
            Ok(()) => self.enqueue(token),
            Err(end) => self.close(token, &end),
        }
    }

    fn tokens(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<Token> {
        let connections = self.connections.iter().filter(|(_, connection)| wanted(connection));
        connections.map(|(&token, _)| token).collect()
    }

    fn close_slow(&mut self, now: Time) {
        let patience = self.bounds.patience;
        let late =
            self.tokens(|connection| connection.deadline(patience).is_some_and(|deadline| deadline <= now));
        for token in late {
            self.close(token, &End::Slow);
        }
    }

    fn close(&mut self, token: Token, end: &End) {
        let Some(mut connection) = self.connections.remove(&token) else { return };
        let path = self.listener.path().display();
        match end {
            End::Gone => {}
            End::TooLong => log::debug!("{path}: a client sent more than {LONGEST} bytes: it is cut off"),
            End::Slow => {
                let level = if self.stats.slow == 0 { log::Level::Warn } else { log::Level::Debug };
                self.stats.slow += 1;
                log::log!(
                    level,
                    "{path}: a client left {UNREAD} replies unread, or one for {} s: it is cut off (see `addonce status`)",
                    self.bounds.patience.as_secs()
                );
            }
        }
        if let Err(error) = self.registry.deregister(&mut connection.stream) {
            log::debug!("{path}: deregistering a client: {error}");
        }
        let client = token.0 as ClientId;
        // What it asked to be loaded is loaded; what it only wanted to know is not looked up.
        self.calls.retain_mut(|(caller, method)| {
            let theirs = *caller == Some(client);
            if theirs {
                *caller = None;
            }
            !theirs || method.is_privileged()
        });
        self.gone.push(client);
        // Its descriptor is free.
        self.accept_at = None;
    }
}

fn token(client: ClientId) -> Token {
    Token(usize::try_from(client).unwrap_or(usize::MAX))
}
