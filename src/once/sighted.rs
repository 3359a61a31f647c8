// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Sighted: sightings on their way to another process
//!
//! Owns the form in which [`Sightings`] outlive their process. Their keys are made of a device's hash and a module's
//! number, so they mean the same only where the secret is the same, and the numbers. What no failure counts any more is
//! left behind; what is left is bounded as the sightings are, on either side.

use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::request::Time;
use super::sighting::{Group, Sighting};
use super::sightings::Sightings;
use super::table::Table;

/// Sightings, as plain values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighted {
    /// When anybody asked last.
    last: Time,
    /// Modules that are asked for together.
    groups: Vec<Vec<Box<str>>>,
    /// Who asked last comes first.
    sightings: Vec<Entry>,
}

/// A key, how many requests came after its last one, and for what stands together the place of its group. The request
/// before the last matters only while the last is heard. Small, for a storm's worth of them is written while it goes on.
type Entry = (u64, u32, Option<u16>);

impl Sightings {
    /// What somebody may still ask about: not older than the first request that any failure counts.
    /// `request` is the last one's number.
    pub fn save(&self, counted_from: u64, request: u64, table: &Table) -> Sighted {
        let mut places: HashMap<&Group, u16> = HashMap::new();
        let mut groups = Vec::new();
        let counts = |sighting: &Sighting| sighting.last >= counted_from;
        let age =
            |sighting: &Sighting| u32::try_from(request.saturating_sub(sighting.last)).unwrap_or(u32::MAX);
        let count = self.alone.values().filter(|sighting| counts(sighting)).count()
            + self.together.values().filter(|(sighting, _)| counts(sighting)).count();
        let mut sightings: Vec<Entry> = Vec::with_capacity(count);
        for (&key, sighting) in self.alone.iter().filter(|(_, sighting)| counts(sighting)) {
            sightings.push((key, age(sighting), None));
        }
        for (&key, (sighting, group)) in self.together.iter().filter(|(_, (sighting, _))| counts(sighting)) {
            let known = places.get(&**group).copied();
            // There are fewer groups than modaliases in the memo, and of those far fewer than this.
            let Some(place) = known.or_else(|| u16::try_from(groups.len()).ok()) else { continue };
            if known.is_none() {
                groups.push(group.modules().iter().map(|&module| (&**table.name(module)).into()).collect());
                places.insert(&**group, place);
            }
            sightings.push((key, age(sighting), Some(place)));
        }
        sightings.sort_unstable_by_key(|&(key, age, _)| (age, key));
        Sighted { last: self.last, groups, sightings }
    }

    /// What was saved, as far as there is room. The table has the numbers that it had then, and so has `request`.
    pub fn restore(limit: usize, sighted: Sighted, request: u64, table: &mut Table) -> Self {
        let mut sightings = Self::new(limit);
        sightings.last = sighted.last;
        let groups: Vec<Rc<Group>> = sighted
            .groups
            .into_iter()
            .map(|names| names.into_iter().map(|name| table.id(&name.into())).collect())
            .map(|modules| Rc::new(Group::new(modules)))
            .collect();
        for (key, age, place) in sighted.sightings.into_iter().take(limit) {
            let sighting = Sighting::first(request.saturating_sub(age.into()));
            match place.map(|place| groups.get(usize::from(place))) {
                None => drop(sightings.alone.insert(key, sighting)),
                Some(Some(group)) => drop(sightings.together.insert(key, (sighting, group.clone()))),
                Some(None) => {}
            }
        }
        sightings
    }
}
