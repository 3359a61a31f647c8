// SPDX-License-Identifier: MIT OR Apache-2.0
//! What would become of an alias: each of its modules with its verdict, policy included, and the steps that loading it takes.
//! Nothing is loaded.
//!
//! The steps are the linear view of a load, in libkmod's order to the letter (`__kmod_module_get_probe_list`). The daemon does not
//! walk this list: it starts loads from the plan of each module, where every module comes once. The list is how people know it
//! from `modprobe -D`, and how the oracle test compares addonce with modprobe. A module's dependencies are each expanded with
//! their softdeps whether they were met before or not, while a softdep that was met before is not expanded again. "Met" goes by
//! libkmod's object, so a module may come twice, by its name and by an alias; every object is expanded once.

use std::ffi::{CStr, CString};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::resolver::{Resolver, to_path};
use super::sys::Module;
use crate::once::{Candidate, InitState, Mode, Modules, Name, Verdict};

/// One module of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The module.
    pub module: Name,
    /// `load`, `builtin`, `blacklisted` or `ruled_out`.
    pub verdict: &'static str,
    /// It is live already.
    pub live: bool,
    /// hwdb rules it out while this path exists.
    pub unless: Option<PathBuf>,
    /// The steps that loading it takes, in order, as `modprobe --show-depends` prints them.
    pub plan: Vec<String>,
}

/// The modules of an alias or a name, in the order in which they are tried.
pub fn explain(resolver: &mut Resolver, alias: &[u8]) -> Vec<Explanation> {
    let candidates = resolver.resolve(alias);
    candidates.iter().map(|candidate| one(resolver, candidate)).collect()
}

fn one(resolver: &mut Resolver, candidate: &Candidate) -> Explanation {
    let plan =
        ordered(resolver, &candidate.module, candidate.options.as_ref().map(|options| options.as_c_str()));
    let unless = candidate.policy.unless.clone();
    let verdict = match candidate.verdict {
        Verdict::Builtin => "builtin",
        Verdict::Blacklisted => "blacklisted",
        Verdict::Load if candidate.policy.mode == Mode::Never => "ruled_out",
        Verdict::Load if unless.as_deref().is_some_and(|path| resolver.exists(path)) => "ruled_out",
        Verdict::Load => "load",
    };
    Explanation {
        module: candidate.module.clone(),
        verdict,
        live: candidate.verdict == Verdict::Load && resolver.initstate(&candidate.module) == InitState::Live,
        unless,
        plan: plan.iter().map(|step| step.to_string().trim_end().to_owned()).collect(),
    }
}

/// One step of a load; printed, one line of `modprobe -D`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Hand the file to the kernel.
    Insmod {
        /// The module file.
        file: PathBuf,
        /// Module parameters.
        options: CString,
    },
    /// Run a command in the module's place.
    Install {
        /// The command as it stands in modprobe.d.
        command: CString,
        /// Module parameters.
        options: CString,
    },
    /// Nothing to do: part of the kernel image.
    Builtin {
        /// The module.
        module: CString,
    },
}

/// The steps of loading a module, in order, with its dependencies and softdeps and theirs. `options` replaces the
/// module's own, where it was resolved from an alias that carries others.
pub fn ordered(resolver: &Resolver, module: &str, options: Option<&CStr>) -> Vec<Step> {
    let Some(module) = CString::new(module).ok().and_then(|name| resolver.ctx().module(&name).ok()) else {
        return Vec::new();
    };
    let mut walk = Walk { met: Vec::new(), modules: Vec::new() };
    walk.expand(&module);
    let step = |each: &Place<'_>| each.step(options.filter(|_| each.module == module));
    walk.modules.iter().filter_map(step).collect()
}

struct Walk<'ctx> {
    /// Held, not only noted: an object that were let go could come back under the same address.
    met: Vec<Module<'ctx>>,
    modules: Vec<Place<'ctx>>,
}

/// A module in its place, and whether a softdep line makes libkmod ignore its install command.
struct Place<'ctx> {
    module: Module<'ctx>,
    ignores_install: bool,
}

impl<'ctx> Walk<'ctx> {
    /// `__kmod_module_get_probe_list()`
    fn expand(&mut self, module: &Module<'ctx>) {
        if !self.met.contains(module) {
            self.met.push(module.clone());
            for dependency in module.dependencies() {
                self.surround(&dependency);
            }
            self.surround(module);
        }
    }

    /// `__kmod_module_fill_softdep()`
    fn surround(&mut self, module: &Module<'ctx>) {
        let (pre, post) = module.softdeps();
        pre.iter().for_each(|softdep| self.expand(softdep));
        let ignores_install = !pre.is_empty() || !post.is_empty();
        self.modules.push(Place { module: module.clone(), ignores_install });
        post.iter().for_each(|softdep| self.expand(softdep));
    }
}

impl Place<'_> {
    /// None for a name without file and command that is not builtin either: modprobe prints nothing.
    fn step(&self, options: Option<&CStr>) -> Option<Step> {
        let options = options.map_or_else(|| self.module.options(), CStr::to_owned);
        if let Some(command) = self.module.install().filter(|_| !self.ignores_install) {
            return Some(Step::Install { command, options });
        }
        match self.module.path() {
            Some(path) => Some(Step::Insmod { file: to_path(&path).to_owned(), options }),
            None => self.module.is_builtin().then(|| Step::Builtin { module: self.module.name() }),
        }
    }
}

impl fmt::Display for Step {
    /// As `modprobe -D`, blanks included: one before the options even where there are none, one behind them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, object, options) = match self {
            Step::Insmod { file, options } => ("insmod", file.to_string_lossy(), options),
            Step::Install { command, options } => ("install", command.to_string_lossy(), options),
            Step::Builtin { module } => return write!(f, "builtin {}", module.to_string_lossy()),
        };
        let blank = if options.is_empty() { "" } else { " " };
        write!(f, "{word} {object} {}{blank}", options.to_string_lossy())
    }
}
