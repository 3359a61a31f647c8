// SPDX-License-Identifier: MIT OR Apache-2.0
//! Has anything changed since we read it? The fingerprint of everything that a resolution or a plan is made from: depmod's indexes,
//! every modprobe.d directory with each of its files, and hwdb.bin.
//!
//! Two stamps differ when a file was edited in place, renamed over, added or removed, and when a directory appeared. libkmod's own
//! validation sees neither in-place edits nor new directories (udevd has waited for the next boot over that), so it is not used. A
//! stamp is a few dozen stat(2) calls: it is taken when [`Watch`](super::watch::Watch) says that something may have happened.

use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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

/// A file whose last change is younger than this may change again without its times showing it: the kernel's clock
/// for inodes ticks with HZ, at the slowest every 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// The identity and age of one file. Size and times alone are not enough: a file renamed over may keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// The state of everything that answers are made from.
#[derive(Clone, Debug)]
pub struct Stamp {
    indexes: BTreeMap<PathBuf, Option<FileStamp>>,
    others: BTreeMap<PathBuf, Option<FileStamp>>,
    racy: bool,
}

impl FileStamp {
    /// The stamp of a file, symbolic links followed; none if it is not there.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|data| Self::from(&data))
    }

    /// Device and inode.
    pub fn inode(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A directory is what it contains, and that is stamped file by file: its own times would only tell of files
    /// that do not matter.
    fn without_content(self) -> Self {
        Self { size: 0, mtime: (0, 0), ctime: (0, 0), ..self }
    }

    /// Whether the file changed within a tick of the time from `begin` to `end`.
    fn changed_about(&self, begin: SystemTime, end: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.ctime.0), u32::try_from(self.ctime.1)) else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        begin - TICK < changed && changed < end + TICK
    }
}

impl From<&Metadata> for FileStamp {
    fn from(data: &Metadata) -> Self {
        Self {
            dev: data.dev(),
            ino: data.ino(),
            size: data.size(),
            mtime: (data.mtime(), data.mtime_nsec()),
            ctime: (data.ctime(), data.ctime_nsec()),
        }
    }
}

impl Stamp {
    /// Stamps a module directory, the places where configuration may be, and hwdb.
    pub fn take(directory: &Path, config: &[PathBuf]) -> Self {
        Self::over(directory, config, &HWDB.map(PathBuf::from))
    }

    fn over(directory: &Path, config: &[PathBuf], hwdb: &[PathBuf]) -> Self {
        let begin = SystemTime::now();
        let file = |path: PathBuf| (FileStamp::of(&path), path);
        let indexes: BTreeMap<_, _> = INDEXES
            .iter()
            .map(|name| file(directory.join(name)))
            .map(|(stamp, path)| (path, stamp))
            .collect();
        let mut others: BTreeMap<_, _> =
            hwdb.iter().cloned().map(file).map(|(stamp, path)| (path, stamp)).collect();
        others.insert(directory.to_owned(), FileStamp::of(directory).map(FileStamp::without_content));
        let mut seen = HashSet::new();
        for place in config {
            let data = std::fs::metadata(place).ok();
            let stamp = data.as_ref().map(FileStamp::from);
            let directory = stamp.filter(|_| data.is_some_and(|data| data.is_dir()));
            others.insert(place.clone(), directory.map(FileStamp::without_content).or(stamp));
            // What is one directory by two names, as /lib/modprobe.d is wherever /lib is a link, is looked into once.
            if directory.is_some_and(|directory| seen.insert(directory.inode())) {
                others.extend(conf_files(place).map(file).map(|(stamp, path)| (path, stamp)));
            }
        }
        let end = SystemTime::now();
        let racy =
            indexes.values().chain(others.values()).flatten().any(|stamp| stamp.changed_about(begin, end));
        Self { indexes, others, racy }
    }

    /// Whether something was changed so shortly before the stamp was taken that a further change may not show. What
    /// was read under such a stamp is to be read once more.
    pub fn is_racy(&self) -> bool {
        self.racy
    }

    /// Feeds the stamps of depmod's indexes to a fingerprint. Configuration is left out: of it a plan shows the part
    /// that concerns its module.
    pub fn hash_indexes<H: Hasher>(&self, state: &mut H) {
        self.indexes.hash(state);
    }
}

/// A fingerprint of everything: what differs in it differs as a stamp.
impl Hash for Stamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.indexes.hash(state);
        self.others.hash(state);
    }
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.indexes == other.indexes && self.others == other.others
    }
}

/// The files of a [`Stamp`], existing or not, but for configuration.
pub(super) fn files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    INDEXES.iter().map(move |name| directory.join(name)).chain(HWDB.map(PathBuf::from))
}

/// The files of a directory that libkmod reads: `*.conf` (up to kmod 32 also `*.alias`), no dot files.
pub(super) fn conf_files(place: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf" || extension == "alias"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct World {
        root: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            let world = Self { root: tempfile::tempdir().expect("tempdir") };
            fs::create_dir_all(world.path("modules")).expect("mkdir");
            fs::create_dir_all(world.path("etc")).expect("mkdir");
            fs::write(world.path("modules/modules.dep.bin"), "index").expect("write");
            fs::write(world.path("etc/a.conf"), "options a x=1\n").expect("write");
            world
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn stamp(&self) -> Stamp {
            Stamp::over(
                &self.path("modules"),
                &[self.path("etc"), self.path("run")],
                &[self.path("hwdb.bin")],
            )
        }

        /// Both stamps around a change, made when the clock of inodes has moved on.
        fn around(&self, change: impl FnOnce(&Self)) -> (Stamp, Stamp) {
            std::thread::sleep(TICK);
            let before = self.stamp();
            change(self);
            (before, self.stamp())
        }
    }

    #[test]
    fn nothing_changed_is_equal() {
        let (before, after) = World::new().around(|_| {});
        assert!(before == after && !after.is_racy());
    }

    #[test]
    fn an_edit_in_place_that_keeps_the_size_is_seen() {
        let (before, after) =
            World::new().around(|w| fs::write(w.path("etc/a.conf"), "options a x=2\n").expect("write"));
        assert!(before != after);
    }

    #[test]
    fn a_file_added_is_seen() {
        let (before, after) = World::new().around(|w| fs::write(w.path("etc/b.conf"), "").expect("write"));
        assert!(before != after);
    }

    #[test]
    fn a_file_removed_is_seen() {
        let (before, after) = World::new().around(|w| fs::remove_file(w.path("etc/a.conf")).expect("remove"));
        assert!(before != after);
    }

    #[test]
    fn a_file_renamed_is_seen() {
        let (before, after) =
            World::new().around(|w| fs::rename(w.path("etc/a.conf"), w.path("etc/z.conf")).expect("rename"));
        assert!(before != after);
    }

    #[test]
    fn a_directory_created_that_did_not_exist_is_seen() {
        let (before, after) = World::new().around(|w| {
            fs::create_dir(w.path("run")).expect("mkdir");
            fs::write(w.path("run/c.conf"), "blacklist a\n").expect("write");
        });
        assert!(before != after);
    }

    #[test]
    fn a_directory_by_a_second_name_is_seen_to_become_one_of_its_own() {
        let world = World::new();
        std::os::unix::fs::symlink(world.path("etc"), world.path("run")).expect("symlink");
        let (before, after) = world.around(|w| {
            fs::remove_file(w.path("run")).expect("remove");
            fs::create_dir(w.path("run")).expect("mkdir");
            fs::write(w.path("run/a.conf"), "options a x=1\n").expect("write");
        });
        assert!(before != after);
        let (before, after) =
            world.around(|w| fs::write(w.path("run/a.conf"), "options a x=2\n").expect("write"));
        assert!(before != after);
    }

    #[test]
    fn depmod_run_again_is_seen_and_changes_the_fingerprint_of_the_indexes() {
        let (before, after) = World::new().around(|w| {
            fs::write(w.path("modules/tmp"), "index").expect("write");
            fs::rename(w.path("modules/tmp"), w.path("modules/modules.dep.bin")).expect("rename");
        });
        assert!(before != after);
        assert_ne!(fingerprint(&before), fingerprint(&after));
    }

    #[test]
    fn configuration_is_no_part_of_the_fingerprint_of_the_indexes() {
        let (before, after) =
            World::new().around(|w| fs::write(w.path("etc/a.conf"), "options a x=2\n").expect("write"));
        assert_eq!(fingerprint(&before), fingerprint(&after));
    }

    #[test]
    fn files_that_nobody_reads_are_not_seen() {
        let (before, after) = World::new().around(|w| {
            fs::write(w.path("etc/a.conf.dpkg-new"), "").expect("write");
            fs::write(w.path("modules/modules.dep"), "").expect("write");
        });
        assert!(before == after);
    }

    #[test]
    fn a_stamp_taken_right_after_a_change_says_that_it_may_miss_another() {
        // More than once, because a busy machine may let the moment pass.
        let racy = |_| {
            let (before, after) =
                World::new().around(|w| fs::write(w.path("etc/a.conf"), "").expect("write"));
            !before.is_racy() && after.is_racy()
        };
        assert!((0..20).any(racy));
    }

    fn fingerprint(stamp: &Stamp) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        stamp.hash_indexes(&mut hasher);
        hasher.finish()
    }
}
