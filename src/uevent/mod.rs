// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel and udevd say about devices. Nothing is decided, loaded or written here.

pub mod activation;
pub mod capture;
pub mod message;
pub mod netlink;
mod sockopt;
pub mod sysfs;
