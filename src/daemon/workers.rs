// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Workers: the threads that perform loads
//!
//! Owns the threads. A load gets a thread of its own, for a load may take a minute or hang, and there are few of
//! them: the core starts no more than its limits allow. Landings come back over a channel, and the loop is woken.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::Waker;

use crate::kmod::Loader;
use crate::once::{LoadError, Outcome, Stage};
use crate::once::{Name, Plan};

/// A worker's stack: libkmod's decompressors need little, and address space is all that is reserved.
const STACK: usize = 256 << 10;

/// The threads that perform loads.
pub struct Workers {
    loader: Arc<dyn Loader>,
    waker: Arc<Waker>,
    sender: Sender<(Name, Outcome)>,
    receiver: Receiver<(Name, Outcome)>,
    /// The modules whose loads have not ended.
    running: Vec<Name>,
}

impl Workers {
    /// Workers that load with `loader` and wake the loop with `waker`.
    pub fn new(loader: Arc<dyn Loader>, waker: Waker) -> Self {
        let (sender, receiver) = channel();
        Self { loader, waker: Arc::new(waker), sender, receiver, running: Vec::new() }
    }

    /// Performs a load. That no thread could be had is an outcome, too: a transient one.
    pub fn load(&mut self, plan: Arc<Plan>) {
        let (loader, waker, sender) = (self.loader.clone(), self.waker.clone(), self.sender.clone());
        let module = plan.module.clone();
        self.running.push(module.clone());
        let land = move || {
            let outcome = loader.load(&plan);
            report(&sender, &waker, plan.module.clone(), outcome);
        };
        // The name is what `ps -L` and the kernel's log show: 15 bytes of it.
        let thread = std::thread::Builder::new().name(format!("+{module}")).stack_size(STACK).spawn(land);
        if let Err(error) = thread {
            let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
            report(
                &self.sender,
                &self.waker,
                module,
                Outcome::Failed(LoadError { errno, stage: Stage::Insert }),
            );
        }
    }

    /// The next load that has ended.
    pub fn landed(&mut self) -> Option<(Name, Outcome)> {
        let landing = self.receiver.try_recv().ok()?;
        self.running.retain(|module| *module != landing.0);
        Some(landing)
    }

    /// The modules whose loads have not ended: as many as there are threads.
    pub fn running(&self) -> &[Name] {
        &self.running
    }
}

fn report(sender: &Sender<(Name, Outcome)>, waker: &Waker, module: Name, outcome: Outcome) {
    // Both fail only when the loop is gone, and then nobody waits for the landing.
    let told: Result<(), io::Error> =
        sender.send((module, outcome)).map_err(io::Error::other).and_then(|()| waker.wake());
    if let Err(error) = told {
        log::debug!("a load ended after the daemon: {error}");
    }
}
