// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the distribution's module tree says, and how the kernel is told: the real side of [`crate::once::Modules`].
//!
//! Everything libkmod knows is asked in one thread and leaves this module as owned values; a load is performed by a process that is
//! given such a value. The only `unsafe` of it is in `sys`.

pub mod hwdb;
pub mod insert;
pub mod resolver;
pub mod stamp;
mod sys;
pub mod tree;
pub mod watch;

pub use insert::Loader;
pub use resolver::Resolver;
pub use tree::{Tree, initstate};
