// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Many: a tree of many modules, each for one modalias
//!
//! Module number n is `many_NNNN`, for `many:NNNN`. All files are one file, compiled once, with another number in it.

use std::ffi::OsStr;
use std::fs;

use super::fixture::{TOOLS, VERSION};
use super::tool::{have, tool};

const TEMPLATE: &str = "many:0000";
const SOURCE: &str = "static const char alias[] __attribute__((section(\".modinfo\"), used, aligned(1))) = \
                      \"alias=many:0000\";\n";

pub struct Many {
    root: tempfile::TempDir,
    count: usize,
}

impl Many {
    /// Builds a tree of so many modules.
    pub fn build(count: usize) -> Self {
        assert!(have(&TOOLS));
        assert!(count <= 10_000, "numbers have four digits");
        let root = tempfile::tempdir().expect("tempdir");
        let directory = root.path().join("lib/modules").join(VERSION);
        fs::create_dir_all(directory.join("kernel")).expect("mkdir");
        fs::create_dir(root.path().join("modprobe.d")).expect("mkdir");
        let arguments = ["-c", "-x", "c", "-", "-o", "template.o"].map(OsStr::new);
        tool("cc", &arguments, SOURCE, root.path());
        let template = fs::read(root.path().join("template.o")).expect("compiled");
        let at = template.windows(TEMPLATE.len()).position(|bytes| bytes == TEMPLATE.as_bytes());
        let at = at.expect("the modalias stands in the file") + TEMPLATE.len() - 4;
        for n in 0..count {
            let mut file = template.clone();
            file[at..at + 4].copy_from_slice(format!("{n:04}").as_bytes());
            fs::write(directory.join(format!("kernel/{}.ko", name(n))), file).expect("write");
        }
        for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            fs::write(directory.join(list), "").expect("write");
        }
        tool("depmod", &[OsStr::new("-b"), root.path().as_os_str(), OsStr::new(VERSION)], "", root.path());
        Self { root, count }
    }

    /// The names of all of them.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (0..self.count).map(name)
    }

    /// What asks for module n, counted round.
    pub fn modalias(&self, n: usize) -> String {
        format!("many:{:04}", n % self.count)
    }

    /// The flags by which addonce is told of this tree.
    pub fn flags(&self) -> Vec<String> {
        let root = self.root.path().display();
        [
            format!("--modules-dir={root}/lib/modules"),
            format!("--kernel={VERSION}"),
            format!("--config={root}/modprobe.d"),
        ]
        .into()
    }
}

fn name(n: usize) -> String {
    format!("many_{n:04}")
}
