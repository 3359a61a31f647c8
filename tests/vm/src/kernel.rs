// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's kernel: the newest one the distribution offers, unpacked, neither installed nor booted here.
//!
//! Owns `kernels/PACKAGE_VERSION/` in the lab's directory. It promises a kernel image and a module tree with
//! fresh indexes, downloaded once per version; a download or unpacking that was cut short is started anew,
//! because the directory gets its name last. One download of some 70 MB and 400 MB on disk per version.

use crate::system::System;
use crate::{package, tools};
use std::path::{Path, PathBuf};

/// The metapackage whose dependency is the newest kernel.
const METAPACKAGE: &str = "linux-image-amd64";

#[derive(Debug)]
pub struct Kernel {
    /// Whose kernel it is, and what goes with it.
    pub system: System,
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

pub fn obtain(system: System) -> Result<Kernel, String> {
    let package = newest(&system)?;
    let key = format!("{package}_{}", package::version(&system, &package)?.replace(':', "%3a"));
    let dir = tools::lab_dir()?.join("kernels").join(&key);
    package::once(&dir, |partial| unpack(&system, &package, partial))?;
    open(system, &dir, key)
}

fn newest(system: &System) -> Result<String, String> {
    let depends = package::depends(system, METAPACKAGE)?;
    let first = depends.into_iter().find(|name| name.starts_with("linux-image-"));
    first.ok_or(format!("apt-cache names no kernel that {METAPACKAGE} depends on; run apt-get update"))
}

fn unpack(system: &System, package: &str, dir: &Path) -> Result<(), String> {
    let tree = dir.join("tree");
    tools::make_dir(&tree)?;
    // Since 7.0 Debian has the image, the modules and what is built in in packages of their own.
    let parts = ["linux-base-", "linux-binary-", "linux-modules-"];
    let mut packages = package::depends(system, package)?;
    packages.retain(|name| parts.iter().any(|part| name.starts_with(part)));
    packages.push(package.into());
    package::unpack(system, &packages, &tree)?;
    // depmod looks below lib/; newer packages ship usr/lib/ only.
    if !tree.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", tree.join("lib"))
            .map_err(|e| format!("{}: {e}", tree.display()))?;
    }
    let release = release(&tree)?;
    tools::output("depmod", &[Path::new("-b"), &tree, Path::new(&release)], dir)?;
    Ok(())
}

fn release(tree: &Path) -> Result<String, String> {
    let dir = tree.join("lib/modules");
    tools::names(&dir)?.pop().ok_or(format!("{} is empty: the package holds no modules", dir.display()))
}

fn open(system: System, dir: &Path, key: String) -> Result<Kernel, String> {
    let tree = dir.join("tree");
    let release = release(&tree)?;
    let modules = tree.join("lib/modules").join(&release);
    // Since 7.0 it is beside the modules.
    let images = [tree.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images.iter().find(|path| path.is_file()).unwrap_or(&images[0]).clone();
    for path in [&image, &modules.join("modules.dep.bin"), &modules.join("modules.order")] {
        if !path.is_file() {
            return Err(format!("{} is missing; remove {} and run again", path.display(), dir.display()));
        }
    }
    Ok(Kernel { system, release, image, root: tree, modules, key })
}
