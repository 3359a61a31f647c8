// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Slots: how many loads run at a time
//!
//! Owns the queue of flights that could load, and the set of those that do. At most `jobs` young loads run at a
//! time; one that is older than [`Limits::OLD`] no longer counts, so that a module that hangs holds nobody
//! back, up to `threads` in all.

use std::collections::VecDeque;

use super::limits::Limits;
use super::request::Time;
use super::table::ModuleId;

/// Who may load now.
#[derive(Debug)]
pub struct Slots {
    jobs: usize,
    threads: usize,
    ready: VecDeque<ModuleId>,
    loading: Vec<(ModuleId, Time)>,
}

impl Slots {
    /// No load, and none waiting.
    pub fn new(limits: &Limits) -> Self {
        let jobs = limits.jobs.max(1);
        Self { jobs, threads: limits.threads.max(jobs), ready: VecDeque::new(), loading: Vec::new() }
    }

    /// Queues a flight.
    pub fn queue(&mut self, flight: ModuleId) {
        self.ready.push_back(flight);
    }

    /// The next flight that may load, from now on.
    pub fn start(&mut self, now: Time) -> Option<ModuleId> {
        let young = self.loading.iter().filter(|(_, since)| !is_old(*since, now)).count();
        if young >= self.jobs || self.loading.len() >= self.threads {
            return None;
        }
        let flight = self.ready.pop_front()?;
        self.loading.push((flight, now));
        Some(flight)
    }

    /// A flight has landed, or needs no load any more. Returns when its load started, if it did.
    pub fn free(&mut self, flight: ModuleId) -> Option<Time> {
        self.ready.retain(|&other| other != flight);
        let index = self.loading.iter().position(|&(other, _)| other == flight)?;
        Some(self.loading.swap_remove(index).1)
    }

    /// Whether a flight is queued or loading.
    pub fn has(&self, flight: ModuleId) -> bool {
        self.ready.contains(&flight) || self.is_loading(flight)
    }

    /// Whether a flight's load is running.
    pub fn is_loading(&self, flight: ModuleId) -> bool {
        self.loading.iter().any(|&(other, _)| other == flight)
    }

    /// The loads that no longer count.
    pub fn old(&self, now: Time) -> impl Iterator<Item = ModuleId> {
        self.loading.iter().filter(move |(_, since)| is_old(*since, now)).map(|&(flight, _)| flight)
    }

    /// When the next load will no longer count.
    pub fn next_old(&self, now: Time) -> Option<Time> {
        self.loading
            .iter()
            .filter(|(_, since)| !is_old(*since, now))
            .map(|(_, since)| *since + Limits::OLD)
            .min()
    }

    /// The running loads, with the time they started at.
    pub fn loading(&self) -> &[(ModuleId, Time)] {
        &self.loading
    }

    /// Takes every queued flight out of the queue.
    pub fn drain_ready(&mut self) -> Vec<ModuleId> {
        self.ready.drain(..).collect()
    }
}

fn is_old(since: Time, now: Time) -> bool {
    now.saturating_sub(since) >= Limits::OLD
}

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_load_that_hangs_holds_nobody_back() {
        let mut table = Table::default();
        let [slow, quick] = ["slow", "quick"].map(|name| table.id(&name.into()));
        let mut slots = Slots::new(&Limits { jobs: 1, ..Limits::default() });
        slots.queue(slow);
        slots.queue(quick);
        assert_eq!(slots.start(Time::ZERO), Some(slow));
        assert_eq!(slots.start(Duration::from_secs(4)), None);
        assert_eq!(slots.next_old(Duration::from_secs(4)), Some(Duration::from_secs(5)));
        assert_eq!(slots.start(Duration::from_secs(5)), Some(quick));
    }

    #[test]
    fn no_more_threads_than_the_limit_however_old_the_loads() {
        let mut table = Table::default();
        let ids: Vec<_> = (0..4).map(|n| table.id(&format!("m{n}").into())).collect();
        let mut slots = Slots::new(&Limits { jobs: 1, threads: 2, ..Limits::default() });
        ids.iter().for_each(|&id| slots.queue(id));
        let started = (0..10).filter_map(|n| slots.start(Duration::from_secs(6 * n))).count();
        assert_eq!(started, 2);
    }
}
