// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Timeline: a storm, to be looked at
//!
//! Owns the form in which an episode is shown: how many asked when, and one bar for each flight, from the first who
//! asked to the landing. A view: it borrows what [`super::storm`] keeps and what is in the air, and is gone after the
//! answer. Times are the core's.

use std::time::Duration;

use super::bins::Bins;
use super::coalescer::Coalescer;
use super::flight::Flight;
use super::outcome::{AddOnce, Outcome};
use super::request::Time;
use super::world::Name;

/// An episode, as it is now.
#[derive(Debug)]
pub struct Timeline<'a> {
    /// When its first request came; the bins begin here.
    pub began: Time,
    /// From there to its last request or landing; until now where something of it is in the air.
    pub lasted: Duration,
    /// Whether nothing of it is in the air, and it was quiet for so long that the next request begins another.
    pub over: bool,
    /// Who asked when.
    pub bins: Bins,
    /// What took off in it: first what has landed, in the order of landing, then what is in the air.
    pub bars: Vec<Bar<'a>>,
    /// Landings that were too many to be kept.
    pub bars_left_out: u64,
}

/// One flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar<'a> {
    /// The module.
    pub module: &'a Name,
    /// What became of it; none while it is in the air.
    pub outcome: Option<&'a Outcome>,
    /// When the first request came.
    pub took_off: Time,
    /// When the first load started; the landing where nothing was attempted, none while it waits.
    pub start: Option<Time>,
    /// When it landed.
    pub end: Option<Time>,
    /// What the first request asked for.
    pub alias: &'a [u8],
    /// The device of the first request.
    pub devpath: Option<&'a [u8]>,
    /// The module that needed this one, where no request named it.
    pub pulled_in_by: Option<&'a Name>,
    /// How many requests.
    pub asked: u64,
}

impl<'a> Bar<'a> {
    /// A flight that landed at this time.
    pub(super) fn landed(record: &'a AddOnce, at: Time) -> Self {
        let start = at.saturating_sub(record.load);
        Self {
            module: &record.module,
            outcome: Some(&record.outcome),
            took_off: start.saturating_sub(record.waited),
            start: Some(start),
            end: Some(at),
            alias: &record.alias,
            devpath: record.devpath.as_deref(),
            pulled_in_by: record.pulled_in_by.as_ref(),
            asked: record.asked,
        }
    }

    /// A flight in the air.
    pub(super) fn in_air(flight: &'a Flight) -> Self {
        Self {
            module: &flight.plan.module,
            outcome: None,
            took_off: flight.since,
            start: flight.departed,
            end: None,
            alias: &flight.alias,
            devpath: flight.devpath.as_deref(),
            pulled_in_by: flight.pulled_in_by.as_ref(),
            asked: flight.asked.requests,
        }
    }
}

impl Coalescer {
    /// The storm that goes on, or the last one; as long as there was none, what was asked last.
    pub fn storm(&self, now: Time) -> Option<Timeline<'_>> {
        self.storm.timeline(&self.tally, self.flights.iter(), now)
    }
}
