// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control socket: asking and steering a running daemon, in Varlink.
//!
//! It is root's: the socket has mode 0600, and who is not uid 0 is disconnected. What changes what is loaded also takes
//! CAP_SYS_MODULE. What everybody may know is in files beside it, [`STATUS`] and
//! [`LOADS`].

pub mod client;
mod connection;
pub mod json;
pub mod kernel_name;
pub mod listener;
pub mod lock;
pub mod process;
pub mod protocol;
pub mod server;
mod wire;

/// Where the daemon listens.
pub const SOCKET: &str = "/run/addonce/io.addonce";

/// The name of the file beside the socket that everybody may read.
pub const STATUS: &str = "status.json";

/// The name of the file beside the socket that has a line for each load: the type `AddOnce` of the interface.
pub const LOADS: &str = "loads";
