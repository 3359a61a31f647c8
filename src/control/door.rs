// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Door: the listening socket and its name
//!
//! Owns where clients knock. A door is opened here, under a name that is taken back when it is closed, or handed over by a
//! supervisor, whose name and socket remain his: who knocks while nobody of us runs waits for the next of us. Promises that
//! no name is taken from somebody who listens, and that none but our own is removed.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as Listener;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use crate::fatal::Fatal;

/// A listening socket.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// The file that is ours to remove: device and inode.
    name: Option<(u64, u64)>,
}

/// Whether somebody listens at a path.
pub fn is_open(path: &Path) -> bool {
    match UnixStream::connect(path) {
        Ok(_) => true,
        // So many have knocked that there is no room for one more.
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

impl Door {
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
        // Everybody may ask; who may change something is looked at call by call.
        std::fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(&refused)?;
        let name = file(path);
        Ok(Self { listener, path: path.into(), name })
    }

    /// Takes over a socket that a supervisor listens at.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the path.
    pub fn adopt(listener: Listener, path: &Path) -> Result<Self, Fatal> {
        listener.set_nonblocking(true).map_err(refused(path))?;
        Ok(Self { listener: UnixListener::from_std(listener), path: path.into(), name: None })
    }

    /// Has the loop be told of who knocks, those included who have knocked before.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the path.
    pub fn register(&mut self, registry: &Registry, token: Token) -> Result<(), Fatal> {
        registry.register(&mut self.listener, token, Interest::READABLE).map_err(refused(&self.path))
    }

    /// Lets in the next one who has knocked.
    ///
    /// # Errors
    /// What the system says, WouldBlock where nobody has.
    pub fn accept(&self) -> io::Result<UnixStream> {
        loop {
            match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result.map(|(stream, _)| stream),
            }
        }
    }

    /// Nobody finds it any more, if the name is ours; who has found it can still be let in.
    pub fn close(&mut self) {
        // A supervisor that begins to listen takes the name, whoever has it.
        if self.name.take().is_none_or(|name| file(&self.path) != Some(name)) {
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

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("io.addonce");
        (directory, path)
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_replaced_and_one_that_somebody_does_is_not() {
        let (_directory, path) = place();
        let supervisor = Listener::bind(&path).expect("bind");
        let error = Door::open(&path).expect_err("somebody listens").to_string();
        assert!(error.contains("listens here already") && error.contains("--socket"), "{error}");
        drop(supervisor);
        assert!(path.exists() && !is_open(&path), "left behind");
        let door = Door::open(&path).expect("replaced");
        assert!(is_open(&path));
        drop(door);
        assert!(!path.exists());
    }

    #[test]
    fn a_supervisors_socket_is_left_as_it_is() {
        let (_directory, path) = place();
        let supervisor = Listener::bind(&path).expect("bind");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
        let name = file(&path);
        let door = Door::adopt(supervisor.try_clone().expect("dup"), &path).expect("adopted");
        drop(door);
        assert_eq!(file(&path), name);
        assert_eq!(std::fs::metadata(&path).expect("stat").mode() & 0o777, 0o600);
        assert!(is_open(&path), "it still listens");
    }

    #[test]
    fn a_name_that_a_supervisor_took_is_not_removed() {
        let (_directory, path) = place();
        let door = Door::open(&path).expect("opened");
        std::fs::remove_file(&path).expect("remove");
        let _supervisor = Listener::bind(&path).expect("bind");
        drop(door);
        assert!(is_open(&path));
    }
}
