// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events with a UUID that nobody waits for.
//!
//! `udevadm trigger --settle` waits for the broadcasts of its events, which it knows by their UUIDs, and means the loads, too: during a
//! hold the rules have a program ask for these all the same. From systemd 258 on every `udevadm trigger` writes UUIDs, the one of a
//! boot, too. So each event that has one and that nobody waits for gets a link `nobody-waits/SEQNUM` beside the socket, and the
//! rules do without the program.
//!
//! The one idea: who waits has opened its socket before it writes the event, so it is among those that are there once the event was
//! read. Where there is no link, or not yet, the program is run, which is always right.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::uevent::netlink::UDEV_GROUP;

/// What the rules look into, below `hold`.
const NOBODY_WAITS: &str = "nobody-waits";
/// So many links at a time: an event beyond them costs a program.
const MOST: usize = 8192;
/// Sockets by protocol and multicast group, and the port of each: the PID of whose first one it is (netlink_autobind() in
/// net/netlink/af_netlink.c), which it is with `udevadm trigger`.
const SOCKETS: &str = "/proc/net/netlink";
/// What the process is called that may wait.
const UDEVADM: &str = "udevadm";

/// Which events have a link. What it decides is done by its caller, with [`Links`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Waiters {
    /// Read since the last look.
    announced: Vec<u64>,
    linked: BTreeSet<u64>,
}

impl Waiters {
    /// The kernel announced this event, which has a UUID.
    pub fn announced(&mut self, seqnum: u64) {
        self.announced.push(seqnum);
    }

    /// Whether it matters if [somebody waits](somebody_waits). To be found out after the socket was read.
    pub fn is_look_due(&self) -> bool {
        !self.announced.is_empty()
    }

    /// That was found out: if nobody waits, what was announced before and is still outstanding is linked, as far as that can be done.
    pub fn looked(
        &mut self,
        somebody_waits: bool,
        is_outstanding: impl Fn(u64) -> bool,
        link: impl Fn(u64) -> bool,
    ) {
        for seqnum in std::mem::take(&mut self.announced) {
            if !somebody_waits && is_outstanding(seqnum) && self.linked.len() < MOST && link(seqnum) {
                self.linked.insert(seqnum);
            }
        }
    }

    /// udevd is done with this event. True where its link is to be removed.
    pub fn done(&mut self, seqnum: u64) -> bool {
        self.linked.remove(&seqnum)
    }

    /// udevd is done with all events, or they are given up: the links that are to be removed.
    pub fn done_with_all(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.linked)
    }
}

/// The links as the rules see them.
#[derive(Debug)]
pub struct Links {
    directory: PathBuf,
}

impl Links {
    /// None, beside this socket; those of a predecessor are removed.
    pub fn beside(socket: &Path) -> Self {
        let directory = socket.with_file_name(NOBODY_WAITS);
        let made = match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => fs::create_dir(&directory),
        };
        if let Err(error) = made {
            log::warn!("{}: {error}: each event of udevadm trigger runs a program", directory.display());
        }
        Self { directory }
    }

    /// Makes the link of this event. False where that fails.
    pub fn make(&self, seqnum: u64) -> bool {
        symlink(".", self.directory.join(seqnum.to_string())).is_ok()
    }

    /// Removes it.
    pub fn remove(&self, seqnum: u64) {
        let _ = fs::remove_file(self.directory.join(seqnum.to_string()));
    }
}

/// Whether a `udevadm` listens to udevd. Where that cannot be found out, one does.
pub fn somebody_waits() -> bool {
    let Ok(sockets) = fs::read_to_string(SOCKETS) else { return true };
    sockets.lines().filter_map(listener).any(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == UDEVADM)
    })
}

/// The process whose socket a line of [`SOCKETS`] is about, if that hears udevd.
fn listener(line: &str) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let is_uevent = fields.next()?.parse() == Ok(libc::NETLINK_KOBJECT_UEVENT);
    let pid = fields.next()?.parse().ok()?;
    let groups = u32::from_str_radix(fields.next()?, 16).ok()?;
    (is_uevent && groups & UDEV_GROUP != 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_who_hears_udevd_by_its_first_socket() {
        let lines = [
            (
                "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode",
                None,
            ),
            (
                "0000000000000000 15  4711       00000002 0        0        0     2        0        1234",
                Some(4711),
            ),
            (
                "0000000000000000 15  4711       00000003 0        0        0     2        0        1234",
                Some(4711),
            ),
            ("0000000000000000 15  4711       00000001 0        0        0     2        0        1234", None),
            (
                "0000000000000000 15  4294963199 00000002 0        0        0     2        0        1234",
                Some(u32::MAX - 4096),
            ),
            ("0000000000000000 0   4711       00000002 0        0        0     2        0        1234", None),
        ];
        for (line, pid) in lines {
            assert_eq!(listener(line), pid, "{line}");
        }
    }
}
