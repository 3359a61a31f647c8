// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes in: somebody wants the modules of a modalias loaded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time since an origin of the caller's choosing, never running backwards.
pub type Time = Duration;

/// A client, as the caller numbers it.
pub type ClientId = u64;

/// A request to load the modules of an alias.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// A MODALIAS, or a module's name: bytes, not text.
    pub alias: &'a [u8],
    /// Who asks.
    pub origin: Origin<'a>,
    /// The client that waits for the answer.
    pub client: Option<ClientId>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// An `add` uevent of a device.
    Uevent {
        /// The device's path below /sys.
        devpath: &'a [u8],
        /// The event's sequence number; 0 where it is not known. Heard twice, it is one request.
        seqnum: u64,
        /// Asked for through a `uevent` file in /sys (it has a SYNTH_UUID); false where hardware appeared.
        synthetic: bool,
    },
    /// A device that is there, while nobody asks anew: found by reading /sys, or triggered once more because events were lost.
    Scan {
        /// The device's path below /sys.
        devpath: &'a [u8],
    },
    /// An administrator.
    Admin,
}

/// A device, by a hash of its path: what is remembered of it has a fixed size. A collision costs one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct DeviceId(u64);

impl<'a> Origin<'a> {
    /// The device's path, where a device asks.
    pub fn devpath(&self) -> Option<&'a [u8]> {
        match self {
            Origin::Uevent { devpath, .. } | Origin::Scan { devpath } => Some(devpath),
            Origin::Admin => None,
        }
    }

    /// The sequence number; 0 where there is none.
    pub fn seqnum(&self) -> u64 {
        if let Origin::Uevent { seqnum, .. } = self { *seqnum } else { 0 }
    }
}

impl DeviceId {
    /// FNV-1a: the same number in every process and every build.
    pub fn of(devpath: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self(devpath.iter().fold(0xcbf2_9ce4_8422_2325, step))
    }
}
