// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Sighted: sightings on their way to another process
//!
//! Owns the form in which [`Sightings`] outlive their process. Their keys are made of a device's hash and a module's
//! number, so they mean the same only where the secret is the same, and the numbers. What no failure counts any more is
//! left behind; what is left is bounded as the sightings are, on either side.

use std::cmp::Reverse;
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

/// A key, the last request, and for what stands together the place of its group. The request before the last matters only
/// while the last is heard.
type Entry = (u64, u64, Option<usize>);

impl Sightings {
    /// What somebody may still ask about: not older than the first request that any failure counts.
    pub fn save(&self, counted_from: u64, table: &Table) -> Sighted {
        let mut places: HashMap<&Group, usize> = HashMap::new();
        let mut groups = Vec::new();
        let mut sightings: Vec<Entry> = Vec::new();
        for (&key, sighting) in self.alone.iter().filter(|(_, sighting)| sighting.last >= counted_from) {
            sightings.push((key, sighting.last, None));
        }
        for (&key, (sighting, group)) in &self.together {
            if sighting.last >= counted_from {
                let place = *places.entry(group).or_insert_with(|| {
                    groups
                        .push(group.modules().iter().map(|&module| (&**table.name(module)).into()).collect());
                    groups.len() - 1
                });
                sightings.push((key, sighting.last, Some(place)));
            }
        }
        sightings.sort_unstable_by_key(|&(key, last, ..)| (Reverse(last), key));
        Sighted { last: self.last, groups, sightings }
    }

    /// What was saved, as far as there is room. The table has the numbers that it had then; no request was later than
    /// `request`.
    pub fn restore(limit: usize, sighted: Sighted, request: u64, table: &mut Table) -> Self {
        let mut sightings = Self::new(limit);
        sightings.last = sighted.last;
        let groups: Vec<Rc<Group>> = sighted
            .groups
            .into_iter()
            .map(|names| names.into_iter().map(|name| table.id(&name.into())).collect())
            .map(|modules| Rc::new(Group::new(modules)))
            .collect();
        let known = sighted.sightings.into_iter().filter(|&(_, last, ..)| last <= request);
        for (key, last, place) in known.take(limit) {
            let sighting = Sighting::first(last);
            match place.map(|place| groups.get(place)) {
                None => drop(sightings.alone.insert(key, sighting)),
                Some(Some(group)) => drop(sightings.together.insert(key, (sighting, group.clone()))),
                Some(None) => {}
            }
        }
        sightings
    }
}
