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
