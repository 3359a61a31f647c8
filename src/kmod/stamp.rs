// SPDX-License-Identifier: MIT OR Apache-2.0
//! Has anything changed since we read it? The stamps of everything that a resolution or a plan is made from: depmod's indexes,
//! the files of every modprobe.d directory, and hwdb.bin.
//!
//! libkmod's own validation sees neither in-place edits nor new directories (udevd has waited for the next boot over that), so it
//! is not used. To take a stamp is a few dozen stat(2) calls: it is done when [`Watch`](super::watch::Watch) has news.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What libkmod opens in a module directory. modules.softdep is configuration, written by depmod.
const INDEXES: [&str; 6] = [
    "modules.dep.bin",
    "modules.alias.bin",
    "modules.symbols.bin",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
    "modules.softdep",
];

/// Where libudev looks for hwdb.bin: the strings of systemd's sd-hwdb.
const HWDB: [&str; 5] = [
    "/etc/systemd/hwdb/hwdb.bin",
    "/etc/udev/hwdb.bin",
    "/usr/lib/systemd/hwdb/hwdb.bin",
    "/lib/systemd/hwdb/hwdb.bin",
    "/lib/udev/hwdb.bin",
];

/// The identity and age of one file: device, inode, size, and when content and inode changed. Size and times alone are not
/// enough: a file renamed over may keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp([u64; 3], [(i64, i64); 2]);

/// The state of every file that answers are made from and that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    indexes: BTreeMap<PathBuf, FileStamp>,
    others: BTreeMap<PathBuf, FileStamp>,
}

impl FileStamp {
    /// The stamp of a file, symbolic links followed; none if it is not there. A directory has none: it is what it contains, and
    /// its own times would only tell of files that do not matter.
    pub fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok().filter(|data| !data.is_dir())?;
        let times = [(data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec())];
        Some(Self([data.dev(), data.ino(), data.size()], times))
    }
}

impl Stamp {
    /// Stamps a module directory, the places where configuration may be, and hwdb.
    pub fn take(directory: &Path, config: &[PathBuf]) -> Self {
        let places = config.iter().flat_map(|place| conf_files(place).chain([place.clone()]));
        let others = HWDB.map(PathBuf::from).into_iter().chain(places);
        Self { indexes: of_all(indexes(directory)), others: of_all(others) }
    }

    /// Feeds the stamps of depmod's indexes to a fingerprint. What configuration says of a module is in its plan.
    pub fn hash_indexes<H: Hasher>(&self, state: &mut H) {
        self.indexes.hash(state);
    }
}

fn of_all(files: impl Iterator<Item = PathBuf>) -> BTreeMap<PathBuf, FileStamp> {
    files.filter_map(|path| FileStamp::of(&path).map(|stamp| (path, stamp))).collect()
}

fn indexes(directory: &Path) -> impl Iterator<Item = PathBuf> {
    INDEXES.iter().map(move |name| directory.join(name))
}

/// The files of a [`Stamp`], existing or not, but for configuration.
pub(super) fn files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    indexes(directory).chain(HWDB.map(PathBuf::from))
}

/// The files of a directory that libkmod reads: `*.conf` (up to kmod 32 also `*.alias`), no dot files.
pub(super) fn conf_files(place: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "conf" || end == "alias"))
}
