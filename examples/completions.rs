// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the completions of bash, zsh and fish into a directory, which is made where it is not there:
//!
//! ```text
//! cargo run --example completions target/completions
//! ```
//!
//! `make` does this, so the program itself carries no generator.

use std::path::PathBuf;
use std::process::ExitCode;

use addonce::cli::Cli;
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

const USAGE: &str = "usage: completions DIRECTORY";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("completions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or(USAGE)?);
    let named = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(&directory).map_err(named)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "addonce", &directory).map_err(named)?;
    }
    Ok(())
}
