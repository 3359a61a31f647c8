// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Request: what comes in
//!
//! Owns the two forms of a request: [`Request`], as the rooms at the rim hand it in, borrowing everything, and
//! [`Asker`], the few words of it that the retry rules need and that may outlive it. A device is remembered as
//! a keyed 64-bit hash of its DEVPATH, so that what a stranger can make us remember has a fixed size.

use std::time::Duration;

use super::secret::Secret;

/// Time as the core sees it: since an origin of the caller's choosing, never running backwards.
pub type Time = Duration;

/// A client's request, named by the caller; the answer carries the same number.
pub type ClientId = u64;

/// "Somebody wants the drivers of this alias."
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// A MODALIAS, or from a client also a module's name: bytes, not text.
    pub alias: &'a [u8],
    /// Who wants them.
    pub origin: Origin<'a>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A uevent.
    Event {
        /// The device that was added.
        device: Device<'a>,
        /// The event's sequence number.
        seqnum: u64,
    },
    /// A `uevent` file read from /sys.
    Scan {
        /// The device it belongs to.
        devpath: &'a [u8],
    },
    /// `addonce load`.
    Client {
        /// To whom the answer goes.
        client: ClientId,
        /// The device udev runs it for; none where an administrator typed it.
        device: Option<Device<'a>>,
    },
    /// `addonce load`, run by udev for an event that the kernel tells us of itself: the event asks, and the client waits.
    Echo {
        /// To whom the answer goes.
        client: ClientId,
        /// The device udev runs it for.
        devpath: &'a [u8],
    },
}

/// The device that an event is about.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// Its path below /sys.
    pub devpath: &'a [u8],
    /// Whether hardware appeared; false for a replay, which carries a SYNTH_UUID.
    pub genuine: bool,
}

impl<'a> Origin<'a> {
    /// The device's path, where a device asks.
    pub fn devpath(&self) -> Option<&'a [u8]> {
        match self {
            Origin::Event { device, .. } => Some(device.devpath),
            Origin::Scan { devpath } | Origin::Echo { devpath, .. } => Some(devpath),
            Origin::Client { device, .. } => device.map(|device| device.devpath),
        }
    }

    /// The sequence number; 0 where no uevent asks.
    pub fn seqnum(&self) -> u64 {
        match self {
            Origin::Event { seqnum, .. } => *seqnum,
            Origin::Scan { .. } | Origin::Client { .. } | Origin::Echo { .. } => 0,
        }
    }

    /// The client to answer.
    pub fn client(&self) -> Option<ClientId> {
        match self {
            Origin::Client { client, .. } | Origin::Echo { client, .. } => Some(*client),
            Origin::Event { .. } | Origin::Scan { .. } => None,
        }
    }
}

/// A request, as far as the retry rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Requests are numbered: the modules of one alias are asked for by one request, once.
    pub request: u64,
    /// Whose word it is.
    pub kind: Kind,
    /// The last request before this one by the same device for the module at hand, if it is remembered.
    pub seen: Option<u64>,
}

/// Whose word a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rule 2: somebody typed it.
    Administrator,
    /// Rule 5: hardware appeared.
    Genuine(DeviceHash),
    /// Rules 4 and 6: a replayed event.
    Replay(DeviceHash),
    /// Rule 6, always: a scan says what is there, not that anybody asks again. It leaves no sighting either, since
    /// the replay that follows every scan at boot says the same once more. An echo says what its event said.
    Scan,
    /// A request that the rules accepted earlier and whose backoff has ended.
    Due,
}

/// A device, remembered in fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceHash(u64);

impl Asker {
    /// Boils a request down.
    pub fn new(request: u64, origin: &Origin<'_>, secret: &Secret) -> Self {
        let of = |device: &Device<'_>| {
            let hash = DeviceHash(secret.hash(device.devpath));
            if device.genuine { Kind::Genuine(hash) } else { Kind::Replay(hash) }
        };
        let kind = match origin {
            Origin::Event { device, .. } => of(device),
            Origin::Scan { .. } | Origin::Echo { .. } => Kind::Scan,
            Origin::Client { device: Some(device), .. } => of(device),
            Origin::Client { device: None, .. } => Kind::Administrator,
        };
        Self { request, kind, seen: None }
    }

    /// A request that was accepted earlier, and whose time has come.
    pub fn due(request: u64) -> Self {
        Self { request, kind: Kind::Due, seen: None }
    }

    /// The device to be remembered, if any.
    pub fn device(&self) -> Option<DeviceHash> {
        match self.kind {
            Kind::Genuine(device) | Kind::Replay(device) => Some(device),
            Kind::Administrator | Kind::Scan | Kind::Due => None,
        }
    }
}

impl DeviceHash {
    /// The bare number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The hash of the device and one of the modules it asks for. Odd factors keep every bit: the golden ratio's spreads
    /// small numbers well.
    pub fn with(self, module: u32) -> u64 {
        self.0 ^ u64::from(module).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
