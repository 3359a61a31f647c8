// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cache of what modaliases resolve to, so that a storm of one modalias costs one lookup.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;

use super::modules::{Candidate, Modules};

/// What an alias resolves to; "no module" is remembered, too.
#[derive(Debug)]
pub(super) struct Alias {
    pub candidates: Vec<Candidate>,
    /// How many asked for it since it was looked up.
    pub requests: Cell<u64>,
}

/// The aliases asked for last. Dropped as a whole when an index or modprobe.d changes.
#[derive(Debug)]
pub(super) struct Aliases(LruCache<Box<[u8]>, Rc<Alias>>);

impl Aliases {
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self(LruCache::new(capacity))
    }

    /// What an alias resolves to, if it is cached.
    pub fn cached(&mut self, name: &[u8]) -> Option<Rc<Alias>> {
        self.0.get(name).cloned()
    }

    /// What an alias resolves to; looked up if it is not cached.
    pub fn resolve(&mut self, name: &[u8], modules: &mut dyn Modules) -> Rc<Alias> {
        if let Some(alias) = self.cached(name) {
            return alias;
        }
        let alias = Rc::new(Alias { candidates: modules.resolve(name), requests: Cell::new(0) });
        self.0.put(name.into(), alias.clone());
        alias
    }

    /// All that are cached, the last one asked for first.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Alias)> {
        self.0.iter().map(|(name, alias)| (&**name, &**alias))
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
