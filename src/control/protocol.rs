// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages of the control socket: Varlink calls and replies, JSON objects each ended by a NUL byte.
//!
//! The values inside replies are made in [`super::json`]. What the socket says of itself is answered here: the text of `io.addonce`,
//! and the methods of `org.varlink.service`, by which a client that knows nothing of addonce finds its way.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Our interface.
pub const NAME: &str = "io.addonce";
/// The interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";
/// Our interface as Varlink's language writes it.
pub const DESCRIPTION: &str = include_str!("io.addonce.varlink");

/// A call, as it comes in.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Call {
    /// `io.addonce.Settle`, say.
    pub method: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
    /// The caller takes more replies than one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The caller takes no reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oneway: bool,
}

/// A reply, as it goes out.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Reply {
    /// What was asked for.
    #[serde(default)]
    pub parameters: Value,
    /// More replies to the same call follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// The error's name, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a call asks for. What the methods and their parameters mean stands in io.addonce.varlink.
#[allow(missing_docs)]
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub enum Method {
    Settle {},
    Load(Load),
    Retry { modules: Option<Vec<String>> },
    Autoload { name: String },
    Hold { uuid: Option<String> },
    Status {},
    Failures {},
    Monitor {},
    Storm {},
}

/// The parameters of `Load`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Load {
    pub alias: String,
    pub devpath: Option<String>,
    pub seqnum: Option<u64>,
    pub synthetic: Option<bool>,
    pub again: Option<bool>,
}

impl Call {
    /// Reads a message: the call, and what it asks for, or the reply where that needs nobody else: a description, or an error.
    pub fn parse(message: &[u8]) -> (Self, Result<Method, Reply>) {
        match serde_json::from_slice::<Self>(message) {
            Ok(mut call) => {
                let method = call.method();
                (call, method)
            }
            Err(error) => (Self::default(), Err(Reply::invalid_parameter(&error.to_string()))),
        }
    }

    fn method(&mut self) -> Result<Method, Reply> {
        let parameters = match self.parameters.take() {
            Value::Null => json!({}),
            given => given,
        };
        let (interface, method) = self.method.rsplit_once('.').unwrap_or_default();
        if !description(interface)?.contains(&format!("\nmethod {method}(")) {
            return Err(Reply::error("MethodNotFound", json!({ "method": self.method })));
        }
        if interface == SERVICE {
            return Err(of_service(method, &parameters));
        }
        let method = serde_json::from_value(json!({ method: parameters }));
        match method.map_err(|error| Reply::invalid_parameter(&error.to_string()))? {
            Method::Monitor {} if !self.more => Err(Reply::error("ExpectedMore", json!({}))),
            method => Ok(method),
        }
    }
}

/// The reply to a method of [`SERVICE`].
fn of_service(method: &str, parameters: &Value) -> Reply {
    if method == "GetInfo" {
        return Reply::of(json!({
            "vendor": "addonce",
            "product": "addonce",
            "version": env!("CARGO_PKG_VERSION"),
            "url": env!("CARGO_PKG_HOMEPAGE"),
            "interfaces": [SERVICE, NAME],
        }));
    }
    match parameters["interface"].as_str().map(description) {
        Some(Ok(description)) => Reply::of(json!({ "description": description })),
        Some(Err(error)) => error,
        None => Reply::invalid_parameter("interface"),
    }
}

/// The text of an interface; the reply to give where it is none of ours.
pub fn description(interface: &str) -> Result<&'static str, Reply> {
    match interface {
        NAME => Ok(DESCRIPTION),
        SERVICE => Ok(include_str!("org.varlink.service.varlink")),
        _ => Err(Reply::error("InterfaceNotFound", json!({ "interface": interface }))),
    }
}

impl Reply {
    /// What was asked for.
    pub fn of(parameters: Value) -> Self {
        Self { parameters, ..Self::default() }
    }

    /// What was asked for, with more to come.
    pub fn continued(parameters: Value) -> Self {
        Self { parameters, continues: true, error: None }
    }

    /// An error of org.varlink.service.
    pub fn error(name: &str, parameters: Value) -> Self {
        Self { parameters, continues: false, error: Some(format!("{SERVICE}.{name}")) }
    }

    /// The error for a parameter that cannot be.
    pub fn invalid_parameter(what: &str) -> Self {
        Self::error("InvalidParameter", json!({ "parameter": what }))
    }
}

/// A message as it goes over the socket.
pub(super) fn frame(message: &impl Serialize) -> Vec<u8> {
    let mut frame = serde_json::to_vec(message).expect("a message is made of text and numbers");
    frame.push(0);
    frame
}
