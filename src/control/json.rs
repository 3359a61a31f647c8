// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler's values as `io.addonce` shows them: the same in a reply, in a command's `--json` and in a monitor's stream.
//!
//! What each field means stands in io.addonce.varlink. Bytes that are no text stand as [`crate::escape`] writes them.

use std::time::Duration;

use serde_json::{Value, json};

use super::protocol::Reply;
use crate::escape::escape;
use crate::once::outcome::errno_name;
use crate::once::{AddOnce, Answer, Failure, LoadError, Name, Outcome, Stage, Status, Time};

/// The answers to `Load` and `Retry`.
pub fn answers(answers: &[Answer], now: Time) -> Reply {
    let answers: Vec<Value> = answers.iter().map(|(module, status)| answer(module, status, now)).collect();
    Reply::of(json!({ "answers": answers }))
}

fn answer(module: &Name, status: &Status, now: Time) -> Value {
    let state = match status {
        Status::Live => "live",
        Status::Builtin => "builtin",
        Status::Blacklisted => "blacklisted",
        Status::RuledOut => "ruled_out",
        Status::Loading => "loading",
        Status::Failed { error, retry_at } => {
            let mut value = load_error(error);
            value["module"] = json!(&**module);
            value["state"] = json!("failed");
            value["again_in_ms"] = json!(retry_at.map(|at| millis(at.saturating_sub(now))));
            return value;
        }
    };
    json!({ "module": &**module, "state": state })
}

/// A load has ended: all of it, nothing shortened.
pub fn add_once(record: &AddOnce) -> Value {
    let error = match &record.outcome {
        Outcome::Live => None,
        Outcome::Failed(error) => Some(error),
    };
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    json!({
        "module": &*record.module,
        "outcome": if error.is_some() { "failed" } else { "live" },
        "errno": error.map_or(0, |error| error.errno),
        "error": error.map(|error| errno_name(error.errno)),
        "stage": error.map(|error| error.stage.word()),
        "because_of": error.and_then(because_of),
        "modalias": escape(&record.alias),
        "devpath": record.devpath.as_deref().map(escape),
        "first_seqnum": record.seqnums.0,
        "last_seqnum": record.seqnums.1,
        "asked": record.asked,
        "waited_us": micros(record.waited),
        "load_us": micros(record.load),
        "pulled_in_by": record.pulled_in_by.as_deref(),
    })
}

/// A load that ended, as a bar of a timeline.
pub fn bar(record: &AddOnce, ended: Time, began: Time) -> Value {
    let since_began = |at: Time| millis(at.saturating_sub(began));
    let started = ended.saturating_sub(record.load);
    let (state, error) = match &record.outcome {
        Outcome::Live => ("live", None),
        Outcome::Failed(error) => ("failed", Some(errno_name(error.errno))),
    };
    json!({
        "module": &*record.module,
        "state": state,
        "error": error,
        "asked_ms": since_began(started.saturating_sub(record.waited)),
        "start_ms": since_began(started),
        "end_ms": since_began(ended),
        "alias": escape(&record.alias),
        "devpath": record.devpath.as_deref().map(escape),
        "pulled_in_by": record.pulled_in_by.as_deref(),
        "asked": record.asked,
    })
}

/// A remembered failure.
pub fn failure(module: &Name, failure: &Failure, now: Time) -> Value {
    let mut value = load_error(&failure.error);
    value["module"] = json!(&**module);
    value["alias"] = json!(escape(&failure.alias));
    value["attempts"] = json!(failure.attempts);
    let (asked, devices) = failure.asked();
    (value["asked"], value["devices"]) = (json!(asked), json!(devices));
    value["failed_ms_ago"] = json!(millis(now.saturating_sub(failure.failed_at)));
    value["backoff_ms"] = json!(millis(failure.retry_at.saturating_sub(now)));
    value["again_in_ms"] =
        json!(failure.pending.as_ref().map(|_| millis(failure.retry_at.saturating_sub(now))));
    value
}

fn load_error(error: &LoadError) -> Value {
    json!({
        "errno": error.errno,
        "error": errno_name(error.errno),
        "stage": error.stage.word(),
        "because_of": because_of(error),
        "reason": error.to_string(),
    })
}

/// The module that failed first.
fn because_of(error: &LoadError) -> Option<&str> {
    match &error.stage {
        Stage::Dependency(root) => Some(root),
        _ => None,
    }
}

/// Whole milliseconds.
pub fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
