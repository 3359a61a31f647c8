// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cache of what modaliases resolve to, so that a storm of one modalias costs one lookup.

use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;

use super::modules::{Candidate, Modules};

/// What an alias resolves to; "no module" is remembered, too.
type Candidates = Rc<[Candidate]>;

/// The aliases asked for last. Dropped as a whole when an index or modprobe.d changes.
#[derive(Debug)]
pub(super) struct Aliases(LruCache<Box<[u8]>, Candidates>);

impl Aliases {
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self(LruCache::new(capacity))
    }

    /// What an alias resolves to, if it is cached.
    pub fn cached(&mut self, name: &[u8]) -> Option<Candidates> {
        self.0.get(name).cloned()
    }

    /// What an alias resolves to; looked up if it is not cached.
    pub fn resolve(&mut self, name: &[u8], modules: &mut dyn Modules) -> Candidates {
        self.0.get_or_insert(name.into(), || modules.resolve(name).into()).clone()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
