// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loads each kernel module once.
//!
//! The way of a uevent; without udev the kernel's is the request, and so is a device found in /sys:
//!
//! ```text
//!  kernel ──▶ udevd ─rules─▶ broadcast ──▶ uevent::netlink ─▶ daemon::events ─┐
//!    │           └─RUN─▶ addonce-load ───▶ control::server ─▶ daemon::methods ─┤ request
//!    └─ what is on its way ─▶ daemon::hold                                     ▼
//!                                        kmod::resolver (libkmod) ◀─▶ once::scheduler ─▶ plan
//!                                                                                         │
//!                    once::scheduler ◀─outcome─ daemon::loads ─ a process each ─▶ kmod::insert
//!                           └─▶ add_once: log, monitor, history
//! ```
//!
//! Arrows go one way: `cli` → `daemon`, `control` → `once`, `kmod`, `uevent`. `once` and `plot` import none of the others.

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
