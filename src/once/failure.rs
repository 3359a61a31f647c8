// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is remembered of a module that failed, and the retry rules.
//!
//! For a request that meets a failure, the first rule that matches wins:
//!
//! 1. the cause changed: attempt now;
//! 2. an administrator asks: attempt now;
//! 3. a module was unloaded since, and the error was one of conflict: attempt now;
//! 4. the same device asks again: attempt when the backoff ends;
//! 5. hardware appeared: as 4;
//! 6. anything else: a duplicate.
//!
//! Rule 1 needs a look at files, so the scheduler sees to it before it calls [`Failure::decide`].
//!
//! Bounded by the modules of the tree, with [`Limits::DEVICES`] devices each.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::modules::Cause;
use super::outcome::{LoadError, Stage};
use super::request::{DeviceId, Origin, Time};

/// A remembered failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What the kernel said.
    pub error: LoadError,
    /// What a fix could have changed, as it was when the attempt was planned.
    pub cause: Cause,
    /// Attempts that failed in a row.
    pub attempts: u32,
    /// When the last of them failed.
    pub failed_at: Time,
    /// When the backoff ends.
    pub retry_at: Time,
    /// Who asked since the last attempt began.
    pub requesters: Requesters,
    /// Who had an attempt accepted that waits for the end of the backoff.
    pub pending: Option<Requesters>,
    /// What the first request of the last attempt asked for.
    #[serde(with = "super::snapshot::escaped")]
    pub alias: Box<[u8]>,
    pub(super) options: Option<Arc<CString>>,
    /// How many unloads had been seen by then.
    pub(super) unloads: u64,
    /// Events were lost since, or another process remembered this: the module may be live.
    #[serde(skip, default = "yes")]
    pub(super) unverified: bool,
    /// When the cause was last compared with what is there.
    #[serde(skip)]
    pub(super) compared: Option<Time>,
}

/// Who asked for one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requesters {
    /// How many requests.
    pub requests: u64,
    devices: BTreeSet<DeviceId>,
    /// The last of the requests: one may look twice, through two modules that depend on this one.
    #[serde(skip)]
    last: u64,
}

/// Who makes a request, as far as the rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Requester {
    /// Requests are numbered.
    pub request: u64,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Admin,
    Device {
        id: DeviceId,
        synthetic: bool,
    },
    /// A device is there: not that it asks again. At boot, the replay that follows a scan says the same once more.
    Scan,
    /// A request that was accepted before, and whose backoff has ended.
    Retry,
}

/// What a request that meets a failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Attempt now.
    Attempt,
    /// Attempt when the backoff ends.
    RetryAt(Time),
    Duplicate,
}

impl Failure {
    /// Rules 2 to 6, for a request that comes after so many unloads.
    pub(super) fn decide(&mut self, by: Requester, unloads: u64, now: Time) -> Decision {
        let conflict = matches!(self.error.errno, libc::EEXIST | libc::EBUSY | libc::ENODEV);
        if by.kind == Kind::Admin || (conflict && unloads > self.unloads) {
            return Decision::Attempt;
        }
        let again = self.requesters.asks_again(by);
        let accepted = match by.kind {
            Kind::Device { synthetic, .. } => !synthetic || again,
            Kind::Retry => self.retry_at <= now,
            Kind::Admin | Kind::Scan => false,
        };
        if !accepted && self.pending.is_none() {
            self.requesters.add(by);
            return Decision::Duplicate;
        }
        if self.retry_at <= now {
            return Decision::Attempt;
        }
        self.pending.get_or_insert_default().add(by);
        Decision::RetryAt(self.retry_at)
    }

    /// The dependency that failed, if that is why.
    pub(super) fn dependency(&self) -> Option<&str> {
        if let Stage::Dependency(name) = &self.error.stage { Some(name) } else { None }
    }
}

impl Requesters {
    /// How many devices.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// One more request.
    pub(super) fn add(&mut self, by: Requester) {
        if by.kind != Kind::Retry && by.request > self.last {
            self.requests += 1;
            self.last = by.request;
        }
        if let Kind::Device { id, .. } = by.kind {
            if self.devices.len() < Limits::DEVICES {
                self.devices.insert(id);
            }
        }
    }

    /// Whether the request is by a device that has asked before.
    fn asks_again(&self, by: Requester) -> bool {
        matches!(by.kind, Kind::Device { id, .. } if by.request > self.last && self.devices.contains(&id))
    }

    /// Those of an attempt that `by` has made at a module that has failed. They are those whom it was promised to. Where no
    /// device is behind it, those who asked before still ask again after it.
    pub(super) fn of_attempt(by: Requester, failure: Option<&mut Failure>) -> Self {
        let mut requesters = match failure {
            None => Self::default(),
            Some(failure) => match (failure.pending.take(), by.kind) {
                (Some(pending), _) => pending,
                (None, Kind::Device { .. }) => Self::default(),
                (None, _) => Self { requests: 0, ..failure.requesters.clone() },
            },
        };
        requesters.add(by);
        requesters
    }
}

impl Requester {
    pub fn new(request: u64, origin: &Origin<'_>) -> Self {
        let kind = match *origin {
            Origin::Uevent { devpath, synthetic, .. } => {
                Kind::Device { id: DeviceId::of(devpath), synthetic }
            }
            Origin::Scan { .. } => Kind::Scan,
            Origin::Admin => Kind::Admin,
        };
        Self { request, kind }
    }
}

fn yes() -> bool {
    true
}
