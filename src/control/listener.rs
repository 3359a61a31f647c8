// SPDX-License-Identifier: MIT OR Apache-2.0
//! The listening socket and its name.
//!
//! It is opened here, under a name that is removed with it, or handed over by a supervisor, whose name and socket remain: who
//! connects while no daemon runs waits for the next one. A name is never taken from somebody who listens.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use crate::fatal::Fatal;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// The file that is ours to remove: device and inode.
    name: Option<(u64, u64)>,
}

/// Whether somebody listens at a path.
pub fn is_open(path: &Path) -> bool {
    match UnixStream::connect(path) {
        Ok(_) => true,
        // The backlog is full.
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

impl Listener {
    /// Listens at `path`; the caller holds its [lock](super::lock). A socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the path.
    pub fn open(path: &Path) -> Result<Self, Fatal> {
        let refused = refused(path);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(&refused)?;
        if is_open(path) {
            let who = "somebody listens here already (if it is systemd: systemctl stop addonce.socket)";
            return Err(refused(io::Error::other(who)));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(&refused)?;
        // Who was quicker than this is found out by its credentials.
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(&refused)?;
        let name = file(path);
        Ok(Self { listener, path: path.into(), name })
    }

    /// Takes over a socket that a supervisor listens at.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the path.
    pub fn adopt(listener: StdListener, path: &Path) -> Result<Self, Fatal> {
        listener.set_nonblocking(true).map_err(refused(path))?;
        Ok(Self { listener: UnixListener::from_std(listener), path: path.into(), name: None })
    }

    /// Has the loop get an event of this token when somebody has connected, those included who have before.
    pub(super) fn watch(&mut self, registry: &Registry, token: Token) -> Result<(), Fatal> {
        registry.register(&mut self.listener, token, Interest::READABLE).map_err(refused(&self.path))
    }

    /// The next connection, WouldBlock where there is none.
    pub(super) fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }

    /// Whether the name was ours and is no more: nobody can connect. A supervisor that begins to listen takes the name,
    /// whoever has it.
    pub fn is_lost(&self) -> bool {
        self.name.is_some_and(|name| file(&self.path) != Some(name))
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn file(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn refused(path: &Path) -> impl Fn(io::Error) -> Fatal + '_ {
    move |error| {
        let path = path.display();
        Fatal::System(format!("{path}: cannot listen here: {error}: name another path with --socket"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}
