// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket options that nix does not know, and owners for descriptors that come as numbers: the only `unsafe` of this room.
//!
//! One of them is the filter: a classic BPF program that the kernel runs on every datagram before that takes room in the socket's
//! queue and wakes us. It lets through `add@` (devices, and modules that came), `remove@/module/` (modules that went), and all that
//! udevd announces ("libudev"). The kernel's change, bind, unbind and other remove events cost neither buffer nor wake-up, and are
//! not counted as drops either. It saves work and is no check: [`super::message`] reads what it is given as if there were none.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// `SK_MEMINFO_VARS`: how many words SO_MEMINFO has had since it exists (Linux 4.12).
const MEMINFO_WORDS: usize = 9;

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
pub(super) fn attach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    let fprog = libc::sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
    // SAFETY: `fprog` points at `len` instructions that outlive the call; the kernel copies and does not write.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const fprog).cast::<c_void>(),
            size_of_val(&fprog) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many datagrams the kernel could not queue, since the socket exists.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let words: [u32; MEMINFO_WORDS] = get(socket, libc::SO_MEMINFO)?;
    Ok(words[libc::SK_MEMINFO_DROPS as usize])
}

/// Makes this process the owner of descriptors that it was started with, once: the second time there are none. The
/// caller knows that they are open and that nobody else in the process counts on them.
pub(super) fn claim(descriptors: Range<RawFd>) -> Vec<OwnedFd> {
    static CLAIMED: AtomicBool = AtomicBool::new(false);
    if CLAIMED.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    // SAFETY: they are open, came by exec, and CLAIMED sees to it that each is given out once.
    descriptors.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }).collect()
}

/// The address family and the protocol a socket was made with. ENOTSOCK for what is none.
pub(super) fn kind(socket: BorrowedFd<'_>) -> io::Result<(c_int, c_int)> {
    Ok((get::<1>(socket, libc::SO_DOMAIN)?[0] as c_int, get::<1>(socket, libc::SO_PROTOCOL)?[0] as c_int))
}

fn get<const N: usize>(socket: BorrowedFd<'_>, option: c_int) -> io::Result<[u32; N]> {
    let mut words = [0u32; N];
    let mut size = size_of_val(&words) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, all of them inside `words`, where any bits are a u32.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            words.as_mut_ptr().cast::<c_void>(),
            &mut size,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if size as usize != size_of_val(&words) {
        return Err(io::Error::other(format!("socket option {option} has {size} bytes")));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_socket_of_another_family_says_so() {
        let (socket, _peer) = UnixDatagram::pair().unwrap();
        assert_eq!(kind(socket.as_fd()).unwrap(), (libc::AF_UNIX, 0));
        assert_eq!(drops(socket.as_fd()).unwrap(), 0);
    }

    #[test]
    fn a_file_is_no_socket() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(kind(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
        assert_eq!(attach_filter(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));
    }

    #[test]
    fn an_option_of_another_size_is_an_error_not_a_guess() {
        let (socket, _peer) = UnixDatagram::pair().unwrap();
        assert!(get::<2>(socket.as_fd(), libc::SO_DOMAIN).is_err());
    }
}
