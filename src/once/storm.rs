// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Storm: what is kept of a storm as it goes on
//!
//! Owns the two episodes that are worth showing. An episode is requests and landings with less than [`Limits::QUIET`]
//! between them; one with [`Limits::STORM`] requests is a storm. The latest episode is kept, and beside it the last
//! storm, so that a hot plug does not wipe out what was seen at boot. A landing belongs to the episode in which its
//! flight took off, however long it took.
//!
//! It lies on the way of every duplicate, so a request costs one comparison and one store. Nothing is counted here: a
//! bin's numbers are differences of the [`Tally`], taken when the bin is closed.
//!
//! Bounded: two episodes of [`Bins::MOST`] bins and [`Limits::bars`] landings each; further landings are counted.

use super::bins::Bins;
use super::flight::Flight;
use super::limits::Limits;
use super::outcome::AddOnce;
use super::request::Time;
use super::tally::Tally;
use super::timeline::{Bar, Timeline};

/// The latest episode and the last storm.
#[derive(Debug)]
pub struct Storm {
    latest: Option<Episode>,
    /// The last storm before the latest episode.
    before: Option<Episode>,
    bars: usize,
}

/// Requests and landings without a pause.
#[derive(Debug)]
struct Episode {
    /// Its first request.
    began: Time,
    /// Its last request, or a landing after it. Fixed as soon as there is a later episode.
    last: Time,
    /// Before this a request changes nothing here but `last`: the end of the open bin, or earlier.
    due: Time,
    /// Its last landing, which may be a later episode's time.
    landed: Time,
    bins: Bins,
    /// The tally's requests and duplicates when the open bin was opened.
    counted: (u64, u64),
    /// The landings of its flights, and when that was.
    landings: Vec<(Time, AddOnce)>,
    /// Landings that were too many.
    left_out: u64,
}

impl Storm {
    /// Nobody has asked yet. So many landings are kept of an episode.
    pub fn new(bars: usize) -> Self {
        Self { latest: None, before: None, bars }
    }

    /// A request comes in, and is about to be counted.
    #[inline]
    pub fn request(&mut self, tally: &Tally, now: Time) {
        match &mut self.latest {
            Some(latest) if now < latest.due => latest.last = now,
            _ => self.turn(tally, now),
        }
    }

    /// A flight has landed.
    pub fn landed(&mut self, record: &AddOnce, now: Time) {
        let took_off = now.saturating_sub(record.load).saturating_sub(record.waited);
        let latest = self.latest.as_mut().filter(|latest| latest.includes(took_off));
        if let Some(latest) = latest {
            latest.last = now;
            latest.land(record, now, self.bars);
        } else if let Some(before) = self.before.as_mut().filter(|before| before.includes(took_off)) {
            before.land(record, now, self.bars);
        }
    }

    /// The storm that goes on or, where none does, the last one; as long as there was none, the latest episode.
    pub fn timeline<'a>(
        &'a self,
        tally: &Tally,
        flights: impl Iterator<Item = &'a Flight>,
        now: Time,
    ) -> Option<Timeline<'a>> {
        let latest = self.latest.as_ref()?;
        let (requests, duplicates) = latest.uncounted(tally);
        let mut bins = latest.bins.clone();
        bins.count(requests, duplicates);
        match &self.before {
            Some(before) if bins.total() < Limits::STORM => {
                Some(before.timeline(before.bins.clone(), flights, now))
            }
            _ => Some(latest.timeline(bins, flights, now)),
        }
    }

    /// A request that opens a bin, and with it perhaps an episode.
    #[cold]
    fn turn(&mut self, tally: &Tally, now: Time) {
        if let Some(latest) = &mut self.latest {
            let (requests, duplicates) = latest.uncounted(tally);
            latest.bins.count(requests, duplicates);
            if !latest.is_quiet(now) {
                return latest.open(tally, now);
            }
        }
        let mut episode = Episode {
            began: now,
            last: now,
            due: now,
            landed: now,
            bins: Bins::new(),
            counted: (0, 0),
            landings: Vec::new(),
            left_out: 0,
        };
        episode.open(tally, now);
        let latest = self.latest.replace(episode);
        self.before = latest.filter(|latest| latest.bins.total() >= Limits::STORM).or(self.before.take());
    }
}

impl Episode {
    fn open(&mut self, tally: &Tally, now: Time) {
        self.counted = (tally.requests, tally.duplicates());
        self.last = now;
        let end = self.began + self.bins.open(now.saturating_sub(self.began));
        // A bin may be wider than a pause is long.
        self.due = end.min(now + Limits::QUIET);
    }

    /// What has been counted since the last bin was opened. Landings count duplicates, too, where requests had to wait for
    /// their turn: they go with the request before.
    fn uncounted(&self, tally: &Tally) -> (u64, u64) {
        let (requests, duplicates) = self.counted;
        (tally.requests - requests, tally.duplicates() - duplicates)
    }

    /// Whether there is a pause at this time.
    fn is_quiet(&self, now: Time) -> bool {
        now.saturating_sub(self.last) >= Limits::QUIET
    }

    /// Whether a flight that took off then is its own.
    fn includes(&self, took_off: Time) -> bool {
        self.began <= took_off && !self.is_quiet(took_off)
    }

    fn land(&mut self, record: &AddOnce, now: Time, bars: usize) {
        self.landed = now;
        if self.landings.len() < bars {
            self.landings.push((now, record.clone()));
        } else {
            self.left_out += 1;
        }
    }

    fn timeline<'a>(
        &'a self,
        bins: Bins,
        flights: impl Iterator<Item = &'a Flight>,
        now: Time,
    ) -> Timeline<'a> {
        let in_air: Vec<Bar<'a>> =
            flights.filter(|flight| self.includes(flight.since)).map(Bar::in_air).collect();
        let end = if in_air.is_empty() { self.last.max(self.landed) } else { now };
        Timeline {
            began: self.began,
            lasted: end.saturating_sub(self.began),
            over: in_air.is_empty() && self.is_quiet(now),
            bins,
            bars: self.landings.iter().map(|(at, record)| Bar::landed(record, *at)).chain(in_air).collect(),
            bars_left_out: self.left_out,
        }
    }
}
