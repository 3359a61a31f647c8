// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the two programs share: how the daemon is reached, asked and heard. They are small and static, and parse no JSON.
//! What addonce has for it already is addonce's own file.

use std::env;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

// The other way is for who reads.
#[allow(dead_code)]
#[path = "../../src/escape.rs"]
mod escape;
#[path = "../../src/control/kernel_name.rs"]
pub mod kernel_name;
#[path = "../../src/uevent/sysfs.rs"]
pub mod sysfs;
#[path = "../../src/control/wire.rs"]
pub mod wire;

use escape::escape;

/// Where the daemon listens; ADDONCE_SOCKET names another place.
const SOCKET: &str = "/run/addonce/io.addonce";
/// Of a daemon that was told to end and waits for its loads.
pub const ENDS: &str = "ends, and its loads still run";
/// Where modprobe is, in the order of trial.
pub const MODPROBE: [&str; 3] = ["/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe"];

/// Where the daemon listens.
pub fn socket() -> PathBuf {
    env::var_os("ADDONCE_SOCKET").map_or_else(|| SOCKET.into(), PathBuf::from)
}

/// The file that the daemon has locked for as long as it lives.
pub fn lock(socket: &Path) -> Option<File> {
    let nonblock = OFlag::O_NONBLOCK.bits();
    File::options().read(true).custom_flags(nonblock).open(socket.with_file_name("lock")).ok()
}

/// The daemon, and why, if it answers nobody: its loads may take minutes, and the next one is not there before it is gone. A service
/// manager may listen for it, so it is who has the lock. A daemon that is only traced is in state t now and then, too.
pub fn cannot_answer(socket: &Path) -> Option<(u32, &'static str)> {
    let words = head(lock(socket)?)?;
    let (pid, ends) = words.split_once('\n')?;
    let pid = pid.parse().ok()?;
    let stat = head(File::open(format!("/proc/{pid}/stat")).ok()?)?;
    match stat.split_once(" (addonce) ")?.1.chars().next()? {
        'T' | 't' => Some((pid, "is stopped (SIGSTOP, or by a debugger)")),
        state => (!ends.is_empty() && state != 'Z').then_some((pid, ENDS)),
    }
}

/// The beginning of a file, in one call: who waits looks often.
fn head(mut file: File) -> Option<String> {
    let mut bytes = [0; 64];
    let size = file.read(&mut bytes).ok()?;
    String::from_utf8(bytes[..size].into()).ok()
}

/// A message of io.addonce.varlink.
pub fn call(method: &str, parameters: &str) -> Vec<u8> {
    format!("{{\"method\":\"io.addonce.{method}\",\"parameters\":{{{parameters}}},\"more\":true}}\0")
        .into_bytes()
}

/// Bytes as JSON.
pub fn json(bytes: &[u8]) -> String {
    format!("\"{}\"", escape(bytes).replace('\\', r"\\").replace('"', r#"\""#))
}
