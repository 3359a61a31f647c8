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
//! Among the mutations of the scheduler that these were seen to catch: a request attempts a module through each way that leads to it; an
//! event heard twice is two requests; an unload that came before a failure ends it; a retry is not remembered, or not for a dependent
//! whose dependency's is; causes are not compared, or not when a load fails; EEXIST under another name is a failure; a shortage is not
//! tried again; an administrator is answered from memory, or everybody; a scan loads what was unloaded; the next process counts its
//! requests from one; after lost events what was live still is.

mod harness;
mod invariants;
mod ledger;
mod restarts;
mod rules;
mod steps;
mod world;
