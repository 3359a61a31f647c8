// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Filter: what the kernel need not queue at all
//!
//! A classic BPF program that the kernel runs on every uevent before it takes room in the socket's queue and before it
//! wakes us. It lets through `add@` with a MODALIAS (devices to find drivers for), `add@/module/` (modules that came) and
//! `remove@/module/` (modules that went). Everything else costs neither buffer nor wake-up, and is not counted as a drop
//! either: change, bind and unbind, and what a storm adds that has no driver to wait for (memory blocks, clock event
//! devices, cooling devices, terminals), which is two events of three. The filter saves work and is no check:
//! [`super::message`] reads what it is given as if there were none.
//!
//! Such a program cannot loop, so it is long: it looks for a MODALIAS in the first [`SEARCHED`] bytes, and lets through what
//! goes on behind them. Bounded by [`MOST`] instructions, of which the kernel runs eight per [`STRIDE`] bytes, and by the
//! memory that `net.core.optmem_max` grants a socket; a kernel that refuses it sends more than we need.

use std::io;
use std::os::fd::BorrowedFd;

use super::sockopt;

/// How far apart the looks for a MODALIAS are: wherever the nine letters of [`SOUGHT`] begin, a look sees four of them.
const STRIDE: usize = 6;
const SOUGHT: &[u8; STRIDE + 3] = b"MODALIAS=";
/// Looks whose way to the next [`PASS`] is short enough for a jump.
const LOOKS: usize = 25;
const GROUPS: usize = 4;
/// The bytes looked at. A device without a MODALIAS says less than that; what says more may have one further on.
pub const SEARCHED: usize = STRIDE * LOOKS * GROUPS;
/// The length of the program, in instructions.
pub const MOST: usize = HEAD.len() + GROUPS * (LOOKS * (1 + STRIDE) + 2) + 1;

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const LEAP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

const PASS: libc::sock_filter = step(RETURN, u32::MAX);
const SHED: libc::sock_filter = step(RETURN, 0);

/// What the first bytes decide. A load beyond the end of a short datagram ends the program and drops it, which is what we
/// want, here and in the search.
const HEAD: [libc::sock_filter; 18] = [
    step(LOAD_WORD, 0),
    jump(word(b"add@", 0), 11, 0),
    jump(word(b"remo", 0), 0, 8),
    step(LOAD_WORD, 4),
    jump(word(b"ve@/", 0), 0, 6),
    step(LOAD_WORD, 8),
    jump(word(b"modu", 0), 0, 4),
    step(LOAD_HALF, 12),
    jump(u16::from_be_bytes(*b"le") as u32, 0, 2),
    step(LOAD_BYTE, 14),
    jump(b'/' as u32, 1, 0),
    SHED,
    PASS,
    step(LOAD_WORD, 4),
    jump(word(b"/mod", 0), 0, 3),
    step(LOAD_WORD, 8),
    jump(word(b"ule/", 0), 0, 1),
    PASS,
];

const PROGRAM: [libc::sock_filter; MOST] = program();

const fn program() -> [libc::sock_filter; MOST] {
    let mut program = [PASS; MOST];
    let mut at = 0;
    while at < HEAD.len() {
        program[at] = HEAD[at];
        at += 1;
    }
    let mut offset = "add@".len();
    while offset < "add@".len() + SEARCHED {
        let end = at + LOOKS * (1 + STRIDE);
        while at < end {
            program[at] = step(LOAD_WORD, offset as u32);
            at += 1;
            let mut begin = 0;
            while begin < STRIDE {
                program[at] = jump(word(SOUGHT, begin), (end - at) as u8, 0);
                (at, begin) = (at + 1, begin + 1);
            }
            offset += STRIDE;
        }
        // To the next group, past the place where this one's jumps lead.
        program[at] = step(LEAP, 1);
        at += 2;
    }
    program
}

/// Four letters, as a load has them.
const fn word(letters: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([letters[at], letters[at + 1], letters[at + 2], letters[at + 3]])
}

const fn step(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// `yes` and `no` count the steps to leap over.
const fn jump(k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code: EQUAL as u16, jt: yes, jf: no, k }
}

/// Attaches the filter. It replaces one that was there, and does not touch what is queued already.
pub fn attach(socket: BorrowedFd<'_>) -> io::Result<()> {
    sockopt::attach_filter(socket, &PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do, for the few instructions used.
    fn passes(datagram: &[u8]) -> bool {
        let load = |at: u32, size: usize| {
            let bytes = datagram.get(at as usize..at as usize + size)?;
            Some(bytes.iter().fold(0u32, |value, &byte| value << 8 | u32::from(byte)))
        };
        let (mut accumulator, mut next) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = PROGRAM[next];
            next += 1;
            let loaded = match u32::from(code) {
                LOAD_WORD => load(k, 4),
                LOAD_HALF => load(k, 2),
                LOAD_BYTE => load(k, 1),
                EQUAL => {
                    next += usize::from(if accumulator == k { jt } else { jf });
                    continue;
                }
                LEAP => {
                    next += k as usize;
                    continue;
                }
                RETURN => return k != 0,
                other => panic!("instruction {other:#x} is not expected"),
            };
            match loaded {
                Some(value) => accumulator = value,
                None => return false,
            }
        }
    }

    #[test]
    fn devices_with_a_modalias_and_modules_pass() {
        let long = format!("add@/devices/x\0{}", "A".repeat(SEARCHED));
        let longer = format!("{long}\0MODALIAS=x");
        for wanted in [
            "add@/devices/x\0ACTION=add\0MODALIAS=x",
            "add@\0MODALIAS=x",
            "add@/module/nfit",
            "remove@/module/nfit",
            "remove@/module/",
            &long,
            &longer,
        ] {
            assert!(passes(wanted.as_bytes()), "{wanted}");
        }
    }

    #[test]
    fn a_modalias_passes_wherever_it_begins_and_however_short_it_is() {
        for before in 0..2 * SEARCHED {
            let datagram = format!("add@{}MODALIAS=", "x".repeat(before));
            assert!(passes(datagram.as_bytes()), "{before}");
        }
    }

    #[test]
    fn what_has_no_driver_to_wait_for_is_shed() {
        for shed in [
            "",
            "a",
            "add",
            "add@",
            "adds@/x",
            "add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=memory\0SEQNUM=1",
            "add@/bus/platform/drivers/x\0ACTION=add\0SUBSYSTEM=drivers",
            "add@/modules/x",
            "add_once@/module/x",
            "change@/devices/x\0MODALIAS=x",
            "bind@/devices/x\0MODALIAS=x",
            "remove",
            "remove@/devices/x\0MODALIAS=x",
            "remove@/module",
            "remove@/modules/x",
            "remove@/modulf/x",
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
