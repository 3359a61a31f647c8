// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler against a naive model of the once rules
//!
//! Random worlds of a few modules, random scripts of requests, outcomes, unloads, fixes and time, and eight
//! invariants that hold whatever happens (`docs/DESIGN.md`, the once rules). A case that fails is shrunk and printed
//! as a declaration and a script.
//!
//! | file | owns |
//! |---|---|
//! | `world` | a random world, as a value |
//! | `steps` | a random script, as a value |
//! | `harness` | the core, driven through a script as the daemon drives it, and watched at every action |
//! | `ledger` | what was asked, attempted and accepted: the naive bookkeeping of rich worlds |
//! | `rules` | the rules of one module without dependencies, predicted to the millisecond |
//! | `invariants` | one property for each invariant |
//! | `restarts` | the property that a restored core rules as the one that was saved |
//!
//! `ADDONCE_CASES` sets how many cases there are in all (100 000 by default), `ADDONCE_SEED` which.

mod harness;
mod invariants;
mod ledger;
mod restarts;
mod rules;
mod steps;
mod world;
