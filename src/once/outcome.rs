// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of one load.
//!
//! A module that fails to load is an [`Outcome`], never an error of addonce's: those are [`Fatal`](crate::fatal::Fatal).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::modules::Name;

/// What the kernel (or the install command) said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The module is live.
    Live,
    /// The module is not, and this is why.
    Failed(LoadError),
}

/// A failed outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadError {
    /// The errno, positive, as finit_module(2) or open(2) set it.
    pub errno: i32,
    /// Where it failed.
    pub stage: Stage,
}

/// The stage at which a load failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// No file and no install command is known for the module.
    Plan,
    /// The named dependency failed; the errno is the dependency's.
    Dependency(Name),
    /// The module file could not be opened, read or decompressed.
    Read,
    /// The kernel refused it: at linking, at verification, or the module's own init function did.
    Insert,
    /// The module's init function refused, with EEXIST: another driver has what it wants. Of other errnos nobody can tell.
    Init,
    /// The install command of modprobe.d exited with this status (128 + signal if it was killed).
    Install(i32),
    /// The process that performed the load ended without a report, by this signal (0: by none). EINTR where somebody killed it,
    /// EFAULT where the kernel did: a driver that oopses takes the process along.
    Died(i32),
    /// `kernel.modules_disabled` is 1: no load can succeed until the next boot.
    Disabled,
}

impl Stage {
    /// One word for listings and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Stage::Plan => "plan",
            Stage::Dependency(_) => "dependency",
            Stage::Read => "read",
            Stage::Insert => "insert",
            Stage::Init => "init",
            Stage::Install(_) => "install",
            Stage::Died(_) => "died",
            Stage::Disabled => "disabled",
        }
    }
}

impl LoadError {
    /// What every load is answered once `kernel.modules_disabled` was found to be 1.
    pub const DISABLED: Self = Self { errno: libc::EPERM, stage: Stage::Disabled };

    /// Whether the same attempt may succeed a moment later without anybody having done anything: another load of
    /// the name was just failing or going (EEXIST without being live, EBUSY), or the kernel was short of
    /// something (EINTR, EAGAIN, ENOMEM). kernel/module/main.c: `module_patient_check_exists()`.
    pub fn is_transient(&self) -> bool {
        matches!(self.stage, Stage::Insert | Stage::Died(_))
            && matches!(self.errno, libc::EEXIST | libc::EBUSY | libc::EINTR | libc::EAGAIN | libc::ENOMEM)
    }

    /// Whether the kernel was short of something: that passes, so it is tried again without anybody asking.
    pub fn is_shortage(&self) -> bool {
        self.stage != Stage::Disabled && matches!(self.errno, libc::EAGAIN | libc::ENOMEM)
    }

    /// The dependency that failed first, if that is why.
    pub fn dependency(&self) -> Option<&Name> {
        if let Stage::Dependency(name) = &self.stage { Some(name) } else { None }
    }

    /// What it means for a module that depends on the one that failed: the module at the root is named, however long the chain.
    pub fn of_dependency(self, dependency: &Name) -> Self {
        match self.stage {
            Stage::Dependency(_) | Stage::Disabled => self,
            _ => Self { errno: self.errno, stage: Stage::Dependency(dependency.clone()) },
        }
    }
}

/// The name of an errno, as in errno(3); the number where there is no name.
pub fn errno_name(errno: i32) -> String {
    match nix::errno::Errno::from_raw(errno) {
        nix::errno::Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, words) = (errno_name(self.errno), nix::errno::Errno::from_raw(self.errno).desc());
        match &self.stage {
            Stage::Plan => write!(f, "no file is known for it ({name})"),
            Stage::Dependency(dependency) => {
                write!(f, "its dependency {dependency} failed: {words} ({name})")
            }
            Stage::Read => write!(f, "its file cannot be read: {words} ({name})"),
            Stage::Insert | Stage::Init => write!(f, "{words} ({name})"),
            Stage::Install(status) => write!(f, "its install command exited with status {status}"),
            Stage::Died(signal) => {
                write!(f, "the process that loaded it died (signal {signal}): see dmesg ({name})")
            }
            Stage::Disabled => {
                f.write_str("kernel.modules_disabled is 1: nothing can be loaded until the next boot")
            }
        }
    }
}

/// The one record published when a load ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddOnce {
    /// The module.
    pub module: Name,
    /// What became of it.
    pub outcome: Outcome,
    /// What the first request asked for: a modalias, or a name where a client or a dependent asked by name.
    pub alias: Box<[u8]>,
    /// The device of the first request, where a device asked.
    pub devpath: Option<Box<[u8]>>,
    /// Sequence numbers of the first and the last uevent that asked before it ended; 0 where none did.
    pub seqnums: (u64, u64),
    /// How many requests got this outcome.
    pub asked: u64,
    /// Of these, the kernel's own.
    pub by_kernel: u64,
    /// From the first request to the start of the load.
    pub waited: Duration,
    /// From the start of the load to its end; zero where nothing was attempted.
    pub load: Duration,
    /// The module that needed this one, where no request named it.
    pub pulled_in_by: Option<Name>,
    /// It failed as before, and nobody but the kernel had asked. That may be once for each of its requests.
    pub is_again: bool,
}
