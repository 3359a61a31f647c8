// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Sightings: which device asked for which module when
//!
//! Owns the answer to "does the same device ask again?". For each device and each module that was not live when it asked,
//! the number of its last request; a failure knows from which request on it counts, so one table serves all failures.
//!
//! A device asks for the same modules together, again and again, so what is the same for all modules of a [`Group`] is kept
//! once: at any time a device and a module are in one place only, with others or alone. Storms write the one, whatever is
//! particular the other.
//!
//! Bounded: when it is full, what no failure counts any more is forgotten; where that is not enough, a silence stands
//! in for the missing knowledge ([`Limits::SILENCE`]).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::limits::Limits;
use super::request::{Asker, DeviceHash, Time};
use super::sighting::{Group, Sighting};
use super::table::ModuleId;

/// Devices, by what they asked for.
#[derive(Debug)]
pub struct Sightings {
    /// By device and module.
    pub(super) alone: Hashed<Sighting>,
    /// By device.
    pub(super) together: Hashed<(Sighting, Rc<Group>)>,
    limit: usize,
    pub(super) last: Time,
    /// The request at which forgetting was last tried: it looks at every sighting, so it has to be seldom.
    swept: u64,
    changes: u64,
}

pub(super) type Hashed<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

impl Sightings {
    /// Nobody has asked; so many sightings will be remembered.
    pub fn new(limit: usize) -> Self {
        let (alone, together) = Default::default();
        Self { alone, together, limit, last: Time::ZERO, swept: 0, changes: 0 }
    }

    /// Takes down who asks for what, and tells in `seen` when the same was asked before. `counted_from` is asked for only
    /// where room is short: the first request that any failure still counts.
    pub fn see(
        &mut self,
        asker: Asker,
        module: ModuleId,
        now: Time,
        counted_from: impl FnOnce() -> u64,
    ) -> Asker {
        let Some(device) = asker.device() else { return asker };
        let (key, request) = (device.with(module.number()), asker.request);
        self.changes += 1;
        let silence = now.saturating_sub(std::mem::replace(&mut self.last, now));
        if let Some(sighting) = self.with_others(device, module, request) {
            return Asker { seen: sighting.before(request), ..asker };
        }
        if let Some(sighting) = self.alone.get_mut(&key) {
            sighting.add(request);
            return Asker { seen: sighting.before(request), ..asker };
        }
        if self.is_full() && request.saturating_sub(self.swept) > self.limit as u64 / 2 {
            self.swept = request;
            let from = counted_from();
            self.alone.retain(|_, sighting| sighting.last >= from);
            self.together.retain(|_, (sighting, _)| sighting.last >= from);
        }
        if !self.is_full() {
            self.alone.insert(key, Sighting::first(request));
        } else if silence > Limits::SILENCE {
            return Asker { seen: Some(u64::MAX), ..asker };
        }
        Asker { seen: None, ..asker }
    }

    /// The same for all modules of a group at once, where the device was sighted for all of them by the same request. `None`
    /// where it was not, or where there is no room: nothing was taken down.
    pub fn see_together(&mut self, asker: Asker, group: &Rc<Group>, now: Time) -> Option<Asker> {
        if group.modules().is_empty() {
            return Some(asker);
        }
        let device = asker.device()?;
        let known = self.together.get_mut(&device.number()).filter(|(_, known)| known == group);
        let before = match known {
            Some((sighting, _)) => {
                sighting.add(asker.request);
                sighting.before(asker.request)
            }
            None => self.gather(device, group, asker.request)?,
        };
        self.changes += 1;
        self.last = now;
        Some(Asker { seen: before, ..asker })
    }

    /// How often somebody was taken down.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.alone.len() + self.together.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// What is known of a device and a module with others, as long as nothing is to be changed about it; if it is, they part.
    fn with_others(&mut self, device: DeviceHash, module: ModuleId, request: u64) -> Option<Sighting> {
        let (sighting, group) = self.together.get(&device.number())?;
        if !group.modules().contains(&module) {
            return None;
        }
        if sighting.last >= request {
            return Some(*sighting);
        }
        self.part(device, &[module]);
        None
    }

    /// Puts what is known of a device by a group where each module stands alone, as far as there is room: those that are
    /// `sought` first.
    fn part(&mut self, device: DeviceHash, sought: &[ModuleId]) {
        let Some((sighting, group)) = self.together.remove(&device.number()) else { return };
        let (first, others): (Vec<ModuleId>, Vec<ModuleId>) =
            group.modules().iter().copied().partition(|module| sought.contains(module));
        for module in first.into_iter().chain(others) {
            if !self.is_full() {
                self.alone.insert(device.with(module.number()), sighting);
            }
        }
    }

    /// Puts together what is known of a device and the modules of a group, if it is the same for all. The outer option is
    /// whether it is, the inner one when they were last asked for.
    #[cold]
    fn gather(&mut self, device: DeviceHash, group: &Rc<Group>, request: u64) -> Option<Option<u64>> {
        let &first = group.modules().first()?;
        self.part(device, group.modules());
        let last_of = |module: &ModuleId| self.alone.get(&device.with(module.number())).map(|s| s.last);
        let last = last_of(&first);
        if last.is_some_and(|last| last >= request)
            || !group.modules().iter().all(|module| last_of(module) == last)
        {
            return None;
        }
        if last.is_none() && self.is_full() {
            return None;
        }
        if last.is_some() {
            for module in group.modules() {
                self.alone.remove(&device.with(module.number()));
            }
        }
        let sighting = Sighting { last: request, before: last.unwrap_or(0) };
        self.together.insert(device.number(), (sighting, group.clone()));
        Some(last)
    }
}

/// The keys are keyed hashes already: they are taken as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("every key is a u64");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::request::{Device, Origin};
    use super::super::secret::Secret;
    use super::super::table::Table;
    use super::*;

    struct Seen {
        sightings: Sightings,
        secret: Secret,
        modules: [ModuleId; 2],
    }

    impl Seen {
        fn with_room_for(limit: usize) -> Self {
            let mut table = Table::default();
            let modules = ["a", "b"].map(|name| table.id(&name.into()));
            Self { sightings: Sightings::new(limit), secret: Secret::default(), modules }
        }

        fn ask(&mut self, request: u64, device: u64, module: usize, second: u64) -> Option<u64> {
            let device = Device { devpath: &device.to_le_bytes(), genuine: false };
            let asker = Asker::new(request, &Origin::Event { device, seqnum: request }, &self.secret);
            let from = || request.saturating_sub(4);
            self.sightings.see(asker, self.modules[module], Duration::from_secs(second), from).seen
        }
    }

    #[test]
    fn a_device_is_known_by_its_last_request_for_the_module() {
        let mut seen = Seen::with_room_for(8);
        assert_eq!(seen.ask(1, 0, 0, 0), None);
        assert_eq!(seen.ask(2, 1, 0, 0), None);
        assert_eq!(seen.ask(3, 0, 1, 0), None, "another module");
        assert_eq!(seen.ask(4, 0, 0, 0), Some(1));
        assert_eq!(seen.ask(4, 0, 0, 0), Some(1), "the same request looks twice");
        assert_eq!(seen.ask(5, 0, 0, 0), Some(4));
    }

    #[test]
    fn what_no_failure_counts_makes_room() {
        let mut seen = Seen::with_room_for(8);
        for n in 1..=100 {
            seen.ask(n, n, 0, 0);
            assert!(seen.sightings.len() <= 8);
        }
        assert_eq!(seen.ask(101, 100, 0, 0), Some(100));
    }

    proptest! {
        /// A request is by one device, for one module after another, or for several together.
        #[test]
        fn together_or_alone_a_device_is_known_by_what_it_asked_for(
            requests in proptest::collection::vec((0..3u64, proptest::collection::vec(0..4usize, 1..4), any::<bool>()), 0..60)
        ) {
            let mut table = Table::default();
            let modules = ["a", "b", "c", "d"].map(|name| table.id(&name.into()));
            let (mut sightings, secret) = (Sightings::new(12), Secret::default());
            let mut plain: HashMap<(u64, ModuleId), u64> = HashMap::new();
            for (number, (device, wanted, together)) in (1u64..).zip(requests) {
                let devpath = device.to_le_bytes();
                let origin = Origin::Event { device: Device { devpath: &devpath, genuine: false }, seqnum: number };
                let asker = Asker::new(number, &origin, &secret);
                let wanted: Vec<ModuleId> = wanted.into_iter().map(|module| modules[module]).collect();
                let before: Vec<Option<u64>> =
                    wanted.iter().map(|module| plain.get(&(device, *module)).copied()).collect();
                let group = Rc::new(Group::new(wanted.clone()));
                if let Some(asker) = Some(()).filter(|()| together).and_then(|()| sightings.see_together(asker, &group, Time::ZERO)) {
                    prop_assert!(before.iter().all(|before| *before == asker.seen));
                }
                // As who is not let through quietly goes on.
                for (module, before) in wanted.iter().zip(before) {
                    let seen = sightings.see(asker, *module, Time::ZERO, || unreachable!("there is room")).seen;
                    prop_assert_eq!(seen, before);
                    plain.insert((device, *module), number);
                }
                prop_assert!(sightings.len() <= plain.len());
            }
        }
    }

    #[test]
    fn when_no_more_fit_a_silence_makes_a_request_new() {
        let mut seen = Seen::with_room_for(1);
        assert_eq!(
            (seen.ask(1, 1, 0, 0), seen.ask(2, 2, 0, 5), seen.ask(3, 3, 0, 11)),
            (None, None, Some(u64::MAX))
        );
    }
}
