// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian packages, downloaded and unpacked; never installed.
//!
//! Owns the questions to apt. It promises errors that say what to do about them, and that an unpacking that was
//! cut short is started anew, because a directory gets its name when it is whole.

use crate::system::System;
use crate::tools;
use std::path::Path;

/// The version apt would install.
pub fn version(system: &System, package: &str) -> Result<String, String> {
    let text = system.apt("apt-cache", &["show", "--no-all-versions", package], Path::new("/"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    version.map(|v| v.trim().to_string()).ok_or(format!("apt-cache shows no version of {package}"))
}

/// What a package depends on, in its order.
pub fn depends(system: &System, package: &str) -> Result<Vec<String>, String> {
    let text = system
        .apt("apt-cache", &["depends", package], Path::new("/"))
        .map_err(|e| format!("no {package} in the package lists; run apt-get update ({e})"))?;
    Ok(parse_depends(&text))
}

fn parse_depends(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(|name| name.trim().into()).collect()
}

/// Unpacks packages over each other into `tree`, an empty directory.
pub fn unpack(system: &System, packages: &[String], tree: &Path) -> Result<(), String> {
    eprintln!("lab: downloading and unpacking {}", packages.join(", "));
    let download = tree.with_extension("download");
    tools::make_dir(&download)?;
    let args = ["--quiet", "download"].into_iter().chain(packages.iter().map(String::as_str));
    system.apt("apt-get", &args.collect::<Vec<_>>(), &download).map_err(|e| {
        let packages = packages.join(", ");
        format!("cannot download {packages}; is the network up, are the lists fresh (apt-get update)? {e}")
    })?;
    for deb in tools::names(&download)?.iter().filter(|name| name.ends_with(".deb")) {
        tools::output("dpkg", &[Path::new("-x"), &download.join(deb), tree], &download)?;
    }
    std::fs::remove_dir_all(&download).map_err(|e| format!("{}: {e}", download.display()))
}

/// Downloads what a tree of this system lacks of these packages and all they depend on, into its /lab/debs.
pub fn download(system: &System, tree: &Path, packages: &[&str]) -> Result<(), String> {
    let debs = tree.join("lab/debs");
    tools::make_dir(&debs.join("partial"))?;
    let status = tree.join("var/lib/dpkg/status");
    let options = [
        format!("Dir::State::status={}", status.display()),
        format!("Dir::Cache::archives={}", debs.display()),
        // The host may be one that keeps none, and removes them afterwards.
        "APT::Keep-Downloaded-Packages=true".into(),
        "APT::Sandbox::User=root".into(),
    ];
    let mut args = vec!["-qq", "-y", "--no-install-recommends", "--download-only"];
    args.extend(options.iter().flat_map(|option| ["-o", option]));
    args.push("install");
    args.extend(packages);
    system.apt("apt-get", &args, tree).map(drop).map_err(|e| {
        format!(
            "cannot download what is missing; is the network up, are the lists fresh (apt-get update)? {e}"
        )
    })
}

/// Makes a directory unless it is there. What `make` puts into the one it is given gets its name at the end.
pub fn once(dir: &Path, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    if dir.is_dir() {
        return Ok(());
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    remove_leftovers(dir, &format!(".{name}."));
    let partial = dir.with_file_name(format!(".{name}.{}", std::process::id()));
    let made = tools::make_dir(&partial).and_then(|()| make(&partial)).and_then(|()| {
        match std::fs::rename(&partial, dir) {
            // Two labs at once: the other one was faster and made the same.
            Err(_) if dir.is_dir() => Ok(()),
            done => {
                done.map_err(|e| format!("cannot rename {} to {}: {e}", partial.display(), dir.display()))
            }
        }
    });
    let _ = std::fs::remove_dir_all(&partial);
    made
}

/// Removes what labs that did not live to rename it have left beside this directory.
fn remove_leftovers(dir: &Path, prefix: &str) {
    for entry in
        dir.parent().and_then(|parent| std::fs::read_dir(parent).ok()).into_iter().flatten().flatten()
    {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn dependencies_are_told_from_other_relations() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Conflicts: other\n";
        assert_eq!(super::parse_depends(text), ["linux-image-6.1.0-56-amd64"]);
        assert!(super::parse_depends("linux-image-amd64\n").is_empty());
    }

    #[test]
    fn what_could_not_be_made_leaves_nothing_behind() {
        let base = std::env::temp_dir().join(format!("lab-once-{}", std::process::id()));
        let dir = base.join("made");
        assert_eq!(super::once(&dir, |_| Err("no".into())), Err("no".into()));
        assert!(std::fs::read_dir(&base).unwrap().next().is_none());
        let own = base.join(format!(".made.{}", std::process::id()));
        // No process has such a number.
        let [dead, other] = ["made.4194305", "more.4194305"].map(|name| base.join(format!(".{name}")));
        for left in [&dead, &other] {
            std::fs::create_dir(left).unwrap();
        }
        assert_eq!(super::once(&dir, |_| Ok(())), Ok(()));
        assert!(!dead.exists() && !own.exists() && other.exists());
        assert_eq!(super::once(&dir, |_| Err("asked twice".into())), Ok(()));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
