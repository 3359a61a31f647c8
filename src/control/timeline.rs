// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Timeline: the statistics of the core, as JSON
//!
//! Owns the shapes of `Timeline`, `Asker` and `Failed` in the interface io.addonce: a storm with its bins and bars, who
//! asked most, and how many failed at which stage. Times are whole milliseconds, cut off, so that what comes later never
//! seems to come earlier. Bounded by what the core keeps.

use serde_json::{Value, json};

use super::shapes::millis;
use crate::escape::escape;
use crate::once::askers::{Askers, Frequent};
use crate::once::outcome::Outcome;
use crate::once::request::Time;
use crate::once::tally::FailedAt;
use crate::once::timeline::{Bar, Timeline};

/// A storm: the type `Timeline`.
pub fn timeline(timeline: &Timeline<'_>, now: Time) -> Value {
    let bars: Vec<Value> = timeline.bars.iter().map(|each| bar(each, timeline.began)).collect();
    json!({
        "began_ms_ago": millis(now.saturating_sub(timeline.began)),
        "lasted_ms": millis(timeline.lasted),
        "over": timeline.over,
        "bin_ms": millis(timeline.bins.width()),
        "requests": timeline.bins.requests(),
        "duplicates": timeline.bins.duplicates(),
        "bars": bars,
        "bars_left_out": timeline.bars_left_out,
    })
}

/// Who asked most: the parameters of the reply to `Top`.
pub fn askers(askers: &Askers<'_>) -> Value {
    let list = |all: &[Frequent<'_>]| -> Vec<Value> {
        all.iter().map(|each| json!({ "who": escape(each.who), "requests": each.requests })).collect()
    };
    json!({ "modaliases": list(&askers.modaliases), "devices": list(&askers.devices) })
}

/// What failed, by stage: the type `Failed`.
pub fn failed(failed: &FailedAt) -> Value {
    let FailedAt { plan, dependency, read, insert, install, disabled } = failed;
    json!({
        "plan": plan,
        "dependency": dependency,
        "read": read,
        "insert": insert,
        "install": install,
        "disabled": disabled,
    })
}

fn bar(bar: &Bar<'_>, began: Time) -> Value {
    let since_began = |at: Time| millis(at.saturating_sub(began));
    let (state, error) = match bar.outcome {
        None => ("in_air", None),
        Some(Outcome::Live) => ("live", None),
        Some(Outcome::Failed(refusal)) => ("failed", Some(refusal.errno_name())),
    };
    json!({
        "module": &**bar.module,
        "state": state,
        "error": error,
        "asked_ms": since_began(bar.took_off),
        "start_ms": bar.start.map(since_began),
        "end_ms": bar.end.map(since_began),
        "alias": escape(bar.alias),
        "devpath": bar.devpath.map(escape),
        "pulled_in_by": bar.pulled_in_by.map(|module| &**module),
        "asked": bar.asked,
    })
}
