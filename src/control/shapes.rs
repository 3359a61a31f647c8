// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Shapes: the core's values as `io.addonce` shows them
//!
//! Owns the JSON of answers, failures, landings and explanations: the same in a reply, in a command's `--json` and in a
//! monitor's stream. What each field means stands in io.addonce.varlink, and a test holds the two together. Bytes
//! that are no text stand as [`crate::escape`] writes them.

use std::time::Duration;

use serde_json::{Value, json};

use super::protocol::Reply;
use crate::escape::escape;
use crate::kmod::Explanation;
use crate::once::failures::Failure;
use crate::once::outcome::{AddOnce, Outcome, Refusal, Stage};
use crate::once::party::{Answer, Standing};
use crate::once::request::Time;
use crate::once::world::Name;

/// The answers to `Load` and `Retry`.
pub fn answers(answers: &[Answer], now: Time) -> Reply {
    let answers: Vec<Value> =
        answers.iter().map(|(module, standing)| answer(module, standing, now)).collect();
    Reply::of(json!({ "answers": answers }))
}

fn answer(module: &Name, standing: &Standing, now: Time) -> Value {
    let state = match standing {
        Standing::Live => "live",
        Standing::Builtin => "builtin",
        Standing::Blacklisted => "blacklisted",
        Standing::RuledOut => "ruled_out",
        Standing::InAir => "in_air",
        Standing::Failed { refusal, again } => {
            let mut value = refused(refusal);
            value["module"] = json!(&**module);
            value["state"] = json!("failed");
            value["again_in_ms"] = json!(again.map(|at| millis(at.saturating_sub(now))));
            return value;
        }
    };
    json!({ "module": &**module, "state": state })
}

/// A flight has landed: all of it, nothing shortened.
pub fn add_once(record: &AddOnce) -> Value {
    let refusal = match &record.outcome {
        Outcome::Live => None,
        Outcome::Failed(refusal) => Some(refusal),
    };
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    json!({
        "module": &*record.module,
        "outcome": if refusal.is_some() { "failed" } else { "live" },
        "errno": refusal.map_or(0, |refusal| refusal.errno),
        "error": refusal.map(Refusal::errno_name),
        "stage": refusal.map(|refusal| refusal.stage.word()),
        "because_of": refusal.and_then(because_of),
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

/// What an alias or a name resolves to.
pub fn explained(alias: &str, modules: &[(Explanation, Option<Value>)]) -> Value {
    let modules: Vec<Value> = modules
        .iter()
        .map(|(explanation, failure)| {
            json!({
                "module": &*explanation.module,
                "verdict": explanation.verdict,
                "live": explanation.live,
                "unless": explanation.unless.as_deref().map(|path| path.to_string_lossy()),
                "plan": explanation.plan,
                "failure": failure,
            })
        })
        .collect();
    json!({ "alias": alias, "modules": modules })
}

/// A remembered failure.
pub fn failure(module: &Name, failure: &Failure, now: Time) -> Value {
    let mut value = refused(&failure.refusal);
    value["module"] = json!(&**module);
    value["alias"] = json!(escape(&failure.alias));
    value["attempts"] = json!(failure.attempts);
    value["asked"] = json!(failure.asked.requests);
    value["devices"] = json!(failure.asked.devices);
    value["failed_ms_ago"] = json!(millis(now.saturating_sub(failure.failed)));
    value["backoff_ms"] = json!(millis(failure.retry_at.saturating_sub(now)));
    value["again_in_ms"] =
        json!(failure.pending.as_ref().map(|_| millis(failure.retry_at.saturating_sub(now))));
    value
}

fn refused(refusal: &Refusal) -> Value {
    json!({
        "errno": refusal.errno,
        "error": refusal.errno_name(),
        "stage": refusal.stage.word(),
        "because_of": because_of(refusal),
        "reason": refusal.to_string(),
    })
}

/// The module that failed first.
fn because_of(refusal: &Refusal) -> Option<&str> {
    match &refusal.stage {
        Stage::Dependency(root) => Some(root),
        _ => None,
    }
}

/// Whole milliseconds.
pub fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
