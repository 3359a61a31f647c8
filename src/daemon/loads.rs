// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that load modules, one for each load.
//!
//! A driver that hangs, oopses or is killed costs its own process: the loop hears of its end by SIGCHLD, and a load goes on when
//! the daemon does not. How many there may be at a time is the scheduler's to say.

use std::collections::VecDeque;

use super::fork::{End, Process};
use crate::kmod::Loader;
use crate::once::{LoadError, Name, Outcome, Plan, Stage};

/// The loads that run.
pub struct Loads {
    pub(super) loader: Loader,
    running: Vec<(Name, Process)>,
    /// Have ended, and are the scheduler's to hear of.
    pub(super) finished: VecDeque<(Name, Outcome)>,
}

impl Loads {
    /// Loads that are performed by this loader.
    pub fn new(loader: Loader) -> Self {
        Self { loader, running: Vec::new(), finished: VecDeque::new() }
    }

    /// Starts a load. Where no process can be had, that is its outcome, a transient one.
    pub fn start(&mut self, plan: &Plan) {
        let work = || serde_json::to_vec(&self.loader.load(plan)).unwrap_or_default();
        match Process::start(&format!("+{}", plan.module), work) {
            Ok(process) => self.running.push((plan.module.clone(), process)),
            Err(error) => {
                log::warn!("{}: no process can be started to load it: {error}", plan.module);
                let error = LoadError { errno: libc::EAGAIN, stage: Stage::Insert };
                self.finished.push_back((plan.module.clone(), Outcome::Failed(error)));
            }
        }
    }

    /// Looks which loads have ended: after SIGCHLD.
    pub fn reap(&mut self) {
        let Self { running, finished, .. } = self;
        running.retain_mut(|(module, process)| {
            let Some(end) = process.end() else { return true };
            finished.push_back((module.clone(), outcome(module, end)));
            false
        });
    }

    /// The modules whose loads have not ended.
    pub fn running(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.running.iter().map(|(module, _)| module)
    }
}

fn outcome(module: &Name, end: End) -> Outcome {
    let signal = match end {
        Ok(report) => match serde_json::from_slice(&report) {
            Ok(Ok(())) => return Outcome::Live,
            Ok(Err(error)) => return Outcome::Failed(error),
            Err(error) => {
                log::error!("{module}: the report of its load is not understood: {error}");
                0
            }
        },
        Err(signal) => signal,
    };
    let errno = match signal {
        // Somebody, or the OOM killer, has killed it: nothing speaks against another try.
        libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGKILL | libc::SIGTERM => libc::EINTR,
        // The kernel ends a task that oopses (most often by SIGSEGV), and the module stays half loaded: another try would
        // wait for it without an end.
        _ => libc::EFAULT,
    };
    Outcome::Failed(LoadError { errno, stage: Stage::Died(signal) })
}
