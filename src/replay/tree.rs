// SPDX-License-Identifier: MIT OR Apache-2.0
//! A real module tree and a kernel by declaration: the world of a replay.

use std::ffi::CString;
use std::path::Path;

use super::fake::FakeModules;
use super::simulation::World;
use crate::kmod::Resolver;
use crate::once::{Candidate, InitState, Modules, Name, Outcome, Plan, Time};

/// The tree says which modules there are and what they take, the declaration what the kernel says of them. This
/// machine's own kernel is not asked: who is live on it does not matter.
pub struct TreeWorld {
    tree: Resolver,
    kernel: FakeModules,
}

impl TreeWorld {
    /// A world of both.
    pub fn new(tree: Resolver, kernel: FakeModules) -> Self {
        Self { tree, kernel }
    }
}

impl Modules for TreeWorld {
    /// The tree is read once: the time of a replay is not the time in which somebody may change it.
    fn refresh(&mut self) -> bool {
        false
    }

    fn resolve(&mut self, alias: &[u8]) -> Vec<Candidate> {
        self.tree.resolve(alias)
    }

    fn plan(&mut self, module: &Name, options: Option<&CString>) -> Plan {
        self.tree.plan(module, options)
    }

    fn initstate(&mut self, module: &str) -> InitState {
        self.kernel.initstate(module)
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.tree.exists(path)
    }
}

impl World for TreeWorld {
    fn load(&mut self, plan: &Plan) -> Outcome {
        World::load(&mut self.kernel, plan)
    }

    fn takes(&self, module: &Name) -> Time {
        self.kernel.takes(module)
    }
}
