// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Shelf: an LRU whose places have numbers
//!
//! Owns values by key, as many as it has places; when all are taken, what was used longest ago makes room. Unlike a
//! common LRU it tells at which place a value stands, so that who needs the same few again and again goes there without
//! looking them up. Using one costs a number; making room looks at all, which is for what is rarely filled.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// Values by key.
#[derive(Debug)]
pub struct Shelf<K, V> {
    places: Vec<Place<K, V>>,
    /// Ordered rather than hashed: the keys are small numbers, and few.
    index: BTreeMap<K, usize>,
    capacity: NonZeroUsize,
    /// How often anything was used.
    uses: u64,
}

#[derive(Debug)]
struct Place<K, V> {
    key: K,
    value: V,
    used: u64,
}

impl<K: Clone + Ord, V> Shelf<K, V> {
    /// An empty one.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { places: Vec::new(), index: BTreeMap::new(), capacity, uses: 0 }
    }

    /// Where a value stands: until the next [`Shelf::push`] or [`Shelf::pop`].
    pub fn find(&self, key: &K) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// The value at a place, without using it.
    pub fn look(&self, place: usize) -> &V {
        &self.places[place].value
    }

    /// Uses the value at a place.
    pub fn take_up(&mut self, place: usize) -> &mut V {
        let place = &mut self.places[place];
        self.uses += 1;
        place.used = self.uses;
        &mut place.value
    }

    /// Uses a value.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).map(|place| self.take_up(place))
    }

    /// Puts a value there. Returns what had to go for it: what had the same key, or what was used longest ago.
    pub fn push(&mut self, key: K, value: V) -> Option<(K, V)> {
        let oldest = || (0..self.places.len()).min_by_key(|&place| self.places[place].used);
        let full = self.places.len() >= self.capacity.get();
        let gone = self.find(&key).or_else(|| if full { oldest() } else { None });
        let gone = gone.map(|place| self.clear(place));
        self.uses += 1;
        self.index.insert(key.clone(), self.places.len());
        self.places.push(Place { key, value, used: self.uses });
        gone
    }

    /// Takes a value away.
    pub fn pop(&mut self, key: &K) -> Option<V> {
        self.find(key).map(|place| self.clear(place).1)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.places.iter().map(|place| (&place.key, &place.value))
    }

    /// All values, to be changed, in no order and without using them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.places.iter_mut().map(|place| &mut place.value)
    }

    /// All values, what was used last first.
    pub fn by_use(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut places: Vec<&Place<K, V>> = self.places.iter().collect();
        places.sort_unstable_by_key(|place| std::cmp::Reverse(place.used));
        places.into_iter().map(|place| (&place.key, &place.value))
    }

    /// Takes away what stands at a place; the last one moves there.
    fn clear(&mut self, place: usize) -> (K, V) {
        let gone = self.places.swap_remove(place);
        self.index.remove(&gone.key);
        if let Some(moved) = self.places.get(place) {
            self.index.insert(moved.key.clone(), place);
        }
        (gone.key, gone.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lru::LruCache;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_keeps_and_orders_what_any_lru_would(
            capacity in 1..5usize,
            steps in proptest::collection::vec((0..3u8, 0..7u8), 0..60)
        ) {
            let capacity = NonZeroUsize::new(capacity).unwrap();
            let (mut shelf, mut plain) = (Shelf::new(capacity), LruCache::new(capacity));
            for (number, (what, key)) in steps.into_iter().enumerate() {
                match what {
                    0 => prop_assert_eq!(shelf.push(key, number), plain.push(key, number)),
                    1 => prop_assert_eq!(shelf.get_mut(&key), plain.get_mut(&key)),
                    _ => prop_assert_eq!(shelf.pop(&key), plain.pop(&key)),
                }
                prop_assert!(shelf.by_use().eq(plain.iter()));
                for (key, value) in plain.iter() {
                    prop_assert_eq!(shelf.find(key).map(|place| *shelf.look(place)), Some(*value));
                }
            }
        }
    }
}
