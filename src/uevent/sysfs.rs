// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Sysfs: the devices that are there
//!
//! [`Scan`] reads the `uevent` file of every device and yields those with a MODALIAS, each device once. It goes
//! by the links in `bus/*/devices` and `class/*`, and that is complete: the driver core sends uevents only for
//! devices that have a bus or a class (`dev_uevent_filter`), so a device outside both has no modalias to offer
//! either. The bus links alone miss input devices; a walk over all of /sys/devices finds the same devices as
//! this one at twice the cost (9 ms for 4 ms, 412 `uevent` files): it opens every directory to find the few that
//! matter. Files are `uevent`, never `modalias`, which some devices (`mmc:block`) do not have.
//!
//! It promises to write nothing, to leave the tree never (a link is read as text and must stay under
//! `devices/`, whatever tree `--sysfs` names), and to take in its stride what vanishes or cannot be read
//! meanwhile. It is lazy: [`Scan::step`] looks at one link, so that a loop can do other things between.
//! Bounds: two fixed levels of directories, [`LINKS_MAX`] links, [`FILE_MAX`] bytes a file, a hash of eight bytes
//! per device seen.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, File, ReadDir};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::message;

/// The most links looked at: room for more than a hundred per CPU on a machine with 8192.
pub const LINKS_MAX: usize = 1 << 20;
/// The most bytes read of a `uevent` file: the kernel gives a page at most, of which it fills 2 KiB.
pub const FILE_MAX: usize = 8 * 1024;

/// A device that wants a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its place under /sys, with the leading slash: as in a uevent.
    pub devpath: Vec<u8>,
    /// What drivers are looked up by; never empty.
    pub modalias: Vec<u8>,
}

/// What one [`Scan::step`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A device that was not seen before in this scan.
    Device(Device),
    /// One link, and nothing new behind it.
    Nothing,
    /// That was all.
    Done,
}

/// One pass over the devices of a sysfs tree.
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
    links: usize,
    unreadable: usize,
}

impl Scan {
    /// A scan of the tree at `root`, normally /sys. A tree that is not there has no devices; see
    /// [`Scan::unreadable`].
    pub fn new(root: impl Into<PathBuf>) -> Scan {
        let root = root.into();
        let mut unreadable = 0;
        let mut ahead = Vec::new();
        for (top, below) in [("class", ""), ("bus", "devices")] {
            match fs::read_dir(root.join(top)) {
                Ok(entries) => {
                    let names = entries.flatten().map(|entry| entry.file_name());
                    ahead.extend(names.map(|name| Path::new(top).join(name).join(below)));
                }
                Err(_) => unreadable += 1,
            }
        }
        // The stack is taken from its end: buses come first, and both in the order of their names.
        ahead.sort_unstable_by(|one, other| other.cmp(one));
        ahead.sort_by_key(|path| path.starts_with("bus"));
        Scan {
            root,
            ahead,
            open: None,
            seen: HashSet::new(),
            hasher: RandomState::new(),
            links: 0,
            unreadable,
        }
    }

    /// Looks at one link.
    pub fn step(&mut self) -> Step {
        let link = loop {
            if self.truncated() {
                return Step::Done;
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
            let Some(directory) = self.ahead.pop() else { return Step::Done };
            match fs::read_dir(self.root.join(&directory)) {
                Ok(entries) => self.open = Some((directory, entries)),
                Err(error) => self.count(&error),
            }
        };
        self.links += 1;
        match self.look(&link) {
            Ok(Some(device)) => Step::Device(device),
            Ok(None) => Step::Nothing,
            Err(error) => {
                self.count(&error);
                Step::Nothing
            }
        }
    }

    /// How many links were looked at.
    pub fn links(&self) -> usize {
        self.links
    }

    /// How many files and directories could not be read although they are there, and how many of `bus` and
    /// `class` the tree lacks: 2 means that this is no sysfs.
    pub fn unreadable(&self) -> usize {
        self.unreadable
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
        let mut contents = [0; FILE_MAX];
        let read = read(&self.root.join(OsStr::from_bytes(&device)).join("uevent"), &mut contents)?;
        Ok(message::modalias_of_file(read).map(|modalias| {
            let devpath = [b"/", device.as_slice()].concat();
            Device { devpath, modalias: modalias.to_vec() }
        }))
    }

    /// What vanished (ENOENT, or ENODEV from an open file) is no fault; everything else is counted.
    fn count(&mut self, error: &io::Error) {
        let gone = error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV);
        self.unreadable += usize::from(!gone && error.kind() != ErrorKind::NotADirectory);
    }
}

impl Iterator for Scan {
    type Item = Device;

    fn next(&mut self) -> Option<Device> {
        loop {
            match self.step() {
                Step::Device(device) => return Some(device),
                Step::Nothing => {}
                Step::Done => return None,
            }
        }
    }
}

/// Where a link leads, relative to the root, if that is a device. The kernel's links are relative and lead to
/// directories without further links, so their text is the canonical path: no call per component is needed.
fn resolve(link: &Path, target: &Path) -> Option<Vec<u8>> {
    let target = target.as_os_str().as_bytes();
    let mut parts: Vec<&[u8]> = link.parent()?.iter().map(OsStr::as_bytes).collect();
    if target.starts_with(b"/") {
        return None;
    }
    for part in target.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    (parts.len() > 1 && parts[0] == b"devices").then(|| parts.join(&b'/'))
}

/// The kernel gives an attribute whole with the first read (`sysfs_kf_seq_show`): no second one asks for its end.
fn read<'b>(path: &Path, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut file = File::open(path)?;
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            length => return length.map(|length| &buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for directory in ["devices", "bus/pci/devices", "bus/pci/drivers", "class/input", "class/net"] {
            fs::create_dir_all(tree.path().join(directory)).unwrap();
        }
        tree
    }

    fn device(tree: &Path, path: &str, uevent: impl AsRef<[u8]>) {
        fs::create_dir_all(tree.join(path)).unwrap();
        fs::write(tree.join(path).join("uevent"), uevent).unwrap();
    }

    fn found(tree: &Path) -> Vec<(String, Vec<u8>)> {
        let name = |device: Device| (String::from_utf8(device.devpath).unwrap(), device.modalias);
        let mut found: Vec<_> = Scan::new(tree).map(name).collect();
        found.sort();
        found
    }

    #[test]
    fn devices_of_buses_and_of_classes_are_found_once_each_with_their_kernel_path() {
        let tree = tree();
        device(tree.path(), "devices/pci0/card", b"DRIVER=x\nMODALIAS=pci:\xff\n");
        device(tree.path(), "devices/pci0/card/input0", "MODALIAS=input:b0\n");
        device(tree.path(), "devices/pci0/quiet", "DRIVER=x\n");
        for (link, target) in [
            ("bus/pci/devices/card", "../../../devices/pci0/card"),
            ("class/net/card", "../../devices/pci0/card"),
            ("class/input/input0", "../../devices/pci0/card/input0"),
            ("bus/pci/devices/quiet", "../../../devices/pci0/quiet"),
        ] {
            symlink(target, tree.path().join(link)).unwrap();
        }
        let card = ("/devices/pci0/card".to_owned(), b"pci:\xff".to_vec());
        let input = ("/devices/pci0/card/input0".to_owned(), b"input:b0".to_vec());
        assert_eq!(found(tree.path()), [card, input]);
    }

    #[test]
    fn what_vanished_or_leads_elsewhere_is_passed_over() {
        let tree = tree();
        let outside = tempfile::tempdir().unwrap();
        device(outside.path(), "devices/far", "MODALIAS=far\n");
        fs::write(tree.path().join("class/net/bonding_masters"), "\n").unwrap();
        fs::create_dir(tree.path().join("devices/bare")).unwrap();
        let far = outside.path().join("devices/far");
        for (name, target) in [
            ("gone", Path::new("../../devices/gone")),
            ("bare", Path::new("../../devices/bare")),
            ("absolute", far.as_path()),
            ("up", Path::new("../../../../../../../../devices/far")),
            ("aside", Path::new("../../bus/pci")),
            ("top", Path::new("../../devices")),
        ] {
            symlink(target, tree.path().join("class/net").join(name)).unwrap();
        }
        let mut scan = Scan::new(tree.path());
        assert_eq!(scan.by_ref().next(), None);
        assert_eq!((scan.links(), scan.unreadable()), (7, 0));
    }

    #[test]
    fn a_tree_that_is_no_sysfs_says_so_by_its_count() {
        let mut scan = Scan::new("/nonexistent");
        assert_eq!((scan.next(), scan.unreadable()), (None, 2));
    }

    #[test]
    fn a_file_without_end_is_read_up_to_the_bound() {
        let tree = tree();
        let far = [vec![b'A'; FILE_MAX], b"\nMODALIAS=late\n".to_vec()].concat();
        device(tree.path(), "devices/d", far);
        symlink("../../devices/d", tree.path().join("class/net/d")).unwrap();
        assert!(found(tree.path()).is_empty());
    }

    #[test]
    fn a_step_is_one_link() {
        let tree = tree();
        for n in 0..5 {
            symlink("../../devices/none", tree.path().join(format!("class/net/{n}"))).unwrap();
        }
        let mut scan = Scan::new(tree.path());
        assert!((0..5).all(|_| scan.step() == Step::Nothing));
        assert_eq!(scan.step(), Step::Done);
    }
}
