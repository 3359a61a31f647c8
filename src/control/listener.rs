// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listening socket and its name.
//!
//! It is opened here, under a name that is removed with it, or handed over by a supervisor, whose name and socket remain: who
//! connects while no daemon runs waits for the next one. A name is never taken from somebody who listens.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use nix::fcntl::Flock;

use crate::fatal::Fatal;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: UnixListener,
    /// Where it is.
    pub path: PathBuf,
    /// The file that is ours to remove: device and inode.
    name: Option<(u64, u64)>,
    /// Taken for as long as we listen.
    pub(super) lock: Flock<File>,
}

/// Whether somebody listens at a path.
pub fn is_open(path: &Path) -> bool {
    // WouldBlock: the backlog is full.
    UnixStream::connect(path).map_or_else(|error| error.kind() == ErrorKind::WouldBlock, |_| true)
}

impl Listener {
    /// Takes over the socket that a supervisor listens at, or opens one: its [lock](super::lock) is ours.
    pub fn new(given: Option<StdListener>, path: &Path, lock: Flock<File>) -> Result<Self, Fatal> {
        let is_given = given.is_some();
        let listener = given.map_or_else(|| open(path), Ok);
        let listener = listener.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        let listener = listener.map_err(|error| {
            let path = path.display();
            Fatal::System(format!("{path}: cannot listen here: {error}: name another path with --socket"))
        })?;
        let name = if is_given { None } else { file_at(path) };
        Ok(Self { socket: UnixListener::from_std(listener), path: path.into(), name, lock })
    }

    /// Whether the name was ours and is no more, as when a supervisor begins to listen: nobody can connect.
    pub fn is_lost(&self) -> bool {
        self.name.is_some_and(|name| file_at(&self.path) != Some(name))
    }

    /// Removes the name, if it is ours.
    pub fn close(&mut self) {
        if self.is_lost() || self.name.take().is_none() {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

/// Listens here. A socket that nobody listens at any more is replaced.
fn open(path: &Path) -> io::Result<StdListener> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    if is_open(path) {
        let who = "somebody listens here already (if it is systemd: systemctl stop addonce.socket)";
        return Err(io::Error::other(who));
    }
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("there is something that is no socket")),
        Err(_) => {}
    }
    let listener = StdListener::bind(path)?;
    // Who was quicker than this is found out by its credentials.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The file that is found at this path.
pub(super) fn file_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(identity)
}

/// Device and inode.
pub(super) fn identity(file: Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}
