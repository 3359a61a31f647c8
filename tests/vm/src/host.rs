// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's user space: udev and kmod of a system, as the distribution ships them, and this host's busybox for the rest.
//!
//! Owns the choice of files and the archive made of them, cached until one of the files changes. It promises
//! that every program comes with its libraries. What the administrator of the host configured
//! (/etc/udev/rules.d, /etc/udev/hwdb.bin, /etc/modprobe.d) stays out: a guest is a fresh installation. Some 40 MB, most of it udev's hwdb.

use crate::cpio::Archive;
use crate::system::System;
use crate::tools;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Loaded with dlopen by udev since systemd 256, by libkmod since 33, so that no list of what they are linked with has
/// them. Absent ones are not missed.
const OPENED_LATER: [&str; 10] = [
    "libacl.so.1",
    "libblkid.so.1",
    "libcrypto.so.3",
    "libkmod.so.2",
    "liblzma.so.5",
    "libmount.so.1",
    "libseccomp.so.2",
    "libselinux.so.1",
    "libz.so.1",
    "libzstd.so.1",
];

/// Directories taken whole, and single files, where the host has them. The network directory holds the .link
/// files without which udev names no interface.
const TREES: [&str; 3] = ["/usr/lib/udev", "/usr/lib/modprobe.d", "/usr/lib/systemd/network"];
const FILES: [&str; 1] = ["/etc/udev/udev.conf"];

/// kmod's own programs take the place of these.
const NOT_FROM_BUSYBOX: [&str; 7] = ["busybox", "modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"];

/// The names kmod is called by; /sbin/modprobe is the kernel's own way to ask for a module.
const KMOD_NAMES: [&str; 6] = ["modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"];

pub fn archive(system: &System) -> Result<PathBuf, String> {
    let name = system.release.as_ref().map_or("userspace".into(), |release| format!("userspace-{release}"));
    let path = tools::lab_dir()?.join(format!("{name}.cpio.zst"));
    let stamp = tools::lab_dir()?.join(format!("{name}.stamp"));
    let files = files(system)?;
    let now = describe(&files)?;
    if path.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
        return Ok(path);
    }
    eprintln!("lab: packing the guest's user space");
    write(&path, &files)?;
    tools::write(&stamp, now)?;
    Ok(path)
}

/// Guest path to host path of all that is copied.
fn files(system: &System) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut programs = vec![("usr/bin/busybox".into(), tools::find("busybox")?)];
    programs.push(("usr/bin/udevadm".into(), system.find("udevadm")?));
    programs.push(("usr/bin/kmod".into(), system.find("kmod")?));
    // The busybox of Debian has none.
    programs.push(("usr/bin/nice".into(), system.find("nice")?));
    let mut files = BTreeMap::new();
    for tree in TREES.map(|tree| system.path(tree)).iter().filter(|tree| tree.is_dir()) {
        walk(system, tree, &mut files)?;
    }
    let single = FILES.map(|file| system.path(file)).into_iter().filter(|file| file.is_file());
    files.extend(single.map(|file| (system.in_guest(&file), file)));
    let later = OPENED_LATER.iter().filter_map(|name| system.library(name));
    programs.extend(later.map(|path| (system.in_guest(&path), path)));
    let helpers =
        files.iter().filter(|(name, _)| Path::new(name).parent() == Some(Path::new("usr/lib/udev")));
    programs.extend(helpers.map(|(name, path)| (name.clone(), path.clone())).collect::<Vec<_>>());
    for (name, path) in programs {
        files.extend(system.libraries(&path)?.into_iter().map(|lib| (system.in_guest(&lib), lib)));
        files.insert(name, path);
    }
    Ok(files)
}

fn walk(system: &System, dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), String> {
    for name in tools::names(dir)? {
        let path = dir.join(name);
        // The sources of hwdb.bin; udev reads only the compiled file.
        if path.ends_with("udev/hwdb.d") {
            continue;
        } else if path.is_dir() {
            walk(system, &path, files)?;
        } else if path.exists() {
            files.insert(system.in_guest(&path), path);
        }
    }
    Ok(())
}

fn describe(files: &BTreeMap<String, PathBuf>) -> Result<String, String> {
    // This file decides what goes in, so a change to it is a change of the image.
    let mut text = format!("lab {:x}\n", fingerprint(include_str!("host.rs")));
    for (name, path) in files {
        let meta = std::fs::metadata(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let (size, time, nanos) = (meta.size(), meta.mtime(), meta.mtime_nsec());
        text += &format!("{name} {} {size} {time}.{nanos}\n", path.display());
    }
    Ok(text)
}

/// FNV-1a: enough to notice a change, and the same in every build.
pub fn fingerprint(bytes: impl AsRef<[u8]>) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.as_ref().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn write(path: &Path, files: &BTreeMap<String, PathBuf>) -> Result<(), String> {
    let mut archive = Archive::create(path)?;
    for dir in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "usr/lib/systemd",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "var",
    ] {
        archive.dir(dir)?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        archive.link(name, &format!("usr/{name}"))?;
    }
    archive.link("var/run", "/run")?;
    for (name, from) in files {
        archive.file(name, from)?;
    }
    archive.link("usr/lib/systemd/systemd-udevd", "../../bin/udevadm")?;
    for name in KMOD_NAMES {
        archive.link(&format!("usr/sbin/{name}"), "../bin/kmod")?;
    }
    let applets = tools::output("busybox", &["--list"], Path::new("/"))?;
    for applet in applets.lines().filter(|applet| !NOT_FROM_BUSYBOX.contains(applet)) {
        archive.link(&format!("usr/bin/{applet}"), "busybox")?;
    }
    archive.finish()
}
