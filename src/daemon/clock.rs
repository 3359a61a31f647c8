// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Clock: the time the loop goes by
//!
//! Owns the choice of it: CLOCK_BOOTTIME, which is the same for every process of one boot, so that a time which was
//! remembered still means something to the process that takes over. It goes on while the machine is suspended.

use nix::time::{ClockId, clock_gettime};

use crate::once::Time;

/// The time since the machine was booted.
pub fn now() -> Time {
    // Since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every kernel has CLOCK_BOOTTIME").into()
}
