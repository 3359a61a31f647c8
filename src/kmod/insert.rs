// SPDX-License-Identifier: MIT OR Apache-2.0
//! One load, performed: a plan goes in, and the kernel's answer, or the [install command's](super::install), comes out.
//!
//! This runs in a process of its own. It takes as long as the module's init or the install command does, and may not end at all.
//! libkmod hands the file over, as it does for modprobe, so that what modprobe can unpack we can. EEXIST is success only where
//! sysfs says that the module is live.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::once::{InitState, LoadError, Outcome, Plan, Stage, Work};

use super::initstate::initstate;
use super::install::install;
use super::sys::Ctx;

/// Performs loads, each in a process of its own.
pub trait Loader {
    /// Performs one load: the module alone, its dependencies are loads of their own.
    fn load(&self, plan: &Plan) -> Outcome;
}

/// Loads into the running kernel.
#[derive(Clone, Debug)]
pub struct KernelLoader {
    /// Where sysfs is.
    pub sysfs: PathBuf,
    /// How many files install commands may open, where that is another number than ours: the soft RLIMIT_NOFILE.
    pub open_files: Option<u64>,
}

/// Says what it would do, and that it went well, unless there is nothing to insert: no file, or one that cannot be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct DryRun;

impl Loader for KernelLoader {
    fn load(&self, plan: &Plan) -> Outcome {
        let answer = match &plan.work {
            Work::Insert { file, options } => self.insert(&plan.module, file, options),
            Work::Install { command, .. } => install(&plan.module, command, self.open_files),
            Work::Builtin => Ok(()),
            Work::Missing => Err(MISSING),
        };
        answer.map_or_else(Outcome::Failed, |()| Outcome::Live)
    }
}

impl KernelLoader {
    fn insert(&self, module: &str, file: &Path, options: &CStr) -> Result<(), LoadError> {
        check_readable(file)?;
        match insert(file, options) {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) if initstate(&self.sysfs, module) == InitState::Live => Ok(()),
            Err(Errno::EPERM) if loading_is_disabled() => Err(LoadError::DISABLED),
            Err(Errno::EPERM) => {
                log::warn!("{module}: EPERM: {}", why_not_permitted(module));
                Err(LoadError { errno: libc::EPERM, stage: Stage::Insert })
            }
            Err(errno) => Err(LoadError { errno: errno as i32, stage: Stage::Insert }),
        }
    }
}

/// No configuration is read (an empty list of places): the options are known.
fn insert(file: &Path, options: &CStr) -> Result<(), Errno> {
    let file = CString::new(file.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let ctx = Ctx::new(c"/nonexistent", Some(&[]))?;
    ctx.module_from_path(&file)?.insert(options)
}

/// libkmod's errno does not say whether the file or the kernel was in the way.
fn check_readable(file: &Path) -> Result<(), LoadError> {
    let unreadable = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    File::open(file).map(drop).map_err(|error| LoadError { errno: unreadable(error), stage: Stage::Read })
}

/// The likely cause of an EPERM of finit_module(2), other than kernel.modules_disabled: `load_module()` and
/// `may_init_module()` in kernel/module/main.c, and lockdown.
fn why_not_permitted(module: &str) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    if is_blacklisted_by_the_kernel(&read("/proc/cmdline"), module) {
        return format!("module_blacklist= on the kernel command line names {module}");
    }
    // `none [integrity] confidentiality`
    let lockdown = read("/sys/kernel/security/lockdown");
    let mode = lockdown.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(mode, _)| mode);
    if let Some(mode) = mode.filter(|mode| *mode != "none") {
        return format!("the kernel is locked down ({mode}), and the module is not signed");
    }
    "no CAP_SYS_MODULE, or a security module (SELinux, AppArmor, seccomp) forbids it".into()
}

/// The kernel compares the words of `module_blacklist=` with the name in the file, where dashes are underscores.
fn is_blacklisted_by_the_kernel(command_line: &str, module: &str) -> bool {
    let lists = command_line.split_whitespace().filter_map(|word| word.strip_prefix("module_blacklist="));
    lists.flat_map(|list| list.split(',')).any(|name| name == module)
}

/// A one-way switch: once set, it stays until the next boot.
fn loading_is_disabled() -> bool {
    fs::read("/proc/sys/kernel/modules_disabled").is_ok_and(|value| value.trim_ascii() == b"1")
}

/// Neither a file nor an install command is known.
const MISSING: LoadError = LoadError { errno: libc::ENOENT, stage: Stage::Plan };

impl Loader for DryRun {
    fn load(&self, plan: &Plan) -> Outcome {
        let answer = match &plan.work {
            Work::Insert { file, options } => {
                log::info!("would insert {} {}", file.display(), options.to_string_lossy());
                check_readable(file)
            }
            Work::Install { command, .. } => {
                log::info!("would run, for {}: {}", plan.module, command.to_string_lossy());
                Ok(())
            }
            Work::Builtin => Ok(()),
            Work::Missing => Err(MISSING),
        };
        answer.map_or_else(Outcome::Failed, |()| Outcome::Live)
    }
}

#[cfg(test)]
mod tests {
    use super::is_blacklisted_by_the_kernel as is_blacklisted;

    #[test]
    fn a_module_that_the_kernel_command_line_blacklists_is_told_from_others() {
        let line = "root=/dev/vda module_blacklist=nouveau,snd_hda_intel quiet";
        assert!(is_blacklisted(line, "nouveau") && is_blacklisted(line, "snd_hda_intel"));
        assert!(!is_blacklisted(line, "snd") && !is_blacklisted("modprobe.blacklist=a", "a"));
    }
}
