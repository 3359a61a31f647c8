// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Kmod: what the distribution's module tree says, and how the kernel is told
//!
//! The real side of [`crate::once::Modules`]. Everything libkmod knows is asked in one thread and leaves the room as
//! owned values; everything that loads is performed by workers that hold nothing but such a value.
//!
//! * [`Tree`]: which modules are meant: directory, kernel, sysfs, modprobe.d.
//! * [`Resolver`]: modalias to resolution, module to plan; reads anew when its [`stamp`] has changed.
//! * [`watch`]: whether it may have.
//! * [`hwdb`]: the policy that goes with a module.
//! * [`ordered`]: a plan as the list that `modprobe -D` prints.
//! * [`explain`]: what would become of an alias, and why.
//! * [`Loader`]: one load, by [`KernelLoader`] or, without consequences, by [`DryRun`]; [`initstate()`] is what the
//!   kernel then says, `install` a command of modprobe.d in its place.
//! * `sys`: libkmod, declared by hand; the only `unsafe` of the room.

mod explanation;
pub mod hwdb;
pub mod initstate;
pub mod insert;
mod install;
pub mod plan;
pub mod policy;
pub mod resolver;
pub mod stamp;
mod sys;
pub mod tree;
pub mod watch;

pub use explanation::{Explanation, explain};
pub use initstate::initstate;
pub use insert::{DryRun, KernelLoader, Loader};
pub use plan::{Step, ordered};
pub use resolver::Resolver;
pub use tree::Tree;
