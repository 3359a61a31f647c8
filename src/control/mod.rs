// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Control: asking and steering a running daemon
//!
//! | file | owns |
//! |---|---|
//! | [`protocol`] | the messages: Varlink, interface `io.addonce` |
//! | [`timeline`] | a storm, who asks most and what failed where, as JSON |
//! | [`server`] | the socket, its clients and their bounds |
//! | [`client`] | one call, from the command line |

pub mod client;
pub mod protocol;
pub mod server;
pub mod timeline;

/// Where the daemon listens.
pub const SOCKET: &str = "/run/addonce/io.addonce";
