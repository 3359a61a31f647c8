// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Figures: what was measured, for `lab report` to read
//!
//! A file of JSON lines in target/bench, a figure a line, begun anew by each run.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::Value;

/// The figures of one benchmark.
pub struct Figures(File);

impl Figures {
    /// Begins the file of this name.
    pub fn of(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        fs::create_dir_all(&directory).expect("target/bench");
        Self(File::create(directory.join(format!("{name}.jsonl"))).expect("a file"))
    }

    /// Adds a line.
    pub fn add(&mut self, figure: &Value) {
        writeln!(self.0, "{figure}").expect("written");
    }
}
