// SPDX-License-Identifier: MIT OR Apache-2.0
//! A whole Debian that boots, stock and with the package.
//!
//! Owns which boots are measured, and with how many CPUs.

/// By turns.
pub const BOOTS: [&str; 2] = ["boot-stock", "boot-service"];
pub const CPUS: u32 = 64;
