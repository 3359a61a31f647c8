// SPDX-License-Identifier: MIT OR Apache-2.0
//! Another program, run to its end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::left_out::left_out;

/// The path of a program, as the shell would find it; sbin included, where a user's PATH often has it not.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Whether all of these programs are here; if one is not, the test is left out.
pub fn have(names: &[&str]) -> bool {
    let missing = names.iter().find(|name| find(name).is_none());
    if let Some(name) = missing {
        left_out(&format!("{name} is not here: `make setup` installs what is missing"));
    }
    missing.is_none()
}

/// A program, to be started.
pub fn command(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| panic!("{name} is not here")))
}

/// Runs a tool to its end.
pub fn tool(name: &str, arguments: &[&OsStr], input: &str, directory: &Path) {
    use std::io::Write;
    let mut command = command(name);
    command.args(arguments).current_dir(directory).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("write");
    assert!(child.wait().expect("wait").success(), "{name} {arguments:?}");
}
