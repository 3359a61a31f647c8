// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's initramfs: user space, modules and scenario, three archives end to end.
//!
//! Owns `modules-*.cpio.zst` (cached per kernel) and `runs/*/initramfs.zst`. It promises complete module
//! indexes, so that every lookup in the guest resolves as on an installed system, and, since the tree itself
//! leaves out hardware no emulated PC has, that a run which asked for a left-out module is an error and not a
//! wrong figure. A bare scenario has its own modules alone, in tree and indexes.

use crate::cpio::Archive;
use crate::kernel::Kernel;
use crate::scenario::Scenario;
use crate::{fixtures, host, selftest, tools};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Big subtrees no guest of the lab has a device for: half of the tree, and under emulation every start of a
/// guest would spend seconds on unpacking them.
const LEFT_OUT: [&str; 19] = [
    "kernel/drivers/comedi",
    "kernel/drivers/gpu/drm/amd",
    "kernel/drivers/gpu/drm/i915",
    "kernel/drivers/gpu/drm/nouveau",
    "kernel/drivers/gpu/drm/radeon",
    "kernel/drivers/iio",
    "kernel/drivers/infiniband",
    "kernel/drivers/media",
    "kernel/drivers/net/ethernet/broadcom",
    "kernel/drivers/net/ethernet/cavium",
    "kernel/drivers/net/ethernet/chelsio",
    "kernel/drivers/net/ethernet/mellanox",
    "kernel/drivers/net/ethernet/netronome",
    "kernel/drivers/net/ethernet/qlogic",
    "kernel/drivers/net/wireless",
    "kernel/drivers/staging",
    "kernel/sound/pci",
    "kernel/sound/soc",
    "kernel/sound/usb",
];

#[derive(Debug)]
pub struct Image {
    pub path: PathBuf,
    /// With the root file system, which the initramfs then mounts.
    pub disk: Option<PathBuf>,
    pub left_out: Vec<String>,
}

/// The directory of one scenario's files: image, console log, raw result.
pub fn run_dir(name: &str) -> Result<PathBuf, String> {
    let dir = tools::lab_dir()?.join("runs").join(name);
    tools::make_dir(&dir)?;
    Ok(dir)
}

pub fn build(kernel: &Kernel, scenario: &Scenario, addonce: Option<&Path>) -> Result<Image, String> {
    if scenario.needs_addonce && addonce.is_none() {
        return Err(format!("scenario {} needs --addonce BINARY (cargo build makes one)", scenario.name));
    }
    if scenario.needs_order && scenario.order.is_empty() {
        return Err(format!("scenario {} needs --after RESULT.json, a result of stock's", scenario.name));
    }
    let dir = run_dir(&format!("image-{}", scenario.name))?;
    let overlay = dir.join("scenario.cpio.zst");
    write_overlay(&overlay, kernel, scenario, addonce)?;
    let path = dir.join("initramfs.zst");
    let mut parts = vec![host::archive(&kernel.system)?, overlay];
    if !scenario.bare {
        parts.insert(1, modules(kernel)?);
    }
    join(&parts, &path)?;
    let left_out =
        if scenario.bare { vec!["/kernel/".into()] } else { LEFT_OUT.map(|s| format!("/{s}/")).to_vec() };
    Ok(Image { path, disk: None, left_out })
}

impl Image {
    /// Fails if the guest opened a module file that the image left out.
    pub fn must_hold(&self, opened: &BTreeSet<String>) -> Result<(), String> {
        let missed = opened.iter().find(|path| self.left_out.iter().any(|dir| path.contains(dir.as_str())));
        match missed {
            Some(path) => Err(format!(
                "the guest asked for {path}, which the image leaves out; see LEFT_OUT in image.rs"
            )),
            None => Ok(()),
        }
    }
}

fn modules(kernel: &Kernel) -> Result<PathBuf, String> {
    // What is left out is part of the name: changing the list makes another archive.
    let list = host::fingerprint(LEFT_OUT.join(" "));
    let path = tools::lab_dir()?.join(format!("modules-{}-{list:016x}.cpio.zst", kernel.key));
    if !path.is_file() {
        eprintln!("lab: packing the modules of {}", kernel.release);
        let root = modules_in_guest(kernel);
        let left_out = LEFT_OUT.map(|dir| format!("{root}/{dir}"));
        let mut archive = Archive::create(&path)?;
        archive.tree(&root, &kernel.modules, &|name| !left_out.iter().any(|dir| dir == name))?;
        archive.finish()?;
    }
    Ok(path)
}

fn modules_in_guest(kernel: &Kernel) -> String {
    format!("usr/lib/modules/{}", kernel.release)
}

fn write_overlay(
    path: &Path,
    kernel: &Kernel,
    scenario: &Scenario,
    addonce: Option<&Path>,
) -> Result<(), String> {
    let mut archive = Archive::create(path)?;
    archive.bytes("init", 0o755, include_bytes!("../guest/init"))?;
    archive.bytes("lab/measure.sh", 0o644, include_bytes!("../guest/measure.sh"))?;
    archive.bytes("lab/words.sh", 0o644, include_bytes!("../guest/words.sh"))?;
    archive.file("lab/run.sh", &scenario.script())?;
    if scenario.needs_order {
        archive.bytes("lab/order", 0o644, format!("{}\n", scenario.order.join("\n")).as_bytes())?;
    }
    for name in &scenario.programs {
        let program = kernel.system.find(name)?;
        archive.file(&format!("usr/bin/{name}"), &program)?;
        for library in kernel.system.libraries(&program)? {
            archive.file(&kernel.system.in_guest(&library), &library)?;
        }
    }
    if let Some(root) = scenario.root() {
        archive.tree("", &root, &|_| true)?;
    }
    let mut own = Vec::new();
    if scenario.needs_fixtures {
        let fixtures = fixtures::obtain(kernel)?;
        for module in &fixtures.rebuilt {
            archive.file(&format!("lab/rebuilt/{}", file_name(module)?), module)?;
        }
        own.extend(fixtures.modules);
    }
    if scenario.needs_selftest {
        let selftest = selftest::obtain(kernel)?;
        archive.file("lab/kmod.sh", &selftest.script)?;
        own.extend(selftest.modules);
    }
    if !own.is_empty() || scenario.bare {
        add_modules(&mut archive, kernel, &own, scenario.bare)?;
    }
    if let Some(binary) = addonce.filter(|_| scenario.needs_addonce) {
        archive.file("usr/bin/addonce", binary)?;
        for library in kernel.system.libraries(binary)? {
            archive.file(&kernel.system.in_guest(&library), &library)?;
        }
        if scenario.needs_selftest {
            archive.file("usr/bin/addonce-modprobe", &binary.with_file_name("addonce-modprobe"))?;
        }
        if scenario.needs_rules {
            archive.file("usr/bin/addonce-load", &binary.with_file_name("addonce-load"))?;
            let rules = include_str!("../../../rules.d/80-drivers.rules.in").replace("@BINDIR@", "/usr/bin");
            archive.bytes("etc/udev/rules.d/80-drivers.rules", 0o644, rules.as_bytes())?;
        }
    }
    archive.finish()
}

fn file_name(path: &Path) -> Result<&str, String> {
    path.file_name().and_then(|name| name.to_str()).ok_or(format!("{}: no name", path.display()))
}

/// What depmod is told by the kernel's build: the rest of a tree's top directory is depmod's work.
const BY_THE_BUILD: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// Adds modules and the indexes of the tree they make it, from a depmod over the whole: over the kernel's own modules
/// and these, or over these alone.
fn add_modules(archive: &mut Archive, kernel: &Kernel, own: &[PathBuf], alone: bool) -> Result<(), String> {
    let base = tools::lab_dir()?.join(format!("depmod.{}", std::process::id()));
    let tree = base.join("lib/modules").join(&kernel.release);
    let made = (|| {
        tools::make_dir(&tree.join("extra"))?;
        for name in tools::names(&kernel.modules)? {
            let (from, to) = (kernel.modules.join(&name), tree.join(&name));
            if alone && !BY_THE_BUILD.contains(&name.as_str()) {
                continue;
            } else if from.is_dir() {
                std::os::unix::fs::symlink(&from, &to).map_err(|e| format!("{}: {e}", to.display()))?;
            } else {
                tools::write(&to, tools::read(&from)?)?;
            }
        }
        for module in own {
            tools::write(&tree.join("extra").join(file_name(module)?), tools::read(module)?)?;
        }
        tools::output("depmod", &[Path::new("-b"), &base, Path::new(&kernel.release)], &base)?;
        archive.tree(&modules_in_guest(kernel), &tree, &|name| !name.ends_with("/kernel"))
    })();
    let _ = std::fs::remove_dir_all(&base);
    made
}

/// Archives end to end. The image gets its name when it is whole: a guest that starts meanwhile reads the old one or the
/// new one.
pub fn join(parts: &[PathBuf], path: &Path) -> Result<(), String> {
    let partial = path.with_extension(format!("partial.{}", std::process::id()));
    let cannot = |e| format!("cannot write {}: {e}", path.display());
    let mut out = File::create(&partial).map_err(cannot)?;
    for part in parts {
        let mut from = File::open(part).map_err(|e| format!("cannot read {}: {e}", part.display()))?;
        std::io::copy(&mut from, &mut out).map_err(cannot)?;
    }
    std::fs::rename(&partial, path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_asked_for_a_left_out_module_is_an_error_that_names_it() {
        let image = Image { path: PathBuf::new(), disk: None, left_out: vec!["/kernel/sound/".into()] };
        let opened = |path: &str| BTreeSet::from([format!("/lib/modules/6.1/kernel/{path}")]);
        assert_eq!(image.must_hold(&opened("drivers/acpi/nfit/nfit.ko")), Ok(()));
        assert!(image.must_hold(&opened("sound/soundcore.ko")).unwrap_err().contains("soundcore.ko"));
    }
}
