// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes in: somebody wants the modules of a modalias loaded.

use std::borrow::Cow;
use std::ffi::CString;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::modules::Name;

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
    /// The kernel's request_module().
    Kernel,
}

/// Who makes a request, as far as the rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Requester {
    /// Requests are numbered.
    pub request: u64,
    /// The uevent's number, or where there is none one of the request: by this, an event that is heard twice is one request.
    pub mark: u64,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Admin,
    Kernel,
    Device {
        id: DeviceId,
        synthetic: bool,
    },
    /// A device is there: not that it asks again.
    Scan,
    /// The backoff has ended of a request that was accepted before, or of a shortage, which nobody needs to ask for.
    Retry {
        asked: bool,
    },
}

/// A request for one module.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub by: Requester,
    pub alias: Cow<'a, [u8]>,
    pub devpath: Option<Cow<'a, [u8]>>,
    pub seqnum: u64,
    /// Options, where the alias carries other ones than the module's own.
    pub options: Option<Arc<CString>>,
    /// Policy `always`: what failed is attempted whenever it is asked for.
    pub always: bool,
    /// The module that needs the wanted one, where no request named it.
    pub pulled_in_by: Option<Name>,
    /// The modules before it in the alias that are being loaded. Not the last alone: who has asked for that need not have asked for
    /// the others.
    pub after: Vec<Name>,
}

/// A device, by a hash of its path: what is remembered of it has a fixed size. A collision costs one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct DeviceId(u64);

impl<'a> Origin<'a> {
    /// The device's path, where a device asks.
    pub fn devpath(&self) -> Option<&'a [u8]> {
        match self {
            Origin::Uevent { devpath, .. } | Origin::Scan { devpath } => Some(devpath),
            Origin::Admin | Origin::Kernel => None,
        }
    }

    /// The sequence number; 0 where there is none.
    pub fn seqnum(&self) -> u64 {
        if let Origin::Uevent { seqnum, .. } = self { *seqnum } else { 0 }
    }
}

impl DeviceId {
    /// The same number in every process of a build. Where another build's is another, so are causes, and rule 1 holds.
    pub fn of(devpath: &[u8]) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(devpath))
    }
}

impl Requester {
    pub fn new(request: u64, origin: &Origin<'_>) -> Self {
        let kind = match *origin {
            Origin::Uevent { devpath, synthetic, .. } => {
                Kind::Device { id: DeviceId::of(devpath), synthetic }
            }
            Origin::Scan { .. } => Kind::Scan,
            Origin::Admin => Kind::Admin,
            Origin::Kernel => Kind::Kernel,
        };
        // No kernel counts so far that a request's own number, from the other end, could be a uevent's.
        let mark = if origin.seqnum() == 0 { !request } else { origin.seqnum() };
        Self { request, mark, kind }
    }
}

impl<'a> Ask<'a> {
    pub fn new(by: Requester, alias: &'a [u8], origin: &Origin<'a>) -> Self {
        let (devpath, seqnum) = (origin.devpath().map(Cow::Borrowed), origin.seqnum());
        let (options, always, pulled_in_by, after) = Default::default();
        Self { by, alias: Cow::Borrowed(alias), devpath, seqnum, options, always, pulled_in_by, after }
    }

    /// Whether the counters of requests have it: it names the module, and is not the kernel's, which are counted apart.
    pub fn counts(&self) -> bool {
        self.pulled_in_by.is_none() && self.by.kind != Kind::Kernel
    }

    /// The same request, for a module that `name` needs.
    pub fn needed_by(&self, name: &Name) -> Self {
        Self {
            options: None,
            always: false,
            pulled_in_by: Some(name.clone()),
            after: Vec::new(),
            ..self.clone()
        }
    }

    /// The same, to be kept with the load that it begins.
    pub fn to_static(&self) -> Ask<'static> {
        let Self { by, alias, devpath, seqnum, options, always, pulled_in_by, after } = self.clone();
        let alias = Cow::Owned(alias.into_owned());
        let devpath = devpath.map(|devpath| Cow::Owned(devpath.into_owned()));
        Ask { by, alias, devpath, seqnum, options, always, pulled_in_by, after }
    }
}
