// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said in the log about loads. The end of one is one info line, `add_once MODULE live|failed` and then `key=value`: its
//! JSON ([`add_once`](crate::control::json::add_once)), shortened.

use serde_json::Value;

use crate::escape::head;

/// So much of an alias is logged; Monitor and JSON have all of it.
const ALIAS: usize = 64;

/// The end of a load as a line.
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
    words.push(format!("waited={} load={}", millis("waited_us"), millis("load_us")));
    words.extend(given("pulled_in_by"));
    words.push(format!("alias={}", head(text("modalias").unwrap_or_default(), ALIAS)));
    words.extend(given("devpath"));
    match (number("first_seqnum"), number("last_seqnum")) {
        (0, _) => {}
        (first, last) if first == last => words.push(format!("seqnum={first}")),
        (first, last) => words.push(format!("seqnum={first}..{last}")),
    }
    words.join(" ")
}
