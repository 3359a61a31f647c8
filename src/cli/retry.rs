// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce retry`: attempt failed modules again, now.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::asking::print_answers;
use super::options::SocketOption;
use crate::control::client::call;
use crate::fatal::Fatal;

/// Attempt failed modules again, now, and wait until they have landed.
#[derive(Args, Debug)]
pub struct Command {
    /// The modules [default: all that are remembered as failed].
    modules: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

impl Command {
    /// Asks and waits.
    ///
    /// # Errors
    /// No daemon, or one that refuses.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let reply = call(&self.socket.socket, "Retry", json!({ "modules": self.modules }), None)?;
        print_answers(&reply, &self.modules.join(" "), self.json)
    }
}
