// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Prometheus: the counters for a fleet
//!
//! Owns the names of the metrics, in the text format that node_exporter's textfile collector reads. Counters begin with
//! the daemon and end in `_total`; a name once given stays.

use serde_json::Value;

/// A metric: name, type, help, and its samples (the label and its value where there is one, and where the value stands
/// in the status).
type Metric = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const METRICS: [Metric; 12] = [
    (
        "addonce_requests_total",
        "counter",
        "Requests for the modules of a modalias or name.",
        &[("", "/requests")],
    ),
    (
        "addonce_requests_without_module_total",
        "counter",
        "Requests for which no module is known.",
        &[("", "/no_module")],
    ),
    (
        "addonce_duplicates_total",
        "counter",
        "Modules asked for that were live, being loaded, or failed with nothing new to try.",
        &[
            ("{reason=\"live\"}", "/duplicates/live"),
            ("{reason=\"loading\"}", "/duplicates/loading"),
            ("{reason=\"failed\"}", "/duplicates/failed"),
        ],
    ),
    (
        "addonce_attempts_total",
        "counter",
        "Loads handed to the kernel or an install command.",
        &[("", "/attempts")],
    ),
    (
        "addonce_loads_total",
        "counter",
        "Loads by outcome.",
        &[("{outcome=\"live\"}", "/live"), ("{outcome=\"failed\"}", "/failed")],
    ),
    ("addonce_uevents_read_total", "counter", "Datagrams read from the kernel.", &[("", "/uevents/read")]),
    (
        "addonce_uevents_dropped_total",
        "counter",
        "Uevents that the kernel dropped.",
        &[("", "/uevents/drops")],
    ),
    (
        "addonce_uevents_refused_total",
        "counter",
        "Datagrams that were not believed or not understood.",
        &[
            ("{reason=\"stranger\"}", "/uevents/strangers"),
            ("{reason=\"truncated\"}", "/uevents/truncated"),
            ("{reason=\"malformed\"}", "/uevents/malformed"),
        ],
    ),
    ("addonce_loading", "gauge", "Modules being loaded, or waiting for their turn.", &[("", "/loading")]),
    ("addonce_remembered_failures", "gauge", "Modules remembered as failed.", &[("", "/remembered")]),
    ("addonce_clients", "gauge", "Clients connected.", &[("", "/clients/now")]),
    (
        "addonce_clients_refused_total",
        "counter",
        "Clients that were not root, or did not read.",
        &[("{reason=\"stranger\"}", "/clients/strangers"), ("{reason=\"slow\"}", "/clients/slow")],
    ),
];

/// The status as metrics.
pub fn metrics(status: &Value) -> String {
    let mut text = String::new();
    for (name, kind, help, samples) in METRICS {
        text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (label, pointer) in samples {
            let value = status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
            text += &format!("{name}{label} {value}\n");
        }
    }
    text
}
