// SPDX-License-Identifier: MIT OR Apache-2.0
//! The failures, from one process to the next: the file `state.json` beside the socket.
//!
//! It is written whenever something has changed, after a pause, and at once where the daemon may be killed right then. Who holds
//! the [lock](crate::control::lock) reads and writes it. It is not synced: it is of no use after this boot. What is of another
//! boot or another format, or is not understood, is an empty memory and one line in the log.

use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock;
use crate::fatal::Fatal;
use crate::once::{Limits, Scheduler, Snapshot, Time};

/// What the format is called; another one is not read.
const FORMAT: u32 = 1;
/// No file is larger, in bytes: read, or left behind.
const LARGEST: u64 = 16 << 20;
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two writes, in times that the first of them took.
const SHARE: u32 = 20;
/// Another one with every boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    header: Header,
    written: u64,
    not_before: Time,
    /// Writing failed, and that was said.
    fails: bool,
}

/// What is read first: whether the rest is meant for us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    format: u32,
    boot: String,
    /// What a dry run takes for live is not.
    dry_run: bool,
}

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    header: Header,
    memory: Snapshot,
}

impl StateFile {
    /// The file beside this socket. Dry runs read what dry runs have written only.
    pub fn beside(socket: &Path, dry_run: bool) -> Result<Self, Fatal> {
        let boot = std::fs::read_to_string(BOOT_ID).map_err(Fatal::at(BOOT_ID))?;
        let (path, header) = (socket.with_file_name("state.json"), Header { format: FORMAT, boot, dry_run });
        Ok(Self { path, header, written: 0, not_before: Time::ZERO, fails: false })
    }

    /// The scheduler that goes on where another one ended, or one that knows nothing yet. What is broken is kept.
    pub fn restore(&mut self, limits: Limits, now: Time) -> Scheduler {
        let path = self.path.display();
        let snapshot = self.read().unwrap_or_else(|why| {
            let aside = self.path.with_extension("json.broken");
            // The last one is kept. Where this fails, so does what follows, and says why.
            let _ = std::fs::remove_file(&aside);
            let _ = std::fs::rename(&self.path, &aside);
            log::warn!("{path}: {why}: beginning with an empty memory; it is {} now", aside.display());
            None
        });
        let core = match snapshot {
            Some(snapshot) => {
                log::info!("{path}: {} failed modules are remembered", snapshot.failures.len());
                Scheduler::restore(limits, snapshot, now)
            }
            None => Scheduler::new(limits),
        };
        self.written = core.changes;
        core
    }

    /// When something is to be written.
    pub fn due(&self, core: &Scheduler) -> Option<Time> {
        (core.changes != self.written).then_some(self.not_before)
    }

    /// Writes it now, if anything has changed.
    pub fn write(&mut self, core: &Scheduler) {
        if core.changes == self.written {
            return;
        }
        self.written = core.changes;
        let began = clock();
        let content = Content { header: self.header.clone(), memory: core.snapshot() };
        let text = serde_json::to_vec(&content).map_err(io::Error::from);
        let text = text.and_then(|text| match text.len() as u64 {
            ..=LARGEST => Ok(text),
            size => Err(io::Error::other(format!("{size} bytes are too many"))),
        });
        write(&self.path, 0o600, text, &mut self.fails);
        let now = clock();
        self.not_before = now + PAUSE.max(now.saturating_sub(began) * SHARE);
    }

    /// What another process of ours has written; none where it has not, or was right not to write it for us.
    pub(super) fn read(&self) -> Result<Option<Snapshot>, Box<dyn Error>> {
        let Some(text) = read(&self.path)? else { return Ok(None) };
        if serde_json::from_slice::<Header>(&text)? != self.header {
            let whose = "another boot's or version's, or only one of us makes a dry run";
            log::info!("{}: {whose}: beginning with an empty memory", self.path.display());
            return Ok(None);
        }
        let Content { memory, .. } = serde_json::from_slice(&text)?;
        Ok(Some(memory))
    }
}

/// Reads such a file, if it is there.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // A pipe in its place would have us wait for a writer.
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = Vec::new();
    match file.take(LARGEST + 1).read_to_end(&mut text)? as u64 {
        ..=LARGEST => Ok(Some(text)),
        _ => Err(io::Error::other(format!("it is larger than {LARGEST} bytes"))),
    }
}

/// Writes such a file. That it cannot be done is said once, which `fails` remembers.
pub(super) fn write(path: &Path, mode: u32, text: io::Result<Vec<u8>>, fails: &mut bool) {
    let written = text.and_then(|text| replace(path, mode, |mut file| file.write_all(&text)));
    let failed_before = std::mem::replace(fails, written.is_err());
    if let Some(error) = written.err().filter(|_| !failed_before) {
        log::warn!("{}: it cannot be written: {error}", path.display());
    }
}

/// Replaces a file in one step: should it not be written to its end, the last one stays.
pub fn replace<T>(path: &Path, mode: u32, write: impl FnOnce(File) -> io::Result<T>) -> io::Result<T> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let file = File::options().write(true).create(true).truncate(true).mode(mode).open(&new);
    let written = file.and_then(write).and_then(|written| std::fs::rename(&new, path).map(|()| written));
    written.inspect_err(|_| drop(std::fs::remove_file(&new)))
}
