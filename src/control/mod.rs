// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Control: asking and steering a running daemon
//!
//! | file | owns |
//! |---|---|
//! | [`interface`] | what the socket says of itself: the text of `io.addonce` |
//! | [`protocol`] | calls and replies |
//! | [`shapes`] | the core's values as JSON |
//! | [`server`] | who is connected |
//! | [`door`] | the listening socket and its name |
//! | `peer` | one connection: its bytes and their bounds |
//! | [`lock`] | who listens: one addonce at a time |
//! | [`client`] | one call, from the command line |

pub mod client;
pub mod door;
pub mod interface;
pub mod lock;
mod peer;
pub mod protocol;
pub mod server;
pub mod shapes;

/// Where the daemon listens.
pub const SOCKET: &str = "/run/addonce/io.addonce";
