// SPDX-License-Identifier: MIT OR Apache-2.0
//! One daemon at a time: the file `lock` beside the control socket.
//!
//! It is held by flock(2), which the kernel takes back however the holder ends; loads do not inherit it. It says who holds it, and
//! counts only while the path still leads to the file that is locked: one that was removed and made anew is another one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
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

/// What comes of a try.
#[derive(Debug)]
pub enum Tried {
    /// It is ours.
    Ours(Lock),
    /// Another daemon holds it: this one, if it has written who it is.
    Theirs(Option<Process>),
}

/// A process, by what no other one ever has: a PID is given again, but not with the same time of start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its PID.
    pub pid: u32,
    /// When it began, in clock ticks since boot: starttime of proc_pid_stat(5).
    pub started: u64,
}

impl Lock {
    /// Takes the lock beside this socket. A daemon that holds it may be about to end, so it is waited for this long.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the file, and who holds it.
    pub fn take(socket: &Path, patience: Duration) -> Result<Self, Fatal> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::attempt(socket)? {
                Tried::Ours(lock) => return Ok(lock),
                Tried::Theirs(holder) if Instant::now() >= deadline => return Err(held(socket, holder)),
                Tried::Theirs(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Takes the lock beside this socket, unless somebody holds it.
    ///
    /// # Errors
    /// [`Fatal::System`], naming the file: there can be no lock, and another try would come to the same.
    pub fn attempt(socket: &Path) -> Result<Tried, Fatal> {
        let path = socket.with_file_name("lock");
        let refused = |error: io::Error| Fatal::System(format!("{}: {error}", path.display()));
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(refused)?;
        let file = open(&path).map_err(refused)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) if is_at(&file, &path) => {
                write(&mut file).map_err(refused)?;
                Ok(Tried::Ours(Self { _file: file }))
            }
            Ok(_) => Ok(Tried::Theirs(None)),
            Err((mut file, Errno::EWOULDBLOCK)) => Ok(Tried::Theirs(read(&mut file))),
            Err((_, errno)) => Err(refused(errno.into())),
        }
    }
}

/// That another daemon holds the lock beside this socket.
pub fn held(socket: &Path, holder: Option<Process>) -> Fatal {
    let who = holder.map_or_else(String::new, |holder| format!(" (PID {})", holder.pid));
    Fatal::System(format!("{}: another daemon{who} listens here: stop it first", socket.display()))
}

impl Process {
    /// This process.
    ///
    /// # Errors
    /// What reading /proc says.
    pub fn this() -> io::Result<Self> {
        let pid = std::process::id();
        Ok(Self { pid, started: started("self")? })
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        started(&self.pid.to_string()).is_ok_and(|started| started == self.started)
    }
}

fn started(process: &str) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; starttime is the twentieth field behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let started = fields.split_whitespace().nth(19).and_then(|field| field.parse().ok());
    started.ok_or_else(|| io::Error::other(format!("/proc/{process}/stat: not understood")))
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Whether the path leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let name = |file: fs::Metadata| (file.dev(), file.ino());
    let (ours, there) = (file.metadata().map(name), fs::symlink_metadata(path).map(name));
    matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
}

fn write(file: &mut File) -> io::Result<()> {
    let Process { pid, started } = Process::this()?;
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{pid} {started}")
}

/// The holder; none where it has not written who it is yet.
fn read(file: &mut File) -> Option<Process> {
    let mut text = String::new();
    Read::by_ref(file).take(64).read_to_string(&mut text).ok()?;
    let (pid, started) = text.trim_end().split_once(' ')?;
    Some(Process { pid: pid.parse().ok()?, started: started.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("tempdir");
        let socket = directory.path().join("io.addonce");
        (directory, socket)
    }

    #[test]
    fn one_holds_it_and_the_next_is_told_who_in_time() {
        let (_directory, socket) = place();
        let lock = Lock::take(&socket, Duration::ZERO).expect("free");
        let began = Instant::now();
        let error = Lock::take(&socket, Duration::from_millis(100)).expect_err("held").to_string();
        assert!(began.elapsed() >= Duration::from_millis(100));
        let pid = std::process::id();
        assert!(error.contains(&format!("another daemon (PID {pid}) listens here")), "{error}");
        drop(lock);
        Lock::take(&socket, Duration::ZERO).expect("free again");
    }

    #[test]
    fn a_holder_that_is_about_to_end_is_waited_for() {
        let (_directory, socket) = place();
        let lock = Lock::take(&socket, Duration::ZERO).expect("free");
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(lock);
        });
        Lock::take(&socket, Duration::from_secs(20)).expect("free in a moment");
        ends.join().expect("ended");
    }

    #[test]
    fn a_file_that_was_removed_is_not_the_lock_any_more() {
        let (_directory, socket) = place();
        let _lost = Lock::take(&socket, Duration::ZERO).expect("free");
        fs::remove_file(socket.with_file_name("lock")).expect("remove");
        let _lock = Lock::take(&socket, Duration::ZERO).expect("another file");
        assert!(Lock::take(&socket, Duration::ZERO).is_err(), "and that one is held");
    }

    #[test]
    fn a_process_is_known_by_more_than_its_pid() {
        let this = Process::this().expect("we run");
        assert!(this.is_alive());
        assert!(!Process { started: this.started + 1, ..this }.is_alive());
    }
}
