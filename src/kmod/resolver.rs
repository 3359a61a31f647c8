// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real answers to what the scheduler asks: libkmod's, hwdb's and sysfs's.
//!
//! Resolution has udev's blacklist semantics (`KMOD_PROBE_APPLY_BLACKLIST`: the resolved name, never a dependency), plans have
//! libkmod's order and its rule for install commands. A changed index, modprobe.d or hwdb is seen by the next
//! [`Modules::refresh`], which replaces the libkmod context as a whole: plans are owned values, so loads in progress do not notice.

use std::ffi::{CStr, CString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use foldhash::HashMap;
use memchr::memmem;

use crate::fatal::Fatal;
use crate::once::{Candidate, Cause, InitState, Modules, Name, Plan, Verdict, Work};

use super::hwdb::Policies;
use super::stamp::{self, FileStamp, Stamp};
use super::sys::{Ctx, Module};
use super::tree::{Tree, initstate};
use super::watch::{News, Watch};

/// What libkmod replaces in an install command: `module_do_install_commands()`.
const CMDLINE_OPTS: &[u8] = b"$CMDLINE_OPTS";

/// Answers the once core from a module tree.
pub struct Resolver {
    /// The tree it answers from.
    pub tree: Tree,
    ctx: Ctx,
    policies: Policies,
    stamp: Stamp,
    /// From the first [`Modules::refresh`] on: who asks only once watches nothing.
    watch: Option<Watch>,
    /// The causes of modules that fail, with the options given, while their files are watched and nothing happens.
    causes: HashMap<Name, (Option<CString>, Cause)>,
}

impl Resolver {
    /// Opens a tree.
    pub fn open(tree: Tree) -> Result<Self, Fatal> {
        let named = tree.config.iter().chain(Some(&tree.sysfs).filter(|_| !tree.is_this_machine()));
        for path in named {
            std::fs::metadata(path).map_err(|error| Fatal::Usage(format!("{}: {error}", path.display())))?;
        }
        let index = tree.directory().join("modules.dep.bin");
        std::fs::metadata(&index).map_err(|error| {
            let (index, kernel) = (index.display(), &tree.kernel);
            let way_out =
                format!("run `depmod {kernel}`, or name another tree with --kernel or --modules-dir");
            Fatal::System(format!("{index}: {error}: {way_out}"))
        })?;
        // First the stamp: what changes between the two is then read once more, not missed.
        let stamp = tree.stamp();
        let ctx = tree.context().map_err(Fatal::System)?;
        let (watch, causes) = Default::default();
        Ok(Self { tree, ctx, policies: Policies::open(), stamp, watch, causes })
    }

    /// By which name the kernel will know a module, where its file has another one.
    pub fn name_inside(&self, module: &str) -> Option<Name> {
        let inside = self.ctx.module(module).ok()?.name_inside()?;
        (*inside != *module).then_some(inside)
    }

    /// The install command that libkmod passes over, because a softdep line of this module leads to another.
    pub fn passed_over(&self, module: &str) -> Option<CString> {
        let module = self.ctx.module(module).ok()?;
        let (pre, post) = module.softdeps();
        module.install().filter(|_| !pre.is_empty() || !post.is_empty())
    }

    fn candidate(&self, found: &Module<'_>, blacklisted: bool, alias: &[u8]) -> Option<Candidate> {
        let module = found.name()?;
        let own = self.ctx.module(&module).ok()?.options();
        // In libkmod's order: builtin modules are done before the blacklist is looked at.
        let verdict = if found.is_builtin() {
            Verdict::Builtin
        // `alias X off` is how modprobe.conf used to say "never": libkmod makes a module of that name of it.
        } else if blacklisted || (&*module == "off" && found.path().is_none()) {
            Verdict::Blacklisted
        } else {
            Verdict::Load
        };
        let options = Some(found.options()).filter(|options| *options != own).map(Arc::new);
        let policy = self.policies.lookup(&module, Some(alias));
        Some(Candidate { module, verdict, options, policy })
    }

    /// Everything a fix could change, a dependency's options included: they may be why it fails, and with it this module.
    fn cause_of(&self, module: &Module<'_>, deps: &[Module<'_>], pre: &[Name], options: &CStr) -> Cause {
        let mut hasher = DefaultHasher::new();
        self.stamp.hash_indexes(&mut hasher);
        options.hash(&mut hasher);
        for module in std::iter::once(module).chain(deps) {
            module.name().hash(&mut hasher);
            module.options().hash(&mut hasher);
            module.install().hash(&mut hasher);
            module.path().and_then(|path| FileStamp::of(&path)).hash(&mut hasher);
        }
        pre.hash(&mut hasher);
        Cause(hasher.finish())
    }
}

impl Modules for Resolver {
    fn refresh(&mut self) -> bool {
        // First the watch, then the stamp: what changes after that is told.
        let news = match &mut self.watch {
            Some(watch) => watch.look(),
            None => {
                let files = stamp::files(&self.tree.directory()).collect();
                self.watch = Some(Watch::new(files, self.tree.config_places()));
                News::Perhaps
            }
        };
        if news == News::Nothing {
            return false;
        }
        self.causes.clear();
        let stamp = self.tree.stamp();
        if news == News::Perhaps && stamp == self.stamp {
            return false;
        }
        match self.tree.context() {
            Ok(ctx) => {
                (self.ctx, self.policies, self.stamp) = (ctx, Policies::open(), stamp);
                true
            }
            Err(error) => {
                log::warn!("{error}: going on with what was read before");
                // The next request looks again.
                self.watch = None;
                false
            }
        }
    }

    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = Vec::new();
        let found = self.ctx.lookup(alias);
        // It matches nothing then.
        let unknown = |errno: &_| log::debug!("{}: cannot be looked up: {errno}", alias.escape_ascii());
        for (found, blacklisted) in found.inspect_err(unknown).unwrap_or_default() {
            let Some(candidate) = self.candidate(&found, blacklisted, alias) else { continue };
            if candidates.iter().all(|known| known.module != candidate.module) {
                candidates.push(candidate);
            }
        }
        candidates
    }

    fn plan(&mut self, name: &Name, options: Option<&CString>) -> Plan {
        let policy = self.policies.lookup(name, None);
        let Ok(module) = self.ctx.module(name) else {
            let (work, cause, (deps, pre, post)) = (Work::Missing, Cause(0), Default::default());
            return Plan { module: name.clone(), work, deps, pre, post, cause, policy };
        };
        let (deps, (pre, post)) = (module.dependencies(), module.softdeps());
        let options = options.cloned().unwrap_or_else(|| module.options());
        // libkmod's `ignorecmd`: a softdep line that leads to any module takes the install command's place.
        let install = module.install().filter(|_| pre.is_empty() && post.is_empty());
        let (pre, post) = (loadable(name, &pre), loadable(name, &post));
        let cause = self.cause_of(&module, &deps, &pre, &options);
        let deps = deps.iter().filter_map(Module::name).collect();
        let work = match (module.is_builtin(), install, module.path()) {
            (true, _, _) => Work::Builtin,
            (_, Some(command), _) => Work::Install { command: with_options(&command, &options), options },
            (_, None, Some(file)) => Work::Insert { file, options },
            (_, None, None) => Work::Missing,
        };
        Plan { module: name.clone(), work, deps, pre, post, cause, policy }
    }

    fn cause(&mut self, name: &Name, options: Option<&CString>) -> Cause {
        if let Some((_, cause)) = self.causes.get(name).filter(|(given, _)| given.as_ref() == options) {
            return *cause;
        }
        // First the watch, as in `refresh`.
        let is_watched = match (&mut self.watch, self.ctx.module(name)) {
            (Some(watch), Ok(module)) => {
                let dependencies = module.dependencies();
                let files = [&module].into_iter().chain(&dependencies).filter_map(Module::path);
                watch.also(&files.collect::<Vec<_>>())
            }
            _ => false,
        };
        let cause = self.plan(name, options).cause;
        if is_watched {
            self.causes.insert(name.clone(), (options.cloned(), cause));
        }
        cause
    }

    fn initstate(&mut self, module: &str) -> InitState {
        initstate(&self.tree.sysfs, module)
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.tree.in_sysfs(path).exists()
    }
}

/// The names of soft dependencies: each once, without those that are part of the kernel image, and without the
/// module itself, which `softdep` lines may name through an alias.
fn loadable(module: &Name, softdeps: &[Module<'_>]) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    for name in softdeps.iter().filter(|softdep| !softdep.is_builtin()).filter_map(Module::name) {
        if name != *module && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Puts the options in the place of `$CMDLINE_OPTS`, with the blank that libkmod appends to them. Options that
/// contain the variable again are left alone; libkmod would replace for ever.
fn with_options(command: &CStr, options: &CStr) -> CString {
    let (command, mut options) = (command.to_bytes(), options.to_bytes().to_vec());
    if !options.is_empty() {
        options.push(b' ');
    }
    let (mut replaced, mut done) = (Vec::new(), 0);
    for at in memmem::find_iter(command, CMDLINE_OPTS) {
        replaced.extend_from_slice(&command[done..at]);
        replaced.extend_from_slice(&options);
        done = at + CMDLINE_OPTS.len();
    }
    replaced.extend_from_slice(&command[done..]);
    CString::new(replaced).unwrap_or_default()
}
