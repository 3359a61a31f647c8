// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Sightings: which devices asked for what failed
//!
//! Owns the answer to "does the same device ask again?" for one failure or one flight. A device is the same
//! again when it was seen with another request: the several modules of one modalias are one request. Holds at
//! most so many devices as [`super::limits::Limits`] says; beyond that a silence stands in for the missing knowledge.

use std::collections::HashMap;

use super::limits::Limits;
use super::request::{Asker, DeviceHash, Time};

/// The devices that asked.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    devices: HashMap<DeviceHash, u64>,
    asked: u64,
    last: Time,
}

impl Sightings {
    /// Takes down who asks.
    pub fn add(&mut self, asker: Asker, now: Time, limit: usize) {
        self.asked += 1;
        self.last = now;
        if let Some(device) = asker.device()
            && (self.devices.len() < limit || self.devices.contains_key(&device))
        {
            self.devices.insert(device, asker.request);
        }
    }

    /// Whether the asker's device was seen with an earlier request.
    pub fn again(&self, asker: Asker, now: Time, limit: usize) -> bool {
        asker.device().is_some_and(|device| match self.devices.get(&device) {
            Some(&request) => request != asker.request,
            None => self.devices.len() >= limit && now.saturating_sub(self.last) > Limits::SILENCE,
        })
    }

    /// How many requests were taken down.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// How many devices are remembered.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Takes in what others saw, as far as there is room.
    pub fn merge(&mut self, other: &Sightings, limit: usize) {
        self.asked += other.asked;
        self.last = self.last.max(other.last);
        for (&device, &request) in &other.devices {
            if self.devices.len() >= limit {
                break;
            }
            self.devices.insert(device, request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Device, Origin};
    use super::*;
    use std::hash::RandomState;
    use std::time::Duration;

    fn asker(hasher: &RandomState, request: u64, devpath: &[u8]) -> Asker {
        let device = Device { devpath, genuine: false };
        Asker::new(request, &Origin::Event { device, seqnum: request }, hasher)
    }

    #[test]
    fn one_request_for_several_modules_is_not_the_same_device_again() {
        let hasher = RandomState::new();
        let mut sightings = Sightings::default();
        sightings.add(asker(&hasher, 1, b"/devices/cpu0"), Time::ZERO, 8);
        assert!(!sightings.again(asker(&hasher, 1, b"/devices/cpu0"), Time::ZERO, 8));
        assert!(!sightings.again(asker(&hasher, 2, b"/devices/cpu1"), Time::ZERO, 8));
        assert!(sightings.again(asker(&hasher, 2, b"/devices/cpu0"), Time::ZERO, 8));
    }

    #[test]
    fn when_no_more_devices_fit_a_silence_makes_a_request_new() {
        let hasher = RandomState::new();
        let mut sightings = Sightings::default();
        for n in 0..100u64 {
            sightings.add(asker(&hasher, n, &n.to_le_bytes()), Time::ZERO, 8);
        }
        assert_eq!((sightings.devices(), sightings.asked()), (8, 100));
        let stranger = asker(&hasher, 200, b"/devices/cpu4711");
        assert!(!sightings.again(stranger, Duration::from_secs(5), 8));
        assert!(sightings.again(stranger, Duration::from_secs(6), 8));
    }
}
