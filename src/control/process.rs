// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes: which one it is, who is at the other end of a connection, and whether it may load modules.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::{fs, io};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use serde::Deserialize;

/// CAP_SYS_MODULE: include/uapi/linux/capability.h.
const CAP_SYS_MODULE: u32 = 16;

/// A process, by what no other one ever has: a PID is given again, but not with the same time of start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Process {
    /// Its PID.
    pub pid: u32,
    /// When it began, in clock ticks since boot: starttime of proc_pid_stat(5).
    pub started: u64,
}

impl Process {
    /// This process; the error is that of reading /proc.
    pub fn this() -> io::Result<Self> {
        let pid = std::process::id();
        Ok(Self { pid, started: parent_and_start("self")?.1 })
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        parent_and_start(self.pid).is_ok_and(|(_, started)| started == self.started)
    }
}

/// Fields 4 and 22 of /proc/PID/stat: proc_pid_stat(5). The second field is a name in parentheses, which may have any in it.
fn parent_and_start(pid: impl Display) -> io::Result<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let fields = (fields.nth(1).map(str::parse), fields.nth(17).map(str::parse));
    let (Some(Ok(parent)), Some(Ok(started))) = fields else {
        return Err(io::Error::other(format!("/proc/{pid}/stat: not understood")));
    };
    Ok((parent, started))
}

/// Whether the client was uid 0 when it connected.
pub fn is_root(stream: &impl AsFd) -> bool {
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|client| client.uid() == 0)
}

/// Whether the client has CAP_SYS_MODULE, so that it could load a module without us. Where that cannot be found out, it has not.
pub fn may_load(stream: &impl AsFd) -> bool {
    let Ok(client) = getsockopt(stream, sockopt::PeerCredentials) else { return false };
    // 0: a process of a PID namespace that ours does not see.
    if client.pid() <= 0 {
        return false;
    }
    // Linux 6.5. Without it a PID that was reused meanwhile is believed.
    let pidfd = match getsockopt(stream, sockopt::PeerPidfd) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::ENOPROTOOPT) => None,
        Err(_) => return false,
    };
    let process = format!("/proc/{}", client.pid());
    let allowed = has_capability(&process) && is_in_our_user_namespace(&process);
    // The process that was looked at is the client, if the client is still there.
    allowed
        && pidfd.is_none_or(|pidfd| {
            let mut news = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            poll(&mut news, PollTimeout::ZERO) == Ok(0)
        })
}

/// The parent of the client's parent.
pub fn grandparent(stream: &impl AsFd) -> Option<Process> {
    let client = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    parent(parent_and_start(client.pid()).ok()?.0)
}

/// The parent of the process with this PID.
pub fn parent(pid: impl Display) -> Option<Process> {
    let (pid, _) = parent_and_start(pid).ok()?;
    Some(Process { pid, started: parent_and_start(pid).ok()?.1 })
}

/// Whether the process with this directory in /proc has CAP_SYS_MODULE. Where that cannot be found out, it has not.
pub fn has_capability(process: &str) -> bool {
    // In one call, or it would be eight.
    let mut status = String::with_capacity(4096);
    if File::open(format!("{process}/status")).and_then(|mut file| file.read_to_string(&mut status)).is_err()
    {
        return false;
    }
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> CAP_SYS_MODULE & 1 == 1)
}

/// A capability counts in its user namespace only, and who makes a new one has all of them there. To follow the link takes
/// CAP_SYS_PTRACE, or no fewer capabilities than the client has; the mapping can always be read, and is another one in a
/// namespace that was made without CAP_SETUID.
pub fn is_in_our_user_namespace(process: &str) -> bool {
    let link = |process: &str| fs::read_link(format!("{process}/ns/user"));
    match (link(process), link("/proc/self")) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => {
            let map = |process: &str| fs::read(format!("{process}/uid_map")).ok();
            map(process).is_some() && map(process) == map("/proc/self")
        }
    }
}
