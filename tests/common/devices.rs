// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Devices: a sysfs tree with nothing but devices in it

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A sysfs tree. It grows as hardware appears.
pub struct Devices {
    root: tempfile::TempDir,
}

impl Devices {
    /// A machine without devices.
    pub fn none() -> Self {
        let root = tempfile::tempdir().expect("tempdir");
        for directory in ["class", "devices/test", "bus/test/devices"] {
            fs::create_dir_all(root.path().join(directory)).expect("mkdir");
        }
        Self { root }
    }

    /// A device appears, and is there before it is announced, as in the kernel. Returns its DEVPATH.
    pub fn appear(&self, n: usize, modalias: &[u8]) -> String {
        let devpath = format!("/devices/test/{n}");
        let directory = self.root.path().join(&devpath[1..]);
        fs::create_dir(&directory).expect("mkdir");
        let uevent = [b"DRIVER=\nMODALIAS=", modalias, b"\n"].concat();
        fs::write(directory.join("uevent"), uevent).expect("write");
        fs::write(directory.join("modalias"), [modalias, b"\n"].concat()).expect("write");
        let link = self.root.path().join(format!("bus/test/devices/{n}"));
        symlink(OsStr::from_bytes(format!("../../..{devpath}").as_bytes()), link).expect("symlink");
        devpath
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The flag by which addonce is told of it.
    pub fn flag(&self) -> String {
        format!("--sysfs={}", self.path().display())
    }
}
