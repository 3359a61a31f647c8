// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which order the control socket's messages become calls, turn by turn: this process is the loop and all of the clients.

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use addonce::control::listener::Listener;
use addonce::control::lock;
use addonce::control::protocol::{Method, Reply};
use addonce::control::server::{Bounds, Server};
use addonce::once::{ClientId, Time};
use common::namespace::alone;
use mio::{Poll, Token};
use serde_json::json;

/// So many helpers the kernel runs at a time: MAX_KMOD_CONCURRENT of kernel/module/kmod.c.
const HELPERS: usize = 50;

/// A loop that has nothing but a server.
struct Turns {
    poll: Poll,
    server: Server,
    _directory: tempfile::TempDir,
}

impl Turns {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("socket");
        let lock = lock::take(&path, Time::ZERO, || false).expect("a lock").expect("it is ours");
        let listener = Listener::new(None, &path, lock).expect("a socket");
        let poll = Poll::new().expect("epoll");
        let registry = poll.registry().try_clone().expect("epoll");
        let bounds = Bounds { clients: 4096, patience: Duration::from_secs(10) };
        let server = Server::new(listener, registry, Token(2), bounds).expect("a server");
        Self { poll, server, _directory: directory }
    }

    fn socket(&self) -> &Path {
        &self.server.listener.path
    }

    /// One turn: the calls that it brings, and whether there is more.
    fn turn(&mut self) -> (Vec<(ClientId, Method)>, bool) {
        let mut occurred = mio::Events::with_capacity(128);
        self.poll.poll(&mut occurred, Some(Duration::ZERO)).expect("epoll");
        occurred.iter().for_each(|event| self.server.event(event, Time::ZERO));
        let more = self.server.turn(Time::ZERO);
        let calls = std::iter::from_fn(|| self.server.next_call());
        (calls.map(|(client, method)| (client.expect("it is there"), method)).collect(), more)
    }

    fn answer(&mut self, client: ClientId) {
        self.server.reply(client, &Reply::of(json!({ "answer": "failed" })), Time::ZERO);
    }
}

fn asks(socket: &Path, method: &str, parameters: &str) -> UnixStream {
    let mut client = UnixStream::connect(socket).expect("connect");
    let call = format!("{{\"method\":\"io.addonce.{method}\",\"parameters\":{parameters}}}\0");
    client.write_all(call.as_bytes()).expect("asked");
    client
}

fn helper(socket: &Path) -> UnixStream {
    asks(socket, "Autoload", r#"{"name":"fs-x"}"#)
}

fn is_kernels(method: &Method) -> bool {
    matches!(method, Method::Autoload { .. })
}

#[test]
fn a_device_does_not_wait_for_the_kernels_requests_that_came_before() {
    alone("a_device_does_not_wait_for_the_kernels_requests_that_came_before", || {
        let mut turns = Turns::new();
        let helpers: Vec<_> = (0..HELPERS).map(|_| helper(turns.socket())).collect();
        let _device = asks(turns.socket(), "Load", r#"{"alias":"x:y"}"#);
        let mut kernels = 0;
        let calls = loop {
            let (calls, _) = turns.turn();
            if calls.iter().any(|(_, method)| !is_kernels(method)) {
                break calls;
            }
            kernels += calls.len();
        };
        assert!(kernels <= HELPERS / 2, "{kernels} came before it");
        assert!(!is_kernels(&calls[0].1), "it is the first of its turn");
        // And none of them is forgotten.
        kernels += calls.len() - 1;
        while kernels < helpers.len() {
            assert!(turns.server.has_kernels());
            kernels += turns.turn().0.len();
        }
        assert!(!turns.server.has_kernels());
    });
}

#[test]
fn however_often_the_kernel_asks_again_there_is_an_end_of_all_other_messages() {
    alone("however_often_the_kernel_asks_again_there_is_an_end_of_all_other_messages", || {
        let mut turns = Turns::new();
        let socket = turns.socket().to_owned();
        let mut helpers: Vec<_> = (0..HELPERS).map(|_| helper(&socket)).collect();
        let (mut answered, mut ends) = (0, 0);
        for _ in 0..1000 {
            let (calls, more) = turns.turn();
            ends += usize::from(!more);
            for (client, method) in calls {
                assert!(is_kernels(&method));
                turns.answer(client);
                answered += 1;
                let done = helpers.iter_mut().find(|helper| has_answer(helper)).expect("one was answered");
                *done = helper(&socket);
            }
        }
        assert!(answered > 3000, "{answered} were answered");
        assert!(ends > 900, "of 1000 turns {ends} were the last of the messages");
    });
}

fn has_answer(mut client: &UnixStream) -> bool {
    client.set_nonblocking(true).expect("a socket");
    client.read(&mut [0; 64]).is_ok_and(|read| read > 0)
}

#[test]
fn a_request_of_the_kernels_whose_helper_has_gone_or_wants_no_reply_is_not_kept() {
    alone("a_request_of_the_kernels_whose_helper_has_gone_or_wants_no_reply_is_not_kept", || {
        let mut turns = Turns::new();
        let helpers: Vec<_> = (0..HELPERS).map(|_| helper(turns.socket())).collect();
        while !turns.server.has_kernels() {
            turns.turn();
        }
        drop(helpers);
        // All that were accepted are heard of.
        while turns.server.stats().now > 0 {
            turns.turn();
        }
        assert!(!turns.server.has_kernels());
        let call =
            "{\"method\":\"io.addonce.Autoload\",\"parameters\":{\"name\":\"fs-x\"},\"oneway\":true}\0";
        let mut client = UnixStream::connect(turns.socket()).expect("connect");
        client.write_all(call.repeat(100).as_bytes()).expect("asked");
        while turns.server.stats().now == 0 || turns.turn().1 {
            turns.turn();
            assert!(!turns.server.has_kernels());
        }
    });
}

#[test]
fn a_server_that_stops_leaves_what_the_kernel_has_asked_for_to_modprobe() {
    alone("a_server_that_stops_leaves_what_the_kernel_has_asked_for_to_modprobe", || {
        let mut turns = Turns::new();
        let helpers: Vec<_> = (0..HELPERS).map(|_| helper(turns.socket())).collect();
        let mut calls = 0;
        while !turns.server.has_kernels() {
            calls += turns.turn().0.len();
        }
        let accepted = turns.server.stats().now;
        turns.server.stop();
        helpers.iter().for_each(|helper| helper.set_nonblocking(true).expect("a socket"));
        let is_at_end = |mut helper: &UnixStream| helper.read(&mut [0]).is_ok_and(|size| size == 0);
        let ended = helpers.iter().filter(|helper| is_at_end(helper)).count();
        assert!(!turns.server.has_kernels());
        assert!(ended > 0 && ended + calls <= accepted, "{ended} + {calls} of {accepted}");
    });
}
