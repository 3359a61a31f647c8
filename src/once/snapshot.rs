// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Snapshot: what of the core outlives its process
//!
//! Owns the failure memory as plain values: failures with what was promised, who asked since when, and the secret by which
//! devices are known. All else is found out again: what is live is asked of the kernel, what was resolved is resolved anew,
//! and counters begin with the process. A flight does not outlive it either: its module stands as it did before.
//!
//! A restored core rules as the one that was saved, but believes nothing unseen: with the first request for it the cause of
//! a failure is compared, and its module looked up. Bounded by the [`Limits`] of both cores, and the modules of the tree.

use std::ffi::CString;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::asked::{Asked, Pending};
use super::coalescer::Coalescer;
use super::failures::{Failure, Failures, Key};
use super::limits::Limits;
use super::outcome::Refusal;
use super::request::Time;
use super::secret::Secret;
use super::sighted::Sighted;
use super::sightings::Sightings;
use super::table::Table;
use super::world::{Cause, Name};

/// No backoff is longer: `ADDONCE_BACKOFF_SEC` is that many seconds at the most.
const LONGEST: Time = Time::from_secs(u32::MAX as u64);

/// What of the core outlives its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    secret: [u64; 2],
    /// The number of the last request.
    request: u64,
    /// How many modules were seen to be unloaded.
    unloads: u64,
    /// The modules by their numbers, from 0: what is sighted alone goes by these.
    modules: Vec<Name>,
    /// What was used last comes first.
    failures: Vec<Failed>,
    sighted: Sighted,
}

/// How often what a [`Snapshot`] holds has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of the failures and what was promised.
    pub failures: u64,
    /// Of who asked, where that matters.
    pub sightings: u64,
}

/// A remembered failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failed {
    #[serde(flatten)]
    key: Named,
    refusal: Refusal,
    cause: Cause,
    attempts: u32,
    failed: Time,
    retry_at: Time,
    unloads: u64,
    asked: Asked,
    pending: Option<Promised>,
    #[serde(with = "escaped")]
    alias: Vec<u8>,
    /// What the last attempt read of files.
    bytes: u64,
}

/// A [`Pending`] attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Promised {
    asked: Asked,
    dependents: Vec<Named>,
}

/// A [`Key`] by its module's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    module: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<Arc<CString>>,
}

impl Snapshot {
    /// How many failures are remembered.
    pub fn failures(&self) -> usize {
        self.failures.len()
    }
}

impl Coalescer {
    /// What a process after this one has to know.
    pub fn snapshot(&self) -> Snapshot {
        let table = &self.table;
        let failures = self.failures.by_use();
        Snapshot {
            secret: self.secret.words(),
            request: self.number(),
            unloads: self.failures.unloads(),
            modules: table.names().cloned().collect(),
            failures: failures.map(|(key, failure)| Failed::of(key, failure, table)).collect(),
            sighted: self.sightings.save(
                self.failures.counted_from().unwrap_or(u64::MAX),
                self.number(),
                table,
            ),
        }
    }

    /// A core that knows what another one knew, within its own limits. Times are of the same clock.
    pub fn restore(limits: Limits, snapshot: Snapshot, now: Time) -> Self {
        let mut core = Self::new(limits);
        let Snapshot { secret, request, unloads, modules, failures, sighted } = snapshot;
        core.secret = Secret::new(secret);
        core.numbered = request;
        for name in &modules {
            core.table.id(name);
        }
        core.sightings = Sightings::restore(limits.sightings, sighted, request, &mut core.table);
        core.failures = Failures::after(limits.failures, unloads);
        for failed in failures.into_iter().rev() {
            let key = failed.key.to_key(&mut core.table);
            core.table.set_bytes(key.module, failed.bytes);
            let failure = failed.restore(&mut core.table, now);
            if let Some((evicted, pending)) = core.failures.keep(key, failure) {
                core.orphans.push(evicted);
                core.orphans.extend(pending.dependents);
            }
        }
        core
    }

    /// While this stays the same, so does the [`Snapshot`], but for the number of the last request.
    pub fn changes(&self) -> Changes {
        let sightings = if self.failures.is_empty() { 0 } else { self.sightings.changes() };
        Changes { failures: self.failures.changes(), sightings }
    }
}

impl Failed {
    fn of(key: &Key, failure: &Failure, table: &Table) -> Self {
        let promised = |pending: &Pending| Promised {
            asked: pending.asked,
            dependents: pending.dependents.iter().map(|key| Named::of(key, table)).collect(),
        };
        Self {
            key: Named::of(key, table),
            refusal: failure.refusal.clone(),
            cause: failure.cause,
            attempts: failure.attempts,
            failed: failure.failed,
            retry_at: failure.retry_at,
            unloads: failure.unloads,
            asked: failure.asked,
            pending: failure.pending.as_ref().map(promised),
            alias: failure.alias.to_vec(),
            bytes: table.bytes(key.module),
        }
    }

    /// Nothing has failed in the future, whatever somebody wrote: the wait is what is believed.
    fn restore(self, table: &mut Table, now: Time) -> Failure {
        let failed = self.failed.min(now);
        let wait = self.retry_at.saturating_sub(self.failed).min(LONGEST);
        let pending = self.pending.map(|promised| Pending {
            asked: promised.asked,
            dependents: promised.dependents.iter().map(|named| named.to_key(table)).collect(),
        });
        Failure {
            refusal: self.refusal,
            cause: self.cause,
            doubted: true,
            compared: None,
            attempts: self.attempts,
            failed,
            retry_at: failed + wait,
            unloads: self.unloads,
            asked: self.asked,
            pending,
            alias: self.alias.into(),
        }
    }
}

impl Named {
    fn of(key: &Key, table: &Table) -> Self {
        Self { module: table.name(key.module).clone(), options: key.options.clone() }
    }

    fn to_key(&self, table: &mut Table) -> Key {
        Key { module: table.id(&self.module), options: self.options.clone() }
    }
}

/// Bytes that are text most of the time.
mod escaped {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::escape::{escape, unescape};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&escape(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        unescape(&text).ok_or_else(|| D::Error::custom("an escape that is none"))
    }
}
