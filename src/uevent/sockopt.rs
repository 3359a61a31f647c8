// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket options that nix does not know, and owners for descriptors that come as numbers: the only `unsafe` of this room.
//!
//! One of them is the filter: a classic BPF program that the kernel runs on every datagram before that takes room in the socket's
//! queue and wakes us. It lets through `add@` (devices, and modules that came), `remove@/module/` (modules that went), and all that
//! udevd announces ("libudev"); the rest is not counted as dropped either. It saves work and is no check.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::setsockopt;
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// The address family that a socket was made with.
    Domain, GetOnly, libc::SOL_SOCKET, libc::SO_DOMAIN, i32
);
sockopt_impl!(
    /// The protocol that it was made with.
    Protocol, GetOnly, libc::SOL_SOCKET, libc::SO_PROTOCOL, i32
);
sockopt_impl!(
    /// `SK_MEMINFO_VARS` words: so many it has had since it exists (Linux 4.12).
    MemInfo, GetOnly, libc::SOL_SOCKET, libc::SO_MEMINFO, [u32; 9]
);
sockopt_impl!(
    /// A classic BPF program. It is copied, and not written to.
    AttachFilter, SetOnly, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, libc::sock_fprog
);

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// A load beyond the end of a short datagram ends the program and drops it, which is what we want.
static FILTER: [libc::sock_filter; 10] = [
    step(LOAD_WORD, 0),
    jump(b"add@", 7, 0),
    jump(b"libu", 6, 0),
    jump(b"remo", 0, 4),
    step(LOAD_WORD, 4),
    jump(b"ve@/", 0, 2),
    step(LOAD_WORD, 8),
    jump(b"modu", 1, 0),
    step(RETURN, 0),
    step(RETURN, u32::MAX),
];

const fn step(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// `yes` and `no` count the steps to leap over.
const fn jump(letters: &[u8; 4], yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code: EQUAL as u16, jt: yes, jf: no, k: u32::from_be_bytes(*letters) }
}

/// Attaches the filter. It replaces one that was there, and does not touch what is queued already.
pub(super) fn attach_filter(socket: &OwnedFd) -> nix::Result<()> {
    let program = libc::sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
    setsockopt(socket, AttachFilter, &program)
}

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
