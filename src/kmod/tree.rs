// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose modules are meant, and whose kernel: by default this machine's; any other tree serves `explain`, `--dry-run` and the tests
//! as well. One that has not been through depmod has nothing to resolve.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use nix::sys::utsname::uname;

use crate::once::InitState;

use super::stamp::Stamp;
use super::sys::Ctx;

/// This machine's sysfs.
const SYSFS: &str = "/sys";

/// The directories that libkmod reads when it is told none, in its order (`default_config_paths` of
/// libkmod.c, seen with strace in kmod 30), and the one that later versions add in the place before the last.
pub const MODPROBE_D: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// Which module tree is meant: this machine's, but for what is given.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The directory that holds one directory of modules per kernel version.
    #[arg(long, value_name = "DIR", default_value = "/lib/modules")]
    pub modules_dir: PathBuf,
    /// The kernel version whose modules are meant [default: the running kernel's].
    #[arg(long, value_name = "VERSION", default_value_t = running_kernel(), hide_default_value = true)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub kernel: String,
    /// Where sysfs is.
    #[arg(long, value_name = "DIR", default_value = SYSFS)]
    pub sysfs: PathBuf,
    /// Read modprobe.d files from here instead of from /etc/modprobe.d and so on; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub config: Vec<PathBuf>,
}

impl Tree {
    /// Whether sysfs is this machine's.
    pub fn is_this_machine(&self) -> bool {
        self.sysfs == Path::new(SYSFS)
    }

    /// The directory of this kernel's modules and indexes.
    pub fn directory(&self) -> PathBuf {
        self.modules_dir.join(&self.kernel)
    }

    /// The places where configuration may be, existing or not.
    pub fn config_places(&self) -> Vec<PathBuf> {
        match self.config.is_empty() {
            true => MODPROBE_D.map(PathBuf::from).into(),
            false => self.config.clone(),
        }
    }

    /// The stamp of everything that answers about this tree are made from, as it is now.
    pub fn stamp(&self) -> Stamp {
        Stamp::take(&self.directory(), &self.config_places())
    }

    /// A path below /sys, seen below this tree's sysfs; other paths stay as they are.
    pub fn in_sysfs(&self, path: &Path) -> PathBuf {
        path.strip_prefix(SYSFS).map_or_else(|_| path.to_owned(), |rest| self.sysfs.join(rest))
    }

    /// A libkmod context over this tree, its indexes mapped. It may have none: in a running daemon they may come later.
    pub(super) fn context(&self) -> Result<Ctx, String> {
        let directory = self.directory();
        let config = Some(&*self.config).filter(|config| !config.is_empty());
        let ctx = Ctx::new(&directory, config)
            .map_err(|errno| format!("{}: libkmod cannot be used: {}", directory.display(), errno.desc()))?;
        // Not mapped means that libkmod opens them when it needs them: slower, same answers.
        if let Err(errno) = ctx.load_resources() {
            log::debug!("{}: the indexes are not mapped: {}", directory.display(), errno.desc());
        }
        Ok(ctx)
    }
}

fn running_kernel() -> String {
    uname().expect("uname(2) has no reason to fail").release().to_string_lossy().into_owned()
}

/// What the kernel says of a module, in `module/NAME/initstate` below sysfs. One that is coming may still fail, and only `live`
/// means that it can be used (kernel/module/main.c, `show_initstate()`).
///
/// A directory without the file is [`InitState::Coming`]: the kernel makes the directory first. Builtin modules have
/// such a directory as well, but they are told apart by modules.builtin before anybody asks here. A read that fails
/// (ENODEV: the module went while it was read) means that it is gone.
pub fn initstate(sysfs: &Path, module: &str) -> InitState {
    let directory = sysfs.join("module").join(module);
    match fs::read(directory.join("initstate")) {
        Ok(state) => match state.trim_ascii_end() {
            b"live" => InitState::Live,
            b"coming" => InitState::Coming,
            b"going" => InitState::Going,
            _ => InitState::Absent,
        },
        Err(error) if error.kind() == ErrorKind::NotFound && directory.is_dir() => InitState::Coming,
        Err(_) => InitState::Absent,
    }
}
