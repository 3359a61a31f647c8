// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Tool: another program, run to its end

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a tool to its end, or says what is missing.
pub fn tool(name: &str, arguments: &[&OsStr], input: &str, directory: &Path) {
    use std::io::Write;
    let mut command = Command::new(name);
    command.args(arguments).current_dir(directory).stdin(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|e| panic!("{name}: {e}: `make setup` installs what is missing"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("write");
    assert!(child.wait().expect("wait").success(), "{name} {arguments:?}");
}
