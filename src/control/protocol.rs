// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages of the control socket: Varlink calls and replies, JSON objects each ended by a NUL byte.
//!
//! The values inside replies are made in [`super::json`].

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
pub enum Method {
    /// Answer when all uevents are taken in and nothing is being loaded.
    Settle,
    /// Load the modules of an alias or of a name, and answer with what became of them.
    Load {
        /// What is asked for.
        load: Load,
        /// Say first that the request was accepted.
        more: bool,
    },
    /// Attempt what failed again; all of it where no module is named.
    Retry(Vec<String>),
    /// Answer when the hold ends or is renewed. The program says which event it was run for: its SYNTH_UUID.
    Hold(Option<String>),
    /// The counters and what is going on.
    Status,
    /// The modaliases asked for most, so many.
    Top(usize),
    /// What is remembered as failed.
    Failures,
    /// Every load that ends from now on.
    Monitor,
    /// The last storm as a timeline.
    Storm,
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
    /// The SEQNUM of that device's uevent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seqnum: Option<u64>,
    /// Whether somebody wrote to the device's `uevent` file, as `udevadm trigger` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<bool>,
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
struct Hold {
    #[serde(default)]
    uuid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetInterfaceDescription {
    interface: String,
}

/// How many `Top` tells where nobody says.
const TOP: usize = 10;

impl Call {
    /// What the call asks for, or the reply where that needs nobody else: a description, or an error.
    ///
    /// # Errors
    /// The reply.
    pub fn method(self) -> Result<Method, Reply> {
        let (interface, method) = self.method.rsplit_once('.').unwrap_or_default();
        match interface {
            interface::NAME => self.ours(method),
            interface::SERVICE => Err(self.service(method)),
            _ => Err(Reply::interface_not_found(interface)),
        }
    }

    fn ours(&self, method: &str) -> Result<Method, Reply> {
        match method {
            "Settle" => self.parameters().map(|Nothing {}| Method::Settle),
            "Load" => self.parameters().map(|load| Method::Load { load, more: self.more }),
            "Retry" => self.parameters().map(|Retry { modules }| Method::Retry(modules.unwrap_or_default())),
            "Status" => self.parameters().map(|Nothing {}| Method::Status),
            "Top" => self.parameters().map(|Top { limit }| Method::Top(limit.unwrap_or(TOP))),
            "Failures" => self.parameters().map(|Nothing {}| Method::Failures),
            "Monitor" if !self.more => Err(Reply::error("org.varlink.service.ExpectedMore", json!({}))),
            "Monitor" => self.parameters().map(|Nothing {}| Method::Monitor),
            "Hold" => self.parameters().map(|Hold { uuid }| Method::Hold(uuid)),
            "Storm" => self.parameters().map(|Nothing {}| Method::Storm),
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

impl Method {
    /// Whether it changes what is loaded, and so takes CAP_SYS_MODULE.
    pub fn is_privileged(&self) -> bool {
        matches!(self, Method::Load { .. } | Method::Retry(_))
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
