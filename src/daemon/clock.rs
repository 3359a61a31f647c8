// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time the loop goes by: CLOCK_BOOTTIME, which is the same for every process of one boot, so that a time that was remembered
//! means something to the next process, too. It goes on while the machine is suspended.

use nix::time::{ClockId, clock_gettime};

use crate::once::Time;

/// The time since the machine was booted.
pub fn now() -> Time {
    // Since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every kernel has CLOCK_BOOTTIME").into()
}
