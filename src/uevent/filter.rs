// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Filter: what the kernel need not queue at all
//!
//! A classic BPF program that the kernel runs on every uevent before it takes room in the socket's queue and
//! before it wakes us. It lets through what begins with `add@` (devices to find drivers for, modules that
//! came) and `remove@/module/` (modules that went). Everything else, the change, bind and unbind events of a
//! storm above all, costs neither buffer nor wake-up, and is not counted as a drop either. The filter saves
//! work and is no check: [`super::message`] reads what it is given as if there were none.

use std::io;
use std::os::fd::BorrowedFd;

use super::sockopt;

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// A load beyond the end of a short datagram ends the program and drops it, which is what we want.
const PROGRAM: [libc::sock_filter; 13] = [
    step(LOAD_WORD, 0),
    jump(u32::from_be_bytes(*b"add@"), 9, 0),
    jump(u32::from_be_bytes(*b"remo"), 0, 9),
    step(LOAD_WORD, 4),
    jump(u32::from_be_bytes(*b"ve@/"), 0, 7),
    step(LOAD_WORD, 8),
    jump(u32::from_be_bytes(*b"modu"), 0, 5),
    step(LOAD_HALF, 12),
    jump(u16::from_be_bytes(*b"le") as u32, 0, 3),
    step(LOAD_BYTE, 14),
    jump(b'/' as u32, 0, 1),
    step(RETURN, u32::MAX),
    step(RETURN, 0),
];

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
    fn only_additions_and_unloaded_modules_pass() {
        for wanted in ["add@/devices/x", "add@", "add@/module/nfit", "remove@/module/nfit", "remove@/module/"]
        {
            assert!(passes(wanted.as_bytes()), "{wanted}");
        }
        for shed in [
            "",
            "a",
            "add",
            "adds@/x",
            "add_once@/module/x",
            "change@/devices/x",
            "bind@/devices/x",
            "remove",
            "remove@/devices/x",
            "remove@/module",
            "remove@/modules/x",
            "remove@/modulf/x",
            "removed@/module/",
        ] {
            assert!(!passes(shed.as_bytes()), "{shed}");
        }
    }
}
