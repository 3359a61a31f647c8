// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Asked: who asked for one attempt
//!
//! Owns the counters of an attempt, made or promised: the request it began with, and how many requests and devices have
//! asked since. The devices themselves are in [`super::sightings`]; here are only numbers, so the size is fixed. What a
//! [`Pending`] attempt takes along is bounded by the modules that failed because of one.

use serde::{Deserialize, Serialize};

use super::failures::Key;
use super::request::Asker;

/// Who asked for one attempt, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The request it began with: a device that has asked since then asks again.
    pub since: u64,
    /// How many requests.
    pub requests: u64,
    /// How many devices.
    pub devices: u64,
    /// The last of the requests: one event may ask for a module twice, through two of its dependents.
    last: u64,
}

/// An accepted attempt that waits for the end of the backoff.
#[derive(Debug)]
pub struct Pending {
    /// Who asked for it: what they ask later is another attempt's matter.
    pub asked: Asked,
    /// Modules that failed because of this one, and were asked for since.
    pub dependents: Vec<Key>,
}

impl Asked {
    /// Nobody yet; who asks from this request on counts.
    pub fn since(since: u64) -> Self {
        Self { since, requests: 0, devices: 0, last: 0 }
    }

    /// One more request.
    pub fn add(&mut self, asker: Asker) {
        if std::mem::replace(&mut self.last, asker.request) == asker.request {
            return;
        }
        self.requests += 1;
        self.devices += u64::from(asker.device().is_some() && !self.includes(asker));
    }

    /// Whether the asker's device has asked before.
    pub fn includes(&self, asker: Asker) -> bool {
        asker.seen.is_some_and(|seen| seen >= self.since)
    }
}

impl Pending {
    /// Nobody yet, for nobody else's sake; who asks from this request on counts.
    pub fn since(since: u64) -> Self {
        Self { asked: Asked::since(since), dependents: Vec::new() }
    }
}
