// SPDX-License-Identifier: MIT OR Apache-2.0
//! A cache of what modaliases resolve to, so that a storm of one modalias costs one lookup.

use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;

use super::modules::{Candidate, Modules};

/// What an alias resolves to; "no module" is remembered, too.
type Candidates = Rc<[Candidate]>;

/// The aliases asked for last, and how often each was since it was looked up. Dropped as a whole when an index or modprobe.d changes.
#[derive(Debug)]
pub(super) struct Aliases(LruCache<Box<[u8]>, (Candidates, u64)>);

impl Aliases {
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self(LruCache::new(capacity))
    }

    /// What an alias resolves to, if it is cached.
    pub fn cached(&mut self, name: &[u8]) -> Option<Candidates> {
        let (candidates, requests) = self.0.get_mut(name)?;
        *requests += 1;
        Some(candidates.clone())
    }

    /// What an alias resolves to; looked up if it is not cached.
    pub fn resolve(&mut self, name: &[u8], modules: &mut dyn Modules) -> Candidates {
        let looked_up = || (modules.resolve(name).into(), 0);
        let (candidates, requests) = self.0.get_or_insert_mut(name.into(), looked_up);
        *requests += 1;
        candidates.clone()
    }

    /// All that are cached, and how often each was asked for.
    pub fn requests(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.0.iter().map(|(name, (_, requests))| (&**name, *requests))
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
