// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Memo: what a modalias was found to stand for
//!
//! Owns the resolutions of the modaliases seen last, "no module" included, so that a storm of one modalias costs
//! one lookup. An LRU of fixed capacity, dropped as a whole when an index or modprobe.d changes; an evicted
//! entry costs one more lookup.

use std::ffi::CString;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

use lru::LruCache;

use super::failures::Key;
use super::policy::Policy;
use super::table::{ModuleId, Table};
use super::world::{Modules, Verdict};

/// One module of a resolution, numbered.
#[derive(Debug)]
pub struct Wanted {
    /// The module.
    pub module: ModuleId,
    /// Whether it is to be loaded.
    pub verdict: Verdict,
    /// Options, where the alias carries other ones than the module's own.
    pub options: Option<Arc<CString>>,
    /// hwdb's word on it.
    pub policy: Arc<Policy>,
}

impl Wanted {
    /// What it is remembered by.
    pub fn key(&self) -> Key {
        Key { module: self.module, options: self.options.clone() }
    }
}

/// The resolutions seen last.
#[derive(Debug)]
pub struct Memo {
    resolutions: LruCache<Box<[u8]>, Rc<[Wanted]>>,
}

impl Memo {
    /// An empty memo for so many modaliases.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { resolutions: LruCache::new(capacity) }
    }

    /// What an alias stands for; looked up if it is not remembered.
    pub fn resolve(&mut self, alias: &[u8], modules: &mut dyn Modules, table: &mut Table) -> Rc<[Wanted]> {
        if let Some(known) = self.resolutions.get(alias) {
            return known.clone();
        }
        let wanted: Rc<[Wanted]> = modules
            .resolve(alias)
            .candidates
            .into_iter()
            .map(|candidate| Wanted {
                module: table.id(&candidate.module),
                verdict: candidate.verdict,
                options: candidate.options.map(Arc::new),
                policy: candidate.policy,
            })
            .collect();
        self.resolutions.put(alias.into(), wanted.clone());
        wanted
    }

    /// Forgets everything: the module tree or its configuration changed.
    pub fn clear(&mut self) {
        self.resolutions.clear();
    }
}
