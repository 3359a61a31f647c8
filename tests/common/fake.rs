// SPDX-License-Identifier: MIT OR Apache-2.0
//! A module tree and a kernel that exist in a few lines of text only, for tests that need a kernel to misbehave on command. One
//! statement a line, `#` begins a comment:
//!
//! ```text
//! cpu:type:*   -> acpi_cpufreq pcc_cpufreq   # an alias: exact, or a prefix with a trailing star
//! skx_edac     needs libnvdimm nfit          # hard dependencies, in load order
//! ext4         pre crc32c                    # soft dependencies before ...
//! ipmi_si      post ipmi_devintf             # ... and after
//! pcc_cpufreq  => ENODEV                     # what the kernel says; live where nothing is said
//! slow         takes 2000                    # milliseconds
//! fbdev        blacklisted
//! pcspkr       builtin
//! nfsd         installs                   # has an install command
//! kvm          is live                       # already, before anybody asks
//! foo_current  holds foo                     # the module in the file has another name
//! ```
//!
//! A module exists as soon as any statement names it.

#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use addonce::once::{
    Candidate, Cause, InitState, LoadError, Modules, Name, Outcome, Plan, Policy, Stage, Time, Verdict, Work,
};
use addonce::replay::{self, World, errno_of};

/// The scheduler in such a world.
pub type Simulation = replay::Simulation<FakeModules>;

/// A world by declaration. Tests change its fields while they run, as an administrator would change a system.
#[derive(Clone, Debug, Default)]
pub struct FakeModules {
    /// In order: pattern and modules.
    pub aliases: Vec<(Vec<u8>, Vec<Name>)>,
    pub modules: BTreeMap<Name, FakeModule>,
    pub live: BTreeSet<Name>,
    /// Who is being loaded by somebody else.
    pub coming: BTreeSet<Name>,
    /// Those that exist.
    pub paths: BTreeSet<PathBuf>,
    /// Set it when aliases or configuration were changed; [`Modules::refresh`] resets it.
    pub changed: bool,
    /// `kernel.modules_disabled`.
    pub disabled: bool,
}

/// One declared module: what the statements say of it.
#[derive(Clone, Debug, Default)]
pub struct FakeModule {
    pub deps: Vec<Name>,
    pub pre: Vec<Name>,
    pub post: Vec<Name>,
    /// 0 for live.
    pub errno: i32,
    pub takes: Duration,
    pub blacklisted: bool,
    pub builtin: bool,
    pub installs: bool,
    pub holds: Option<Name>,
    /// hwdb's word.
    pub policy: Arc<Policy>,
    /// Counts what an administrator changed about it: another number is another cause.
    pub version: u64,
}

impl FakeModules {
    /// Reads a declaration. The error names the line and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut world = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            if !line.is_empty() && !line.starts_with('#') {
                world.declare(line).map_err(|what| format!("line {}: {what}: {line}", number + 1))?;
            }
        }
        Ok(world)
    }

    fn declare(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [subject, verb, objects @ ..] = &words[..] else {
            return Err("a subject and a verb are needed".into());
        };
        let names: Vec<Name> = objects.iter().map(|&name| name.into()).collect();
        if matches!(*verb, "->" | "needs" | "pre" | "post") {
            names.iter().for_each(|name| _ = self.module(name));
        }
        if *verb == "->" {
            self.aliases.push((subject.as_bytes().to_vec(), names));
            return Ok(());
        }
        let module = self.module(subject);
        match (*verb, objects) {
            ("needs", [_, ..]) => module.deps = names,
            ("pre", [_, ..]) => module.pre = names,
            ("post", [_, ..]) => module.post = names,
            ("=>", [errno]) => module.errno = errno_of(errno).ok_or("no such errno")?,
            ("takes", [ms]) => module.takes = Duration::from_millis(ms.parse().map_err(|_| "milliseconds?")?),
            ("holds", [name]) => module.holds = Some(Name::from(*name)),
            ("blacklisted", []) => module.blacklisted = true,
            ("builtin", []) => module.builtin = true,
            ("installs", []) => module.installs = true,
            ("is", ["live"]) => drop(self.live.insert(Name::from(*subject))),
            _ => return Err("no such statement".into()),
        }
        Ok(())
    }

    /// A module, to be changed.
    pub fn module(&mut self, name: &str) -> &mut FakeModule {
        self.modules.entry(Name::from(name)).or_default()
    }

    /// What this kernel says when a module is loaded, and who is live then.
    pub fn load(&mut self, name: &Name) -> Outcome {
        if self.disabled {
            return Outcome::Failed(LoadError { errno: libc::EPERM, stage: Stage::Disabled });
        }
        let module = self.modules.get(name).cloned().unwrap_or_default();
        let inside = module.holds.as_ref().unwrap_or(name);
        let errno = match module.errno {
            0 if self.live.contains(inside) => libc::EEXIST,
            0 if module.deps.iter().any(|dep| !self.is_there(dep)) => libc::ENOENT,
            errno => errno,
        };
        if errno != 0 {
            return Outcome::Failed(LoadError { errno, stage: Stage::Insert });
        }
        self.live.insert(inside.clone());
        Outcome::Live
    }

    /// Whether others find what they need of a module. One that the kernel says exists is taken to be there by another name.
    fn is_there(&self, name: &Name) -> bool {
        let by_another_name = |module: &FakeModule| {
            module.errno == libc::EEXIST
                || module.holds.as_ref().is_some_and(|inside| self.live.contains(inside))
        };
        self.live.contains(name) || self.modules.get(name).is_some_and(by_another_name)
    }

    fn cause_of(&self, name: &Name) -> Cause {
        let Some(module) = self.modules.get(name) else { return Cause(0) };
        let versions = module.deps.iter().map(|dep| self.modules.get(dep).map_or(0, |dep| dep.version));
        Cause(module.version * 1_000 + versions.sum::<u64>())
    }
}

impl Modules for FakeModules {
    fn refresh(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate> {
        let matches = |pattern: &[u8]| match pattern.split_last() {
            Some((b'*', prefix)) => alias.starts_with(prefix),
            _ => alias == pattern,
        };
        let named = self.modules.keys().filter(|name| name.as_bytes() == alias);
        let aliased = self.aliases.iter().filter(|(pattern, _)| matches(pattern));
        let aliased = aliased.flat_map(|(_, names)| names);
        let mut candidates: Vec<Candidate> = Vec::new();
        for name in aliased.chain(named) {
            if candidates.iter().any(|candidate| candidate.module == *name) {
                continue;
            }
            let module = &self.modules[name];
            let verdict = match module {
                FakeModule { builtin: true, .. } => Verdict::Builtin,
                FakeModule { blacklisted: true, .. } => Verdict::Blacklisted,
                _ => Verdict::Load,
            };
            let policy = module.policy.clone();
            candidates.push(Candidate { module: name.clone(), verdict, options: None, policy });
        }
        candidates
    }

    fn plan(&mut self, name: &Name, options: Option<&CString>) -> Plan {
        let module = self.modules.get(name);
        let work = match module {
            None => Work::Missing,
            Some(FakeModule { builtin: true, .. }) => Work::Builtin,
            Some(FakeModule { installs: true, .. }) => {
                Work::Install { command: c"command".into(), options: CString::default() }
            }
            Some(_) => {
                let options = options.cloned().unwrap_or_default();
                Work::Insert { file: format!("/{name}.ko").into(), options }
            }
        };
        let FakeModule { deps, pre, post, policy, .. } = module.cloned().unwrap_or_default();
        Plan { module: name.clone(), work, deps, pre, post, cause: self.cause_of(name), policy }
    }

    fn cause(&mut self, name: &Name, _: Option<&CString>) -> Cause {
        self.cause_of(name)
    }

    fn initstate(&mut self, module: &str) -> InitState {
        match module {
            _ if self.live.contains(module) => InitState::Live,
            _ if self.coming.contains(module) => InitState::Coming,
            _ => InitState::Absent,
        }
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.paths.contains(path)
    }
}

impl World for FakeModules {
    fn load(&mut self, plan: &Plan) -> Outcome {
        self.load(&plan.module)
    }

    fn takes(&self, module: &Name) -> Time {
        self.modules.get(module).map_or(Time::ZERO, |module| module.takes)
    }
}
