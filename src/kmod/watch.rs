// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether anything may have happened to some files, asked of the kernel: one system call while nothing has.
//!
//! A path is watched by all that it leads through: each directory on the way for the next name, symbolic links followed, and what
//! stands at its end. Of a path that leads nowhere that is the nearest parent there is. inotify tells what is done to them; what is
//! mounted over them shows in mountinfo. Each directory is watched before the next name is looked up in it, so a change is either
//! seen by that or told by the kernel afterwards.
//!
//! Where the kernel cannot tell (no inotify, too many watches, a file system that others change, too), every look says that
//! something may have happened, and the caller looks at the files.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

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

/// The file systems that nobody but this kernel changes (linux/magic.h; zfs and bcachefs: their statfs). inotify does not tell what
/// is done by others: on the server of a network, in the host of a guest, in the process behind FUSE.
const LOCAL: [(&str, u32); 16] = [
    ("ext4", 0xef53),
    ("xfs", 0x5846_5342),
    ("btrfs", 0x9123_683e),
    ("f2fs", 0xf2f5_2010),
    ("bcachefs", 0xca45_1a4e),
    ("zfs", 0x2fc1_2fc1),
    ("tmpfs", 0x0102_1994),
    ("ramfs", 0x8584_58f6),
    ("overlay", 0x794c_7630),
    ("squashfs", 0x7371_7368),
    ("erofs", 0xe0f5_e1e2),
    ("iso9660", 0x9660),
    ("jfs", 0x3153_464a),
    ("reiserfs", 0x5265_4973),
    ("ubifs", 0x2405_1905),
    ("proc", 0x9fa0),
];

/// Tells whether anything may have happened to files and directories of configuration.
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
    nodes: HashMap<PathBuf, Node>,
}

/// What is of interest in a directory; of a file everything is.
#[derive(Debug, Default)]
struct Interest {
    names: HashSet<OsString>,
    all: bool,
}

/// What a path without symbolic links was when it was looked at.
#[derive(Clone, Debug)]
enum Node {
    Directory(WatchDescriptor),
    File,
    Link(PathBuf),
    Missing,
}

/// Why the kernel cannot tell.
type Blind = String;

impl Watch {
    /// Watches files, and places where configuration may be: directories with what libkmod reads in them, or files. What is read
    /// after this call and changed later is told by [`Watch::look`].
    pub fn new(files: Vec<PathBuf>, config: Vec<PathBuf>) -> Self {
        let mut watch = Self { files, config, watching: None };
        watch.begin(Watching::new());
        watch
    }

    /// Whether anything may have happened since the last call: what is kept of these files is then to be compared with them. They
    /// are all watched again before this returns; what [`Watch::also`] added is not.
    pub fn look(&mut self) -> bool {
        match self.watching.take() {
            None => true,
            Some(watching) if watching.is_quiet() => {
                self.watching = Some(watching);
                false
            }
            Some(watching) => {
                self.begin(Ok(watching));
                true
            }
        }
    }

    /// Watches these files, too, until [`Watch::look`] says that something may have happened. Returns whether they are watched.
    pub fn also<'a>(&mut self, mut files: impl Iterator<Item = &'a PathBuf>) -> bool {
        let Some(watching) = &mut self.watching else { return false };
        let watched = files.try_for_each(|file| watching.path(file).map(drop));
        watched.inspect_err(|why| log::debug!("a failed module's files are not watched: {why}")).is_ok()
    }

    fn begin(&mut self, watching: Result<Watching, Blind>) {
        let all = |mut watching: Watching| {
            watching.all(&self.files, &self.config)?;
            Ok(watching)
        };
        self.watching = watching.and_then(all).map_err(|why| {
            log::warn!("{why}: looking at indexes and configuration for each request instead of being told of changes");
        }).ok();
    }
}

impl Watching {
    fn new() -> Result<Self, Blind> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(because("inotify"))?;
        // What is mounted from here on is told.
        let mountinfo = File::open(MOUNTINFO).map_err(because(MOUNTINFO))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(because("epoll"))?;
        epoll.add(&inotify, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(because("inotify"))?;
        epoll.add(&mountinfo, EpollEvent::new(EpollFlags::EPOLLPRI, 0)).map_err(because(MOUNTINFO))?;
        let (watches, nodes) = Default::default();
        Ok(Self { inotify, _mountinfo: mountinfo, epoll, watches, nodes })
    }

    /// Whether nothing has happened in a watched place.
    fn is_quiet(&self) -> bool {
        let mut ready = [EpollEvent::empty(); 2];
        let Ok(ready) = self.epoll.wait(&mut ready, EpollTimeout::ZERO).map(|count| &ready[..count]) else {
            return false;
        };
        // By asking, mountinfo forgets that it has changed: so nothing here may end before the answer is "no".
        ready.is_empty() || (ready.iter().all(|event| event.events() == EpollFlags::EPOLLIN) && self.drain())
    }

    /// Reads all events. Whether none of them matters.
    fn drain(&self) -> bool {
        let mut unchanged = true;
        for _ in 0..READS {
            match self.inotify.read_events() {
                Ok(events) => unchanged &= !events.iter().any(|event| self.matters(event)),
                Err(errno) => return unchanged && errno == nix::Error::EAGAIN,
            }
        }
        false
    }

    fn matters(&self, event: &InotifyEvent) -> bool {
        event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
            // Where there is none, we have taken the watch back.
            || self.watches.get(&event.wd).is_some_and(|interest| match &event.name {
                Some(name) => interest.all || interest.names.contains(name),
                None => true,
            })
    }

    /// Watches these, and nothing else any more.
    fn all(&mut self, files: &[PathBuf], config: &[PathBuf]) -> Result<(), Blind> {
        let before = std::mem::take(&mut self.watches);
        self.nodes.clear();
        for path in files {
            self.path(path)?;
        }
        for place in config {
            let Some(directory) = self.path(place)? else { continue };
            let Some(interest) = self.watches.get_mut(&directory) else { continue };
            // One directory may have two names.
            if !std::mem::replace(&mut interest.all, true) {
                conf_files(place).try_for_each(|file| self.path(&file).map(drop))?;
            }
        }
        for watch in before.into_keys().filter(|watch| !self.watches.contains_key(watch)) {
            // One that is gone is what we want.
            let _ = self.inotify.rm_watch(watch);
        }
        Ok(())
    }

    /// Watches all that a path leads through. Returns what it leads to, if that is a directory.
    fn path(&mut self, path: &Path) -> Result<Option<WatchDescriptor>, Blind> {
        let path = std::path::absolute(path).map_err(because(&path.display().to_string()))?;
        let mut here = PathBuf::from("/");
        let mut rest = names(&path);
        let mut links = 0;
        loop {
            let Node::Directory(watch) = self.node(&here)? else { return Ok(None) };
            let Some(name) = rest.pop() else { return Ok(Some(watch)) };
            if name == ".." {
                here.pop();
                continue;
            }
            here.push(&name);
            self.watches.entry(watch).or_default().names.insert(name);
            match self.node(&here)? {
                Node::Directory(_) => {}
                Node::Link(target) if links < LINKS => {
                    links += 1;
                    here.pop();
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    rest.extend(names(&target));
                }
                _ => return Ok(None),
            }
        }
    }

    /// Looks at what a path is whose parents are watched, and watches it. Should it become something else meanwhile, its parent
    /// tells.
    fn node(&mut self, path: &Path) -> Result<Node, Blind> {
        if let Some(node) = self.nodes.get(path) {
            return Ok(node.clone());
        }
        let node = match self.look_at(path) {
            Ok(node) => node,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Node::Missing
            }
            Err(error) => return Err(because(&path.display().to_string())(error)),
        };
        self.nodes.insert(path.to_owned(), node.clone());
        Ok(node)
    }

    fn look_at(&mut self, path: &Path) -> io::Result<Node> {
        let kind = std::fs::symlink_metadata(path)?.file_type();
        if kind.is_symlink() {
            // If it is none any more, it is looked at again before anybody goes by this.
            return Ok(std::fs::read_link(path).map_or(Node::Missing, Node::Link));
        }
        let system = statfs(path)?.filesystem_type().0 as u32;
        if !LOCAL.iter().any(|(_, magic)| *magic == system) {
            let what = format!("a file system (type {system:#x}) that others may change, too");
            return Err(io::Error::new(ErrorKind::Unsupported, what));
        }
        if self.watches.len() >= WATCHES {
            return Err(io::Error::other(format!("more than {WATCHES} files and directories to watch")));
        }
        let flags =
            AddWatchFlags::IN_DONT_FOLLOW | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let flags = flags
            | match kind.is_dir() {
                true => {
                    AddWatchFlags::IN_ONLYDIR
                        | AddWatchFlags::IN_CREATE
                        | AddWatchFlags::IN_DELETE
                        | AddWatchFlags::IN_MOVE
                }
                // The last is for those who write to a mapping.
                false => AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_CLOSE_WRITE,
            };
        let watch = self.inotify.add_watch(path, flags)?;
        self.watches.entry(watch).or_default();
        Ok(if kind.is_dir() { Node::Directory(watch) } else { Node::File })
    }
}

/// The names that a path is made of, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

fn because<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Blind {
    let what = what.to_owned();
    move |error| format!("{what}: {error}")
}
