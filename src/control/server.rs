// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is connected to the control socket: messages become calls, replies go out.
//!
//! What a call means is not known here. No client can keep the loop from its other work: a turn accepts so many connections and
//! takes so many messages, and says whether there is more.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use mio::event::Event;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use serde::Serialize;
use serde_json::{Value, json};

use super::connection::{Connection, End, LONGEST, ReplyMode, UNREAD};
use super::listener::Listener;
use super::process::{self, Process};
use super::protocol::{Call, Method, Reply};
use crate::fatal::Fatal;
use crate::once::{ClientId, Time};

/// Connections accepted, and messages taken, in a turn of the loop.
const ACCEPTS: usize = 16;
const MESSAGES: usize = 16;
/// The kernel's own requests among them. Anybody may have it make 50 at a time, and 50 more as soon as these are answered: all
/// others come first, and fewer of them are answered than are taken, so that there is an end of the messages.
const KERNELS: usize = 4;
/// After accepting failed (too many open files, say) it is tried again so much later, or when a connection goes.
const PAUSE: Duration = Duration::from_secs(1);
/// So often a client that takes more replies than one is told that we live: see SILENCE in client/src/main.rs and modprobe.rs, and LOOK
/// there, before which it is to have arrived.
const BEAT: Duration = Duration::from_millis(750);

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
    /// Where clients come in.
    pub listener: Listener,
    registry: Registry,
    /// The listener's. Those above it are clients': the token is a client's number, and is not given twice.
    token: Token,
    next: ClientId,
    bounds: Bounds,
    connections: HashMap<ClientId, Connection>,
    stats: ConnectionStats,
    /// There may be connections to accept, from then on: the loop is told of each once, and accepting may have failed.
    accept_at: Option<Time>,
    /// The next time that who waits is told that we live.
    beat_at: Time,
    stopped: bool,
    /// Connections that may have a message.
    ready: VecDeque<ClientId>,
    calls: VecDeque<(Option<ClientId>, Method)>,
    /// The kernel's own requests that wait for their turn.
    kernels: VecDeque<(Option<ClientId>, Method)>,
    gone: Vec<ClientId>,
}

impl Server {
    /// Serves who connects to this listener; tokens from this one on are the server's.
    pub fn new(
        mut listener: Listener,
        registry: Registry,
        token: Token,
        bounds: Bounds,
    ) -> Result<Self, Fatal> {
        let watched = registry.register(&mut listener.socket, token, Interest::READABLE);
        watched.map_err(Fatal::at(listener.path.display()))?;
        Ok(Self {
            listener,
            registry,
            token,
            next: token.0 as ClientId + 1,
            bounds,
            connections: HashMap::new(),
            stats: ConnectionStats { limit: bounds.clients, ..ConnectionStats::default() },
            accept_at: Some(Time::ZERO),
            beat_at: Time::ZERO,
            stopped: false,
            ready: VecDeque::new(),
            calls: VecDeque::new(),
            kernels: VecDeque::new(),
            gone: Vec::new(),
        })
    }

    /// Accepts nobody any more; who connects to a supervisor's socket waits for the next daemon.
    pub fn stop(&mut self) {
        self.stopped = true;
        // Who would wait for us is told so.
        let _ = writeln!(self.listener.lock, "ends");
        self.listener.close();
        // Without an answer it is modprobe's.
        for client in std::mem::take(&mut self.kernels).into_iter().filter_map(|(client, _)| client) {
            self.close(client, &End::Gone);
        }
    }

    /// The loop has an event of one of the server's tokens.
    pub fn event(&mut self, event: &Event, now: Time) {
        match event.token() {
            token if token == self.token => self.accept_at = self.accept_at.or(Some(Time::ZERO)),
            Token(client) => {
                self.with(client as ClientId, |connection| connection.ready(event.is_write_closed(), now));
            }
        }
    }

    /// Accepts connections and takes messages, some of each. True where there is more to be done at once, the kernel's own requests
    /// [aside](Server::has_kernels): who waits until all that was asked before is done would wait for as long as anybody liked.
    pub fn turn(&mut self, now: Time) -> bool {
        let patience = self.bounds.patience;
        for client in self.clients(|connection| connection.deadline(patience).is_some_and(|at| at <= now)) {
            self.close(client, &End::Slow);
        }
        for _ in 0..ACCEPTS {
            if self.next_accept().is_some_and(|at| at <= now) {
                self.accept(now);
            }
        }
        for _ in 0..MESSAGES {
            let Some(client) = self.ready.pop_front() else { break };
            self.take_message(client, now);
        }
        let some = self.kernels.len().min(KERNELS);
        self.calls.extend(self.kernels.drain(..some));
        !self.ready.is_empty() || self.next_accept().is_some_and(|at| at <= now)
    }

    /// Whether requests of the kernel's wait for another turn.
    pub fn has_kernels(&self) -> bool {
        !self.kernels.is_empty()
    }

    /// The next call. The client is the one to [reply](Self::reply) to; nobody wants a reply to a `oneway` call, or has gone.
    pub fn next_call(&mut self) -> Option<(Option<ClientId>, Method)> {
        let (client, method) = self.calls.pop_front()?;
        Some((client.filter(|client| self.connections.contains_key(client)), method))
    }

    /// The next client that went away.
    pub fn next_gone(&mut self) -> Option<ClientId> {
        self.gone.pop()
    }

    /// Replies to a call, for the last time. A client that is gone is not missed.
    pub fn reply(&mut self, client: ClientId, reply: &Reply, now: Time) {
        self.with(client, |connection| {
            connection.call = None;
            connection.send(reply, now)
        });
    }

    /// Says that we live to all who take more replies than one and wait for the last, if that is due.
    pub fn beat(&mut self, now: Time) {
        if self.beat_at <= now {
            self.beat_at = now + BEAT;
            self.send_to(ReplyMode::More, || json!({}), now);
        }
    }

    /// Whose worker started this client, where udev runs it: udevd.
    pub fn grandparent(&self, client: ClientId) -> Option<Process> {
        process::grandparent(&self.connections.get(&client)?.stream)
    }

    /// Sends a record to every client that called Monitor.
    pub fn publish(&mut self, record: impl FnOnce() -> Value, now: Time) {
        self.send_to(ReplyMode::Stream, record, now);
    }

    fn send_to(&mut self, mode: ReplyMode, parameters: impl FnOnce() -> Value, now: Time) {
        let clients = self.clients(|connection| connection.call == Some(mode));
        if clients.is_empty() {
            return;
        }
        let reply = Reply::continued(parameters());
        clients.into_iter().for_each(|client| self.with(client, |connection| connection.send(&reply, now)));
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
        let ready = (!self.ready.is_empty()).then_some(Time::ZERO);
        slow.chain(self.next_accept()).chain(ready).chain(beat).min()
    }

    /// How many connections there are, and what became of others.
    pub fn stats(&self) -> ConnectionStats {
        ConnectionStats { now: self.connections.len(), ..self.stats }
    }

    fn next_accept(&self) -> Option<Time> {
        self.accept_at.filter(|_| !self.stopped && self.connections.len() < self.bounds.clients)
    }

    fn accept(&mut self, now: Time) {
        let result = self.listener.socket.accept().and_then(|(stream, _)| match process::is_root(&stream) {
            true => self.connect(stream),
            false => {
                let level = level(&mut self.stats.strangers);
                let path = self.listener.path.display();
                log::log!(level, "{path}: a client that is not root is disconnected");
                Ok(())
            }
        });
        let Err(error) = result else { return };
        match error.kind() {
            ErrorKind::WouldBlock => self.accept_at = None,
            // Gone before it was accepted.
            ErrorKind::ConnectionAborted => {}
            _ => {
                self.accept_at = Some(now + PAUSE);
                log::warn!("{}: no connection can be accepted: {error}", self.listener.path.display());
            }
        }
    }

    fn connect(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let client = self.next;
        self.next += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut stream, Token(client as usize), interest)?;
        self.connections.insert(client, Connection::new(stream));
        Ok(())
    }

    /// Does something with a connection, which may have a message then. If it fails, that is the end of the connection.
    fn with(&mut self, client: ClientId, act: impl FnOnce(&mut Connection) -> Result<(), End>) {
        let Some(connection) = self.connections.get_mut(&client) else { return };
        match act(connection) {
            Err(end) => self.close(client, &end),
            Ok(()) if connection.queued => {}
            Ok(()) => {
                connection.queued = true;
                self.ready.push_back(client);
            }
        }
    }

    fn take_message(&mut self, client: ClientId, now: Time) {
        let Some(connection) = self.connections.get_mut(&client) else { return };
        connection.queued = false;
        let message = match connection.next_message() {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(end) => return self.close(client, &end),
        };
        let (call, method) = Call::parse(&message);
        let reply = match method {
            // What changes what is loaded takes CAP_SYS_MODULE.
            Ok(Method::Load(_) | Method::Retry { .. } | Method::Autoload { .. })
                if !process::may_load(&connection.stream) =>
            {
                Some(Reply::error("PermissionDenied", json!({})))
            }
            Ok(method) => {
                let mode = match (&method, call.more) {
                    (Method::Monitor {}, _) => ReplyMode::Stream,
                    (_, true) => ReplyMode::More,
                    (_, false) => ReplyMode::Once,
                };
                connection.call = (!call.oneway).then_some(mode);
                let is_kernels = matches!(method, Method::Autoload { .. });
                let is_accepted = call.more && (is_kernels || matches!(method, Method::Load(_)));
                let call = (connection.call.map(|_| client), method);
                match (is_kernels, call.0) {
                    // Nobody is there to be told.
                    (true, None) => {}
                    (true, Some(_)) => self.kernels.push_back(call),
                    (false, _) => self.calls.push_back(call),
                }
                is_accepted.then(|| Reply::continued(json!({})))
            }
            Err(reply) => Some(reply),
        };
        let reply = reply.filter(|_| !call.oneway);
        self.with(client, |connection| reply.map_or(Ok(()), |reply| connection.send(&reply, now)));
    }

    fn clients(&self, wanted: impl Fn(&Connection) -> bool) -> Vec<ClientId> {
        let connections = self.connections.iter().filter(|(_, connection)| wanted(connection));
        connections.map(|(&client, _)| client).collect()
    }

    fn close(&mut self, client: ClientId, end: &End) {
        let Some(mut connection) = self.connections.remove(&client) else { return };
        let path = self.listener.path.display();
        match end {
            End::Gone => {}
            End::TooLong => log::debug!("{path}: a client sent more than {LONGEST} bytes: it is cut off"),
            End::Slow => log::log!(
                level(&mut self.stats.slow),
                "{path}: a client left {UNREAD} replies unread, or one for {} s: it is cut off (see `addonce status`)",
                self.bounds.patience.as_secs()
            ),
        }
        self.kernels.retain(|(waits, _)| *waits != Some(client));
        // It is registered.
        let _ = self.registry.deregister(&mut connection.stream);
        self.gone.push(client);
        // Its descriptor is free.
        self.accept_at = self.accept_at.map(|_| Time::ZERO);
    }
}

/// Counts what is said once and counted always.
fn level(count: &mut u64) -> log::Level {
    *count += 1;
    if *count == 1 { log::Level::Warn } else { log::Level::Debug }
}
