// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Report: what is said in the log
//!
//! Owns the wording of the log's lines about loads. One landing is one info line, `add_once MODULE live|failed`
//! and then `key=value`, so that it reads well and parses well; [`json`] is the same for programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::escape::escape;
use crate::once::outcome::{AddOnce, Outcome, Stage};

/// So much of an alias is logged; Monitor and JSON have all of it.
const ALIAS: usize = 64;

/// A flight has landed.
pub fn landed(record: &AddOnce) {
    log::info!("{}", line(record));
}

/// No load can succeed any more.
pub fn disabled() {
    log::error!(
        "kernel.modules_disabled is 1: this kernel loads no module until the next boot; nothing is attempted any more"
    );
}

/// A landing as a line.
pub fn line(record: &AddOnce) -> String {
    let mut words = vec![format!("add_once {}", record.module)];
    match &record.outcome {
        Outcome::Live => words.push("live".into()),
        Outcome::Failed(refusal) => {
            words.push(format!("failed errno={} stage={}", refusal.errno_name(), refusal.stage.word()));
            if let Stage::Dependency(root) = &refusal.stage {
                words.push(format!("because_of={root}"));
            }
        }
    }
    words.push(format!("asked={}", record.asked));
    words.push(format!("waited={} load={}", millis(record.waited), millis(record.load)));
    words.extend(record.pulled_in_by.as_ref().map(|module| format!("pulled_in_by={module}")));
    words.push(format!("alias={}", short(&record.alias)));
    words.extend(record.devpath.as_ref().map(|devpath| format!("devpath={}", escape(devpath))));
    match record.seqnums {
        (0, _) => {}
        (first, last) if first == last => words.push(format!("seqnum={first}")),
        (first, last) => words.push(format!("seqnum={first}..{last}")),
    }
    words.join(" ")
}

/// A landing as JSON: all of it, nothing shortened.
pub fn json(record: &AddOnce) -> Value {
    let refusal = match &record.outcome {
        Outcome::Live => None,
        Outcome::Failed(refusal) => Some(refusal),
    };
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    json!({
        "module": &*record.module,
        "outcome": if refusal.is_some() { "failed" } else { "live" },
        "errno": refusal.map_or(0, |refusal| refusal.errno),
        "stage": refusal.map(|refusal| refusal.stage.word()),
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

/// A CPU's modalias is a thousand bytes and more; its head says which it is.
fn short(alias: &[u8]) -> String {
    match alias.get(..ALIAS) {
        Some(head) if head.len() < alias.len() => format!("{}...", escape(head)),
        _ => escape(alias),
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.1}ms", duration.as_secs_f64() * 1e3)
}
