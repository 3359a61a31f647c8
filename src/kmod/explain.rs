// SPDX-License-Identifier: MIT OR Apache-2.0
//! What would become of an alias: each of its modules with its verdict, policy included, and the steps that loading it takes.
//! Nothing is loaded.
//!
//! The steps are libkmod's own list, as people know it from `modprobe -D`. The daemon does not walk it: it starts loads from the
//! plan of each module, where every module comes once. The oracle test compares both with modprobe.

use std::path::PathBuf;

use serde::Serialize;

use super::resolver::Resolver;
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
    candidates.into_iter().map(|candidate| one(resolver, alias, candidate)).collect()
}

fn one(resolver: &mut Resolver, alias: &[u8], candidate: Candidate) -> Explanation {
    let Candidate { module, verdict, policy, .. } = candidate;
    let plan = resolver.steps(alias, &module).iter().map(|step| step.trim_end().to_owned()).collect();
    let live = verdict == Verdict::Load && resolver.initstate(&module) == InitState::Live;
    let unless = policy.unless.clone();
    let verdict = match verdict {
        Verdict::Builtin => "builtin",
        Verdict::Blacklisted => "blacklisted",
        Verdict::Load if policy.mode == Mode::Never => "ruled_out",
        Verdict::Load if unless.as_deref().is_some_and(|path| resolver.exists(path)) => "ruled_out",
        Verdict::Load => "load",
    };
    Explanation { module, verdict, live, unless, plan }
}
