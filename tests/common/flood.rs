// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Flood: more uevents than anybody wants
//!
//! Two kinds, both over the kernel's own socket: the storm of a machine with many CPUs (one modalias, many devices), and
//! hostile devices, no two with the same modalias, each as long as the kernel lets through, made of what trips up
//! pattern matchers, shells, option parsers and readers of text. Tests and benchmarks use it, and the example `flood`.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;

use super::sender::Sender;

/// What the kernel takes from a sender, its 16 bytes of frame and the SEQNUM it adds included: `UEVENT_BUFFER_SIZE`.
const KERNEL_BUFFER: usize = 2048;
/// The file that a shell would make of a hostile modalias, where it runs.
pub const TRACE: &str = "addonce-was-here";

/// Beginnings of hostile modaliases, one for each way of being misread.
const HOSTILE: [&[u8]; 12] = [
    b"[",
    b"]x[!-",
    b"*?*?*?",
    b"--set-version=0",
    b"-C/etc/passwd ",
    b"$(touch addonce-was-here)",
    b"`touch addonce-was-here`",
    b";touch addonce-was-here;|&",
    b"\xff\xfe\x80\xc3",
    b"\n\r\t\x1b[2J",
    b"../../../../etc/passwd",
    b"%s%n\\x00\\",
];

/// What the flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// CPU after CPU, all alike.
    Cpus,
    /// Device after device, no two alike.
    Hostile,
}

impl Flood {
    /// The modalias of device number n.
    pub fn modalias(self, n: u64) -> Vec<u8> {
        match self {
            Flood::Cpus => {
                let features = || (0..180).map(|feature| format!(",{feature:04X}")).collect::<String>();
                static CPU: OnceLock<String> = OnceLock::new();
                let cpu =
                    CPU.get_or_init(|| format!("cpu:type:x86,ven0000fam0006mod008F:feature:{}", features()));
                cpu.clone().into_bytes()
            }
            Flood::Hostile => {
                let kind = HOSTILE[(n % HOSTILE.len() as u64) as usize];
                // The number before the filling: what is alike at the end differs at the beginning, and vice versa.
                let mut modalias = [kind, n.to_string().as_bytes(), b":"].concat();
                let room = KERNEL_BUFFER - 16 - "SEQNUM=18446744073709551615".len();
                let longest = room - event(&devpath(self, n), b"").len();
                modalias.extend(kind.repeat((longest - modalias.len()).div_ceil(kind.len())));
                modalias.truncate(longest);
                modalias
            }
        }
    }

    /// The event of device number n.
    pub fn datagram(self, n: u64) -> Vec<u8> {
        event(&devpath(self, n), &self.modalias(n))
    }

    /// Has the kernel announce these devices.
    pub fn inject(self, devices: Range<u64>) -> io::Result<()> {
        let mut sender = Sender::open()?;
        devices.into_iter().try_for_each(|n| sender.inject(&self.datagram(n)))
    }
}

fn devpath(flood: Flood, n: u64) -> String {
    match flood {
        Flood::Cpus => format!("/devices/system/cpu/cpu{n}"),
        Flood::Hostile => format!("/devices/hostile/{n}"),
    }
}

/// An `add` event as the kernel would write it.
pub fn event(devpath: &str, modalias: &[u8]) -> Vec<u8> {
    let head = format!("add@{devpath}\0ACTION=add\0DEVPATH={devpath}\0SUBSYSTEM=flood\0MODALIAS=");
    [head.as_bytes(), modalias, b"\0"].concat()
}
