// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens in a simulated world, in the words of tests; each uses a part of it.
#![allow(dead_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use addonce::once::{ClientId, Origin, Request};
use addonce::replay::{Simulation, World};

use super::fake::FakeModules;

/// Of the newest event.
static SEQNUM: AtomicU64 = AtomicU64::new(0);

pub trait Simulated {
    /// A request comes in.
    fn request(&mut self, alias: &[u8], origin: Origin<'_>);

    /// Time passes until nothing is being loaded.
    fn settle(&mut self);

    /// How often a module was attempted.
    fn attempts_of(&self, name: &str) -> usize;

    fn event(&mut self, devpath: &str, alias: &str, synthetic: bool) {
        let (devpath, seqnum) = (devpath.as_bytes(), SEQNUM.fetch_add(1, Ordering::Relaxed) + 1);
        self.request(alias.as_bytes(), Origin::Uevent { devpath, seqnum, synthetic });
    }

    /// A replayed `add` event, as `udevadm trigger` causes it.
    fn replay(&mut self, devpath: &str, alias: &str) {
        self.event(devpath, alias, true);
    }

    /// A genuine `add` event: hardware appeared.
    fn appear(&mut self, devpath: &str, alias: &str) {
        self.event(devpath, alias, false);
    }
}

impl<W: World> Simulated for Simulation<W> {
    fn request(&mut self, alias: &[u8], origin: Origin<'_>) {
        self.ask(Request { alias, origin, client: None });
    }

    fn settle(&mut self) {
        while !self.core.is_settled() {
            self.pass(Duration::from_millis(1));
        }
    }

    fn attempts_of(&self, name: &str) -> usize {
        self.attempts.iter().filter(|(_, attempted)| &**attempted == name).count()
    }
}

/// What others do than devices.
pub trait ByHand {
    /// A client asks; an administrator.
    fn client(&mut self, client: ClientId, name: &str);

    /// The kernel asks, by its helper.
    fn kernel(&mut self, client: ClientId, name: &str);

    /// Somebody loads a module by hand, and the kernel announces it.
    fn loaded_by_hand(&mut self, name: &str);

    /// Somebody unloads a module, and the kernel announces it.
    fn unloaded(&mut self, name: &str);
}

impl ByHand for Simulation<FakeModules> {
    fn client(&mut self, client: ClientId, name: &str) {
        self.ask(Request { alias: name.as_bytes(), origin: Origin::Admin, client: Some(client) });
    }

    fn kernel(&mut self, client: ClientId, name: &str) {
        self.ask(Request { alias: name.as_bytes(), origin: Origin::Kernel, client: Some(client) });
    }

    fn loaded_by_hand(&mut self, name: &str) {
        self.world.live.insert(name.into());
        let now = self.now;
        self.core.module_added(&mut self.world, name, now);
        self.act();
    }

    fn unloaded(&mut self, name: &str) {
        self.world.live.remove(name);
        self.core.module_removed(&mut self.world, name, self.now);
        self.act();
    }
}
