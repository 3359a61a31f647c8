// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads each kernel module once.
//!
//! docs/DESIGN.md has the way of a uevent, the rules, and what each directory is for. Arrows go one way: `cli` → `daemon`, `control` →
//! `once`, `kmod`, `uevent`. `once` and `plot` import none of the others.

pub mod cli;
pub mod control;
pub mod daemon;
pub mod escape;
pub mod fatal;
pub mod format;
pub mod kmod;
pub mod once;
pub mod plot;
pub mod replay;
pub mod uevent;
