// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Askers: who asks most
//!
//! Owns the two lists that name the source of a storm. Modaliases are counted where their resolution is remembered, in
//! the memo: exact, but an entry that is evicted, or dropped because an index or modprobe.d changed, begins anew.
//! Devices are counted by the directory they stand in (/devices/system/cpu for a CPU), in a summary of fixed size:
//! Space-Saving (Metwally, Agrawal, El Abbadi 2005). Of N requests it never misses a directory with more than N/64 of
//! them, and counts none too low and none more than N/64 too high.
//!
//! It lies on the way of every duplicate: devices of one directory mostly ask in a row, so the entry that was used last
//! is looked at first, and that is one comparison of bytes.
//!
//! Bounded by [`Devices::ENTRIES`] directories of a device path's length each.

use super::coalescer::Coalescer;

/// Directories of devices, by how often they asked.
#[derive(Debug, Default)]
pub struct Devices {
    /// Those used last tend to stand first.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    directory: Vec<u8>,
    requests: u64,
    excess: u64,
}

/// Who asked, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequent<'a> {
    /// A modalias, or the directory of devices.
    pub who: &'a [u8],
    /// How many requests; never too low.
    pub requests: u64,
    /// By how much that may be too high: who had the place before asked so often.
    pub excess: u64,
}

/// Who asked most; the first asked most.
#[derive(Debug)]
pub struct Askers<'a> {
    /// What for.
    pub modaliases: Vec<Frequent<'a>>,
    /// Where the devices stand.
    pub devices: Vec<Frequent<'a>>,
}

impl Devices {
    /// So many directories are counted.
    pub const ENTRIES: usize = 64;

    /// A device asks.
    #[inline]
    pub fn count(&mut self, devpath: &[u8]) {
        let directory = directory(devpath);
        match self.entries.first_mut() {
            Some(last) if last.directory == directory => last.requests += 1,
            _ => self.look_for(directory),
        }
    }

    /// Those that asked most.
    pub fn top(&self, limit: usize) -> Vec<Frequent<'_>> {
        let all = self.entries.iter().map(|entry| Frequent {
            who: &entry.directory,
            requests: entry.requests,
            excess: entry.excess,
        });
        top(all, limit)
    }

    #[cold]
    fn look_for(&mut self, directory: &[u8]) {
        let known = self.entries.iter().position(|entry| entry.directory == directory);
        let place = known.unwrap_or_else(|| self.make_room(directory));
        self.entries[place].requests += 1;
        self.entries.swap(0, place);
    }

    /// A place for a new directory: as long as there is none to spare, that of who asked least. Its count is inherited,
    /// which is what keeps the counts from ever being too low.
    fn make_room(&mut self, directory: &[u8]) -> usize {
        if self.entries.len() < Self::ENTRIES {
            self.entries.push(Entry { directory: directory.into(), requests: 0, excess: 0 });
            return self.entries.len() - 1;
        }
        let least = (0..self.entries.len()).min_by_key(|&place| self.entries[place].requests);
        let place = least.expect("there are ENTRIES");
        let entry = &mut self.entries[place];
        *entry = Entry { directory: directory.into(), requests: entry.requests, excess: entry.requests };
        place
    }
}

impl Coalescer {
    /// Who asked most, at most so many of each.
    pub fn askers(&self, limit: usize) -> Askers<'_> {
        let modaliases = self.memo.asked().map(|(who, requests)| Frequent { who, requests, excess: 0 });
        Askers { modaliases: top(modaliases, limit), devices: self.devices.top(limit) }
    }
}

/// The first by count, and among equals by name.
fn top<'a>(all: impl Iterator<Item = Frequent<'a>>, limit: usize) -> Vec<Frequent<'a>> {
    let mut all: Vec<_> = all.filter(|frequent| frequent.requests > 0).collect();
    all.sort_unstable_by(|one, other| other.requests.cmp(&one.requests).then(one.who.cmp(other.who)));
    all.truncate(limit);
    all
}

/// The directory of a path: what stands before its last slash.
fn directory(devpath: &[u8]) -> &[u8] {
    memchr::memrchr(b'/', devpath).map_or(b"", |slash| &devpath[..slash])
}
