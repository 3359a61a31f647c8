// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce settle`: waits until nothing is left to load.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::options::{SocketOption, seconds};
use crate::control::client::call;
use crate::fatal::Fatal;

/// Wait until the daemon has taken in all uevents and nothing is being loaded.
#[derive(Args, Debug)]
pub struct Command {
    /// Time to wait at most, in seconds, or with ms, s, min; then the exit code is 4.
    #[arg(long, value_name = "TIME", default_value = "120", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    socket: SocketOption,
}

impl Command {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        call(&self.socket.socket, "Settle", Value::Null, Some(self.timeout)).map(|_| ExitCode::SUCCESS)
    }
}
