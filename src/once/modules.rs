// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the scheduler asks of the module tree and the kernel.
//!
//! The real side of [`Modules`] is `kmod::Resolver` (libkmod, hwdb, sysfs); replays and tests use worlds that are
//! [simulated](crate::replay). An implementation answers from what is true now, and it never fails: a module
//! that cannot be planned is a [`Work::Missing`], an alias without modules an empty list.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::policy::Policy;

/// A kernel module's name as the kernel spells it: underscores, no `.ko`.
pub type Name = Arc<str>;

/// The modules that [`Modules::plans`] came by, and the plans of those that wait for soft dependencies.
pub type Seen = HashMap<Name, Option<Plan>>;

/// The module tree and the kernel, to be asked.
pub trait Modules {
    /// Whether anything has changed of what resolutions and plans are made from (indexes, modprobe.d, hwdb), since the last
    /// call: what was resolved before may be wrong now. Called for every answer but "live", so it has to be exact, and cheap.
    fn refresh(&mut self) -> bool;

    /// The modules of a modalias (or a module's name, or an alias of modprobe.d): in libkmod's order, each once.
    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate>;

    /// What loading a module takes, with these options for its own where modprobe.d says `options ALIAS ...`.
    fn plan(&mut self, module: &Name, options: Option<&CString>) -> Plan;

    /// The cause that [`Modules::plan`] gives, for less, as of the last [`Modules::refresh`] or later: for requests for a failed module.
    fn cause(&mut self, module: &Name, options: Option<&CString>) -> Cause {
        self.plan(module, options).cause
    }

    /// What loading a module takes with all it needs, in the order in which the scheduler comes by it when it does one thing at a
    /// time. Modules that were `seen` are left out, but for those that only wait for soft dependencies: who comes back to one closes a
    /// circle of these, and so it comes first.
    fn plans(&mut self, module: &Name, options: Option<&CString>, seen: &mut Seen) -> Vec<Plan> {
        if let Some(waiting) = seen.get_mut(module) {
            return waiting.take().into_iter().collect();
        }
        seen.insert(module.clone(), None);
        let plan = self.plan(module, options);
        let Plan { deps, pre, post, .. } = plan.clone();
        let mut plans: Vec<_> = deps.iter().flat_map(|dep| self.plans(dep, None, seen)).collect();
        seen.insert(module.clone(), Some(plan));
        plans.extend(pre.iter().flat_map(|soft| self.plans(soft, None, seen)));
        plans.extend(seen.get_mut(module).and_then(Option::take));
        plans.extend(post.iter().flat_map(|soft| self.plans(soft, None, seen)));
        plans
    }

    /// Whether modprobe is to load it where the kernel asks: an install command takes part, which may need more privileges than
    /// ours, or there is neither that nor a file.
    fn is_modprobes(&mut self, module: &Name, options: Option<&CString>) -> bool {
        self.plans(module, options, &mut Seen::new()).iter().any(|plan| match plan.work {
            Work::Install { .. } => true,
            Work::Missing => plan.module == *module,
            _ => false,
        })
    }

    /// What the kernel says of a module: `/sys/module/NAME/initstate`.
    fn initstate(&mut self, module: &str) -> InitState;

    /// Whether a path named by policy (`ADDONCE_UNLESS`) exists.
    fn exists(&mut self, path: &Path) -> bool;
}

/// One module of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The module.
    pub module: Name,
    /// Whether it is to be loaded.
    pub verdict: Verdict,
    /// Options, where the alias carries other ones than the module's own.
    pub options: Option<Arc<CString>>,
    /// What hwdb says of this module and this modalias.
    pub policy: Arc<Policy>,
}

/// Whether one module of an alias is to be loaded.
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
    /// Hard dependencies (modules.dep): transitive, deepest first. If one fails, the module fails.
    pub deps: Vec<Name>,
    /// Soft dependencies to try before. Their failures do not matter.
    pub pre: Vec<Name>,
    /// Soft dependencies to try after the module is live.
    pub post: Vec<Name>,
    /// Fingerprint of everything a fix could change.
    pub cause: Cause,
    /// What hwdb says of this module.
    pub policy: Arc<Policy>,
}

/// What one attempt does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Hand the file to the kernel.
    Insert {
        /// The module file.
        file: PathBuf,
        /// Module parameters, as modprobe.d and the kernel command line give them.
        options: CString,
    },
    /// Run the install command of modprobe.d through the shell, as modprobe does.
    Install {
        /// The command, `$CMDLINE_OPTS` already replaced.
        command: CString,
        /// Module parameters.
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

/// The kernel's word on a module. Only `Live` means that it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitState {
    /// No such directory under /sys/module.
    Absent,
    /// Its init function has not returned.
    Coming,
    /// Loaded and ready.
    Live,
    /// Being unloaded.
    Going,
}
