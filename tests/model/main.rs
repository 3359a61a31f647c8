// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler against a naive model of the retry rules.
//!
//! Random worlds of a few modules, random scripts of requests, outcomes, unloads, fixes and time, and eight invariants that hold
//! whatever happens. A case that fails is shrunk and printed as a declaration and a script.
//!
//! `world` and `steps` are a random world and a random script, as values. `harness` drives the scheduler through a script as the
//! daemon does, and watches every action. `ledger` is the bookkeeping of rich worlds: what was asked, accepted and attempted; `rules`
//! predicts modules without dependencies to the millisecond. `invariants` has a property for each invariant, `restarts` the one that a
//! restored scheduler rules as the one that was saved.
//!
//! `ADDONCE_CASES` sets how many cases there are in all (100 000 by default), `ADDONCE_SEED` which.
//!
//! Which mistakes these and the other tests of the scheduler were seen to catch stands in mutations.md.

#[path = "../common/fake.rs"]
mod fake;
mod harness;
mod invariants;
mod ledger;
mod restarts;
mod rules;
mod steps;
mod world;
