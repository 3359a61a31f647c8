// SPDX-License-Identifier: MIT OR Apache-2.0
//! # addonce-load: what udev runs for a device's MODALIAS
//!
//! Asks the daemon for the modules of the device in the environment (MODALIAS, DEVPATH, SYNTH_UUID), waits until they
//! have landed, and exits; `udevadm settle` thereby covers the loads. Where a supervisor holds the socket for a daemon that
//! it is about to start, it waits. Where no daemon answers, and the modules are not known to be live already (`duplicate.rs`),
//! it runs `addonce load`, which does the work itself, or waits for the next daemon that such a supervisor starts; should
//! either be killed meanwhile, it begins anew. It is small on purpose: exec to exit is what udev pays per event, so it is
//! linked statically and touches neither libkmod nor an index.
//!
//! Exit codes: 0 the modules have landed, whatever became of them (a failure is remembered and reported by addonce; udev
//! would only log it once more per device) · 2 there is no MODALIAS in the environment · 5 addonce is not there, or was
//! killed again and again. Bounded by [`PATIENCE`] and [`TRIES`].

// The daemon's own files. What is not used here is the daemon's part.
#[allow(dead_code)]
#[path = "../../src/escape.rs"]
mod escape;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use escape::escape;

/// Where the daemon listens; ADDONCE_SOCKET names another place.
const SOCKET: &str = "/run/addonce/io.addonce";
/// A load may take its time; udev itself gives up a program after 180 s.
const PATIENCE: Duration = Duration::from_secs(150);
/// Between two looks at who listens.
const PAUSE: Duration = Duration::from_millis(5);
/// So often the work is begun anew when who does it is killed.
const TRIES: u32 = 50;
/// The longest reply: a modalias names some tens of modules.
const LONGEST: usize = 1 << 20;

fn main() -> ExitCode {
    let Some(alias) = variable("MODALIAS") else {
        eprintln!(
            "addonce-load: there is no MODALIAS: udev runs this for a device; by hand it is `addonce load`"
        );
        return ExitCode::from(2);
    };
    let socket = env::var_os("ADDONCE_SOCKET").unwrap_or_else(|| OsString::from(SOCKET));
    let socket = Path::new(&socket);
    let deadline = Instant::now() + PATIENCE;
    let mut tries = 0;
    while tries < TRIES {
        if matches!(ask(socket, &alias), Ok(reply) if !is_error(&reply)) {
            return ExitCode::SUCCESS;
        }
        // Whoever is about to listen does it sooner than another process could be started.
        if is_taken(&socket.with_file_name("lock")) && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
            continue;
        }
        // No daemon, one that went while it was asked, or one that would not.
        match load() {
            Ok(Some(code)) => return code,
            Ok(None) => tries += 1,
            Err(error) => {
                eprintln!("addonce-load: {error}: install addonce beside this program");
                break;
            }
        }
    }
    ExitCode::from(5)
}

/// Whether somebody holds this lock: addonce's, as src/control/lock.rs describes it. It is looked up and not tried, for who
/// tries holds it for a moment, and stands in the way of who means it.
fn is_taken(lock: &Path) -> bool {
    let Ok(metadata) = fs::metadata(lock) else { return false };
    let inode = format!(":{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // `1: FLOCK  ADVISORY  WRITE 706 00:1a:1234 0 EOF`: proc_locks(5).
    let mut held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    held.any(|words| {
        words.get(1) == Some(&"FLOCK") && words.get(5).is_some_and(|file| file.ends_with(&inode))
    })
}

fn ask(socket: &Path, alias: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&call(alias, variable("DEVPATH").as_deref(), env::var_os("SYNTH_UUID").is_none()))?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => reply.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if reply.last() == Some(&0) {
            return Ok(reply);
        }
        if reply.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// `io.addonce.Load` with these parameters, as io.addonce.varlink describes it.
fn call(alias: &[u8], devpath: Option<&[u8]>, genuine: bool) -> Vec<u8> {
    let device = devpath.map_or_else(String::new, |devpath| {
        format!(",\"devpath\":{},\"genuine\":{genuine}", json(&escape(devpath)))
    });
    let alias = json(&escape(alias));
    format!("{{\"method\":\"io.addonce.Load\",\"parameters\":{{\"alias\":{alias}{device}}}}}\0").into_bytes()
}

/// Printable ASCII, which is all that [`escape`] leaves, as JSON.
fn json(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether the daemon replied an error. An answer has fields of that name, too, but none with a dotted name.
fn is_error(reply: &[u8]) -> bool {
    let reply = String::from_utf8_lossy(reply);
    reply.contains("\"error\":\"org.varlink.service.") || reply.contains("\"error\":\"io.addonce.")
}

/// Has `addonce load` do the work. None where it was killed.
fn load() -> Result<Option<ExitCode>, String> {
    let beside = env::current_exe().map(|path| path.with_file_name("addonce"));
    let program = beside.unwrap_or_else(|_| PathBuf::from("addonce"));
    let status = Command::new(&program).arg("load").stdout(Stdio::null()).status();
    let status = status.map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(match status.code() {
        None => None,
        // The modules' answer.
        Some(0 | 1) => Some(ExitCode::SUCCESS),
        Some(_) => Some(ExitCode::from(5)),
    })
}

fn variable(name: &str) -> Option<Vec<u8>> {
    env::var_os(name).map(OsString::into_vec).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_what_the_interface_describes() {
        let call = call(b"acpi:\"\\\xff", Some(b"/devices/x"), true);
        let expected = "{\"method\":\"io.addonce.Load\",\"parameters\":{\"alias\":\"acpi:\\\"\\\\x5c\\\\xff\",\
                        \"devpath\":\"/devices/x\",\"genuine\":true}}\0";
        assert_eq!(String::from_utf8(call).expect("ASCII"), expected);
    }

    #[test]
    fn a_modules_failure_is_no_error_of_the_call() {
        assert!(!is_error(b"{\"parameters\":{\"answers\":[{\"error\":\"ENODEV\"}]}}\0"));
        assert!(is_error(b"{\"parameters\":{},\"error\":\"org.varlink.service.PermissionDenied\"}\0"));
    }
}
