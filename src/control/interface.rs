// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the socket says of itself: the text of `io.addonce`, which is also the reference that io.addonce(7) explains, and the replies
//! of `org.varlink.service`, by which a Varlink client that knows nothing of addonce finds its way.

use serde_json::{Value, json};

/// Our interface.
pub const NAME: &str = "io.addonce";
/// The interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";

/// The interface as Varlink's language writes it.
pub const DESCRIPTION: &str = include_str!("io.addonce.varlink");

const SERVICE_DESCRIPTION: &str = "\
# The Varlink service interface: what every service offers, see https://varlink.org/Service
interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound(interface: string)
error MethodNotFound(method: string)
error MethodNotImplemented(method: string)
error InvalidParameter(parameter: string)
error PermissionDenied()
error ExpectedMore()
";

/// The reply to `GetInfo`.
pub fn info() -> Value {
    json!({
        "vendor": "addonce",
        "product": "addonce",
        "version": env!("CARGO_PKG_VERSION"),
        "url": env!("CARGO_PKG_HOMEPAGE"),
        "interfaces": [SERVICE, NAME],
    })
}

/// The text of an interface, where it is one of ours.
pub fn description(interface: &str) -> Option<&'static str> {
    match interface {
        NAME => Some(DESCRIPTION),
        SERVICE => Some(SERVICE_DESCRIPTION),
        _ => None,
    }
}
