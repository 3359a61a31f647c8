// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policy: what hwdb says of one module, and what that means. How it is written in hwdb is `kmod::hwdb`'s part.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// hwdb's word on one module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How requests for the module are taken.
    pub mode: Mode,
    /// The module is ruled out while this path exists.
    pub unless: Option<PathBuf>,
    /// How long a failed module is left alone.
    pub backoff: Backoff,
}

impl Policy {
    /// Whether it rules the module out, `exists` telling of the path that it names.
    pub fn rules_out(&self, exists: impl FnOnce(&Path) -> bool) -> bool {
        self.mode == Mode::Never || self.unless.as_deref().is_some_and(exists)
    }
}

/// How requests for a module are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The once rules hold.
    #[default]
    Once,
    /// Every request is an attempt.
    Always,
    /// Not loaded by addonce.
    Never,
}

/// The wait after a failure: `min`, doubled with every further failure, up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub min: Duration,
    /// Never longer than this.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after the given number of failures in a row.
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }
}
