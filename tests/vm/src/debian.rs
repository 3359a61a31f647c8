// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole Debian for a guest to boot: systemd as PID 1, on a disk, behind the initramfs of the distribution's generator.
//!
//! Owns `debian/` in the lab's directory, a tree that boots (some 700 MB, made once per kernel by `tools/debian-root` and
//! `tests/vm/debian/make`), and what a scenario makes of a copy of it: the disk image and the initramfs. It promises that
//! the kernel is the one of all other guests, that mirror, proxy and keys are those of this host's apt, and that nothing
//! stays mounted. Needs root, for it runs Debian's own programs in a chroot.

use crate::cpio::Archive;
use crate::image::{self, Image};
use crate::kernel::Kernel;
use crate::scenario::Scenario;
use crate::system::{copy, inside, is_root};
use crate::{host, package, tools};
use std::path::{Path, PathBuf};

/// The root file system's.
pub const LABEL: &str = "lab";

/// What a minimal Debian with systemd and udev lacks.
const PACKAGES: [&str; 7] =
    ["busybox", "dracut-core", "initramfs-tools", "kmod", "systemd-sysv", "udev", "zstd"];

/// Sparse: what is not used takes no room.
const DISK_SIZE: &str = "2G";

/// What scripts of the lab, and that test of the package which wants a machine, are called in the guest, below /lab.
const SCRIPTS: [(&str, &str); 5] = [
    ("measure.sh", include_str!("../guest/measure.sh")),
    ("report", include_str!("../guest/report")),
    ("watch", include_str!("../guest/watch")),
    ("prepare", include_str!("../debian/prepare")),
    ("tests-service", include_str!("../../../debian/tests/service")),
];
const UNITS: [(&str, &str); 2] = [
    ("lab-report.service", include_str!("../debian/lab-report.service")),
    ("lab-watch.service", include_str!("../debian/lab-watch.service")),
];

/// The scenario's Debian, ready to boot.
pub fn build(kernel: &Kernel, scenario: &Scenario, deb: Option<&Path>) -> Result<Image, String> {
    if scenario.needs_deb && deb.is_none() {
        return Err(format!("scenario {} needs --deb FILE (make deb makes one)", scenario.name));
    }
    let base = bootable(kernel)?;
    let dir = image::run_dir(&format!("image-{}", scenario.name))?;
    let tree = Scratch(dir.join(format!("tree.{}", std::process::id())));
    eprintln!("lab: making the disk of {}", scenario.name);
    copy(&base, &tree.0)?;
    for (name, text) in SCRIPTS {
        tools::write(&tree.0.join("lab").join(name), text)?;
    }
    for (name, text) in UNITS {
        tools::write(&tree.0.join("etc/systemd/system").join(name), text)?;
    }
    tools::write(&tree.0.join("lab/run.sh"), tools::read(&scenario.script())?)?;
    if let Some(install) = scenario.install() {
        tools::write(&tree.0.join("lab/install.sh"), tools::read(&install)?)?;
    }
    if let Some(deb) = deb.filter(|_| scenario.needs_deb) {
        tools::write(&tree.0.join("lab/addonce.deb"), tools::read(deb)?)?;
    }
    inside(&tree.0, &["sh", "/lab/prepare"])?;
    let (path, disk) = (dir.join("initramfs"), dir.join("disk.ext4"));
    let made = tree.0.join(format!("boot/initrd.img-{}", kernel.release));
    image::join(&[made, first(&dir)?], &path)?;
    format(&tree.0, &disk)?;
    Ok(Image { path, disk: Some(disk), left_out: Vec::new() })
}

/// The archive behind the generator's: what runs before its /init.
fn first(dir: &Path) -> Result<PathBuf, String> {
    let path = dir.join("first.cpio.zst");
    let mut archive = Archive::create(&path)?;
    archive.bytes("lab-init", 0o755, include_bytes!("../guest/boot-init"))?;
    archive.bytes("lab/measure.sh", 0o644, include_bytes!("../guest/measure.sh"))?;
    archive.file("lab/busybox", &tools::find("busybox")?)?;
    archive.finish()?;
    Ok(path)
}

/// The tree that all scenarios copy.
fn bootable(kernel: &Kernel) -> Result<PathBuf, String> {
    let make = tools::source_dir().join("debian/make");
    let text = String::from_utf8_lossy(&tools::read(&make)?).into_owned() + &PACKAGES.join(" ");
    let key = format!("{}-{:016x}", kernel.key, host::fingerprint(&text));
    let dir = tools::lab_dir()?.join("debian").join(key);
    if !dir.is_dir() && !is_root()? {
        return Err("a Debian to boot is made by root: run it as root once".into());
    }
    package::once(&dir, |partial| {
        eprintln!("lab: making a Debian to boot (two minutes)");
        let tree = partial.join("tree");
        copy(&kernel.system.debian_root()?, &tree)?;
        let (package, version) = kernel.key.split_once('_').ok_or("the kernel's package has no version")?;
        let package = format!("{package}={}", version.replace("%3a", ":"));
        package::download(&kernel.system, &tree, &[&PACKAGES[..], &[&package]].concat())?;
        tools::write(&tree.join("lab/make"), tools::read(&make)?)?;
        inside(&tree, &["sh", "/lab/make"])
    })?;
    Ok(dir.join("tree"))
}

/// The tree as a file system, nothing mounted.
fn format(tree: &Path, image: &Path) -> Result<(), String> {
    let _ = std::fs::remove_file(image);
    let (tree, image) = (tree.display().to_string(), image.display().to_string());
    // Or the guest's kernel would be writing inode tables all the time.
    let args = ["-q", "-t", "ext4", "-L", LABEL, "-E", "lazy_itable_init=0", "-d", &tree, &image, DISK_SIZE];
    tools::output("mke2fs", &args, Path::new("/")).map(drop)
}

/// A tree that is gone when it was of use.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
