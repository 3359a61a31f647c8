// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel and udevd say about devices. Nothing is decided, loaded or written here.
//!
//! * [`netlink`]: the socket, whom it believes, and its overflow; [`activation`] is how a supervisor hands it over, and the
//!   control socket with it.
//! * [`message`]: one datagram, parsed in place.
//! * [`sysfs`]: the devices that are there, for machines without udev, and for what an overflow has lost.
//! * [`capture`]: uevents in a file that a person can read.

pub mod activation;
pub mod capture;
pub mod message;
pub mod netlink;
mod sockopt;
pub mod sysfs;
