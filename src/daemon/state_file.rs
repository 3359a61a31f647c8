// SPDX-License-Identifier: MIT OR Apache-2.0
//! The failures, from one process to the next: the file `state.json` beside the socket.
//!
//! It is written whenever something has changed, after a pause, and at once where the daemon may be killed right then. Who holds
//! the [lock](crate::control::lock) reads and writes it. It is not synced: it is of no use after this boot. What is of another
//! boot or another format, or is not understood, is an empty memory and one line in the log.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock;
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

/// The file, and what it has.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// None where the kernel does not say: then nothing is written or read.
    boot: Option<String>,
    dry_run: bool,
    written: u64,
    not_before: Time,
    /// Writing failed, and that was said.
    fails: bool,
}

/// What is read first: whether the rest is meant for us.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why a file is not taken over.
#[derive(Debug)]
enum Unfit {
    /// As it should be: there is none.
    Missing,
    /// It is somebody else's, who had his reasons.
    Others(&'static str),
    /// It is broken.
    Broken(String),
}

impl StateFile {
    /// The file beside this socket. Dry runs read what dry runs have written only.
    pub fn beside(socket: &Path, dry_run: bool) -> Self {
        let boot = std::fs::read_to_string(BOOT_ID).map(|text| text.trim().to_owned());
        if let Err(error) = &boot {
            log::warn!("{BOOT_ID}: {error}: what is remembered will end with this process");
        }
        Self {
            path: socket.with_file_name("state.json"),
            boot: boot.ok(),
            dry_run,
            written: 0,
            not_before: Time::ZERO,
            fails: false,
        }
    }

    /// The scheduler that goes on where another one ended, or one that knows nothing yet.
    pub fn restore(&mut self, limits: Limits, now: Time) -> Scheduler {
        let core = match self.read() {
            Ok(snapshot) => {
                log::info!(
                    "{}: {} failed modules are remembered",
                    self.path.display(),
                    snapshot.failures.len()
                );
                Scheduler::restore(limits, snapshot, now)
            }
            Err(unfit) => {
                self.leave(&unfit);
                Scheduler::new(limits)
            }
        };
        self.written = core.changes();
        core
    }

    /// When something is to be written.
    pub fn due(&self, core: &Scheduler) -> Option<Time> {
        (self.boot.is_some() && core.changes() != self.written).then_some(self.not_before)
    }

    /// Writes it now, if anything has changed. What could not be written is said once.
    pub fn write(&mut self, core: &Scheduler) {
        let Some(header) = self.header().filter(|_| core.changes() != self.written) else { return };
        self.written = core.changes();
        let began = clock::now();
        let text = serde_json::to_vec(&Content { header, memory: core.snapshot() });
        let result = text.map_err(io::Error::from).and_then(|text| match text.len() as u64 {
            ..=LARGEST => replace(&self.path, 0o600, &text),
            size => Err(io::Error::other(format!("{size} bytes are too many"))),
        });
        let now = clock::now();
        self.not_before = now + PAUSE.max(now.saturating_sub(began) * SHARE);
        let failed = result.is_err();
        match result {
            Err(error) if !self.fails => {
                log::warn!("{}: {error}: what is remembered may end with this process", self.path.display());
            }
            _ => {}
        }
        self.fails = failed;
    }

    /// What we write before what is remembered, and another process of ours has written.
    fn header(&self) -> Option<Header> {
        self.boot.clone().map(|boot| Header { format: FORMAT, boot, dry_run: self.dry_run })
    }

    fn read(&self) -> Result<Snapshot, Unfit> {
        let broken = |error: io::Error| Unfit::Broken(error.to_string());
        let Some(ours) = self.header() else { return Err(Unfit::Missing) };
        // A pipe in its place would have us wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&self.path);
        let file = match file {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Unfit::Missing),
            other => other.map_err(broken)?,
        };
        let mut text = Vec::new();
        let read = file.take(LARGEST + 1).read_to_end(&mut text).map_err(broken)?;
        if read as u64 > LARGEST {
            return Err(Unfit::Broken(format!("it is larger than {LARGEST} bytes")));
        }
        let garbage = |error: serde_json::Error| Unfit::Broken(error.to_string());
        let header: Header = serde_json::from_slice(&text).map_err(garbage)?;
        if header.boot != ours.boot {
            return Err(Unfit::Others("another boot's"));
        }
        if header.format != ours.format {
            return Err(Unfit::Broken("it was written by another version of addonce".into()));
        }
        if header.dry_run != ours.dry_run {
            return Err(Unfit::Others(if header.dry_run { "a dry run's" } else { "not a dry run's" }));
        }
        serde_json::from_slice::<Content>(&text).map(|content| content.memory).map_err(garbage)
    }

    /// Says why a file is not taken over. What is broken makes room, and can still be looked at.
    fn leave(&self, unfit: &Unfit) {
        let path = self.path.display();
        match unfit {
            Unfit::Missing => {}
            Unfit::Others(whose) => log::info!("{path}: {whose}: beginning with an empty memory"),
            Unfit::Broken(why) => {
                let aside = self.path.with_extension("json.broken");
                // The last one is kept. Where this fails, so does what follows, and says why.
                let _ = std::fs::remove_file(&aside);
                let moved = std::fs::rename(&self.path, &aside);
                let moved = moved.map_or_else(
                    |error| format!("it cannot be set aside: {error}"),
                    |()| format!("it is {} now", aside.display()),
                );
                log::warn!("{path}: {why}: beginning with an empty memory; {moved}");
            }
        }
    }
}

/// Replaces a file in one step: who reads finds the old one or the new one.
///
/// # Errors
/// Those of the system.
pub(super) fn replace(path: &Path, mode: u32, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(text)?;
    std::fs::rename(&new, path)
}
