// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Known: what modaliases stand for, left where udev's program finds it
//!
//! Owns the file `known` beside the socket. Who listened there leaves in it, for modaliases that were asked for, the
//! modules that are to be loaded for each, where all of these were live; `addonce-load` looks there when nobody listens.
//! What is live is a duplicate by any rule, so whoever finds a modalias here and its modules live in /sys need neither
//! resolve nor ask. The first line holds a fingerprint of the boot and of the [`Stamp`] under which all was resolved:
//! another boot, kernel or depmod, and any change to modprobe.d or hwdb, make the file void.
//!
//! Promises that what cannot be understood, is somebody else's or void is as if it was not there, and that a file appears
//! as a whole. Only who holds the lock writes. Bounded by [`MOST`] modaliases and [`LARGEST`] bytes. It is shared with
//! udev's program, so it is without dependencies.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::stamp::Stamp;
use crate::escape::escape;

const NAME: &str = "known";
/// What the format is called; another one is not read.
const FORMAT: &str = "addonce-known-1";
/// As many modaliases as are memoised.
const MOST: usize = 1024;
/// Bytes: a modalias has some tens of them, a CPU's a thousand.
const LARGEST: usize = 256 << 10;
/// Another one with every boot, and with it the kernel's command line, whose blacklist is in no stamp.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file, for those whose stamp is this one.
#[derive(Debug)]
pub struct Known {
    path: PathBuf,
    header: String,
}

impl Known {
    /// The file beside this socket. None where the kernel does not tell one boot from another, and while what was stamped
    /// is being changed.
    pub fn beside(socket: &Path, stamp: &Stamp) -> Option<Self> {
        let boot = fs::read(BOOT_ID).ok().filter(|_| !stamp.is_racy())?;
        // Who was built by another compiler may hash otherwise: to him the file is void.
        let mut hasher = DefaultHasher::new();
        (boot, stamp).hash(&mut hasher);
        let header = format!("{FORMAT} {:016x}\n", hasher.finish());
        Some(Self { path: socket.with_file_name(NAME), header })
    }

    /// The modules that are to be loaded for a modalias; none where it is not known.
    pub fn modules(&self, alias: &[u8]) -> Option<Vec<String>> {
        let (content, alias) = (self.read()?, escape(alias));
        let (_, modules) = lines(&content).find(|(known, _)| *known == alias)?;
        Some(modules.split_whitespace().map(str::to_owned).collect())
    }

    /// Adds what was found, the most wanted first. When there is no more room, what was there before is forgotten.
    ///
    /// # Errors
    /// The system's, where the file cannot be written.
    pub fn add<'a>(&self, found: impl IntoIterator<Item = (&'a [u8], Vec<&'a str>)>) -> io::Result<()> {
        let before = self.read().unwrap_or_default();
        let found = found.into_iter().filter(|(_, modules)| modules.iter().all(|module| is_name(module)));
        let found = found.map(|(alias, modules)| (escape(alias), modules.join(" ")));
        let before = lines(&before).map(|(alias, modules)| (alias.to_owned(), modules.to_owned()));
        let mut content = self.header.clone();
        let mut written = HashSet::new();
        for (alias, modules) in found.chain(before) {
            // A blank may be part of a modalias; a tabulator is none of what is left by escape().
            let line = format!("{alias}\t{modules}\n");
            let is_room = written.len() < MOST && content.len() + line.len() <= LARGEST;
            if is_room && written.insert(alias) {
                content += &line;
            }
        }
        let new = self.path.with_extension("new");
        // There is nothing in it that /sys does not tell everybody.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new);
        file?.write_all(content.as_bytes())?;
        fs::rename(&new, &self.path)
    }

    /// What follows the header, if the file is for us.
    fn read(&self) -> Option<String> {
        let mut content = content(&self.path)?;
        content.starts_with(&self.header).then(|| content.split_off(self.header.len()))
    }
}

/// Whether the file beside this socket has a line for a modalias, void or not: where it has none, there is no need to take a
/// stamp, which costs more than the look.
pub fn mentions(socket: &Path, alias: &[u8]) -> bool {
    let alias = escape(alias);
    content(&socket.with_file_name(NAME))
        .is_some_and(|content| lines(&content).any(|(known, _)| known == alias))
}

/// The file, if it is root's.
fn content(path: &Path) -> Option<String> {
    let data = fs::symlink_metadata(path).ok()?;
    // A regular file: a pipe in its place would have us wait for a writer.
    if !data.is_file() || data.uid() != 0 || data.mode() & 0o022 != 0 || data.len() > LARGEST as u64 {
        return None;
    }
    fs::read_to_string(path).ok()
}

fn lines(content: &str) -> impl Iterator<Item = (&str, &str)> {
    content.lines().filter_map(|line| line.split_once('\t'))
}

/// Whether this can be one word of a line, and one part of a path.
fn is_name(module: &str) -> bool {
    !module.is_empty() && module.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}
