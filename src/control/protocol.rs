// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Protocol: calls and replies
//!
//! Owns the messages of the control socket: Varlink, JSON objects each ended by a NUL byte. A call becomes an
//! [`Order`] or the error to reply instead; the values inside replies are made in [`super::shapes`]. Messages in are
//! bounded by the server; everything here is plain values.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::interface;

/// A call, as it comes in.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Call {
    /// `io.addonce.Settle`, say.
    pub method: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub parameters: Value,
    /// The caller takes more replies than one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
    /// The caller takes no reply.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oneway: bool,
}

/// A reply, as it goes out.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Reply {
    /// What was asked for.
    #[serde(default)]
    pub parameters: Value,
    /// More replies to the same call follow.
    #[serde(default, skip_serializing_if = "is_false")]
    pub continues: bool,
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
    /// Who asked most, so many of each kind.
    Top(usize),
    /// What is remembered as failed.
    Failures,
    /// Every landing from now on.
    Monitor,
    /// What an alias or a name resolves to.
    Explain(String),
    /// The last storm as a timeline.
    Storm,
}

/// The parameters of `Load`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// A modalias or a module's name.
    pub alias: String,
    /// The device that asks, where udev runs the client; an administrator has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devpath: Option<String>,
    /// Whether that device's event is genuine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genuine: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    #[serde(default)]
    modules: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Explain {
    alias: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetInterfaceDescription {
    interface: String,
}

/// How many of each `Top` tells where nobody says.
const TOP: usize = 10;

impl Call {
    /// What the call asks for, or the reply where that needs nobody else: a description, or an error.
    ///
    /// # Errors
    /// The reply.
    pub fn order(self) -> Result<Order, Reply> {
        let (interface, method) = self.method.rsplit_once('.').unwrap_or_default();
        match interface {
            interface::NAME => self.ours(method),
            interface::SERVICE => Err(self.service(method)),
            _ => Err(Reply::interface_not_found(interface)),
        }
    }

    fn ours(&self, method: &str) -> Result<Order, Reply> {
        match method {
            "Settle" => self.parameters().map(|Nothing {}| Order::Settle),
            "Load" => self.parameters().map(Order::Load),
            "Retry" => self.parameters().map(|Retry { modules }| Order::Retry(modules.unwrap_or_default())),
            "Status" => self.parameters().map(|Nothing {}| Order::Status),
            "Top" => self.parameters().map(|Top { limit }| Order::Top(limit.unwrap_or(TOP))),
            "Failures" => self.parameters().map(|Nothing {}| Order::Failures),
            "Monitor" if !self.more => Err(Reply::error("org.varlink.service.ExpectedMore", json!({}))),
            "Monitor" => self.parameters().map(|Nothing {}| Order::Monitor),
            "Explain" => self.parameters().map(|Explain { alias }| Order::Explain(alias)),
            "Storm" => self.parameters().map(|Nothing {}| Order::Storm),
            _ => Err(self.unknown()),
        }
    }

    fn service(&self, method: &str) -> Reply {
        let reply = match method {
            "GetInfo" => self.parameters().map(|Nothing {}| Reply::of(interface::info())),
            "GetInterfaceDescription" => self.parameters().map(|GetInterfaceDescription { interface }| {
                match interface::description(&interface) {
                    Some(description) => Reply::of(json!({ "description": description })),
                    None => Reply::interface_not_found(&interface),
                }
            }),
            _ => Err(self.unknown()),
        };
        reply.unwrap_or_else(|error| error)
    }

    fn parameters<T: DeserializeOwned>(&self) -> Result<T, Reply> {
        let given = if self.parameters.is_null() { json!({}) } else { self.parameters.clone() };
        serde_json::from_value(given).map_err(|error| Reply::invalid_parameter(&error.to_string()))
    }

    fn unknown(&self) -> Reply {
        Reply::error("org.varlink.service.MethodNotFound", json!({ "method": self.method }))
    }
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
        Self { parameters, ..Self::default() }
    }

    /// What was asked for, with more to come.
    pub fn continued(parameters: Value) -> Self {
        Self { parameters, continues: true, error: None }
    }

    /// An error of this name.
    pub fn error(name: &str, parameters: Value) -> Self {
        Self { parameters, continues: false, error: Some(name.into()) }
    }

    /// The standard error for an interface that is not ours.
    pub fn interface_not_found(interface: &str) -> Self {
        Self::error("org.varlink.service.InterfaceNotFound", json!({ "interface": interface }))
    }

    /// The standard error for a parameter that cannot be.
    pub fn invalid_parameter(what: &str) -> Self {
        Self::error("org.varlink.service.InvalidParameter", json!({ "parameter": what }))
    }

    /// The standard error for who may not do what was asked for.
    pub fn permission_denied() -> Self {
        Self::error("org.varlink.service.PermissionDenied", json!({}))
    }

    /// The message.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = serde_json::to_vec(self).expect("a reply is made of text and numbers");
        frame.push(0);
        frame
    }
}

// serde's skip_serializing_if gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}
