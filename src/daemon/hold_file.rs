// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the hold does outside of its state machine: the file `hold` that udev's rules look at, and the events.
//!
//! `hold` is a symbolic link to our socket's name below /proc/PID/fd/N, where N is the socket's directory. udev's TEST follows
//! it, so that it is gone for the rules when the daemon is, however it went; and it does not come true again by another process
//! of the same PID, which has no directory with such a name in it. The link itself stays, and tells the next daemon that the
//! last one died while it held. The same is told by the name that it has while the hold is released.
//!
//! Only who has the lock touches any of this.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::hold::uuid;

/// What udev's rules look at.
const HOLD: &str = "hold";
/// What it is called while it is released.
const RELEASED: &str = "hold.released";
/// The link before it is complete.
const NEW: &str = "hold.new";

/// `hold`, beside a socket.
#[derive(Debug)]
pub struct HoldFile {
    socket: PathBuf,
    /// The socket's directory, for as long as we hold.
    directory: Option<File>,
}

impl HoldFile {
    /// `hold` beside this socket. A predecessor's stays as it is until ours takes its place, or [`Self::forget`]. The second is
    /// what it left, if it died while it held: the argument of its [`Self::publish`].
    pub fn beside(socket: &Path) -> (Self, Option<u32>) {
        let new = Self { socket: socket.into(), directory: None };
        let stale = [HOLD, RELEASED].into_iter().filter_map(|name| {
            let target = fs::read_link(new.path(name)).ok()?;
            Some(u32::try_from(target.to_string_lossy().matches("./").count()).unwrap_or(u32::MAX))
        });
        let stale = stale.max();
        (new, stale)
    }

    /// Makes `hold` appear, with this number in it: as many times `./` as it says.
    ///
    /// # Errors
    /// Those of the system, where the directory is full or may not be written.
    pub fn publish(&mut self, recoveries: u32) -> io::Result<()> {
        let directory = match self.directory.take() {
            Some(directory) => directory,
            None => File::open(self.path("."))?,
        };
        let name = self.socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let here = format!("/proc/{}/fd/{}", std::process::id(), directory.as_raw_fd());
        let target = Path::new(&here).join("./".repeat(recoveries as usize) + &name.to_string_lossy());
        let new = self.path(NEW);
        let _ = fs::remove_file(&new);
        symlink(target, &new)?;
        // In one step: there is no moment at which a link leads astray.
        fs::rename(&new, self.path(HOLD))?;
        self.directory = Some(directory);
        let _ = fs::remove_file(self.path(RELEASED));
        Ok(())
    }

    /// Makes `hold` invisible to the rules. A successor sees it.
    pub fn unpublish(&mut self) {
        if let Err(error) = fs::rename(self.path(HOLD), self.path(RELEASED)) {
            log::debug!("{}: {error}", self.path(HOLD).display());
        }
        // Should that have failed, the link leads nowhere from here on.
        self.directory = None;
    }

    /// Removes what a successor would find.
    pub fn forget(&mut self) {
        self.directory = None;
        for name in [HOLD, RELEASED] {
            match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warn!("{}: {error}", self.path(name).display());
                }
                _ => {}
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.socket.with_file_name(name)
    }
}

/// Writes the event of a hold. When this returns, it is in udevd's socket.
///
/// # Errors
/// Those of the system: a /sys that may not be written.
pub fn write_event(sysfs: &Path, number: u64) -> io::Result<()> {
    trigger(&sysfs.join("module/kernel"), &format!("change {} ADDONCE=hold", uuid(number)))
}

/// Writes an event that no rule is for. When this returns, all earlier ones are in our socket.
///
/// # Errors
/// Those of the system: a /sys that may not be written.
pub fn write_fence(sysfs: &Path) -> io::Result<()> {
    trigger(&sysfs.join("module/kernel"), &format!("change {} ADDONCE=fence", uuid(0)))
}

/// Has udev look at a device again.
///
/// # Errors
/// Those of the system: a device that is gone.
pub fn ask_again(device: &Path) -> io::Result<()> {
    trigger(device, &format!("add {} ADDONCE=again", uuid(0)))
}

/// One write(2) is one event: Documentation/ABI/testing/sysfs-uevent, since Linux 4.13.
fn trigger(device: &Path, event: &str) -> io::Result<()> {
    File::options().write(true).open(device.join("uevent"))?.write_all(event.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A socket in a directory of its own, and the path of the link.
    fn place() -> (tempfile::TempDir, PathBuf, UnixListener) {
        let directory = tempfile::tempdir().expect("tempdir");
        let socket = directory.path().join("io.addonce");
        let listener = UnixListener::bind(&socket).expect("bind");
        (directory, socket, listener)
    }

    #[test]
    fn udev_sees_hold_for_as_long_as_it_is_published() {
        let (_directory, socket, _listener) = place();
        let hold = socket.with_file_name("hold");
        let (mut file, stale) = HoldFile::beside(&socket);
        assert_eq!(stale, None);
        file.publish(0).expect("published");
        assert!(hold.exists(), "what udev's TEST sees");
        file.unpublish();
        assert!(!hold.exists());
        file.publish(1).expect("published once more");
        assert!(hold.exists() && !socket.with_file_name("hold.released").is_symlink());
        file.forget();
        assert!(!hold.is_symlink());
        assert_eq!(HoldFile::beside(&socket).1, None);
    }

    #[test]
    fn what_a_dead_daemon_leaves_is_seen_by_the_next_and_not_by_udev() {
        let (_directory, socket, _listener) = place();
        let hold = socket.with_file_name("hold");
        for (recoveries, is_released) in [(0, false), (2, false), (1, true)] {
            let (mut dead, _) = HoldFile::beside(&socket);
            dead.publish(recoveries).expect("published");
            if is_released {
                dead.unpublish();
            }
            drop(dead);
            assert!(!hold.exists(), "the directory was closed with its process");
            let (mut next, stale) = HoldFile::beside(&socket);
            assert_eq!(stale, Some(recoveries));
            next.forget();
        }
    }

    #[test]
    fn another_process_of_the_same_pid_does_not_make_it_true_again() {
        let (directory, socket, _listener) = place();
        let hold = socket.with_file_name("hold");
        let (mut file, _) = HoldFile::beside(&socket);
        file.publish(0).expect("published");
        let ours = file.directory.as_ref().map(AsRawFd::as_raw_fd).expect("a directory");
        let link = fs::read_link(&hold).expect("a link").to_string_lossy().into_owned();
        // The other process has something else where we have the directory.
        for path in [directory.path().join(".."), "/dev".into(), "/dev/null".into()] {
            let theirs = File::open(path).expect("open");
            let link = link.replace(&format!("/fd/{ours}/"), &format!("/fd/{}/", theirs.as_raw_fd()));
            fs::remove_file(&hold).expect("remove");
            symlink(&link, &hold).expect("symlink");
            assert!(!hold.exists(), "{link}");
            fs::remove_file(&hold).expect("remove");
            file.publish(0).expect("published");
        }
    }

    #[test]
    fn where_nothing_can_be_published_nothing_is_left() {
        let (directory, socket, _listener) = place();
        let (mut file, _) = HoldFile::beside(&socket);
        drop(fs::remove_dir_all(directory.path()));
        assert!(file.publish(0).is_err());
        file.unpublish();
        file.forget();
        assert!(!socket.with_file_name("hold").is_symlink());
    }
}
