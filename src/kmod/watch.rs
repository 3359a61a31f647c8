// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether anything has happened to some files, asked of the kernel: one system call while nothing has.
//!
//! A path is watched by all that it leads through: each directory on the way for the next name, where symbolic links lead, and
//! what stands at its end. inotify tells what is done to them; what is mounted over them shows in mountinfo. Each directory is
//! watched before the next name is looked up in it, so a change is either seen by that or told by the kernel afterwards.
//!
//! Where the kernel cannot tell (no inotify, too many watches, a file system that others change, too), every look says that
//! something may have happened, and the caller looks at the files.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::statfs::statfs;

use super::stamp::conf_files;

/// Directories and files watched at a time. The tree and its configuration take some dozens, a failure one for each module file
/// and directory that it does not share with others. The kernel grants all programs of a user 8192 at the least.
const WATCHES: usize = 2048;
/// Events are read by up to 4 KiB. When there are more, nobody counts them.
const READS: usize = 64;
/// As the kernel follows them: MAXSYMLINKS.
const LINKS: usize = 40;
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The file systems that nobody but this kernel changes (linux/magic.h; zfs and bcachefs: their statfs): ext4, xfs, btrfs, f2fs,
/// bcachefs, zfs, tmpfs, ramfs; overlay, squashfs, erofs, iso9660, jfs, reiserfs, ubifs, proc. inotify does not tell what is done by
/// others: on the server of a network, in the host of a guest, in the process behind FUSE.
const LOCAL: [[u32; 8]; 2] = [
    [0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0xca451a4e, 0x2fc12fc1, 0x01021994, 0x858458f6],
    [0x794c7630, 0x73717368, 0xe0f5e1e2, 0x9660, 0x3153464a, 0x52654973, 0x24051905, 0x9fa0],
];

/// What a look at a [`Watch`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing has happened since the last look.
    Nothing,
    /// Something may have: the files are to be looked at.
    Perhaps,
    /// Something has.
    Change,
}

/// Tells whether anything has happened to files and directories of configuration.
#[derive(Debug)]
pub struct Watch {
    files: Vec<PathBuf>,
    config: Vec<PathBuf>,
    /// None: the kernel does not tell.
    watching: Option<Watching>,
}

#[derive(Debug)]
struct Watching {
    inotify: Inotify,
    _mountinfo: File,
    /// Of both.
    epoll: Epoll,
    watches: HashMap<WatchDescriptor, Interest>,
    /// The paths that are watched already; none where nothing is there.
    paths: HashMap<PathBuf, Option<WatchDescriptor>>,
}

/// What is of interest in a directory; of a file everything is.
#[derive(Debug, Default)]
struct Interest {
    names: HashSet<OsString>,
    all: bool,
}

impl Watch {
    /// Watches files, and places where configuration may be: directories with what libkmod reads in them, or files. What is read
    /// after this call and changed later is told by [`Watch::look`].
    pub fn new(files: Vec<PathBuf>, config: Vec<PathBuf>) -> Self {
        let mut watch = Self { files, config, watching: None };
        watch.begin(Watching::new());
        watch
    }

    /// What has happened since the last call. If it is not nothing, all files are watched again before this returns, but for
    /// what [`Watch::also`] added.
    pub fn look(&mut self) -> News {
        let Some(watching) = self.watching.take() else { return News::Perhaps };
        let news = watching.news();
        match news {
            News::Nothing => self.watching = Some(watching),
            News::Perhaps | News::Change => self.begin(Ok(watching)),
        }
        news
    }

    /// Watches these files, too, until [`Watch::look`] has news. Returns whether they are watched.
    pub fn also(&mut self, files: &[PathBuf]) -> bool {
        let Some(watching) = &mut self.watching else { return false };
        let watched = files.iter().try_for_each(|file| watching.path(file, LINKS).map(drop));
        watched.inspect_err(|why| log::debug!("a failed module's files are not watched: {why}")).is_ok()
    }

    fn begin(&mut self, watching: io::Result<Watching>) {
        let watching = watching
            .and_then(|mut watching| watching.all(&self.files, &self.config).map(|()| watching))
            .inspect_err(|why| {
                log::warn!(
                    "inotify: {why}: looking at indexes and configuration for each request instead of being told of changes"
                );
            });
        self.watching = watching.ok();
    }
}

impl Watching {
    fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // What is mounted from here on is told.
        let mountinfo = File::open(MOUNTINFO)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&inotify, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        epoll.add(&mountinfo, EpollEvent::new(EpollFlags::EPOLLPRI, 0))?;
        let (watches, paths) = Default::default();
        Ok(Self { inotify, _mountinfo: mountinfo, epoll, watches, paths })
    }

    fn news(&self) -> News {
        let mut ready = [EpollEvent::empty(); 2];
        // By asking, mountinfo forgets that it has changed: so what it says is not dropped from here on.
        let Ok(count) = self.epoll.wait(&mut ready, EpollTimeout::ZERO) else { return News::Perhaps };
        let is_ready = |flag| ready[..count].iter().any(|event| event.events().contains(flag));
        match (is_ready(EpollFlags::EPOLLIN) && self.drain(), is_ready(EpollFlags::EPOLLPRI)) {
            (true, _) => News::Change,
            (false, true) => News::Perhaps,
            (false, false) => News::Nothing,
        }
    }

    /// Reads all events. Whether any of them matters.
    fn drain(&self) -> bool {
        let mut matters = false;
        for _ in 0..READS {
            match self.inotify.read_events() {
                Ok(events) => matters |= events.iter().any(|event| self.matters(event)),
                Err(errno) => return matters || errno != Errno::EAGAIN,
            }
        }
        true
    }

    fn matters(&self, event: &InotifyEvent) -> bool {
        event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
            // Where there is none, we have taken the watch back.
            || self.watches.get(&event.wd).is_some_and(|interest| match &event.name {
                Some(name) => interest.all || interest.names.contains(name),
                None => true,
            })
    }

    fn all(&mut self, files: &[PathBuf], config: &[PathBuf]) -> io::Result<()> {
        let before = std::mem::take(&mut self.watches);
        self.paths.clear();
        for path in files {
            self.path(path, LINKS)?;
        }
        for place in config {
            let Some(watch) = self.path(place, LINKS)? else { continue };
            self.watches.entry(watch).or_default().all = true;
            conf_files(place).try_for_each(|file| self.path(&file, LINKS).map(drop))?;
        }
        for watch in before.into_keys().filter(|watch| !self.watches.contains_key(watch)) {
            // One that is gone is what we want.
            let _ = self.inotify.rm_watch(watch);
        }
        Ok(())
    }

    /// Watches all that a path leads through, and what it leads to, through so many symbolic links.
    fn path(&mut self, path: &Path, links: usize) -> io::Result<Option<WatchDescriptor>> {
        let path = &*std::path::absolute(path)?;
        if let Some(watch) = self.paths.get(path) {
            return Ok(*watch);
        }
        let parent = path.parent().map(|parent| self.path(parent, links)).transpose()?.flatten();
        if let (Some(parent), Some(name)) = (parent, path.file_name()) {
            self.watches.entry(parent).or_default().names.insert(name.to_owned());
        }
        let watch = self.add(path)?;
        self.paths.insert(path.to_owned(), watch);
        if let (1.., Ok(target)) = (links, path.read_link()) {
            self.path(&path.with_file_name(target), links - 1)?;
        }
        Ok(watch)
    }

    /// Watches what a path leads to, if there is something; should there be something else later, the nearest parent tells.
    fn add(&mut self, path: &Path) -> io::Result<Option<WatchDescriptor>> {
        let Some(system) = there(statfs(path))? else { return Ok(None) };
        let system = system.filesystem_type().0 as u32;
        if !LOCAL.as_flattened().contains(&system) {
            let path = path.display();
            return Err(io::Error::other(format!(
                "{path}: a file system (type {system:#x}) that others may change, too"
            )));
        }
        if self.watches.len() >= WATCHES {
            return Err(io::Error::other(format!("more than {WATCHES} files and directories to watch")));
        }
        let flags = match path.is_dir() {
            true => AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE,
            // What is written to /dev/null, by a link to which a file of modprobe.d is masked, changes nothing.
            false if !path.is_file() => AddWatchFlags::empty(),
            // The last is for those who write to a mapping.
            false => AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_CLOSE_WRITE,
        };
        let flags = flags | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let watch = there(self.inotify.add_watch(path, flags))?;
        if let Some(watch) = watch {
            self.watches.entry(watch).or_default();
        }
        Ok(watch)
    }
}

/// What is found at a path; none where nothing is.
fn there<T>(result: nix::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        result => Ok(Some(result?)),
    }
}
