// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's user space: this host's udev and kmod, as the distribution ships them, and busybox for the
//! rest.
//!
//! Owns the choice of files and the archive made of them, cached until one of the files changes. It promises
//! that every program comes with its libraries. What the administrator of the host configured for udev
//! (/etc/udev/rules.d) stays out: a guest is a fresh installation. Some 40 MB, most of it udev's hwdb.

use crate::cpio::Archive;
use crate::tools;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Loaded by udev with dlopen since systemd 256, so that ldd does not name them. Absent ones are not missed.
const OPENED_LATER: [&str; 4] = ["libkmod.so.2", "libblkid.so.1", "libacl.so.1", "libselinux.so.1"];

/// Directories taken whole, and single files, where the host has them. The network directory holds the .link
/// files without which udev names no interface.
const TREES: [&str; 4] =
    ["/usr/lib/udev", "/usr/lib/modprobe.d", "/etc/modprobe.d", "/usr/lib/systemd/network"];
const FILES: [&str; 2] = ["/etc/udev/udev.conf", "/etc/udev/hwdb.bin"];

/// kmod's own programs take the place of these.
const NOT_FROM_BUSYBOX: [&str; 7] = ["busybox", "modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"];

/// The names kmod is called by; /sbin/modprobe is the kernel's own way to ask for a module.
const KMOD_NAMES: [&str; 6] = ["modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"];

/// Where a file of the host is in the guest. /bin, /sbin and /lib are links into /usr there.
pub fn in_guest(path: &Path) -> String {
    let path = path.to_string_lossy();
    let path = path.trim_start_matches('/');
    match path.split('/').next() {
        Some("bin" | "sbin" | "lib" | "lib64") => format!("usr/{path}"),
        _ => path.into(),
    }
}

/// The libraries a program needs, by ldd; none for a static program or a script.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>, String> {
    let program = &program.canonicalize().map_err(|e| format!("{}: {e}", program.display()))?;
    let Ok(text) = tools::output("ldd", &[program], Path::new("/")) else { return Ok(Vec::new()) };
    parse_ldd(&text)
        .map_err(|missing| format!("{} needs {missing}, which this host does not have", program.display()))
}

fn parse_ldd(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some((name, "not found")) = line.split_once(" => ") {
            return Err(name.into());
        }
        let path =
            line.split_once(" => ").map_or(line, |(_, path)| path).split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(path.into());
        }
    }
    Ok(found)
}

pub fn archive() -> Result<PathBuf, String> {
    let path = tools::lab_dir()?.join("userspace.cpio.zst");
    let stamp = tools::lab_dir()?.join("userspace.stamp");
    let files = files()?;
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
fn files() -> Result<BTreeMap<String, PathBuf>, String> {
    let mut programs = vec![("usr/bin/busybox".into(), tools::find("busybox")?)];
    programs.push(("usr/bin/udevadm".into(), tools::find("udevadm")?));
    programs.push(("usr/bin/kmod".into(), tools::find("kmod")?));
    // The busybox of Debian has none.
    programs.push(("usr/bin/nice".into(), tools::find("nice")?));
    let mut files = BTreeMap::new();
    for tree in TREES.map(Path::new).into_iter().filter(|tree| tree.is_dir()) {
        walk(tree, &mut files)?;
    }
    files.extend(
        FILES.iter().map(|f| (in_guest(Path::new(f)), PathBuf::from(f))).filter(|(_, f)| f.is_file()),
    );
    let known = tools::output("ldconfig", &["-p"], Path::new("/"))?;
    let later = OPENED_LATER.iter().filter_map(|name| {
        let line = known.lines().find(|l| l.trim().starts_with(&format!("{name} (libc6,x86-64")))?;
        Some(PathBuf::from(line.split_once(" => ")?.1))
    });
    programs.extend(later.map(|path| (in_guest(&path), path)));
    let helpers =
        files.iter().filter(|(name, _)| Path::new(name).parent() == Some(Path::new("usr/lib/udev")));
    programs.extend(helpers.map(|(name, path)| (name.clone(), path.clone())).collect::<Vec<_>>());
    for (name, path) in programs {
        files.extend(libraries(&path)?.into_iter().map(|lib| (in_guest(&lib), lib)));
        files.insert(name, path);
    }
    Ok(files)
}

fn walk(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), String> {
    for name in tools::names(dir)? {
        let path = dir.join(name);
        // The sources of hwdb.bin; udev reads only the compiled file.
        if path.ends_with("udev/hwdb.d") {
            continue;
        } else if path.is_dir() {
            walk(&path, files)?;
        } else if path.exists() {
            files.insert(in_guest(&path), path);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_libraries_with_and_without_an_arrow() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so (0x3)\n";
        assert_eq!(parse_ldd(text).unwrap(), ["/lib/x/libc.so.6", "/lib64/ld.so"].map(PathBuf::from));
        assert_eq!(parse_ldd("\tlibgone.so.1 => not found\n"), Err("libgone.so.1".into()));
        assert_eq!(parse_ldd("\tstatically linked\n"), Ok(vec![]));
    }

    #[test]
    fn files_of_the_old_top_level_directories_go_below_usr() {
        assert_eq!(in_guest(Path::new("/lib/x/libc.so.6")), "usr/lib/x/libc.so.6");
        assert_eq!(in_guest(Path::new("/usr/lib/udev/ata_id")), "usr/lib/udev/ata_id");
        assert_eq!(in_guest(Path::new("/etc/modprobe.d/x.conf")), "etc/modprobe.d/x.conf");
    }
}
