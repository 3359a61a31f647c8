// SPDX-License-Identifier: MIT OR Apache-2.0
//! One load, performed: a plan goes in, and the kernel's answer, or the [install command's](super::install), comes out.
//!
//! This runs in a process of its own. It takes as long as the module's init or the install command does, and may not end at all.
//! EEXIST is success only where sysfs says that the module is live.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};

use crate::once::{InitState, Plan, Work};
use crate::once::{LoadError, Outcome, Stage};

use super::initstate::initstate;
use super::install::install;
use super::sys::Ctx;

/// The kernel is to decompress the file: include/uapi/linux/module.h, since 5.17.
const MODULE_INIT_COMPRESSED_FILE: libc::c_uint = 4;

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

/// How a module file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

impl Loader for KernelLoader {
    fn load(&self, plan: &Plan) -> Outcome {
        let answer = match &plan.work {
            Work::Insert { file, options, .. } => self.insert(&plan.module, file, options),
            Work::Install { command, .. } => install(&plan.module, command, self.open_files),
            Work::Builtin => Ok(()),
            Work::Missing => Err(MISSING),
        };
        answer.map_or_else(Outcome::Failed, |()| Outcome::Live)
    }
}

impl KernelLoader {
    fn insert(&self, module: &str, path: &Path, options: &CStr) -> Result<(), LoadError> {
        let file = File::open(path).map_err(unreadable)?;
        let answer = match Format::of(&file).map_err(unreadable)? {
            Format::Plain => match finit_module(&file, options, ModuleInitFlags::empty()) {
                Err(Errno::ENOSYS) => init_module(&contents(&file).map_err(unreadable)?, options),
                answer => answer,
            },
            format if self.kernel_unpacks(format) => {
                let flags = ModuleInitFlags::from_bits_retain(MODULE_INIT_COMPRESSED_FILE);
                match finit_module(&file, options, flags) {
                    Err(errno) if is_about_packing(errno) => unpack_and_insert(path, options),
                    answer => answer,
                }
            }
            _ => unpack_and_insert(path, options),
        };
        match answer {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST) if initstate(&self.sysfs, module) == InitState::Live => Ok(()),
            Err(Errno::EPERM) if loading_is_disabled() => Err(refusal(Stage::Disabled, libc::EPERM)),
            Err(Errno::EPERM) => {
                log::warn!("{module}: EPERM: {}", why_not_permitted(module));
                Err(refusal(Stage::Insert, libc::EPERM))
            }
            Err(errno) => Err(refusal(Stage::Insert, errno as i32)),
        }
    }

    /// The kernel knows one format, chosen when it was built: kernel/module/decompress.c.
    fn kernel_unpacks(&self, format: Format) -> bool {
        let Ok(name) = fs::read(self.sysfs.join("module/compression")) else { return false };
        match name.trim_ascii_end() {
            b"gzip" => format == Format::Gzip,
            b"xz" => format == Format::Xz,
            b"zstd" => format == Format::Zstd,
            _ => false,
        }
    }
}

impl Format {
    fn of(file: &File) -> io::Result<Self> {
        let mut magic = [0; 6];
        let length = file.read_at(&mut magic, 0)?;
        Ok(match &magic[..length] {
            [0x1f, 0x8b, ..] => Format::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Format::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
            _ => Format::Plain,
        })
    }
}

/// Whether the kernel may have refused the packing and not the module: its decompressor is older than the packer, was built with
/// less memory, or is not there although sysfs names it (kernel/module/decompress.c). What the module is refused for it is
/// refused for again.
fn is_about_packing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EBADMSG | Errno::EIO | Errno::E2BIG
    )
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

/// libkmod decompresses and calls init_module(2), as modprobe does. No configuration is read (an empty list of places).
fn unpack_and_insert(path: &Path, options: &CStr) -> Result<(), Errno> {
    let file = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let ctx = Ctx::new(c"/nonexistent", Some(&[]))?;
    ctx.module_from_path(&file)?.insert(options)
}

fn contents(mut file: &File) -> io::Result<Vec<u8>> {
    let mut image = Vec::new();
    file.read_to_end(&mut image)?;
    Ok(image)
}

/// A one-way switch: once set, it stays until the next boot.
fn loading_is_disabled() -> bool {
    fs::read("/proc/sys/kernel/modules_disabled").is_ok_and(|value| value.trim_ascii() == b"1")
}

/// Neither a file nor an install command is known.
const MISSING: LoadError = LoadError { errno: libc::ENOENT, stage: Stage::Plan };

fn unreadable(error: io::Error) -> LoadError {
    refusal(Stage::Read, error.raw_os_error().unwrap_or(libc::EIO))
}

fn refusal(stage: Stage, errno: i32) -> LoadError {
    LoadError { errno, stage }
}

impl Loader for DryRun {
    fn load(&self, plan: &Plan) -> Outcome {
        let answer = match &plan.work {
            Work::Insert { file, options, .. } => {
                log::info!("would insert {} {}", file.display(), options.to_string_lossy());
                File::open(file).map(drop).map_err(unreadable)
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
    use super::*;
    use crate::once::Cause;
    use crate::once::Policy;
    use std::sync::Arc;

    fn load(work: Work) -> Outcome {
        let (deps, pre, post) = Default::default();
        let policy = Arc::new(Policy::default());
        let plan = Plan { module: "addonce_test".into(), work, deps, pre, post, cause: Cause(0), policy };
        KernelLoader { sysfs: "/sys".into(), open_files: None }.load(&plan)
    }

    fn insert(file: &Path) -> Outcome {
        load(Work::Insert { file: file.to_owned(), options: CString::default() })
    }

    fn failed(stage: Stage, errno: i32) -> Outcome {
        Outcome::Failed(refusal(stage, errno))
    }

    #[test]
    fn a_file_that_is_not_there_is_no_answer_of_the_kernel() {
        assert_eq!(insert(Path::new("/nonexistent/a.ko")), failed(Stage::Read, libc::ENOENT));
        assert_eq!(load(Work::Missing), failed(Stage::Plan, libc::ENOENT));
    }

    #[test]
    fn what_is_no_module_is_refused_by_the_kernel_whatever_its_format() {
        let directory = tempfile::tempdir().expect("tempdir");
        let file = directory.path().join("addonce_test.ko");
        for image in
            [&b"not a module"[..], b"\x1f\x8b\x08 not gzip", b"\xfd7zXZ\0 not xz", b"\x28\xb5\x2f\xfd no"]
        {
            fs::write(&file, image).expect("write");
            let Outcome::Failed(refusal) = insert(&file) else { panic!("{image:?} is live") };
            assert_eq!((refusal.stage, refusal.errno > 0), (Stage::Insert, true), "{image:?}");
        }
    }

    #[test]
    fn the_format_is_known_by_its_first_bytes() {
        let directory = tempfile::tempdir().expect("tempdir");
        let file = directory.path().join("a.ko");
        let cases = [
            (&b"\x7fELF"[..], Format::Plain),
            (b"\x1f\x8b\x08", Format::Gzip),
            (b"\xfd7zXZ\0\0", Format::Xz),
            (b"\x28\xb5\x2f\xfd\0", Format::Zstd),
            (b"", Format::Plain),
        ];
        for (bytes, format) in cases {
            fs::write(&file, bytes).expect("write");
            assert_eq!(Format::of(&File::open(&file).expect("open")).expect("read"), format);
        }
    }

    #[test]
    fn a_module_that_the_kernel_command_line_blacklists_is_told_from_others() {
        let line = "root=/dev/vda module_blacklist=nouveau,snd_hda_intel quiet";
        assert!(
            is_blacklisted_by_the_kernel(line, "nouveau")
                && is_blacklisted_by_the_kernel(line, "snd_hda_intel")
        );
        assert!(
            !is_blacklisted_by_the_kernel(line, "snd")
                && !is_blacklisted_by_the_kernel("modprobe.blacklist=a", "a")
        );
    }

    #[test]
    fn what_the_kernel_cannot_unpack_is_unpacked_here_and_what_it_refuses_otherwise_is_not_tried_twice() {
        assert!([Errno::EINVAL, Errno::ENOSYS, Errno::EOPNOTSUPP].map(is_about_packing).iter().all(|&is| is));
        assert!(
            ![Errno::EPERM, Errno::ENODEV, Errno::EEXIST, Errno::ENOENT, Errno::ENOEXEC]
                .map(is_about_packing)
                .contains(&true)
        );
    }

    #[test]
    fn the_kernel_is_asked_to_unpack_the_one_format_it_names() {
        let sysfs = tempfile::tempdir().expect("tempdir");
        let loader = KernelLoader { sysfs: sysfs.path().to_owned(), open_files: None };
        assert!(!loader.kernel_unpacks(Format::Xz));
        fs::create_dir(sysfs.path().join("module")).expect("mkdir");
        fs::write(sysfs.path().join("module/compression"), "xz\n").expect("write");
        assert!(loader.kernel_unpacks(Format::Xz) && !loader.kernel_unpacks(Format::Zstd));
    }
}
