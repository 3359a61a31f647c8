// SPDX-License-Identifier: MIT OR Apache-2.0
//! The devices that are there, read from /sys.
//!
//! [`Scan`] goes by the links in `bus/*/devices` and `class/*`: the driver core sends uevents only for devices that have a bus or a
//! class (`dev_uevent_filter`).
//!
//! What a device is looked up by is its `modalias` attribute. Its `uevent` file ends strings with a newline, and some drivers print
//! names there that a device may choose (`DEV_NAME` of a USB infrared receiver), so it is read only where there is no `modalias`,
//! on buses (`cpu`, `mmc`, `auxiliary` and some more lack it), and counts only if its MODALIAS is the only one and the last line.
//! That also spares reading a battery's, which asks the hardware.
//!
//! A scan writes nothing and leaves its tree never: a link is read as text and must stay under `devices/`. It looks at one link
//! at a time, so that a loop can do other things between.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fs::{self, File, ReadDir};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

/// The most links looked at: room for more than a hundred per CPU on a machine with 8192.
pub const LINKS_MAX: usize = 1 << 20;
/// The most bytes read of a file: the kernel gives a page at most.
const FILE_MAX: usize = 8 * 1024;

/// A device that wants a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its place under /sys, with the leading slash: as in a uevent.
    pub devpath: Vec<u8>,
    /// What drivers are looked up by: one, or two where an ACPI device has `acpi:` and `of:`. None is empty.
    pub modaliases: Vec<Vec<u8>>,
}

/// One pass over the devices of a sysfs tree: an iterator over links, each with the device behind it, if it has one that was not seen
/// before in this scan and wants a driver.
#[derive(Debug)]
pub struct Scan {
    root: PathBuf,
    /// Directories of links still to be opened, relative to the root; the next is the last.
    ahead: Vec<PathBuf>,
    /// The one being read.
    open: Option<(PathBuf, ReadDir)>,
    /// Hashes of device paths: a device may be in a class and on a bus, or in two classes.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// How many links were looked at.
    pub links: usize,
    /// How many files and directories could not be read although they are there, and how many of `bus` and
    /// `class` the tree lacks: 2 means that this is no sysfs.
    pub unreadable: usize,
}

impl Scan {
    /// A scan of the tree at `root`, normally /sys. A tree that is not there has no devices.
    pub fn new(root: impl Into<PathBuf>) -> Scan {
        let (open, seen, hasher, links, unreadable) = Default::default();
        let mut scan = Scan { root: root.into(), ahead: Vec::new(), open, seen, hasher, links, unreadable };
        // The stack is taken from its end: buses come first, and both in the order of their names.
        for (top, below) in [("class", ""), ("bus", "devices")] {
            let Ok(entries) = fs::read_dir(scan.root.join(top)) else {
                scan.unreadable += 1;
                continue;
            };
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort_unstable_by(|one, other| other.cmp(one));
            scan.ahead.extend(names.iter().map(|name| Path::new(top).join(name).join(below)));
        }
        scan
    }

    /// Whether the scan stopped at [`LINKS_MAX`], with more to see.
    pub fn truncated(&self) -> bool {
        self.links >= LINKS_MAX
    }

    fn look(&mut self, link: &Path) -> io::Result<Option<Device>> {
        let target = match fs::read_link(self.root.join(link)) {
            Ok(target) => target,
            // Classes have plain attribute files beside their links.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(device) = resolve(link, &target) else { return Ok(None) };
        if !self.seen.insert(self.hasher.hash_one(&device)) {
            return Ok(None);
        }
        let modaliases = modaliases(&self.root.join(&device), link.starts_with("bus"))?;
        let devpath = [b"/", device.as_os_str().as_bytes()].concat();
        Ok((!modaliases.is_empty()).then_some(Device { devpath, modaliases }))
    }

    /// What vanished (ENOENT, or ENODEV from an open file) is no fault; everything else is counted.
    fn count(&mut self, error: &io::Error) {
        let gone = error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32);
        self.unreadable += usize::from(!gone && error.kind() != ErrorKind::NotADirectory);
    }
}

impl Iterator for Scan {
    type Item = Option<Device>;

    fn next(&mut self) -> Option<Option<Device>> {
        let link = loop {
            if self.truncated() {
                return None;
            }
            if let Some((directory, entries)) = &mut self.open {
                match entries.next() {
                    Some(Ok(entry)) => break directory.join(entry.file_name()),
                    Some(Err(_)) => self.unreadable += 1,
                    None => {}
                }
                // An error ends the directory as its end does, lest one that keeps failing is read for ever.
                self.open = None;
            }
            let directory = self.ahead.pop()?;
            match fs::read_dir(self.root.join(&directory)) {
                Ok(entries) => self.open = Some((directory, entries)),
                Err(error) => self.count(&error),
            }
        };
        self.links += 1;
        Some(self.look(&link).unwrap_or_else(|error| {
            self.count(&error);
            None
        }))
    }
}

/// Where a link leads, relative to the root, if that is a device. The kernel's links are relative and lead to
/// directories without further links, so their text is the canonical path: no call per component is needed.
fn resolve(link: &Path, target: &Path) -> Option<PathBuf> {
    let mut path = link.parent()?.to_owned();
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            Component::Normal(name) => path.push(name),
            _ => return None,
        }
    }
    (path.starts_with("devices") && path != Path::new("devices")).then_some(path)
}

/// What drivers are looked up by for the device of this directory, most often nothing.
pub fn modaliases(device: &Path, on_a_bus: bool) -> io::Result<Vec<Vec<u8>>> {
    match read(&device.join("modalias")) {
        Ok(contents) => {
            let lines = contents.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            Ok(lines.map(<[u8]>::to_vec).collect())
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Err(_) if on_a_bus => {
            Ok(only_modalias(&read(&device.join("uevent"))?).map(<[u8]>::to_vec).into_iter().collect())
        }
        Err(_) => Ok(Vec::new()),
    }
}

/// The MODALIAS of a `uevent` file, if it is the only one and the last line.
fn only_modalias(contents: &[u8]) -> Option<&[u8]> {
    // A CPU's ends with a newline of its own.
    let mut lines = contents.rsplit(|&byte| byte == b'\n').skip_while(|line| line.is_empty());
    let modalias = lines.next()?.strip_prefix(b"MODALIAS=").filter(|modalias| !modalias.is_empty())?;
    lines.all(|line| !line.starts_with(b"MODALIAS=")).then_some(modalias)
}

/// The kernel gives an attribute whole with the first read (`sysfs_kf_seq_show`): no second one asks for its end.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = vec![0; FILE_MAX];
    let length = File::open(path)?.read(&mut contents)?;
    contents.truncate(length);
    Ok(contents)
}
