// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce retry`: attempt failed modules again, now.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::query::Query;
use crate::fatal::Fatal;

/// Attempt failed modules again, now, and wait for what each comes to.
#[derive(Args, Debug)]
pub struct Command {
    /// The modules [default: all that are remembered as failed].
    modules: Vec<String>,
    #[command(flatten)]
    query: Query,
}

impl Command {
    /// Asks and waits.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let reply = self.query.order("Retry", json!({ "modules": self.modules }))?;
        self.query.print_answers(&reply, &self.modules.join(" "))
    }
}
