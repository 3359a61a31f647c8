// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Secret: what keeps strangers from choosing hashes
//!
//! Owns the 128 bits that every hash of a device is keyed by. Unlike those of std's `RandomState` they can be carried over
//! to another process, which then knows the same device by the same number. The algorithm is that of std's
//! [`DefaultHasher`], which may be another one in another release of Rust: [`Secret::dialect`] tells two apart.
//!
//! It lies on the way of every request: what is fed once is kept fed, and copied for every hash.

use std::fmt;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// The key of all hashes of devices.
#[derive(Clone)]
pub struct Secret {
    words: [u64; 2],
    /// Begun with the words.
    begun: DefaultHasher,
}

impl Secret {
    /// The secret that another process had.
    pub fn new(words: [u64; 2]) -> Self {
        let mut begun = DefaultHasher::new();
        words.hash(&mut begun);
        Self { words, begun }
    }

    /// What to hand to another process. Who knows it can choose devices that are taken for one another.
    pub fn words(&self) -> [u64; 2] {
        self.words
    }

    /// The hash of a device's path.
    pub fn hash(&self, devpath: &[u8]) -> u64 {
        let mut hasher = self.begun.clone();
        devpath.hash(&mut hasher);
        hasher.finish()
    }

    /// The same number wherever the algorithm is the same.
    pub fn dialect() -> u64 {
        Self::new([1, 2]).hash(b"/devices/addonce")
    }
}

impl Default for Secret {
    /// A new one, drawn as std draws its own.
    fn default() -> Self {
        let random = RandomState::new();
        Self::new([random.hash_one(1_u64), random.hash_one(2_u64)])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_secret_gives_the_same_hash_and_another_one_another() {
        let one = Secret::default();
        let same = Secret::new(one.words());
        assert_eq!(one.hash(b"/devices/cpu0"), same.hash(b"/devices/cpu0"));
        assert_ne!(one.hash(b"/devices/cpu0"), one.hash(b"/devices/cpu1"));
        assert_ne!(one.hash(b"/devices/cpu0"), Secret::default().hash(b"/devices/cpu0"));
        assert_eq!(Secret::dialect(), Secret::dialect());
    }
}
