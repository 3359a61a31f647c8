// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Sightings: which device asked when
//!
//! Owns the answer to "does the same device ask again?". For each device that asked for something that was not live,
//! the number of its last request; a failure knows from which request on it counts, so one table serves all failures.
//! Bounded: when it is full, what no failure counts any more is forgotten; where that is not enough, a silence stands
//! in for the missing knowledge ([`Limits::SILENCE`]).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::limits::Limits;
use super::request::{AsItIs, Asker, DeviceHash, Time};

/// The devices that asked.
#[derive(Debug)]
pub struct Sightings {
    devices: HashMap<DeviceHash, u64, BuildHasherDefault<AsItIs>>,
    limit: usize,
    last: Time,
    /// The request at which forgetting was last tried: it looks at every device, so it has to be seldom.
    swept: u64,
}

impl Sightings {
    /// Nobody has asked; so many devices will be remembered.
    pub fn new(limit: usize) -> Self {
        Self { devices: HashMap::default(), limit, last: Time::ZERO, swept: 0 }
    }

    /// Takes down who asks, and tells in `asker.seen` when it did so before. `counted_from` is asked for only where room is
    /// short: the first request that any failure still counts.
    pub fn see(&mut self, asker: &mut Asker, now: Time, counted_from: impl FnOnce() -> u64) {
        let Some(device) = asker.device() else { return };
        let silence = now.saturating_sub(std::mem::replace(&mut self.last, now));
        if let Some(seen) = self.devices.get_mut(&device) {
            asker.seen = Some(std::mem::replace(seen, asker.request));
            return;
        }
        if self.devices.len() >= self.limit && asker.request - self.swept > self.limit as u64 / 2 {
            self.swept = asker.request;
            let from = counted_from();
            self.devices.retain(|_, request| *request >= from);
        }
        if self.devices.len() < self.limit {
            self.devices.insert(device, asker.request);
        } else if silence > Limits::SILENCE {
            asker.seen = Some(u64::MAX);
        }
    }

    /// How many devices are remembered.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::time::Duration;

    use super::super::request::{Device, Origin};
    use super::*;

    fn seen(
        sightings: &mut Sightings,
        hasher: &RandomState,
        request: u64,
        devpath: &[u8],
        now: Time,
    ) -> Option<u64> {
        let device = Device { devpath, genuine: false };
        let mut asker = Asker::new(request, &Origin::Event { device, seqnum: request }, hasher);
        sightings.see(&mut asker, now, || request - 4);
        asker.seen
    }

    #[test]
    fn a_device_is_known_by_its_last_request() {
        let (hasher, mut sightings) = (RandomState::new(), Sightings::new(8));
        assert_eq!(seen(&mut sightings, &hasher, 1, b"/devices/cpu0", Time::ZERO), None);
        assert_eq!(seen(&mut sightings, &hasher, 2, b"/devices/cpu1", Time::ZERO), None);
        assert_eq!(seen(&mut sightings, &hasher, 3, b"/devices/cpu0", Time::ZERO), Some(1));
        assert_eq!(seen(&mut sightings, &hasher, 4, b"/devices/cpu0", Time::ZERO), Some(3));
    }

    #[test]
    fn what_no_failure_counts_makes_room() {
        let (hasher, mut sightings) = (RandomState::new(), Sightings::new(8));
        for n in 1..=100u64 {
            seen(&mut sightings, &hasher, n, &n.to_le_bytes(), Time::ZERO);
            assert!(sightings.len() <= 8);
        }
        assert_eq!(seen(&mut sightings, &hasher, 101, &100u64.to_le_bytes(), Time::ZERO), Some(100));
    }

    #[test]
    fn when_no_more_devices_fit_a_silence_makes_a_request_new() {
        let (hasher, mut sightings) = (RandomState::new(), Sightings::new(1));
        let mut ask = |request, second| {
            let device = Device { devpath: &[request as u8], genuine: false };
            let mut asker = Asker::new(request, &Origin::Event { device, seqnum: 1 }, &hasher);
            sightings.see(&mut asker, Duration::from_secs(second), || 0);
            asker.seen
        };
        assert_eq!((ask(1, 0), ask(2, 5), ask(3, 11)), (None, None, Some(u64::MAX)));
    }
}
