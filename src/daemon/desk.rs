// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Desk: clients' orders and the replies to them
//!
//! Owns the meaning of an order: which of them are the core's business, which are answered at once, and who waits
//! for settling. Every order gets one reply; the clients are bounded by the server.

use mio::event::Event;
use serde_json::{Value, json};

use super::history::History;
use super::intake::Intake;
use crate::control::protocol::{Load, Order, Reply};
use crate::control::server::Server;
use crate::control::shapes::{self, millis};
use crate::escape::{escape, unescape};
use crate::kmod::{Resolver, explain};
use crate::once::{AddOnce, Answer, ClientId, Origin, Request, Scheduler, Time};

/// Orders carried out at a time: uevents and landings get their turn in between.
const ORDERS: usize = 16;

/// The clients' side of the loop.
pub struct Desk {
    server: Server,
    /// When it was opened.
    began: Time,
    /// Who waits for settling, and has waited since before the socket was last seen drained.
    waiting: Vec<ClientId>,
}

/// Whether orders are left that the budget did not allow for.
pub type Busy = bool;

impl Desk {
    /// A desk behind this server.
    pub fn new(server: Server, now: Time) -> Self {
        Self { server, began: now, waiting: Vec::new() }
    }

    /// Clients knock.
    pub fn accept(&mut self) {
        self.server.accept();
    }

    /// We are to stop: who comes from now on is not let in.
    pub fn stop(&mut self) {
        self.server.close_door();
    }

    /// A client has news.
    pub fn ready(&mut self, event: &Event, now: Time) {
        self.server.ready(event, now);
    }

    /// When a client has to be given up.
    pub fn next_deadline(&self) -> Option<Time> {
        self.server.next_deadline()
    }

    /// Takes orders that have come in, up to a budget.
    pub fn serve(
        &mut self,
        core: &mut Scheduler,
        resolver: &mut Resolver,
        intake: &Intake,
        history: &History,
        now: Time,
    ) -> Busy {
        self.server.tick(now);
        for client in self.server.take_gone() {
            core.client_gone(client);
            self.waiting.retain(|&other| other != client);
        }
        for _ in 0..ORDERS {
            let Some((client, order)) = self.server.next_order() else { return false };
            let reply = match order {
                Order::Settle => {
                    self.waiting.push(client);
                    continue;
                }
                Order::Monitor => {
                    self.server.subscribe(client);
                    continue;
                }
                Order::Load(load) => match load_of(core, resolver, client, &load, now) {
                    Some(error) => error,
                    None => continue,
                },
                Order::Retry(modules) => {
                    core.retry(resolver, client, &modules, now);
                    continue;
                }
                Order::Status => Reply::of(self.status(core, intake, now)),
                Order::Failures => Reply::of(failures(core, now)),
                Order::Top(limit) => Reply::of(top(core, limit)),
                Order::Storm => Reply::of(json!({ "storm": history.storm(now) })),
                Order::Explain(alias) => explanation(core, resolver, &alias, now),
            };
            self.server.reply(client, &reply, now);
        }
        true
    }

    /// The socket is drained and nothing is in the air.
    pub fn settled(&mut self, now: Time) {
        for client in std::mem::take(&mut self.waiting) {
            self.server.reply(client, &Reply::of(json!({})), now);
        }
    }

    /// The core has an answer.
    pub fn answer(&mut self, client: ClientId, answers: &[Answer], now: Time) {
        self.server.reply(client, &shapes::answers(answers, now), now);
    }

    /// A flight has landed.
    pub fn publish(&mut self, record: &AddOnce, now: Time) {
        self.server.publish(|| json!({ "add_once": shapes::add_once(record) }), now);
    }

    fn status(&self, core: &Scheduler, intake: &Intake, now: Time) -> Value {
        let stats = core.stats();
        let counters = intake.netlink().map(|netlink| netlink.counters()).unwrap_or_default();
        let (malformed, drops) = intake.losses();
        let (visits, (clients, limit)) = (self.server.visits(), self.server.clients());
        let loading: Vec<_> = core
            .running()
            .map(|(name, since)| json!({ "module": &**name, "ms": millis(now.saturating_sub(since)) }))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_ms": millis(now.saturating_sub(self.began)),
            "disabled": core.is_disabled(),
            "settled": core.is_settled(),
            "in_air": core.loading(),
            "loading": loading,
            "requests": stats.requests,
            "no_module": stats.no_module,
            "duplicates": {
                "live": stats.duplicates_live,
                "in_flight": stats.duplicates_loading,
                "failed": stats.duplicates_failed,
            },
            "deferred": stats.deferred,
            "attempts": stats.attempts,
            "live": stats.live,
            "failed": stats.failed,
            "remembered": core.failures().count(),
            "uevents": {
                "read": counters.kernel,
                "strangers": counters.strangers,
                "truncated": counters.truncated,
                "malformed": malformed,
                "overflows": counters.overflows,
                "drops": drops,
            },
            "clients": {
                "now": clients,
                "limit": limit,
                "turned_away": visits.turned_away,
                "slow": visits.slow,
            },
        })
    }
}

/// Hands a `Load` to the core, or says what is wrong with it.
fn load_of(
    core: &mut Scheduler,
    resolver: &mut Resolver,
    client: ClientId,
    load: &Load,
    now: Time,
) -> Option<Reply> {
    let Some(alias) = unescape(&load.alias) else { return Some(Reply::invalid_parameter("alias")) };
    let Ok(devpath) = load.devpath.as_deref().map(|path| unescape(path).ok_or(())).transpose() else {
        return Some(Reply::invalid_parameter("devpath"));
    };
    let synthetic = !load.genuine.unwrap_or_default();
    let origin = match devpath.as_deref() {
        Some(devpath) => Origin::Uevent { devpath, seqnum: 0, synthetic },
        None => Origin::Admin,
    };
    core.request(resolver, Request { alias: &alias, origin, client: Some(client) }, now);
    None
}

fn top(core: &Scheduler, limit: usize) -> Value {
    let asked = |(alias, requests)| json!({ "who": escape(alias), "requests": requests });
    json!({ "modaliases": core.top_aliases(limit).into_iter().map(asked).collect::<Vec<_>>() })
}

fn failures(core: &Scheduler, now: Time) -> Value {
    let failures: Vec<_> =
        core.failures().map(|(module, failure)| shapes::failure(module, failure, now)).collect();
    json!({ "failures": failures })
}

fn explanation(core: &Scheduler, resolver: &mut Resolver, alias: &str, now: Time) -> Reply {
    let Some(bytes) = unescape(alias) else { return Reply::invalid_parameter("alias") };
    let modules: Vec<_> = explain(resolver, &bytes)
        .into_iter()
        .map(|explanation| {
            let mut failures = core.failures();
            let failure = failures.find(|(module, _)| **module == explanation.module);
            let failure = failure.map(|(module, failure)| shapes::failure(module, failure, now));
            (explanation, failure)
        })
        .collect();
    Reply::of(shapes::explained(alias, &modules))
}
