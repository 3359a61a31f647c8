// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket options that nix does not know, and owners for descriptors that come as numbers: the only `unsafe` of this module.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::{getsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// The protocol that a socket was made with.
    Protocol, GetOnly, libc::SOL_SOCKET, libc::SO_PROTOCOL, i32
);
sockopt_impl!(
    /// `SK_MEMINFO_VARS` words: so many it has had since it exists (Linux 4.12).
    MemInfo, GetOnly, libc::SOL_SOCKET, libc::SO_MEMINFO, [u32; 9]
);

/// Makes this process the owner of descriptors that it was started with, once: the second time there are none. The
/// caller knows that they are open and that nobody else in the process counts on them.
pub(super) fn claim(descriptors: impl Iterator<Item = RawFd>) -> Vec<OwnedFd> {
    static CLAIMED: AtomicBool = AtomicBool::new(false);
    if CLAIMED.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    // SAFETY: they are open, came by exec, and CLAIMED sees to it that each is given out once.
    descriptors.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }).collect()
}
