// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decides which module is loaded when, and whether a request is a duplicate or a new attempt.
//!
//! A pure state machine: requests, outcomes and the passing of time go in, [`Action`]s come out. It has no file descriptor,
//! no clock and no thread; what it wants to know of modules it asks through the trait [`Modules`].
//!
//! Each module is in one [state](scheduler::State):
//!
//! ```text
//!             request                    dependencies live, slot free
//!  Unknown ─────────────▶ Loading ──────────────────────────────────▶ an Action::Load is running
//!     ▲                    ▲   │                                                 │
//!     │ unloaded     retry │   │ nothing to load, or loaded by somebody else     │ finished()
//!     │              rules │   ▼                                                 │
//!   Live ◀─────────── Failed ◀┴─────────────────────────────────────────────────┘
//! ```
//!
//! Read in this order: [`request`], [`scheduler`], [`failure`] (the retry rules), [`loads`] (dependencies and slots).

pub mod failure;
mod limits;
mod loads;
mod modules;
pub mod outcome;
pub mod policy;
pub mod request;
pub mod scheduler;
pub mod snapshot;
mod stats;

pub use failure::Failure;
pub use limits::Limits;
pub use modules::{Candidate, Cause, InitState, Modules, Name, Plan, Verdict, Work};
pub use outcome::{AddOnce, LoadError, Outcome, Stage};
pub use policy::{Backoff, Mode, Policy};
pub use request::{ClientId, Origin, Request, Time};
pub use scheduler::{Action, Answer, Loading, Scheduler, Status};
pub use snapshot::Snapshot;
pub use stats::Stats;
