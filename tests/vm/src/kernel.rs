// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's kernel: the newest one the distribution offers, unpacked, neither installed nor booted here.
//!
//! Owns `kernels/PACKAGE_VERSION/` in the lab's directory. It promises a kernel image and a module tree with
//! fresh indexes, downloaded once per version; a download or unpacking that was cut short is started anew,
//! because the directory gets its name last. One download of some 70 MB and 400 MB on disk per version.

use crate::tools;
use std::path::{Path, PathBuf};

/// The metapackage whose dependency is the newest kernel.
const METAPACKAGE: &str = "linux-image-amd64";

#[derive(Debug)]
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    pub image: PathBuf,
    /// Where the package was unpacked: what `modprobe -d` takes.
    pub root: PathBuf,
    /// `lib/modules/RELEASE` of the unpacked package.
    pub modules: PathBuf,
    /// Package and version: what anything built from this kernel is cached under.
    pub key: String,
}

pub fn obtain() -> Result<Kernel, String> {
    let kernels = tools::lab_dir()?.join("kernels");
    tools::make_dir(&kernels)?;
    let package = newest()?;
    let key = format!("{package}_{}", version(&package)?.replace(':', "%3a"));
    let dir = kernels.join(&key);
    if !dir.is_dir() {
        let partial = kernels.join(format!(".{key}.{}", std::process::id()));
        let made = unpack(&package, &partial).and_then(|()| match std::fs::rename(&partial, &dir) {
            // Two labs at once: the other one was faster and made the same.
            Err(_) if dir.is_dir() => Ok(()),
            done => {
                done.map_err(|e| format!("cannot rename {} to {}: {e}", partial.display(), dir.display()))
            }
        });
        let _ = std::fs::remove_dir_all(&partial);
        made?;
    }
    open(&dir, key)
}

fn newest() -> Result<String, String> {
    let depends = tools::output("apt-cache", &["depends", METAPACKAGE], Path::new("/"))
        .map_err(|e| format!("no {METAPACKAGE} in the package lists; run apt-get update ({e})"))?;
    first_kernel(&depends)
        .ok_or(format!("apt-cache names no kernel that {METAPACKAGE} depends on; run apt-get update"))
}

fn first_kernel(depends: &str) -> Option<String> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with("linux-image-")).map(String::from)
}

fn version(package: &str) -> Result<String, String> {
    let text = tools::output("apt-cache", &["show", "--no-all-versions", package], Path::new("/"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    version.map(|v| v.trim().to_string()).ok_or(format!("apt-cache shows no version of {package}"))
}

fn unpack(package: &str, dir: &Path) -> Result<(), String> {
    eprintln!("lab: downloading and unpacking {package}");
    let download = dir.join("download");
    let tree = dir.join("tree");
    tools::make_dir(&download)?;
    tools::make_dir(&tree)?;
    tools::output("apt-get", &["--quiet", "download", package], &download).map_err(|e| {
        format!("cannot download {package}; is the network up, are the lists fresh (apt-get update)? {e}")
    })?;
    let deb = tools::names(&download)?.into_iter().find(|name| name.ends_with(".deb"));
    let deb = download.join(deb.ok_or(format!("apt-get downloaded no .deb of {package}"))?);
    tools::output("dpkg", &[Path::new("-x"), &deb, &tree], dir)?;
    // depmod looks below lib/; newer packages ship usr/lib/ only.
    if !tree.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", tree.join("lib"))
            .map_err(|e| format!("{}: {e}", tree.display()))?;
    }
    let release = release(&tree)?;
    tools::output("depmod", &[Path::new("-b"), &tree, Path::new(&release)], dir)?;
    std::fs::remove_dir_all(&download).map_err(|e| format!("{}: {e}", download.display()))
}

fn release(tree: &Path) -> Result<String, String> {
    let dir = tree.join("lib/modules");
    tools::names(&dir)?.pop().ok_or(format!("{} is empty: the package holds no modules", dir.display()))
}

fn open(dir: &Path, key: String) -> Result<Kernel, String> {
    let tree = dir.join("tree");
    let release = release(&tree)?;
    let image = tree.join(format!("boot/vmlinuz-{release}"));
    let modules = tree.join("lib/modules").join(&release);
    for path in [&image, &modules.join("modules.dep.bin")] {
        if !path.is_file() {
            return Err(format!("{} is missing; remove {} and run again", path.display(), dir.display()));
        }
    }
    Ok(Kernel { release, image, root: tree, modules, key })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_newest_kernel_is_the_first_image_the_metapackage_depends_on() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Conflicts: other\n";
        assert_eq!(super::first_kernel(text).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(super::first_kernel("linux-image-amd64\n"), None);
    }
}
