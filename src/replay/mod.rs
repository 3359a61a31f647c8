// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler in simulated worlds, for tests and for `addonce replay`.

pub mod fake;
pub mod simulation;
pub mod tree;
