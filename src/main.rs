// SPDX-License-Identifier: MIT OR Apache-2.0
//! addonce: parse, dispatch, exit.

use std::process::ExitCode;

use addonce::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("addonce: {error}");
        error.exit_code()
    })
}
