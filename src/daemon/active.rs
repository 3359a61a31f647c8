// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Active: what udev looks at
//!
//! Owns the file by which udev's rule knows that a daemon takes care of every MODALIAS: a symbolic link to our
//! listening socket under /proc/PID/fd. udev's TEST follows links, so it fails the moment the daemon is gone, however it
//! went: nothing has to be cleaned up for udev to load modules itself again.

use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::fatal::Fatal;

/// The link, for as long as it is true.
#[derive(Debug)]
pub struct Active {
    path: PathBuf,
}

impl Active {
    /// Tells udev: `active`, beside the socket that this descriptor listens at. It takes the place of a dead daemon's.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the path.
    pub fn announce(socket: &Path, listener: RawFd) -> Result<Self, Fatal> {
        let path = socket.with_file_name("active");
        let ours = format!("/proc/{}/fd/{listener}", std::process::id());
        replace(&path, &ours).map_err(|error| Fatal::System(format!("{}: {error}", path.display())))?;
        Ok(Self { path })
    }
}

/// In one step: between two daemons there is no moment at which a link leads astray.
fn replace(path: &Path, target: &str) -> io::Result<()> {
    let new = path.with_extension(std::process::id().to_string());
    symlink(target, &new)?;
    std::fs::rename(&new, path)
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_link_holds_as_long_as_the_socket_is_open() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (socket, active) = (directory.path().join("io.addonce"), directory.path().join("active"));
        let listener = UnixListener::bind(&socket).expect("bind");
        // A dead daemon's link is in the way.
        symlink("/proc/1/fd/nothing", &active).expect("symlink");
        let link = Active::announce(&socket, listener.as_raw_fd()).expect("announced");
        assert!(active.exists(), "what udev's TEST sees");
        drop(listener);
        assert!(!active.exists() && active.is_symlink(), "gone with the socket, however that went");
        drop(link);
        assert!(!active.is_symlink());
    }
}
