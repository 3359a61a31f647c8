// SPDX-License-Identifier: MIT OR Apache-2.0
//! One load, performed: a plan goes in, and the kernel's answer, or that of the [install command](install), comes out.
//!
//! This runs in a process of its own, since it may not end at all. libkmod hands the file over, as it does for modprobe, and unpacks
//! it where the kernel cannot. EEXIST is success only where sysfs says that the module is live; [`what_exists`] tells the rest apart.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::once::{InitState, LoadError, Plan, Stage, Work};

pub use super::sys::refuse_compressed_files;
use super::sys::{Ctx, Module};
use super::tree::initstate;

/// What a supervisor says to the process it started and to no other: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
const MEANT_FOR_US: [&str; 7] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// Performs loads, each in a process of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loader {
    /// Load nothing: say what would be done, and that it went well, unless there is nothing to insert.
    pub dry_run: bool,
    /// How many files install commands may open, where that is another number than ours: the soft RLIMIT_NOFILE.
    pub open_files: Option<u64>,
}

impl Loader {
    /// Performs one load: the module alone, its dependencies are loads of their own.
    pub fn load(&self, plan: &Plan) -> Result<(), LoadError> {
        let module = &plan.module;
        match &plan.work {
            Work::Insert { file, options } => {
                // libkmod's errno does not say whether the file or the kernel was in the way.
                let unreadable = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
                File::open(file)
                    .map_err(|error| LoadError { errno: unreadable(error), stage: Stage::Read })?;
                if self.dry_run {
                    log::info!("would insert {} {}", file.display(), options.to_string_lossy());
                    return Ok(());
                }
                insert(module, file, options)
            }
            Work::Install { command, .. } if self.dry_run => {
                log::info!("would run, for {module}: {}", command.to_string_lossy());
                Ok(())
            }
            Work::Install { command, .. } => install(module, command, self.open_files),
            Work::Builtin => Ok(()),
            Work::Missing => Err(LoadError { errno: libc::ENOENT, stage: Stage::Plan }),
        }
    }
}

fn insert(module: &str, file: &Path, options: &CStr) -> Result<(), LoadError> {
    let insert = || by_libkmod(file, |module| module.insert(options));
    let mut inserted = insert();
    // What the kernel unpacks is less than what libkmod does (of xz no CRC64, no large dictionary), and nobody says whether it
    // was that. kmod 30 unpacks everything itself and then hears the same answer again.
    let is_the_kernels_to_unpack =
        || file.extension().is_some_and(|end| end != "ko") && Path::new("/sys/module/compression").exists();
    if matches!(inserted, Err(Errno::EINVAL | Errno::EOPNOTSUPP)) && is_the_kernels_to_unpack() {
        log::debug!("{module}: the kernel refuses {}: unpacking it here", file.display());
        match refuse_compressed_files(Errno::ENOSYS) {
            Ok(()) => inserted = insert(),
            Err(errno) => log::debug!("{module}: no filter of system calls: {errno}"),
        }
    }
    let errno = match inserted {
        Ok(()) => return Ok(()),
        Err(Errno::EEXIST) if initstate(Path::new("/sys"), module) == InitState::Live => return Ok(()),
        Err(errno) => errno,
    };
    if errno == Errno::EPERM {
        // A one-way switch: once set, it stays until the next boot.
        if fs::read("/proc/sys/kernel/modules_disabled").is_ok_and(|value| value.trim_ascii() == b"1") {
            return Err(LoadError::DISABLED);
        }
    }
    // libkmod, too, says EINVAL: of an empty file, and of one that it cannot decompress.
    let is_unreadable = || by_libkmod(file, |module| module.name_inside().ok_or(Errno::ENOENT)).is_err();
    let stage = match errno {
        Errno::EEXIST => what_exists(module, file),
        Errno::EINVAL if is_unreadable() => Stage::Read,
        _ => Stage::Insert,
    };
    Err(LoadError { errno: errno as i32, stage })
}

/// No configuration is read (an empty list of places): the options are known.
fn by_libkmod<T>(file: &Path, f: impl FnOnce(&Module<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
    let ctx = Ctx::new(Path::new("/nonexistent"), Some(&[]))?;
    f(&ctx.module_from_path(file)?)
}

/// Who said EEXIST where no module of this name is live: the kernel, if the file holds one of another name, which is, or somebody
/// else has just begun with it; or else the module's init function, as those of cpufreq drivers do where there is a driver. modprobe
/// takes either for a success.
fn what_exists(module: &str, file: &Path) -> Stage {
    let state = |name: &str| initstate(Path::new("/sys"), name);
    let inside = by_libkmod(file, |module| module.name_inside().ok_or(Errno::ENOENT));
    let is_there = state(module) != InitState::Absent
        || inside.is_ok_and(|inside| *inside != *module && state(&inside) == InitState::Live);
    if is_there { Stage::Insert } else { Stage::Init }
}

/// The likely cause of an EPERM of finit_module(2), other than kernel.modules_disabled: `load_module()` and
/// `may_init_module()` in kernel/module/main.c, and lockdown.
pub fn why_not_permitted(module: &str) -> String {
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
pub fn is_blacklisted_by_the_kernel(command_line: &str, module: &str) -> bool {
    let lists = command_line.split_whitespace().filter_map(|word| word.strip_prefix("module_blacklist="));
    lists.flat_map(|list| list.split(',')).any(|name| name == module)
}

/// Runs a module's install command as modprobe runs it: by the shell, with the module's name in the environment. It cannot tell a
/// daemon from modprobe: no signal is blocked or ignored (std sees to both), none of our descriptors is there, a supervisor's words
/// to us are not in the environment, and it may open as many files as whoever started us.
///
/// Exit status 0 is a success, whatever was loaded. Where that is no module of this name (`install usb_storage /bin/true`), nothing says
/// later whether there is anything to do: EEXIST tells it as a file with a module of another name, for which devices may ask again.
/// Unlike kmod 30, a command that was killed has failed.
fn install(module: &str, command: &CStr, open_files: Option<u64>) -> Result<(), LoadError> {
    // This process does nothing else. Where the limit cannot be put back the command has a higher one.
    if let (Some(number), Ok((_, hard))) = (open_files, getrlimit(Resource::RLIMIT_NOFILE)) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, number.min(hard), hard);
    }
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(OsStr::from_bytes(command.to_bytes()));
    for name in MEANT_FOR_US {
        shell.env_remove(name);
    }
    shell.env("MODPROBE_MODULE", module).stdin(Stdio::null());
    let status = shell.status().map_err(|error| {
        log::error!("{module}: /bin/sh cannot be run for its install command: {error}");
        LoadError { errno: error.raw_os_error().unwrap_or(libc::EIO), stage: Stage::Install(127) }
    })?;
    match status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) {
        0 if initstate(Path::new("/sys"), module) != InitState::Absent => Ok(()),
        0 => Err(LoadError { errno: libc::EEXIST, stage: Stage::Insert }),
        code => Err(LoadError { errno: libc::EINVAL, stage: Stage::Install(code) }),
    }
}
