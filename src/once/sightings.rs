// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Sightings: which device asked for which module when
//!
//! Owns the answer to "does the same device ask again?". For each device and each module that was not live when it asked,
//! the number of its last request; a failure knows from which request on it counts, so one table serves all failures.
//! Bounded: when it is full, what no failure counts any more is forgotten; where that is not enough, a silence stands
//! in for the missing knowledge ([`Limits::SILENCE`]).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::limits::Limits;
use super::request::{Asker, Time};
use super::table::ModuleId;

/// Devices, by what they asked for.
#[derive(Debug)]
pub struct Sightings {
    sightings: HashMap<u64, Sighting, BuildHasherDefault<AsItIs>>,
    limit: usize,
    last: Time,
    /// The request at which forgetting was last tried: it looks at every sighting, so it has to be seldom.
    swept: u64,
}

/// The last two requests of a device for a module; 0 is none. Two, since one request may look twice.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    last: u64,
    before: u64,
}

impl Sightings {
    /// Nobody has asked; so many sightings will be remembered.
    pub fn new(limit: usize) -> Self {
        Self { sightings: HashMap::default(), limit, last: Time::ZERO, swept: 0 }
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
        let silence = now.saturating_sub(std::mem::replace(&mut self.last, now));
        if let Some(sighting) = self.sightings.get_mut(&key) {
            // One that waited for its turn may come after a later one.
            if sighting.last < request {
                *sighting = Sighting { last: request, before: sighting.last };
            }
            let before = Some(sighting.before).filter(|&before| before != 0 && before < request);
            return Asker { seen: before, ..asker };
        }
        if self.sightings.len() >= self.limit && request.saturating_sub(self.swept) > self.limit as u64 / 2 {
            self.swept = request;
            let from = counted_from();
            self.sightings.retain(|_, sighting| sighting.last >= from);
        }
        if self.sightings.len() < self.limit {
            self.sightings.insert(key, Sighting { last: request, before: 0 });
        } else if silence > Limits::SILENCE {
            return Asker { seen: Some(u64::MAX), ..asker };
        }
        Asker { seen: None, ..asker }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.sightings.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.sightings.is_empty()
    }
}

/// The keys are keyed hashes already: they are taken as they are.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

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
    use std::hash::RandomState;
    use std::time::Duration;

    use super::super::request::{Device, Origin};
    use super::super::table::Table;
    use super::*;

    struct Seen {
        sightings: Sightings,
        hasher: RandomState,
        modules: [ModuleId; 2],
    }

    impl Seen {
        fn with_room_for(limit: usize) -> Self {
            let mut table = Table::default();
            let modules = ["a", "b"].map(|name| table.id(&name.into()));
            Self { sightings: Sightings::new(limit), hasher: RandomState::new(), modules }
        }

        fn ask(&mut self, request: u64, device: u64, module: usize, second: u64) -> Option<u64> {
            let device = Device { devpath: &device.to_le_bytes(), genuine: false };
            let asker = Asker::new(request, &Origin::Event { device, seqnum: request }, &self.hasher);
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

    #[test]
    fn when_no_more_fit_a_silence_makes_a_request_new() {
        let mut seen = Seen::with_room_for(1);
        assert_eq!(
            (seen.ask(1, 1, 0, 0), seen.ask(2, 2, 0, 5), seen.ask(3, 3, 0, 11)),
            (None, None, Some(u64::MAX))
        );
    }
}
