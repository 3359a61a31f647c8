// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which program the kernel runs for `request_module()`: what kernel.modprobe names.
//!
//! While the switch is on it is addonce-modprobe, which finds what stood there before by a link. Only a modprobe is replaced: an empty
//! name (no autoloading) and anybody else's program stay.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::fatal::Fatal;

/// What the kernel runs: Documentation/admin-guide/sysctl/kernel.rst.
pub const SYSCTL: &str = "/proc/sys/kernel/modprobe";
/// Where it is 1 or 2, LKRG lets the kernel run programs of its own list only.
const LKRG: &str = "/proc/sys/lkrg/umh_validate";

/// The switch. It is off when this is dropped.
#[derive(Debug)]
pub struct Switch {
    /// The file that names what the kernel runs.
    pub sysctl: PathBuf,
    /// What it is to run.
    pub helper: PathBuf,
    /// By this the helper finds what it replaces.
    pub link: PathBuf,
    /// What stood there when it was set. The link may go, with its directory.
    pub before: Option<PathBuf>,
}

impl Switch {
    /// That of the daemon that listens here.
    pub fn beside(socket: &Path) -> Result<Self, Fatal> {
        let program = std::env::current_exe().map_err(Fatal::at("/proc/self/exe"))?;
        let helper = program.with_file_name("addonce-modprobe");
        Ok(Self { sysctl: SYSCTL.into(), helper, link: socket.with_file_name("modprobe"), before: None })
    }

    /// Has the kernel run the helper. The error says why it does not.
    pub fn set(&mut self) -> Result<(), String> {
        let Self { sysctl, helper, link, .. } = &*self;
        if Path::new("/etc/initrd-release").exists() {
            return Err("this is an initramfs, whose programs are gone with it".into());
        }
        if fs::read(LKRG).is_ok_and(|value| value.trim_ascii() != b"0") {
            return Err(format!("{LKRG}: LKRG would let the kernel run no helper of another name"));
        }
        if !is_executable(helper) {
            return Err(format!("{}: it is no program", helper.display()));
        }
        let stands = self.stands().map_err(at(sysctl))?;
        // A daemon that was killed has left it there.
        if stands == *helper {
            self.before = fs::read_link(link).ok();
            return Ok(());
        }
        let is_modprobe = stands.file_name().is_some_and(|name| name == "modprobe")
            && stands.is_absolute()
            && is_executable(&stands);
        // The link would lead to itself.
        if !is_modprobe || stands == *link {
            let stands = stands.display();
            return Err(format!(
                "kernel.modprobe is \"{stands}\", and that is no modprobe: it is left alone"
            ));
        }
        let new = link.with_extension("new");
        let _ = fs::remove_file(&new);
        symlink(&stands, &new).and_then(|()| fs::rename(&new, link)).map_err(at(link))?;
        fs::write(sysctl, helper.as_os_str().as_encoded_bytes()).map_err(at(sysctl))?;
        self.before = Some(stands);
        Ok(())
    }

    fn stands(&self) -> io::Result<PathBuf> {
        let stands = fs::read(&self.sysctl)?;
        Ok(OsStr::from_bytes(stands.strip_suffix(b"\n").unwrap_or(&stands)).into())
    }
}

impl Drop for Switch {
    /// Puts back what stood there, unless somebody else has changed it.
    fn drop(&mut self) {
        if self.stands().is_ok_and(|stands| stands != self.helper) {
            return;
        }
        // The link stays: helpers run that need it.
        let before = self.before.take().unwrap_or_else(|| "/sbin/modprobe".into());
        if let Err(error) = fs::write(&self.sysctl, before.as_os_str().as_encoded_bytes()) {
            log::warn!("{}: {error}: the kernel goes on to run addonce's helper", self.sysctl.display());
        }
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn at(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}
