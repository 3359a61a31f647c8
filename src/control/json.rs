// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler's values as `io.addonce` shows them: the same in a reply, in a command's `--json` and in a monitor's stream.
//!
//! What each field means stands in io.addonce.varlink. Bytes that are no text stand as [`crate::escape`] writes them.

use serde_json::{Value, json};

use super::protocol::Reply;
use crate::escape::{escape, head};
use crate::once::outcome::errno_name;
use crate::once::{AddOnce, Answer, Failure, LoadError, Name, Outcome, Status, Time};

/// The answers to `Load` and `Retry`.
pub fn answers(answers: &[Answer], dry_run: bool, now: Time) -> Reply {
    let answers: Vec<Value> = answers.iter().map(|(module, status)| answer(module, status, now)).collect();
    Reply::of(json!({ "answers": answers, "dry_run": dry_run }))
}

fn answer(module: &Name, status: &Status, now: Time) -> Value {
    let state = match status {
        Status::Live => "live",
        Status::Builtin => "builtin",
        Status::Blacklisted => "blacklisted",
        Status::RuledOut => "ruled_out",
        Status::Loading => "loading",
        Status::Unknown => "unknown",
        Status::Failed { error, retry_at } => {
            let mut value = load_error(error);
            value["module"] = json!(&**module);
            value["state"] = json!("failed");
            value["again_in_ms"] = json!(retry_at.map(|at| until(at, now)));
            return value;
        }
    };
    json!({ "module": &**module, "state": state })
}

/// A load has ended: all of it, nothing shortened.
pub fn add_once(record: &AddOnce, dry_run: bool) -> Value {
    let error = if let Outcome::Failed(error) = &record.outcome { Some(error) } else { None };
    json!({
        "module": &*record.module,
        "outcome": if error.is_none() { "live" } else { "failed" },
        "dry_run": dry_run,
        "errno": error.map_or(0, |error| error.errno),
        "error": error.map(|error| errno_name(error.errno)),
        "stage": error.map(|error| error.stage.word()),
        "because_of": error.and_then(LoadError::dependency),
        "modalias": escape(&record.alias),
        "devpath": record.devpath.as_deref().map(escape),
        "first_seqnum": record.seqnums.0,
        "last_seqnum": record.seqnums.1,
        "asked": record.asked,
        "by_kernel": record.by_kernel,
        "waited_us": record.waited.as_micros() as u64,
        "load_us": record.load.as_micros() as u64,
        "pulled_in_by": record.pulled_in_by.as_deref(),
    })
}

/// The same as one line for people and grep: `add_once MODULE live|failed` and then `key=value`, the modalias shortened.
pub fn line(ended: &Value) -> String {
    let text = |key: &str| ended[key].as_str();
    let number = |key: &str| ended[key].as_u64().unwrap_or_default();
    let given = |key: &str| text(key).map(|value| format!("{key}={value}"));
    let millis = |key: &str| format!("{:.1}ms", number(key) as f64 / 1e3);
    let mut words = vec![format!(
        "add_once {} {}",
        text("module").unwrap_or_default(),
        text("outcome").unwrap_or_default()
    )];
    words.extend(ended["dry_run"].as_bool().filter(|is_dry| *is_dry).map(|_| "dry_run".into()));
    words.extend(text("error").map(|error| format!("errno={error}")));
    words.extend(given("stage"));
    words.extend(given("because_of"));
    words.push(format!("asked={}", number("asked")));
    words.extend(Some(number("by_kernel")).filter(|&by| by > 0).map(|by| format!("by_kernel={by}")));
    words.push(format!("waited={} load={}", millis("waited_us"), millis("load_us")));
    words.extend(given("pulled_in_by"));
    words.push(format!("alias={}", head(text("modalias").unwrap_or_default(), 64)));
    words.extend(given("devpath"));
    match (number("first_seqnum"), number("last_seqnum")) {
        (0, _) => {}
        (first, last) if first == last => words.push(format!("seqnum={first}")),
        (first, last) => words.push(format!("seqnum={first}..{last}")),
    }
    words.join(" ")
}

/// A remembered failure.
pub fn failure(module: &Name, failure: &Failure, now: Time) -> Value {
    let mut value = load_error(&failure.error);
    let (asked, devices) = failure.asked();
    let backoff = until(failure.retry_at, now);
    value["module"] = json!(&**module);
    value["alias"] = json!(escape(&failure.alias));
    value["attempts"] = json!(failure.attempts + failure.for_kernel);
    value["for_kernel"] = json!(failure.for_kernel);
    value["asked"] = json!(asked);
    value["by_kernel"] = json!(failure.requesters.kernel);
    value["devices"] = json!(devices);
    value["pulled_in"] = json!(failure.pulled_in);
    value["failed_ms_ago"] = json!(until(now, failure.failed_at));
    value["backoff_ms"] = json!(backoff);
    value["again_in_ms"] = json!(failure.pending.as_ref().map(|_| backoff));
    value
}

fn load_error(error: &LoadError) -> Value {
    json!({
        "errno": error.errno,
        "error": errno_name(error.errno),
        "stage": error.stage.word(),
        "because_of": error.dependency(),
        "reason": error.to_string(),
    })
}

fn until(then: Time, now: Time) -> u64 {
    millis(then.saturating_sub(now))
}

/// Whole milliseconds.
pub fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
