// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of the scheduler outlives its process: the failures, with who asked and what is to be retried, what was unloaded, and what was
//! being loaded.
//!
//! All else is found out again. What is restored is not believed unseen: with the first request for it the cause of a failure
//! is compared, and its module looked up. Times are of a clock that all processes of one boot share.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::limits::Limits;
use super::modules::Name;
use super::request::Time;
use super::scheduler::{Scheduler, State};

/// No backoff is longer: `ADDONCE_BACKOFF_SEC` is that many seconds at the most.
const LONGEST: Time = Time::from_secs(u32::MAX as u64);

/// What outlives a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    requests: u64,
    unloads: u64,
    unloaded: BTreeSet<Name>,
    /// What was being loaded, and what had it loaded: soft dependencies may be left to load.
    unfinished: BTreeSet<Name>,
    /// What is remembered as failed, by name.
    pub failures: Vec<(Name, Failure)>,
}

impl Scheduler {
    /// What a process after this one has to know.
    pub fn snapshot(&self) -> Snapshot {
        let failures = self.failures().map(|(name, failure)| (name.clone(), failure.clone())).collect();
        let (requests, unloads, unloaded) = (self.requests, self.unloads, self.unloaded.clone());
        let loads =
            self.loads.iter().flat_map(|load| [Some(&load.plan.module), load.first.pulled_in_by.as_ref()]);
        let unfinished = loads.flatten().chain(&self.unfinished).cloned().collect();
        Snapshot { requests, unloads, unloaded, unfinished, failures }
    }

    /// A scheduler that knows what another one knew.
    pub fn restore(limits: Limits, snapshot: Snapshot, now: Time) -> Self {
        let mut scheduler = Self::new(limits);
        (scheduler.requests, scheduler.unloads) = (snapshot.requests, snapshot.unloads);
        (scheduler.unloaded, scheduler.unfinished) = (snapshot.unloaded, snapshot.unfinished);
        for (name, mut failure) in snapshot.failures {
            // Nothing has failed in the future, whatever somebody wrote: the wait is what is believed.
            let wait = failure.retry_at.saturating_sub(failure.failed_at).min(LONGEST);
            failure.failed_at = failure.failed_at.min(now);
            failure.retry_at = failure.failed_at + wait;
            scheduler.states.insert(name, State::Failed(Box::new(failure)));
        }
        scheduler
    }
}
