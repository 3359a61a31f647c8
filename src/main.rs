// SPDX-License-Identifier: MIT OR Apache-2.0
//! addonce: parse, dispatch, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    addonce::cli::run().unwrap_or_else(|error| {
        // By way of the log, which knows who reads standard error, and where to turn if nobody does.
        log::error!("{error}");
        error.exit_code()
    })
}
