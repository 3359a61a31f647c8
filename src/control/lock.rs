// SPDX-License-Identifier: MIT OR Apache-2.0
//! One daemon at a time: the file `lock` beside the control socket.
//!
//! It is held by flock(2), which the kernel takes back however the holder ends; loads do not inherit it. It contains the holder's
//! PID and whether it is shutting down, and counts only while the path still leads to the file that is locked: one that was removed and made anew is
//! another one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::listener::{file_at, identity};
use crate::fatal::Fatal;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock beside this socket; None as soon as there is no need of it. It is held for as long as the file is open. A daemon
/// that holds it may be about to end, so it is waited for this long; then the error names it.
pub fn take(
    socket: &Path,
    patience: Duration,
    is_needless: impl Fn() -> bool,
) -> Result<Option<Flock<File>>, Fatal> {
    let path = socket.with_file_name("lock");
    let deadline = Instant::now() + patience;
    while !is_needless() {
        let lock = attempt(&path).map_err(Fatal::at(path.display()))?;
        if lock.is_some() {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            // It may not have written who it is yet.
            let who = fs::read_to_string(&path).unwrap_or_default().trim_end().replace('\n', ", which ");
            let socket = socket.display();
            return Err(Fatal::System(format!(
                "{socket}: another daemon (PID {who}) listens here: stop it first, or wait for its end"
            )));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(None)
}

/// Takes the lock, unless somebody holds it. After an error another try would come to the same.
fn attempt(path: &Path) -> io::Result<Option<Flock<File>>> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other("there is something that is no file: remove it"));
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) if file.metadata().ok().map(identity) == file_at(path) => {
            file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()))?;
            Ok(Some(file))
        }
        Ok(_) | Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}
