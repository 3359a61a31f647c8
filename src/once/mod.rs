// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Once: the pure core
//!
//! Requests go in, with the time they came at; actions come out. No descriptor, no clock, no thread, and no
//! knowledge of the other rooms: what it needs of them it asks through [`world::Modules`].
//!
//! | file | owns |
//! |---|---|
//! | [`request`] | what comes in, and the little of it that is kept |
//! | [`coalescer`] | the head: requests in, actions out |
//! | [`memo`] | what a modalias was found to stand for |
//! | [`table`] | the modules we know, by number |
//! | `meeting` | a request and the modules it stands for |
//! | `takeoff` | from a wanted module to a flight |
//! | [`flight`] | the flights in the air, and who waits for whom |
//! | [`slots`] | how many loads run at a time |
//! | `landing` | an outcome, and everybody who waits for it |
//! | `announced` | what the kernel says of modules themselves |
//! | [`failures`] | the memory for failed loads |
//! | [`shelf`] | an LRU whose places have numbers |
//! | [`asked`] | who asked for one attempt |
//! | [`ruling`] | a request that meets a failure: the retry rules |
//! | `quiet` | what a duplicate comes to, known beforehand |
//! | [`sighting`] | when a device last asked |
//! | [`sightings`] | which devices asked for what failed |
//! | [`sighted`] | sightings on their way to another process |
//! | [`secret`] | what keeps strangers from choosing hashes |
//! | [`snapshot`] | what of the core outlives its process |
//! | [`party`] | a client and the modules it waits for |
//! | [`tally`] | the counters |
//! | [`storm`] | what is kept of a storm as it goes on |
//! | [`bins`] | how many came when |
//! | [`timeline`] | a storm, to be looked at |
//! | [`askers`] | who asks most |
//! | [`policy`] | what hwdb says of one module |
//! | [`limits`] | the bounds |
//! | [`outcome`] | what the kernel said of one load |
//! | [`world`] | what the core asks of the rooms around it |
//! | [`fake`] | a world by declaration, for tests and replays |
//! | [`simulation`] | the core in such a world, with a clock of its own |

mod announced;
pub mod asked;
pub mod askers;
pub mod bins;
pub mod coalescer;
pub mod failures;
pub mod fake;
pub mod flight;
mod landing;
pub mod limits;
mod meeting;
pub mod memo;
pub mod outcome;
pub mod party;
pub mod policy;
mod quiet;
pub mod request;
pub mod ruling;
pub mod secret;
pub mod shelf;
pub mod sighted;
pub mod sighting;
pub mod sightings;
pub mod simulation;
pub mod slots;
pub mod snapshot;
pub mod storm;
pub mod table;
mod takeoff;
pub mod tally;
pub mod timeline;
pub mod world;
