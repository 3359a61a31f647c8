// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Lock: one addonce at a time
//!
//! Owns the file `lock` beside the socket. Who holds it listens at the socket, loads, and remembers; everybody else is a
//! client. It is held by a daemon for as long as it runs, and by an `addonce load` that found none for as long as it
//! serves: the file says which. The kernel gives it back whatever becomes of its holder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::fatal::Fatal;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A daemon, which stays.
    Daemon,
    /// An `addonce load`, which goes when its work is done.
    Load,
}

/// The lock, held.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock beside this socket, if nobody holds it; otherwise says who does.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the file.
    pub fn take(socket: &Path, holder: Holder) -> Result<Result<Self, Holder>, Fatal> {
        let path = socket.with_file_name("lock");
        let refused = |error: std::io::Error| Fatal::System(format!("{}: {error}", path.display()));
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(refused)?;
        let file = open(&path).map_err(refused)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                write(&mut file, holder).map_err(refused)?;
                Ok(Ok(Self { _file: file }))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => Ok(Err(read(&mut file))),
            Err((_, errno)) => Err(refused(errno.into())),
        }
    }

    /// Takes the lock for a daemon. An `addonce load` is waited for, at most so long; another daemon is not.
    ///
    /// # Errors
    /// [`Fatal::System`] where somebody else keeps it.
    pub fn take_for_daemon(socket: &Path, patience: Duration) -> Result<Self, Fatal> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::take(socket, Holder::Daemon)? {
                Ok(lock) => return Ok(lock),
                Err(Holder::Daemon) => {
                    let socket = socket.display();
                    return Err(Fatal::System(format!(
                        "{socket}: another daemon listens here: stop it first"
                    )));
                }
                Err(Holder::Load) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(Holder::Load) => {
                    return Err(Fatal::System(format!(
                        "{}: an `addonce load` serves here and does not end: its log says what it loads",
                        socket.display()
                    )));
                }
            }
        }
    }
}

fn open(path: &PathBuf) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn write(file: &mut File, holder: Holder) -> std::io::Result<()> {
    let word = match holder {
        Holder::Daemon => "daemon",
        Holder::Load => "load",
    };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(word.as_bytes())
}

/// A holder that has not yet written who it is counts as one that goes: who waits looks again.
fn read(file: &mut File) -> Holder {
    let mut word = String::new();
    match file.read_to_string(&mut word) {
        Ok(_) if word == "daemon" => Holder::Daemon,
        _ => Holder::Load,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_the_next_is_told_who() {
        let directory = tempfile::tempdir().expect("tempdir");
        let socket = directory.path().join("io.addonce");
        let load = Lock::take(&socket, Holder::Load).expect("a file").expect("free");
        assert_eq!(Lock::take(&socket, Holder::Daemon).expect("a file").err(), Some(Holder::Load));
        assert!(Lock::take_for_daemon(&socket, Duration::ZERO).is_err());
        drop(load);
        let daemon = Lock::take_for_daemon(&socket, Duration::ZERO).expect("free");
        let refused = Lock::take_for_daemon(&socket, Duration::from_secs(60)).expect_err("held");
        assert!(refused.to_string().contains("another daemon listens here"), "at once: {refused}");
        drop(daemon);
        assert!(Lock::take(&socket, Holder::Load).expect("a file").is_ok());
    }
}
