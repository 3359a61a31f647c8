// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the socket says of itself: the text of `io.addonce`, which is also the reference that io.addonce(7) explains, and the replies
//! of `org.varlink.service`, by which a Varlink client that knows nothing of addonce finds its way.

use serde::Deserialize;
use serde_json::json;

use super::protocol::Reply;

/// Our interface.
pub const NAME: &str = "io.addonce";
/// The interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";
/// Our interface as Varlink's language writes it.
pub const DESCRIPTION: &str = include_str!("io.addonce.varlink");

/// The methods of [`SERVICE`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Service {
    GetInfo {},
    GetInterfaceDescription { interface: String },
}

impl Service {
    pub(super) fn reply(self) -> Reply {
        match self {
            Service::GetInfo {} => Reply::of(json!({
                "vendor": "addonce",
                "product": "addonce",
                "version": env!("CARGO_PKG_VERSION"),
                "url": env!("CARGO_PKG_HOMEPAGE"),
                "interfaces": [SERVICE, NAME],
            })),
            Service::GetInterfaceDescription { interface } => match description(&interface) {
                Ok(description) => Reply::of(json!({ "description": description })),
                Err(error) => error,
            },
        }
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
