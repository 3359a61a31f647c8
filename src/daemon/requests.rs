// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own requests: who waits for which, and what `addonce-modprobe` is to exit with.
//!
//! The answer is what `modprobe -q -- NAME` would exit with: the outcome of the last module, where a blacklisted one is a success.
//! Names are made up by anybody, so none is kept for longer than its request, but for the refused ones that were logged
//! within a minute.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::Daemon;
use crate::control::protocol::Reply;
use crate::escape::{escape, unescape};
use crate::once::{Answer, ClientId, LoadError, Origin, Request, Stage, Status, Time};

/// A refused name is logged once in this time, and so many names are at the most.
const REFUSAL: (Duration, usize) = (Duration::from_secs(60), 64);

/// Helpers that wait. The kernel runs 50 at a time.
const HELPERS: usize = 256;

/// What helpers have asked for.
#[derive(Debug, Default)]
pub struct Requests {
    waiting: HashMap<ClientId, Vec<u8>>,
    stats: Counters,
    refusals: Refusals,
}

/// The refused names that were logged lately.
#[derive(Debug, Default)]
pub struct Refusals(Vec<(Vec<u8>, Time)>);

/// How many requests there were, and what they came to: each of the others is a part of them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counters {
    requests: u64,
    done: u64,
    failed: u64,
    no_module: u64,
    refused: u64,
    handed_back: u64,
}

/// What a request comes to.
#[derive(Clone, Copy, Debug)]
pub enum CameTo {
    /// Exit code 0.
    Done,
    /// 1.
    Failed,
    /// 1: nothing is known by this name.
    NoModule,
    /// 1: policy allows none of the modules.
    Refused,
}

impl CameTo {
    /// By what became of the modules.
    pub fn of(answers: &[Answer]) -> Self {
        match answers.iter().rfind(|(_, status)| *status != Status::RuledOut) {
            // modprobe takes it for that of a module that is live.
            Some((_, Status::Failed { error: LoadError { stage: Stage::Init, .. }, .. })) => Self::Done,
            Some((_, Status::Failed { .. })) => Self::Failed,
            Some(_) => Self::Done,
            None if answers.is_empty() => Self::NoModule,
            None => Self::Refused,
        }
    }
}

impl Requests {
    /// As `Status` replies it.
    pub fn stats(&self) -> impl Serialize {
        self.stats
    }

    /// A helper asks for this.
    pub fn ask(&mut self, client: ClientId, name: Vec<u8>) {
        self.stats.requests += 1;
        self.waiting.insert(client, name);
    }

    /// Whether no more of them are to wait. The kernel counts a helper no more whose request was killed, and it goes on.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= HELPERS
    }

    /// A helper waits no more.
    pub fn gone(&mut self, client: ClientId) {
        self.waiting.remove(&client);
    }

    /// The reply to each who waits: all are modprobe's from now on, which joins in the kernel what is being loaded.
    pub fn hand_back(&mut self) -> Vec<(ClientId, Reply)> {
        self.stats.handed_back += self.waiting.len() as u64;
        self.waiting.drain().map(|(client, _)| (client, reply("yours"))).collect()
    }

    /// The reply to a helper, if the client is one: the request has come to this, or is modprobe's to perform.
    pub fn reply(&mut self, client: ClientId, answers: Option<&[Answer]>, now: Time) -> Option<Reply> {
        let name = self.waiting.remove(&client)?;
        let Some(answers) = answers else {
            self.stats.handed_back += 1;
            return Some(reply("yours"));
        };
        let (word, count) = match CameTo::of(answers) {
            CameTo::Done => ("done", &mut self.stats.done),
            CameTo::Failed => ("failed", &mut self.stats.failed),
            CameTo::NoModule => ("failed", &mut self.stats.no_module),
            CameTo::Refused => {
                if self.refusals.is_news(&name, now) {
                    log::warn!("the kernel's request for {} is refused: hwdb rules it out", escape(&name));
                }
                ("failed", &mut self.stats.refused)
            }
        };
        *count += 1;
        Some(reply(word))
    }
}

impl Refusals {
    /// Whether a refusal is to be logged, which it is then.
    pub fn is_news(&mut self, name: &[u8], now: Time) -> bool {
        self.0.retain(|(_, at)| now < *at + REFUSAL.0);
        let is_news = self.0.len() < REFUSAL.1 && self.0.iter().all(|(said, _)| said != name);
        self.0.extend(is_news.then(|| (name.into(), now)));
        is_news
    }
}

impl Daemon {
    /// Hands a helper's request to the scheduler. The error is the name of the parameter that cannot be.
    pub(super) fn autoload(&mut self, client: ClientId, name: &str, now: Time) -> Result<(), &'static str> {
        let alias = unescape(name).ok_or("name")?;
        let Some(clients) = &mut self.clients else { return Ok(()) };
        let is_full = clients.requests.is_full();
        clients.requests.ask(client, alias.clone());
        if is_full {
            let reply = clients.requests.reply(client, None, now);
            reply.into_iter().for_each(|reply| clients.reply(client, &reply, now));
            return Ok(());
        }
        let request = Request { alias: &alias, origin: Origin::Kernel, client: Some(client) };
        self.core.request(&mut self.resolver, request, now);
        Ok(())
    }
}

fn reply(answer: &str) -> Reply {
    Reply::of(json!({ "answer": answer }))
}
