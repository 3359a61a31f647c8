// SPDX-License-Identifier: MIT OR Apache-2.0
//! What would become of an alias: each module with its verdict, policy included, and the steps that loading it takes. It asks the tree
//! and the kernel, and loads nothing.

use std::path::PathBuf;

use serde::Serialize;

use super::{Resolver, ordered};
use crate::once::Mode;
use crate::once::{Candidate, InitState, Modules, Name, Verdict};

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
