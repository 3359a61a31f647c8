// SPDX-License-Identifier: MIT OR Apache-2.0
//! # addonce: loads each kernel module once
//!
//! The way of a uevent through the house:
//!
//! ```text
//!  kernel ──netlink──▶ uevent::netlink ─▶ uevent::message ─┐
//!  /sys   ──files────▶ uevent::sysfs ──────────────────────┤ daemon::intake
//!  client ──varlink──▶ control::server ─▶ daemon::methods ────┤ request
//!                                                          ▼
//!                          once::coalescer ── memo ──▶ kmod::resolver (libkmod) ─▶ plan
//!                               │  ▲
//!                  start flight │  │ landed
//!                               ▼  │
//!                          daemon::workers ─▶ kmod::insert ─▶ finit_module / install command
//!                               │
//!                               ▼
//!                          daemon::report: one add_once line
//! ```
//!
//! | room | owns |
//! |---|---|
//! | [`uevent`] | the way in: the socket, the message, the scan, the capture |
//! | [`kmod`] | what the module tree says, and the kernel's door |
//! | [`once`] | the pure core: what is a duplicate, what is an attempt |
//! | [`daemon`] | the loop that joins them |
//! | [`control`] | the socket for asking and steering |
//! | [`plot`] | a storm as a picture |
//! | [`cli`] | one file per command |
//!
//! Arrows go one way: `cli` → `daemon`, `control` → `once`, `kmod`, `uevent`. `once` and `plot`, which only `cli`
//! imports, import none of the others.

pub mod cli;
pub mod control;
pub mod daemon;
pub mod escape;
pub mod fatal;
pub mod kmod;
pub mod once;
pub mod plot;
pub mod replay;
pub mod uevent;
