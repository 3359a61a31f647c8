// SPDX-License-Identifier: MIT OR Apache-2.0
//! # World: what the once core asks of the rooms around it
//!
//! The core decides; it never looks. Everything it wants to know of modules it asks through the trait
//! [`Modules`], and everything it learns comes back as the plain, owned values of this file. The real side is
//! `kmod::Resolver` (libkmod, hwdb, sysfs); tests and replays use the declarative [`super::fake::FakeModules`].
//!
//! Two promises bind an implementation: it answers from what is true now (the core keeps the memo, and calls
//! [`Modules::refresh`] before it trusts its memo again), and it never fails: a module that cannot be planned
//! is a [`Work::Missing`], a modalias without modules is an empty [`Resolution`].

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::policy::Policy;

/// A kernel module's name as the kernel spells it: underscores, no `.ko`.
pub type Name = Arc<str>;

/// The questions of the core.
pub trait Modules {
    /// Compares the stamp of indexes, modprobe.d and hwdb with what was read, and reads anew where it differs.
    /// True when anything changed: what was resolved before may be wrong now. The caller bounds how often.
    fn refresh(&mut self) -> bool;

    /// Which modules a modalias (or a module's name, or an alias of modprobe.d) stands for: in libkmod's order,
    /// each once.
    fn resolve(&mut self, alias: &[u8]) -> Resolution;

    /// What loading this module takes. `options` replaces the module's own options where the alias it was
    /// resolved from carries others (modprobe.d: `options ALIAS ...`).
    fn plan(&mut self, module: &Name, options: Option<&CString>) -> Plan;

    /// What the kernel says of this module: `/sys/module/NAME/initstate`.
    fn presence(&mut self, module: &str) -> Presence;

    /// Whether a path named by policy (`ADDONCE_UNLESS`) exists.
    fn exists(&mut self, path: &Path) -> bool;
}

/// A modalias turned into its ordered, deduplicated modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// In the order in which libkmod would try them, which is the order in which drivers get to bind.
    pub candidates: Vec<Candidate>,
}

/// One module of a resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The module.
    pub module: Name,
    /// Whether it is to be loaded.
    pub verdict: Verdict,
    /// Options, where the alias carries other ones than the module's own.
    pub options: Option<CString>,
    /// hwdb's word on this module and this modalias.
    pub policy: Arc<Policy>,
}

/// What is to become of one module of a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To be loaded.
    Load,
    /// Part of the kernel image (modules.builtin): there is nothing to load.
    Builtin,
    /// `blacklist NAME` in modprobe.d or `modprobe.blacklist=NAME` on the kernel command line.
    Blacklisted,
}

/// A module with what must come before and after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The module.
    pub module: Name,
    /// What one attempt does.
    pub work: Work,
    /// The size of the file that is handed to the kernel; 0 where there is none.
    pub bytes: u64,
    /// Hard dependencies (modules.dep): transitive, deepest first. If one fails, the module fails.
    pub deps: Vec<Name>,
    /// Soft dependencies to try before. Their failures do not matter.
    pub pre: Vec<Name>,
    /// Soft dependencies to try after the module is live.
    pub post: Vec<Name>,
    /// Fingerprint of everything a fix could change.
    pub cause: Cause,
    /// hwdb's word on this module.
    pub policy: Arc<Policy>,
}

/// What one attempt does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Hand the file to the kernel.
    Insert {
        /// The module file.
        file: PathBuf,
        /// The file's identity, when it could be read: device and inode.
        inode: Option<(u64, u64)>,
        /// Module parameters, as modprobe.d and the kernel command line give them.
        options: CString,
    },
    /// Run the install command of modprobe.d through the shell, as modprobe does.
    Install {
        /// The command, `$CMDLINE_OPTS` already replaced.
        command: CString,
        /// Module parameters, which are part of a flight's key.
        options: CString,
    },
    /// Nothing: it is part of the kernel image.
    Builtin,
    /// Neither a file nor an install command is known.
    Missing,
}

/// A fingerprint of everything a fix could change: module files, options, configuration, dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause(pub u64);

/// What the kernel says of a module. `Absent`, `Coming` and `Going` are three different things: only `Live`
/// means that it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No such directory under /sys/module.
    Absent,
    /// Its init function has not returned.
    Coming,
    /// Loaded and ready.
    Live,
    /// Being unloaded.
    Going,
}

impl Work {
    /// The module parameters of an attempt; empty where there are none.
    pub fn options(&self) -> &[u8] {
        match self {
            Work::Insert { options, .. } | Work::Install { options, .. } => options.as_bytes(),
            Work::Builtin | Work::Missing => b"",
        }
    }
}
