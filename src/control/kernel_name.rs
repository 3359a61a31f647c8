// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which names the kernel's helper asks the daemon for, and which it leaves to modprobe. addonce-modprobe is made of this file, and
//! `addonce explain` says the same by it.

/// The longest name of the kernel's: MODULE_NAME_LEN of linux/module.h, without the NUL.
const LONGEST: usize = 55;
/// The family of the socket by which the daemon is asked: where that is a module, asking asks for it.
const OUR_SOCKET: &[u8] = b"net-pf-1";

/// Whether the daemon is asked for it.
pub fn is_asked_for(name: &[u8]) -> bool {
    (1..=LONGEST).contains(&name.len()) && !name.contains(&b'/') && name != OUR_SOCKET
}
