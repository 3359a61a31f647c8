// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own test of request_module(): test_kmod.ko, which asks as often at once as it is told, test_module.ko, which it asks
//! for, and kmod.sh, which tells it.
//!
//! Owns `selftest/` in the lab's directory. It promises the sources of the guest's kernel, unchanged, from the
//! distribution's linux-source package, built once per kernel as fixtures are. Some 140 MB of download; nothing of it is
//! kept but three files.

use crate::kernel::Kernel;
use crate::{fixtures, package, tools};
use std::path::PathBuf;

#[derive(Debug)]
pub struct Selftest {
    pub modules: Vec<PathBuf>,
    pub script: PathBuf,
}

const FILES: [&str; 3] = ["lib/test_kmod.c", "lib/test_module.c", "tools/testing/selftests/kmod/kmod.sh"];

pub fn obtain(kernel: &Kernel) -> Result<Selftest, String> {
    let dir = tools::lab_dir()?.join("selftest").join(&kernel.key);
    package::once(&dir, |partial| {
        let package = format!("linux-source-{}", series(&kernel.release)?);
        let tree = partial.join("tree");
        package::unpack(&kernel.system, std::slice::from_ref(&package), &tree)?;
        let archive = tree.join("usr/src").join(format!("{package}.tar.xz"));
        let members = FILES.map(|file| format!("{package}/{file}"));
        let mut args = vec!["-xJf".into(), archive.display().to_string(), "--occurrence=1".into()];
        args.extend(["--transform=s,.*/,,".into(), "-C".into(), partial.display().to_string()]);
        args.extend(members);
        tools::output("tar", &args, partial)?;
        std::fs::remove_dir_all(&tree).map_err(|e| format!("{}: {e}", tree.display()))?;
        tools::write(&partial.join("Kbuild"), "obj-m := test_kmod.o test_module.o\n")?;
        fixtures::build(&kernel.system, &fixtures::headers(kernel)?, &[partial.to_owned()])
    })?;
    Ok(Selftest { modules: fixtures::modules(&dir)?, script: dir.join("kmod.sh") })
}

/// `6.1` of `6.1.0-56-amd64`.
fn series(release: &str) -> Result<&str, String> {
    let end = release.match_indices('.').nth(1).map(|(at, _)| at);
    end.map(|end| &release[..end]).ok_or(format!("{release}: of which series is this kernel?"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_kernel_is_of_a_series() {
        assert_eq!(super::series("6.12.94+deb13-amd64"), Ok("6.12"));
        assert!(super::series("6").is_err());
    }
}
