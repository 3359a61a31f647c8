// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Desk: clients' orders and the replies to them
//!
//! Owns the meaning of an order: which of them are the core's business, which are answered at once, and who waits
//! for settling. Every order gets one reply; the clients are bounded by the server.

use mio::Token;
use serde_json::json;

use super::intake::Intake;
use crate::control::protocol::{self, Load, Order, Reply};
use crate::control::server::Server;
use crate::escape::unescape;
use crate::kmod::Resolver;
use crate::once::coalescer::Coalescer;
use crate::once::party::Answer;
use crate::once::request::{ClientId, Device, Origin, Request, Time};

/// The clients' side of the loop.
pub struct Desk {
    server: Server,
    /// Who waits for settling, and has waited since before the socket was last seen drained.
    waiting: Vec<ClientId>,
}

impl Desk {
    /// A desk behind this server.
    pub fn new(server: Server) -> Self {
        Self { server, waiting: Vec::new() }
    }

    /// Clients knock.
    pub fn accept(&mut self) {
        self.server.accept();
    }

    /// A client has news.
    pub fn ready(&mut self, token: Token) {
        self.server.ready(token);
    }

    /// Takes the orders that have come in.
    pub fn serve(&mut self, core: &mut Coalescer, resolver: &mut Resolver, intake: &Intake, now: Time) {
        for client in self.server.take_gone() {
            core.client_gone(client);
            self.waiting.retain(|&other| other != client);
        }
        while let Some((client, order)) = self.server.next_order() {
            match order {
                Order::Settle => self.waiting.push(client),
                Order::Load(load) => self.load(core, resolver, client, &load, now),
                Order::Retry(modules) => core.retry(resolver, client, &modules, now),
                Order::Status => self.server.reply(client, &Reply::of(status(core, intake, now))),
                Order::Failures => {
                    let failures: Vec<_> = core
                        .failures()
                        .map(|(module, failure)| protocol::failure(module, failure, now))
                        .collect();
                    self.server.reply(client, &Reply::of(json!({ "failures": failures })));
                }
            }
        }
    }

    fn load(
        &mut self,
        core: &mut Coalescer,
        resolver: &mut Resolver,
        client: ClientId,
        load: &Load,
        now: Time,
    ) {
        let Some(alias) = unescape(&load.alias) else {
            return self.server.reply(client, &Reply::invalid_parameter("alias"));
        };
        let Ok(devpath) = load.devpath.as_deref().map(|path| unescape(path).ok_or(())).transpose() else {
            return self.server.reply(client, &Reply::invalid_parameter("devpath"));
        };
        let device = devpath.as_deref().map(|devpath| Device { devpath, genuine: load.genuine });
        let origin = Origin::Client { client, device };
        core.request(resolver, Request { alias: &alias, origin }, now);
    }

    /// The socket is drained and nothing is in the air.
    pub fn settled(&mut self) {
        for client in std::mem::take(&mut self.waiting) {
            self.server.reply(client, &Reply::of(json!({})));
        }
    }

    /// The core has an answer.
    pub fn answer(&mut self, client: ClientId, answers: &[Answer], now: Time) {
        self.server.reply(client, &protocol::answers(answers, now));
    }
}

fn status(core: &Coalescer, intake: &Intake, now: Time) -> serde_json::Value {
    let tally = core.tally();
    let counters = intake.netlink().map(|netlink| netlink.counters()).unwrap_or_default();
    let (malformed, drops) = intake.losses();
    let millis = |time: Time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let loading: Vec<_> = core
        .loading()
        .map(|(name, since)| json!({ "module": &**name, "ms": millis(now.saturating_sub(since)) }))
        .collect();
    json!({
        "uptime_ms": millis(now),
        "disabled": core.is_disabled(),
        "settled": core.is_settled(),
        "in_air": core.in_air(),
        "loading": loading,
        "requests": tally.requests,
        "no_module": tally.no_module,
        "duplicates": {
            "live": tally.duplicates_live,
            "in_flight": tally.duplicates_in_flight,
            "failed": tally.duplicates_failed,
        },
        "deferred": tally.deferred,
        "attempts": tally.attempts,
        "live": tally.live,
        "failed": tally.failed,
        "remembered": core.failures().count(),
        "uevents": {
            "read": counters.datagrams,
            "strangers": counters.strangers,
            "truncated": counters.truncated,
            "malformed": malformed,
            "overflows": counters.overflows,
            "drops": drops,
        },
    })
}
