// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is remembered of a module that failed, and the retry rules.
//!
//! For a request that meets a failure, the first rule that matches wins:
//!
//! 1. the cause changed: attempt now;
//! 2. an administrator asks: attempt now;
//! 3. a module was unloaded since it began, and the error was one of conflict: attempt now;
//! 4. the same device asks again, by another uevent: attempt when the backoff ends;
//! 5. hardware appeared: as 4;
//! 6. the kernel's `request_module()`: attempt now, but for a [window](Limits::WINDOW) after the last attempt;
//! 7. anything else: a duplicate.
//!
//! To all other requesters, an attempt made only for the kernel does not count: if there was no other, they get an attempt of their own.
//!
//! Rule 1 needs a look at files, so the scheduler sees to it before it
//! calls [`Failure::decide`]. What failed because the kernel was short of memory is attempted at the end of each backoff, whether
//! anybody asks or not.
//!
//! Bounded by the modules of the tree, with [`Limits::DEVICES`] devices each.

use std::collections::hash_map::Entry;
use std::ffi::CString;
use std::sync::Arc;

use foldhash::HashMap;
use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::modules::{Cause, Name};
use super::outcome::LoadError;
use super::policy::Backoff;
use super::request::{DeviceId, Kind, Requester, Time};

/// A remembered failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What the kernel said.
    pub error: LoadError,
    /// What a fix could have changed, as it was when the attempt was planned.
    pub cause: Cause,
    /// Attempts that failed in a row.
    pub attempts: u32,
    /// Others that did, which only the kernel's own requests had made.
    pub for_kernel: u32,
    /// When the last of them failed.
    pub failed_at: Time,
    /// When the backoff ends.
    pub retry_at: Time,
    /// Who asked since the last attempt began.
    pub requesters: Requesters,
    /// Who gets the attempt that waits for the end of the backoff.
    pub pending: Option<Requesters>,
    /// All that the module needs.
    pub(super) needs: Vec<Name>,
    /// What the first request of the last attempt asked for.
    pub alias: Box<[u8]>,
    pub(super) options: Option<Arc<CString>>,
    /// It asked for another module, which needs this one: neither a blacklist nor policy holds for that.
    pub pulled_in: bool,
    /// How many unloads had been seen when the attempt began.
    pub(super) unloads: u64,
    /// The kernel said EEXIST and knows no module of this name: the file holds one of another name, which is live. To all who
    /// ask that is a success, but it cannot be seen in /sys, so the kernel is asked again when the rules say so.
    pub(super) elsewhere: bool,
    /// Where another process remembered this, the module may be live by now: it has not been looked up yet.
    #[serde(skip)]
    pub(super) verified: bool,
}

/// Who asked for one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requesters {
    /// How many requests.
    pub requests: u64,
    /// How many of the kernel's own beside these.
    pub kernel: u64,
    /// The devices, each with its last [mark](Requester::mark).
    devices: HashMap<DeviceId, u64>,
    /// The last of the requests: one may look twice, through two modules that depend on this one.
    last: u64,
    /// Whether the rules had one of them accepted. A shortage's attempt is nobody's, and who meets it is a duplicate.
    pub(super) accepted: bool,
}

/// What a request that meets a failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Attempt now.
    Attempt,
    /// Attempt when the backoff ends; and whether this one is accepted, or a duplicate that meets what is pending.
    RetryAt(Time, bool),
    Duplicate,
}

impl Failure {
    /// Rules 2 to 7, for a request that comes after so many unloads.
    pub(super) fn decide(&self, by: Requester, unloads: u64, now: Time) -> Decision {
        let conflict = matches!(self.error.errno, libc::EEXIST | libc::EBUSY | libc::ENODEV);
        // One request is one attempt, by however many ways it comes here.
        let admin = by.kind == Kind::Admin && by.request > self.requesters.last;
        if admin || (conflict && unloads > self.unloads) {
            return Decision::Attempt;
        }
        if by.kind == Kind::Kernel {
            let is_over = now >= self.failed_at + self.window();
            return if is_over { Decision::Attempt } else { Decision::Duplicate };
        }
        if self.attempts == 0 {
            return Decision::Attempt;
        }
        let accepted = match by.kind {
            Kind::Device { id, synthetic } => {
                let again = |asked: &Requesters| asked.devices.get(&id).map(|mark| *mark != by.mark);
                // What meets a shortage is with what is pending only.
                again(&self.requesters).unwrap_or(!synthetic)
                    || self.pending.as_ref().and_then(again) == Some(true)
            }
            Kind::Retry { asked } => asked && !self.elsewhere && self.retry_at <= now,
            Kind::Admin | Kind::Kernel | Kind::Scan => false,
        };
        if !accepted && self.pending.is_none() {
            Decision::Duplicate
        } else if self.retry_at <= now {
            Decision::Attempt
        } else {
            Decision::RetryAt(self.retry_at, accepted)
        }
    }

    /// How long it answers the kernel's own requests.
    fn window(&self) -> Time {
        match self.error.errno {
            libc::EAGAIN | libc::ENOMEM | libc::EINTR | libc::EBUSY => Time::ZERO,
            _ => Backoff { min: Limits::WINDOW.0, max: Limits::WINDOW.1 }.after(self.for_kernel),
        }
    }

    /// Remembers who asked, where that comes to no attempt now.
    pub(super) fn note(&mut self, by: Requester, decision: Decision) {
        match decision {
            Decision::Attempt => {}
            Decision::Duplicate if by.kind == Kind::Kernel => self.requesters.add(by),
            Decision::RetryAt(_, accepted) => {
                let pending = self.pending.get_or_insert_default();
                pending.accepted |= accepted;
                pending.add(by);
            }
            Decision::Duplicate => {
                // What it met at a dependency is over: somebody else's attempt came before.
                self.pending.take_if(|pending| !pending.accepted);
                self.requesters.add(by);
            }
        }
    }

    /// How many requests since the last attempt began, and how many devices are known to have asked, by then or since.
    pub fn asked(&self) -> (u64, usize) {
        let Some(pending) = &self.pending else {
            return (self.requesters.requests, self.requesters.devices());
        };
        let more = pending.devices.keys().filter(|id| !self.requesters.devices.contains_key(id)).count();
        (self.requesters.requests + pending.requests, self.requesters.devices() + more)
    }
}

impl Requesters {
    /// How many devices.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn add(&mut self, by: Requester) {
        if by.kind == Kind::Kernel {
            self.kernel += 1;
            return;
        }
        let mut heard = matches!(by.kind, Kind::Retry { .. }) || by.request <= self.last;
        if let Kind::Device { id, .. } = by.kind {
            let has_room = self.devices.len() < Limits::DEVICES;
            match self.devices.entry(id) {
                Entry::Occupied(mut mark) => heard |= mark.insert(by.mark) == by.mark,
                Entry::Vacant(mark) if has_room => _ = mark.insert(by.mark),
                Entry::Vacant(_) => {}
            }
        }
        if !heard {
            (self.requests, self.last) = (self.requests + 1, by.request);
        }
    }

    /// A device becomes known, if there is room: it asks again by its next event. The present one may come by another way yet, and
    /// then the rules hold: a stranger's that is replayed is a duplicate, any other is not.
    pub(super) fn meet(&mut self, by: Requester) {
        if let Kind::Device { id, synthetic } = by.kind {
            if self.devices.len() < Limits::DEVICES {
                self.devices.entry(id).or_insert(if synthetic { by.mark } else { 0 });
            }
        }
    }

    /// The same, while nobody has asked for the next attempt yet: who asked for this one asks again then.
    pub(super) fn unasked(&self) -> Self {
        Self { requests: 0, kernel: 0, accepted: false, ..self.clone() }
    }

    /// Those of an attempt that `by` has made at a module that has failed. They are those for whom it was accepted. Where no
    /// device that was triggered is behind it, with all others perhaps, those who asked before still ask again after it. The kernel's
    /// has none of them.
    pub(super) fn of_attempt(by: Requester, failure: Option<&mut Failure>) -> Self {
        let before = |failure: &mut Failure| match (failure.pending.take(), by.kind) {
            (Some(pending), _) => pending,
            (None, Kind::Device { synthetic: true, .. }) => Self::default(),
            (None, _) => failure.requesters.unasked(),
        };
        let failure = failure.filter(|_| by.kind != Kind::Kernel);
        let mut requesters = failure.map_or_else(Self::default, before);
        requesters.add(by);
        requesters
    }
}
