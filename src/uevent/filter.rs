// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel need not queue: a classic BPF program that it runs on every datagram before that takes room in the socket's
//! queue and wakes us.
//!
//! It lets through `add@` (devices, and modules that came), `remove@/module/` (modules that went), and all that udevd announces
//! ("libudev"). The kernel's change, bind, unbind and other remove events cost neither buffer nor wake-up, and are not counted as
//! drops either. It saves work and is no check: [`super::message`] reads what it is given as if there were none.

use std::io;
use std::os::fd::BorrowedFd;

use super::sockopt;

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// A load beyond the end of a short datagram ends the program and drops it, which is what we want.
const PROGRAM: [libc::sock_filter; 10] = [
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
///
/// # Errors
/// What the system says.
pub(super) fn attach(socket: BorrowedFd<'_>) -> io::Result<()> {
    sockopt::attach_filter(socket, &PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do, for the few instructions used.
    fn passes(datagram: &[u8]) -> bool {
        let (mut accumulator, mut next) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = PROGRAM[next];
            next += 1;
            match u32::from(code) {
                LOAD_WORD => match datagram.get(k as usize..k as usize + 4) {
                    Some(word) => accumulator = u32::from_be_bytes(word.try_into().expect("4 bytes")),
                    None => return false,
                },
                EQUAL => next += usize::from(if accumulator == k { jt } else { jf }),
                RETURN => return k != 0,
                other => panic!("instruction {other:#x} is not expected"),
            }
        }
    }

    #[test]
    fn devices_that_appear_modules_and_all_that_udev_says_pass() {
        for wanted in ["add@/devices/x\0ACTION=add", "add@", "remove@/module/nfit", "libudev\0\u{fe}"] {
            assert!(passes(wanted.as_bytes()), "{wanted}");
        }
    }

    #[test]
    fn what_nobody_waits_for_is_shed() {
        for shed in [
            "",
            "a",
            "add",
            "adds@/x",
            "add_once@/module/x",
            "change@/devices/x\0MODALIAS=x",
            "bind@/devices/x\0MODALIAS=x",
            "remove",
            "remove@/devices/x\0MODALIAS=x",
            "removed@/module/",
        ] {
            assert!(!passes(shed.as_bytes()), "{shed}");
        }
    }

    #[test]
    fn the_kernel_takes_it() {
        let (socket, _peer) = std::os::unix::net::UnixDatagram::pair().expect("a socket");
        attach(std::os::fd::AsFd::as_fd(&socket)).expect("attached");
    }
}
