// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Protocol: the messages of the control socket
//!
//! Owns the shapes that go over the socket: Varlink (JSON objects, each ended by a NUL byte), interface
//! `io.addonce`. Bytes that are no text stand as [`crate::escape`] writes them. Messages in are bounded by the
//! server; everything here is plain values.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::once::failures::Failure;
use crate::once::outcome::{Refusal, Stage};
use crate::once::party::{Answer, Standing};
use crate::once::request::Time;
use crate::once::world::Name;

/// A call, as it comes in.
#[derive(Debug, Deserialize, Serialize)]
pub struct Call {
    /// `io.addonce.Settle`, say.
    pub method: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
}

/// A reply, as it goes out.
#[derive(Debug, Deserialize, Serialize)]
pub struct Reply {
    /// What was asked for.
    #[serde(default)]
    pub parameters: Value,
    /// The error's name, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Answer when the socket is drained and no flight is in the air.
    Settle,
    /// Load the modules of an alias or of a name, and answer when they have landed.
    Load(Load),
    /// Attempt what failed again; all of it where no module is named.
    Retry(Vec<String>),
    /// The counters and what is going on.
    Status,
    /// What is remembered as failed.
    Failures,
}

/// The parameters of `Load`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// A modalias or a module's name.
    pub alias: String,
    /// The device that asks, where udev runs the client; an administrator has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devpath: Option<String>,
    /// Whether that device's event is genuine.
    #[serde(default)]
    pub genuine: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    #[serde(default)]
    modules: Vec<String>,
}

impl Call {
    /// What the call asks for.
    ///
    /// # Errors
    /// The reply to send instead.
    pub fn order(self) -> Result<Order, Reply> {
        match self.method.as_str() {
            "io.addonce.Settle" => Ok(Order::Settle),
            "io.addonce.Load" => parameters(self.parameters).map(Order::Load),
            "io.addonce.Retry" => parameters(self.parameters).map(|retry: Retry| Order::Retry(retry.modules)),
            "io.addonce.Status" => Ok(Order::Status),
            "io.addonce.Failures" => Ok(Order::Failures),
            method => Err(Reply::error("org.varlink.service.MethodNotFound", json!({ "method": method }))),
        }
    }
}

fn parameters<T: serde::de::DeserializeOwned + Default>(parameters: Value) -> Result<T, Reply> {
    if parameters.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(parameters).map_err(|error| Reply::invalid_parameter(&error.to_string()))
}

impl Order {
    /// Whether the order changes anything, and so needs uid 0.
    pub fn is_privileged(&self) -> bool {
        matches!(self, Order::Load(_) | Order::Retry(_))
    }
}

impl Reply {
    /// What was asked for.
    pub fn of(parameters: Value) -> Self {
        Self { parameters, error: None }
    }

    /// An error of this name.
    pub fn error(name: &str, parameters: Value) -> Self {
        Self { parameters, error: Some(name.into()) }
    }

    /// The standard error for a parameter that cannot be.
    pub fn invalid_parameter(what: &str) -> Self {
        Self::error("org.varlink.service.InvalidParameter", json!({ "parameter": what }))
    }
}

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

/// A remembered failure.
pub fn failure(module: &Name, failure: &Failure, now: Time) -> Value {
    let mut value = refused(&failure.refusal);
    value["module"] = json!(&**module);
    value["alias"] = json!(crate::escape::escape(&failure.alias));
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
    let because_of = match &refusal.stage {
        Stage::Dependency(root) => Some(&**root),
        _ => None,
    };
    json!({
        "errno": refusal.errno,
        "error": refusal.errno_name(),
        "stage": refusal.stage.word(),
        "because_of": because_of,
        "reason": refusal.to_string(),
    })
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
