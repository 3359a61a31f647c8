// SPDX-License-Identifier: MIT OR Apache-2.0
//! One daemon at a time: the file `lock` beside the control socket.
//!
//! It is held by flock(2), which the kernel takes back however the holder ends; loads do not inherit it. It says who holds it, and
//! counts only while the path still leads to the file that is locked: one that was removed and made anew is another one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::fatal::Fatal;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// The lock, held.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock beside this socket. A daemon that holds it may be about to end, so it is waited for this long.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the file, and who holds it.
    pub fn take(socket: &Path, patience: Duration) -> Result<Self, Fatal> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(lock) = Self::attempt(socket)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                return Err(held(socket));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes the lock beside this socket, unless somebody holds it.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the file: there can be no lock, and another try would come to the same.
    pub fn attempt(socket: &Path) -> Result<Option<Self>, Fatal> {
        let path = path(socket);
        let refused = |error: io::Error| Fatal::System(format!("{}: {error}", path.display()));
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(refused)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        match Flock::lock(file.map_err(refused)?, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) if is_at(&file, &path) => {
                let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                written.map_err(refused)?;
                Ok(Some(Self { _file: file }))
            }
            Ok(_) | Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(refused(errno.into())),
        }
    }
}

/// That another daemon holds the lock beside this socket.
pub fn held(socket: &Path) -> Fatal {
    // It may not have written who it is yet.
    let pid = fs::read_to_string(path(socket)).ok().and_then(|pid| pid.trim_end().parse::<u32>().ok());
    let who = pid.map_or_else(String::new, |pid| format!(" (PID {pid})"));
    Fatal::System(format!("{}: another daemon{who} listens here: stop it first", socket.display()))
}

fn path(socket: &Path) -> PathBuf {
    socket.with_file_name("lock")
}

/// Whether the path leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let name = |file: fs::Metadata| (file.dev(), file.ino());
    let (ours, there) = (file.metadata().map(name), fs::symlink_metadata(path).map(name));
    matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
}
