// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Supervisor: what systemd does for a daemon, as far as a daemon can tell
//!
//! Holds both sockets over the lives of several daemons, and hands them over by LISTEN_PID and LISTEN_FDS.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::socket::SockType;
use tempfile::TempDir;

use super::socket::both_groups;

/// A supervisor.
pub struct Supervisor {
    netlink: OwnedFd,
    listener: UnixListener,
    path: PathBuf,
}

impl Supervisor {
    /// Listens for uevents, and for clients in this directory.
    pub fn listen(directory: &TempDir) -> Self {
        let path = directory.path().join("io.addonce");
        let listener = UnixListener::bind(&path).expect("bind");
        Self { netlink: both_groups(SockType::Raw), listener, path }
    }

    /// Where clients come to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// addonce, with both sockets handed over: 3 is the control socket and 4 the uevents', or the other way round.
    pub fn addonce(&self, uevents_first: bool) -> Command {
        let (three, four) = if uevents_first { (0, 1) } else { (1, 0) };
        let mut command = shell(&format!("3<&{three} 4<&{four} 0</dev/null 1>/dev/null"), 2);
        self.hand_to(&mut command);
        command
    }

    /// Gives both sockets to a command that begins with, or leads to, [`Supervisor::addonce`].
    pub fn hand_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let (netlink, listener) = (self.netlink.try_clone(), self.listener.try_clone());
        command.stdin(netlink.expect("dup")).stdout(OwnedFd::from(listener.expect("dup")))
    }
}

/// addonce, with one descriptor handed over, which is said to be so many.
pub fn handing_over(descriptor: OwnedFd, count: &str) -> Command {
    let mut command = shell("3<&0 0</dev/null", 1);
    command.stdin(Stdio::from(descriptor)).env("LISTEN_FDS", count);
    command
}

fn shell(redirections: &str, count: u32) -> Command {
    let script = format!("LISTEN_PID=$$ exec \"$0\" \"$@\" {redirections}");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_addonce")]).env("LISTEN_FDS", count.to_string());
    command.env_remove("JOURNAL_STREAM");
    command
}
