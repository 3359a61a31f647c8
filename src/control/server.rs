// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Server: the control socket and its clients
//!
//! Owns the listening socket, the connections, and the bytes on their way in and out. It turns bytes into
//! [`Order`]s and replies into bytes, and knows nothing of what an order means. Bounded: so many clients, one
//! message in ([`LONGEST`]) and one reply out per client; a client that sends more before it has read its reply
//! has to wait, one that breaks the rules is closed. No client can make the loop wait.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt};

use super::protocol::{Call, Order, Reply};
use crate::fatal::Fatal;
use crate::once::request::ClientId;

/// The longest message of a client: a modalias is about 2 KiB at most, four times that when escaped.
pub const LONGEST: usize = 64 << 10;

/// The control socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    registry: Registry,
    /// Tokens from here on are clients: a token is a client's number, and is not given twice.
    next: usize,
    limit: usize,
    clients: HashMap<Token, Client>,
    /// Somebody was turned away since somebody was let in last: it is said once, for anybody may knock.
    full: bool,
    orders: VecDeque<(ClientId, Order)>,
    gone: Vec<ClientId>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    root: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    /// An order of its is being carried out.
    waiting: bool,
    /// It has sent all it will send.
    hung_up: bool,
}

impl Server {
    /// Listens at `path`. A socket that a daemon left behind is replaced, one that somebody listens at is not.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the path.
    pub fn listen(path: &Path, registry: Registry, token: Token, limit: usize) -> Result<Self, Fatal> {
        let refused = |error: io::Error| {
            Fatal::System(format!(
                "{}: cannot listen here: {error}: name another path with --socket",
                path.display()
            ))
        };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Fatal::System(format!(
                "{}: another daemon listens here: stop it first",
                path.display()
            )));
        }
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(refused)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        let mut listener = UnixListener::bind(path).map_err(refused)?;
        // Everybody may ask; who may change something is looked at call by call.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(refused)?;
        registry.register(&mut listener, token, Interest::READABLE).map_err(refused)?;
        let (clients, orders, gone) = Default::default();
        let (path, next, full) = (path.into(), token.0 + 1, false);
        Ok(Self { listener, path, registry, next, limit, clients, full, orders, gone })
    }

    /// The listening socket has news.
    pub fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Out of descriptors, say: who knocked will have to knock again.
                Err(error) => {
                    return log::warn!("{}: a client could not be let in: {error}", self.path.display());
                }
            }
        }
    }

    /// A client has news.
    pub fn ready(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let result = client.flush().and_then(|()| client.fill());
        self.proceed(token, result);
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
    pub fn reply(&mut self, client: ClientId, reply: &Reply) {
        let token = Token(usize::try_from(client).unwrap_or(usize::MAX));
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.waiting = false;
        let result = client.send(reply);
        self.proceed(token, result);
    }

    fn welcome(&mut self, mut stream: UnixStream) {
        let full = self.clients.len() >= self.limit;
        if full {
            let level = if self.full { log::Level::Debug } else { log::Level::Warn };
            self.full = true;
            return log::log!(
                level,
                "{}: {} clients are being served already: one more was turned away (see --clients)",
                self.path.display(),
                self.limit
            );
        }
        self.full = false;
        let root = getsockopt(&stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0);
        let token = Token(self.next);
        self.next += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut stream, token, interest) {
            return log::warn!("{}: a client could not be let in: {error}", self.path.display());
        }
        let (input, output) = Default::default();
        self.clients.insert(token, Client { stream, root, input, output, waiting: false, hung_up: false });
    }

    /// Takes the next order out of a client's input, unless one is being carried out or the reply to the last one
    /// is not read yet; closes the client where that is due.
    fn proceed(&mut self, token: Token, mut result: io::Result<()>) {
        while result.is_ok() {
            let Some(client) = self.clients.get_mut(&token) else { return };
            if client.waiting || !client.output.is_empty() {
                break;
            }
            let Some(message) = client.next_message() else {
                if client.hung_up {
                    result = Err(ErrorKind::UnexpectedEof.into());
                }
                break;
            };
            let order = serde_json::from_slice(&message)
                .map_err(|error| Reply::invalid_parameter(&error.to_string()))
                .and_then(Call::order)
                .and_then(|order| client.may(order));
            match order {
                Ok(order) => {
                    client.waiting = true;
                    self.orders.push_back((token.0 as ClientId, order));
                }
                Err(reply) => result = client.send(&reply),
            }
        }
        let too_long = self.clients.get(&token).is_some_and(|client| client.input.len() > LONGEST);
        if too_long {
            log::debug!("{}: a client sent more than {LONGEST} bytes: it is cut off", self.path.display());
        }
        if result.is_err() || too_long {
            self.close(token);
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(mut client) = self.clients.remove(&token) {
            if let Err(error) = self.registry.deregister(&mut client.stream) {
                log::debug!("{}: deregistering a client: {error}", self.path.display());
            }
            self.gone.push(token.0 as ClientId);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

impl Client {
    fn may(&self, order: Order) -> Result<Order, Reply> {
        if order.is_privileged() && !self.root {
            return Err(Reply::error("io.addonce.PermissionDenied", serde_json::json!({})));
        }
        Ok(order)
    }

    /// Reads what is there, up to a little more than the longest message.
    fn fill(&mut self) -> io::Result<()> {
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
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn next_message(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|&byte| byte == 0)?;
        let rest = self.input.split_off(end + 1);
        let mut message = std::mem::replace(&mut self.input, rest);
        message.pop();
        Some(message)
    }

    fn send(&mut self, reply: &Reply) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, reply)?;
        self.output.push(0);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
