// SPDX-License-Identifier: MIT OR Apache-2.0
//! What clients' calls mean: which go to the scheduler, which are answered at once, and who waits for what.

use serde_json::{Value, json};

use super::events::More;
use super::history::History;
use super::requests::Requests;
use super::status::{self, StatusFile};
use super::{Daemon, hold};
use crate::control::protocol::{Load, Method, Reply};
use crate::control::server::Server;
use crate::escape::unescape;
use crate::once::{ClientId, Origin, Request, Time};

/// The clients, and what is only for them.
pub(super) struct Clients {
    /// Removed before the lock is free, which the server has.
    pub status_file: StatusFile,
    pub server: Server,
    /// When the server was opened.
    pub began: Time,
    /// Who waits for settling, and has waited since before the uevents were last seen to be taken in.
    settling: Vec<ClientId>,
    /// The programs that wait for the end of the hold, or for the modules of their uevent.
    programs: Vec<ClientId>,
    pub requests: Requests,
    history: History,
}

impl Clients {
    pub fn new(server: Server, now: Time) -> Self {
        let status_file = StatusFile::beside(&server.listener.path);
        let history = History::beside(&server.listener.path);
        let (settling, programs, requests) = Default::default();
        Self { server, status_file, began: now, settling, programs, requests, history }
    }

    /// When there is something to do that no event tells of.
    pub fn next_deadline(&self) -> Option<Time> {
        [self.server.next_deadline(), self.status_file.next_deadline()].into_iter().flatten().min()
    }

    /// Replies for the last time.
    pub fn reply(&mut self, client: ClientId, reply: &Reply, now: Time) {
        self.programs.retain(|&other| other != client);
        self.server.reply(client, reply, now);
    }

    /// The uevents are taken in and nothing is being loaded.
    pub fn settled(&mut self, now: Time) {
        for client in std::mem::take(&mut self.settling) {
            self.reply(client, &Reply::of(json!({})), now);
        }
    }

    /// A load has ended. What is no news is not kept, so that nothing the kernel is made to ask for pushes out what is.
    pub fn publish(&mut self, ended: &Value, is_news: bool, now: Time) {
        if is_news {
            self.history.add(ended);
        }
        self.server.publish(|| json!({ "add_once": ended }), now);
    }
}

impl Daemon {
    /// Takes calls, a turn's budget of them. True where there is more to be done at once.
    pub(super) fn take_calls(&mut self, now: Time) -> More {
        let Some(clients) = &mut self.clients else { return false };
        let more = clients.server.turn(now);
        while let Some(client) = clients.server.next_gone() {
            self.core.client_gone(client);
            clients.settling.retain(|&other| other != client);
            clients.requests.gone(client);
            if let Some(at) = clients.programs.iter().position(|&other| other == client) {
                clients.programs.swap_remove(at);
                self.hold.iter_mut().for_each(|(hold, _)| hold.gone(client, now));
            }
        }
        while let Some((client, method)) =
            self.clients.as_mut().and_then(|clients| clients.server.next_call())
        {
            self.call(client, method, now);
        }
        self.clients.iter_mut().for_each(|clients| clients.history.sample(self.core.stats(), now));
        more
    }

    /// Performs a call. Nobody is told of what, where the client has gone.
    fn call(&mut self, client: Option<ClientId>, method: Method, now: Time) {
        let Some(clients) = &mut self.clients else { return };
        let reply = match (method, client) {
            (Method::Load(load), client) => {
                // udev's program is not to believe a dry run on its own machine.
                let is_refused = load.seqnum.is_some() && self.leaves_udev_alone();
                match self.load(client.filter(|_| !is_refused), &load, now) {
                    Ok(()) if is_refused => {
                        Reply::error("MethodNotImplemented", json!({ "method": "io.addonce.Load" }))
                    }
                    Ok(()) => return,
                    Err(parameter) => Reply::invalid_parameter(parameter),
                }
            }
            (Method::Retry { modules }, client) => {
                return self.core.retry(&mut self.resolver, client, &modules.unwrap_or_default(), now);
            }
            (_, None) => return,
            (Method::Autoload { name }, Some(client)) => match self.autoload(client, &name, now) {
                Ok(()) => return,
                Err(parameter) => Reply::invalid_parameter(parameter),
            },
            (Method::Settle {}, Some(client)) => return clients.settling.push(client),
            (Method::Hold { uuid }, Some(client)) => {
                clients.programs.push(client);
                let event = uuid.as_deref().and_then(hold::number);
                let udevd = clients.server.grandparent(client);
                return match &mut self.hold {
                    Some((hold, _)) => hold.hold(client, event, udevd, now),
                    None => clients.reply(client, &Reply::of(json!({})), now),
                };
            }
            // The server has noted it.
            (Method::Monitor {}, Some(_)) => return,
            (Method::Status {}, _) => Reply::of(self.status(now)),
            (Method::Failures {}, _) => Reply::of(json!({ "failures": status::failures(&self.core, now) })),
            (Method::Storm {}, _) => Reply::of(json!({ "storm": clients.history.storm(now) })),
        };
        if let (Some(clients), Some(client)) = (&mut self.clients, client) {
            clients.reply(client, &reply, now);
        }
    }

    /// Asks in the place of the program that has started us, once it should have asked: it was killed.
    pub(super) fn ask_for_starter(&mut self, now: Time) {
        let Some((load, _)) = self.starter.take_if(|(_, due)| *due <= now) else { return };
        log::info!("the program that has started this daemon has not asked: its device is asked for");
        if self.load(None, &load, now).is_ok() {
            // Nobody waits for it, whatever number he would have.
            self.hold.iter_mut().for_each(|(hold, _)| hold.gone(ClientId::MAX, now));
        }
    }

    /// Hands a `Load` to the scheduler. The error is the name of the parameter that cannot be.
    fn load(&mut self, client: Option<ClientId>, load: &Load, now: Time) -> Result<(), &'static str> {
        let alias = unescape(&load.alias).ok_or("alias")?;
        let devpath = load.devpath.as_deref().map(|path| unescape(path).ok_or("devpath")).transpose()?;
        let origin = match devpath.as_deref() {
            Some(devpath) if load.again == Some(true) => Origin::Scan { devpath },
            Some(devpath) => Origin::Uevent {
                devpath,
                seqnum: load.seqnum.unwrap_or_default(),
                synthetic: load.synthetic.unwrap_or_default(),
            },
            None => Origin::Admin,
        };
        self.starter.take_if(|(starter, _)| starter.seqnum == load.seqnum);
        self.core.request(&mut self.resolver, Request { alias: &alias, origin, client }, now);
        if let Some(seqnum) = load.seqnum {
            self.hold.iter_mut().for_each(|(hold, _)| hold.asked(seqnum, now));
            self.clients.iter_mut().for_each(|clients| clients.programs.extend(client));
        }
        Ok(())
    }
}
