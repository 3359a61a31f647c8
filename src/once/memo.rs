// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Memo: what a modalias was found to stand for
//!
//! Owns the resolutions of the modaliases seen last, "no module" included, so that a storm of one modalias costs
//! one lookup. An LRU of fixed capacity, dropped as a whole when an index or modprobe.d changes; an evicted
//! entry costs one more lookup.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

use lru::LruCache;

use super::failures::Key;
use super::policy::Policy;
use super::quiet::Quiet;
use super::table::{ModuleId, State, Table};
use super::world::{Modules, Resolution, Verdict};

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

/// What an alias stands for.
#[derive(Debug)]
pub struct Resolved {
    /// Its modules, in order.
    pub wanted: Box<[Wanted]>,
    /// How many of them are to be loaded.
    loadable: u64,
    /// Whether all of those are live, and when that was found, as [`Table::changes`] counts time.
    all_live: Cell<(u64, bool)>,
    /// What was last found of those that have failures among them.
    pub(super) quiet: RefCell<Option<Quiet>>,
    /// How many asked for it since it was looked up.
    asked: Cell<u64>,
}

impl Resolved {
    /// One more request.
    pub fn count(&self) {
        self.asked.set(self.asked.get() + 1);
    }

    /// How many modules there are, if all that are to be loaded are known to be live: the way of most duplicates, who
    /// need not be looked at module by module.
    pub fn all_live(&self, table: &Table) -> Option<u64> {
        let (found, mut all_live) = self.all_live.get();
        if found != table.changes() {
            let mut loadable = self.wanted.iter().filter(|wanted| wanted.verdict == Verdict::Load);
            all_live = loadable.all(|wanted| table.state(wanted.module) == State::Live);
            self.all_live.set((table.changes(), all_live));
        }
        all_live.then_some(self.loadable)
    }
}

/// The resolutions seen last.
#[derive(Debug)]
pub struct Memo {
    resolutions: LruCache<Box<[u8]>, Rc<Resolved>>,
    /// The very last one: a storm asks for the same again, and comparing is cheaper than hashing.
    last: Option<(Box<[u8]>, Rc<Resolved>)>,
}

impl Memo {
    /// An empty memo for so many modaliases.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { resolutions: LruCache::new(capacity), last: None }
    }

    /// What an alias stands for; looked up if it is not remembered.
    pub fn resolve(&mut self, alias: &[u8], modules: &mut dyn Modules, table: &mut Table) -> Rc<Resolved> {
        if let Some((_, resolved)) = self.last.as_ref().filter(|(last, _)| **last == *alias) {
            return resolved.clone();
        }
        let known = self.resolutions.get(alias).cloned();
        let resolved = known.unwrap_or_else(|| {
            let resolved = Rc::new(number(modules.resolve(alias), table));
            self.resolutions.put(alias.into(), resolved.clone());
            resolved
        });
        self.last = Some((alias.into(), resolved.clone()));
        resolved
    }

    /// How often the modaliases that are remembered were asked for; what was forgotten in between counts anew.
    pub fn asked(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.resolutions.iter().map(|(alias, resolved)| (&**alias, resolved.asked.get()))
    }

    /// What the modaliases that are remembered stand for, the last one looked up first.
    pub fn resolutions(&self) -> impl Iterator<Item = (&[u8], &Resolved)> {
        self.resolutions.iter().map(|(alias, resolved)| (&**alias, &**resolved))
    }

    /// Forgets everything: the module tree or its configuration changed.
    pub fn clear(&mut self) {
        self.resolutions.clear();
        self.last = None;
    }
}

fn number(resolution: Resolution, table: &mut Table) -> Resolved {
    let numbered = resolution.candidates.into_iter().map(|candidate| Wanted {
        module: table.id(&candidate.module),
        verdict: candidate.verdict,
        options: candidate.options.map(Arc::new),
        policy: candidate.policy,
    });
    let wanted: Box<[Wanted]> = numbered.collect();
    let loadable = wanted.iter().filter(|wanted| wanted.verdict == Verdict::Load).count() as u64;
    Resolved {
        wanted,
        loadable,
        all_live: Cell::new((u64::MAX, false)),
        quiet: RefCell::new(None),
        asked: Cell::new(0),
    }
}
