// SPDX-License-Identifier: MIT OR Apache-2.0
//! What clients' calls mean: which go to the scheduler, which are answered at once, and who waits for what.

use std::path::Path;

use mio::event::Event;
use serde_json::{Value, json};

use super::events::Events;
use super::history::History;
use super::hold::{self, Hold};
use super::status::{self, Situation, StatusFile};
use crate::control::json;
use crate::control::protocol::{Load, Method, Reply};
use crate::control::server::Server;
use crate::escape::{escape, unescape};
use crate::kmod::Resolver;
use crate::once::{AddOnce, Answer, ClientId, Origin, Request, Scheduler, Time};

/// How many `Top` tells where nobody says.
const TOP: usize = 10;
/// The scheduler wants a client for a retry. Clients have higher numbers.
const NOBODY: ClientId = 0;

/// The clients' side of the loop.
pub struct Methods {
    server: Server,
    file: StatusFile,
    /// When it was opened.
    began: Time,
    /// Who waits for settling, and has waited since before the uevents were last seen to be taken in.
    settling: Vec<ClientId>,
    /// The programs that wait for the end of the hold, or for the modules of their uevent.
    programs: Vec<ClientId>,
    history: History,
}

impl Methods {
    /// For the clients of this server.
    pub fn new(server: Server, now: Time) -> Self {
        let file = StatusFile::beside(server.path());
        let (settling, programs, history) = Default::default();
        Self { server, file, began: now, settling, programs, history }
    }

    /// We are to stop: who connects from now on is not accepted.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// The loop has an event of one of the server's tokens.
    pub fn event(&mut self, event: &Event, now: Time) {
        self.server.event(event, now);
    }

    /// When there is something to do that no event tells of.
    pub fn next_deadline(&self) -> Option<Time> {
        [self.server.next_deadline(), self.file.next_deadline()].into_iter().flatten().min()
    }

    /// The socket's path, if nobody can connect there any more.
    pub fn lost(&self) -> Option<&Path> {
        self.server.is_lost().then(|| self.server.path())
    }

    /// Whether nobody is connected.
    pub fn is_deserted(&self) -> bool {
        self.server.stats().now == 0
    }

    /// Takes calls, a turn's budget of them. True where there is more to be done at once.
    pub fn serve(
        &mut self,
        core: &mut Scheduler,
        resolver: &mut Resolver,
        mut hold: Option<&mut Hold>,
        events: &Events,
        situation: &Situation,
        now: Time,
    ) -> bool {
        let more = self.server.turn(now);
        while let Some(client) = self.server.next_gone() {
            core.client_gone(client);
            self.settling.retain(|&other| other != client);
            if self.programs.contains(&client) {
                self.programs.retain(|&other| other != client);
                hold.iter_mut().for_each(|hold| hold.gone(client, now));
            }
        }
        while let Some((client, method)) = self.server.next_call() {
            let reply = match (method, client) {
                (Method::Load(load), client) => match request(core, resolver, client, &load, now) {
                    Err(parameter) => Reply::invalid_parameter(parameter),
                    Ok(()) => {
                        if let Some(seqnum) = load.seqnum {
                            hold.iter_mut().for_each(|hold| hold.asked(seqnum, now));
                            self.programs.extend(client);
                        }
                        continue;
                    }
                },
                (Method::Retry { modules }, client) => {
                    let modules = modules.unwrap_or_default();
                    core.retry(resolver, client.unwrap_or(NOBODY), &modules, now);
                    if client.is_none() {
                        core.client_gone(NOBODY);
                    }
                    continue;
                }
                (_, None) => continue,
                (Method::Settle {}, Some(client)) => {
                    self.settling.push(client);
                    continue;
                }
                (Method::Hold { uuid }, Some(client)) => {
                    self.programs.push(client);
                    let (event, udevd) =
                        (uuid.as_deref().and_then(hold::number), self.server.grandparent(client));
                    match &mut hold {
                        Some(hold) => hold.hold(client, event, udevd, now),
                        None => self.end_hold(client, now),
                    }
                    continue;
                }
                (Method::Monitor {}, Some(client)) => {
                    self.server.subscribe(client);
                    continue;
                }
                (Method::Status {}, _) => Reply::of(self.status(core, events, situation, now)),
                (Method::Failures {}, _) => Reply::of(json!({ "failures": status::failures(core, now) })),
                (Method::Top { limit }, _) => Reply::of(top(core, limit.unwrap_or(TOP))),
                (Method::Storm {}, _) => Reply::of(json!({ "storm": self.history.storm(now) })),
            };
            if let Some(client) = client {
                self.server.reply(client, &reply, now);
            }
        }
        self.history.sample(core.stats(), now);
        more
    }

    /// After a turn of the loop: writes what everybody may read, if that is due. Whether it was.
    pub fn write_status(
        &mut self,
        core: &Scheduler,
        events: &Events,
        situation: &Situation,
        now: Time,
    ) -> bool {
        self.server.beat(now);
        let is_due = self.file.turn(now);
        if is_due {
            let status = self.status(core, events, situation, now);
            self.file.write(status, status::failures(core, now), now);
        }
        is_due
    }

    /// The uevents are taken in and nothing is being loaded.
    pub fn settled(&mut self, now: Time) {
        for client in std::mem::take(&mut self.settling) {
            self.server.reply(client, &Reply::of(json!({})), now);
        }
    }

    /// Answers a program that waits for the end of the hold.
    pub fn end_hold(&mut self, client: ClientId, now: Time) {
        self.programs.retain(|&other| other != client);
        self.server.reply(client, &Reply::of(json!({})), now);
    }

    /// The scheduler has an answer.
    pub fn answer(&mut self, client: ClientId, answers: &[Answer], now: Time) {
        self.programs.retain(|&other| other != client);
        self.server.reply(client, &json::answers(answers, now), now);
    }

    /// A load has ended.
    pub fn publish(&mut self, record: &AddOnce, now: Time) {
        self.history.add(record, now);
        self.server.publish(|| json!({ "add_once": json::add_once(record) }), now);
    }

    fn status(&self, core: &Scheduler, events: &Events, situation: &Situation, now: Time) -> Value {
        status::status(core, events, &self.server, situation, now.saturating_sub(self.began), now)
    }
}

/// Hands a `Load` to the scheduler.
///
/// # Errors
/// The name of the parameter that cannot be.
fn request(
    core: &mut Scheduler,
    resolver: &mut Resolver,
    client: Option<ClientId>,
    load: &Load,
    now: Time,
) -> Result<(), &'static str> {
    let alias = unescape(&load.alias).ok_or("alias")?;
    let devpath = load.devpath.as_deref().map(|path| unescape(path).ok_or("devpath")).transpose()?;
    let origin = match devpath.as_deref() {
        Some(devpath) => Origin::Uevent {
            devpath,
            seqnum: load.seqnum.unwrap_or_default(),
            synthetic: load.synthetic.unwrap_or_default(),
        },
        None => Origin::Admin,
    };
    core.request(resolver, Request { alias: &alias, origin, client }, now);
    Ok(())
}

fn top(core: &Scheduler, limit: usize) -> Value {
    let asked = |(alias, requests)| json!({ "who": escape(alias), "requests": requests });
    json!({ "modaliases": core.top_aliases(limit).into_iter().map(asked).collect::<Vec<_>>() })
}
