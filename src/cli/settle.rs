// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce settle`: wait until nothing is left to load.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::options::SocketOption;
use crate::control::client::call;
use crate::fatal::Fatal;

/// Wait until the daemon has taken in all uevents and no load is in the air.
#[derive(Args, Debug)]
pub struct Command {
    /// Seconds to wait at most; then the exit code is 4.
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    timeout: u32,
    #[command(flatten)]
    socket: SocketOption,
}

impl Command {
    /// Asks and waits.
    ///
    /// # Errors
    /// No daemon, or not settled in time.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let timeout = Duration::from_secs(self.timeout.into());
        call(&self.socket.socket, "Settle", Value::Null, Some(timeout))?;
        Ok(ExitCode::SUCCESS)
    }
}
