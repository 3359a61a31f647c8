// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Uevent: the way in
//!
//! This room turns what the kernel says about devices into facts the rest of the house can act on: a device,
//! where it sits, what modalias it carries, whether it came or went. It decides nothing, loads nothing and
//! writes nothing under /sys. Three doors lead in, and all of them end in the same few borrowed bytes:
//!
//! * [`message`]: one datagram, parsed in place; every rejection has a name (pure). `cut` finds the ends of its
//!   strings, and [`alike`] reads those of a storm, which say nearly the same.
//! * [`netlink`]: the socket: its buffer, its sender check, its overflow; and a way to speak as the kernel
//!   does, for tests and replays. [`filter`] is the program the kernel runs before it queues anything,
//!   `sockopt` the three socket options that nix does not know, which hold the only `unsafe` here;
//!   [`activation`] is how a supervisor hands it over, and the control socket with it.
//! * [`sysfs`]: the same facts read from `uevent` files, for what came before the socket or was lost by it.
//! * [`capture`]: storms written to a file a person can read, and read back.
//!
//! Bounds: a datagram is at most [`message::LONGEST`] bytes, a `uevent` file [`sysfs::FILE_MAX`], a scan
//! [`sysfs::LINKS_MAX`] links; the socket's queue is the caller's number.

pub mod activation;
pub mod capture;
mod cut;
pub mod filter;
pub mod message;
pub mod netlink;
mod sockopt;
pub mod sysfs;
