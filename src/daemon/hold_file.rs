// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the hold does outside of its state machine: the file `hold` that udev's rules look at, and the events.
//!
//! `hold` is a symbolic link to the socket's directory, by way of /proc/PID/fd. udev's TEST is for the socket in it, so for the rules
//! it is gone when the daemon is, however it went; no other process of the same PID makes it true again, and neither does a file of
//! that name. The link itself stays, as it does while the hold is released, and tells the next daemon that the last one died while
//! it held.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::hold::uuid;
use crate::once::Time;

/// Whose events they are that we write for ourselves: no device depends on it.
pub(super) const KERNEL: &[u8] = b"/module/kernel";
/// What udev's rules look at: the socket's name below it.
pub(super) const HOLD: &str = "hold";
/// What it is called while it is released.
const RELEASED: &str = "hold.released";
/// The link before it is complete.
const NEW: &str = "hold.new";

/// `hold`, beside a socket.
#[derive(Debug)]
pub struct HoldFile {
    socket: PathBuf,
    /// The socket's directory, for as long as we hold, and since when that is.
    pub(super) held: Option<(File, Time)>,
}

impl HoldFile {
    /// `hold` beside this socket. A predecessor's stays as it is until ours takes its place, or [`Self::forget`]. The second is
    /// what it left, if it died while it held: the argument of its [`Self::publish`].
    pub fn beside(socket: &Path) -> (Self, Option<u32>) {
        let new = Self { socket: socket.into(), held: None };
        let links = [HOLD, RELEASED].into_iter().filter_map(|name| fs::read_link(new.path(name)).ok());
        let numbers = links.map(|link| link.to_string_lossy().matches("./").count());
        let stale = numbers.max().map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        (new, stale)
    }

    /// Makes `hold` appear, with this number in it: as many times `./` as it says.
    pub fn publish(&mut self, recoveries: u32, now: Time) -> io::Result<()> {
        let (directory, since) = match self.held.take() {
            Some(held) => held,
            None => (File::open(self.path("."))?, now),
        };
        let here = format!("/proc/{}/fd/{}/", std::process::id(), directory.as_raw_fd());
        let target = here + &"./".repeat(recoveries as usize);
        let new = self.path(NEW);
        let _ = fs::remove_file(&new);
        symlink(target, &new)?;
        // In one step: there is no moment at which a link leads astray.
        fs::rename(&new, self.path(HOLD))?;
        self.held = Some((directory, since));
        let _ = fs::remove_file(self.path(RELEASED));
        Ok(())
    }

    /// Makes `hold` invisible to the rules. A successor sees it.
    pub fn unpublish(&mut self) {
        if let Err(error) = fs::rename(self.path(HOLD), self.path(RELEASED)) {
            log::debug!("{}: {error}", self.path(HOLD).display());
        }
        // Should that have failed, the link leads nowhere from here on.
        self.held = None;
    }

    /// Removes what a successor would find.
    pub fn forget(&mut self) {
        self.held = None;
        for name in [HOLD, RELEASED] {
            match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    log::warn!("{}: {error}", self.path(name).display());
                }
                _ => {}
            }
        }
    }

    /// A file beside the socket.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.socket.with_file_name(name)
    }
}

/// Writes an event with this number of the device with this DEVPATH. When that returns, it is in udevd's socket, and all earlier
/// events are in ours. It fails where /sys may not be written, and where the device is gone.
pub(super) fn trigger(
    sysfs: &Path,
    devpath: &[u8],
    action: &str,
    number: u64,
    argument: &str,
) -> io::Result<()> {
    let device = sysfs.join(OsStr::from_bytes(&devpath[1..]));
    // One write(2) is one event: Documentation/ABI/testing/sysfs-uevent, since Linux 4.13.
    let event = format!("{action} {} ADDONCE={argument}", uuid(number));
    File::options().write(true).open(device.join("uevent"))?.write_all(event.as_bytes())
}
