// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host's programs and files, with errors that say the way out.
//!
//! Owns how the lab starts a program and where its own files are. It promises that a missing program is
//! reported with the Debian package that has it; the lab never installs anything.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The packages of the programs the lab starts or puts into the guest.
const PACKAGES: [(&str, &str); 13] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("zstd", "zstd"),
    ("busybox", "busybox-static"),
    ("udevadm", "udev"),
    ("kmod", "kmod"),
    ("depmod", "kmod"),
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("setpriv", "util-linux"),
    ("mke2fs", "e2fsprogs"),
    ("make", "make"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
];

pub fn missing(program: &str) -> String {
    match PACKAGES.iter().find(|(name, _)| *name == program) {
        Some((_, package)) => format!("{program} is missing: apt-get install {package}"),
        // Debian's packages of compilers are called as these are.
        None if program.starts_with("gcc-") => format!("{program} is missing: apt-get install {program}"),
        None => format!("{program} is missing from PATH"),
    }
}

/// The path of a program, as the shell would find it; sbin included, where a user's PATH often has it not.
pub fn find(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| missing(program))
}

/// Runs a program to its end and returns what it printed. An error holds what it
/// said on stderr.
pub fn output<S: AsRef<OsStr>>(program: &str, args: &[S], dir: &Path) -> Result<String, String> {
    let done = Command::new(find(program)?)
        .args(args)
        .current_dir(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| {
            if e.kind() == ErrorKind::NotFound { missing(program) } else { format!("{program}: {e}") }
        })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let line: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("'{program} {}': {}: {}", line.join(" "), done.status, said.trim()))
}

/// Where everything the lab makes is kept: `LAB_DIR`, or `target/lab` of this workspace.
pub fn lab_dir() -> Result<PathBuf, String> {
    let dir = match std::env::var_os("LAB_DIR") {
        Some(dir) => std::path::absolute(&dir).map_err(|e| format!("LAB_DIR: {e}"))?,
        None => source_dir().join("../../target/lab"),
    };
    make_dir(&dir)?;
    dir.canonicalize().map_err(|e| format!("{}: {e}", dir.display()))
}

/// `tests/vm` of the tree this program was built from.
pub fn source_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn make_dir(dir: &Path) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))
}

pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), String> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        make_dir(dir)?;
    }
    std::fs::write(path, contents).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// The names in a directory, sorted, so that everything built from them is the same every time.
pub fn names(dir: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("cannot read {}: {e}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| format!("{}: {e}", dir.display()))?.file_name();
        names.push(name.into_string().map_err(|name| format!("{name:?} in {} is not UTF-8", dir.display()))?);
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_program_is_reported_with_its_package() {
        assert_eq!(super::missing("busybox"), "busybox is missing: apt-get install busybox-static");
        let error = super::output::<&str>("no-such-program", &[], std::path::Path::new("/")).unwrap_err();
        assert_eq!(error, "no-such-program is missing from PATH");
    }
}
