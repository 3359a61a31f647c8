// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Intake: what comes in from the kernel, as facts for the core
//!
//! Owns the netlink socket and the scan of /sys, and their balance: events first, a slice of the scan when there
//! are none, and never more of either at once than a budget, so that clients and landings get their turn. After
//! an overflow it says so once, lets the core know, and scans: what was dropped is still in /sys. An overflow
//! during that scan means one more scan, not a second warning: the episode ends with the scan that nothing was
//! lost in, and then its sum is told.

use std::path::PathBuf;

use crate::escape::escape;
use crate::fatal::Fatal;
use crate::once::{Origin, Request};
use crate::uevent::message::{self, Action};
use crate::uevent::netlink::{self, Netlink, Received};
use crate::uevent::sysfs::{Scan, Step};

/// Datagrams taken at a time.
const EVENTS: usize = 512;
/// Links of a scan taken at a time: about two milliseconds' worth.
const LINKS: usize = 64;

/// What came in.
#[derive(Debug)]
pub enum Fact<'a> {
    /// Somebody wants the drivers of a modalias.
    Request(Request<'a>),
    /// A module is live.
    ModuleAdded(&'a str),
    /// A module is gone.
    ModuleRemoved(&'a str),
    /// Events were lost.
    Lost,
}

/// The way in.
pub struct Intake {
    netlink: Option<Netlink>,
    sysfs: PathBuf,
    scan: Option<Scan>,
    /// Events were lost since the scan began.
    scan_again: bool,
    /// Events were lost since the queue was last empty.
    lost: bool,
    /// From the first overflow to the end of the scan that nothing was lost in.
    episode: Option<Episode>,
    drops: u32,
    malformed: u64,
    buffer: Vec<u8>,
}

/// Overflows and the scans that make good for them.
struct Episode {
    /// The kernel's count of drops before.
    before: u32,
    scans: u32,
}

/// What [`Intake::pump`] left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing: the socket is drained, and no scan is going on.
    Nothing,
    /// More: pump again without waiting.
    More,
}

impl Intake {
    /// A way in from this socket, if there is one, and this sysfs. A socket that was handed over may have lost events
    /// before, and whoever had it then may not have lived to read them from /sys: that is an overflow, too.
    pub fn new(netlink: Option<Netlink>, sysfs: PathBuf) -> Self {
        let lost = netlink.as_ref().and_then(|netlink| netlink.drops().ok()).is_some_and(|drops| drops > 0);
        let buffer = vec![0; netlink::BUFFER];
        let (scan, scan_again, episode, drops, malformed) = Default::default();
        Self { netlink, sysfs, scan, scan_again, lost, episode, drops, malformed, buffer }
    }

    /// The socket, to be polled and asked for its counters.
    pub fn netlink(&self) -> Option<&Netlink> {
        self.netlink.as_ref()
    }

    /// Datagrams that could not be parsed, and events that the kernel dropped.
    pub fn losses(&self) -> (u64, u32) {
        (self.malformed, self.drops)
    }

    /// Begins a scan, or one more after the one that is going on.
    pub fn scan(&mut self) {
        match self.scan {
            Some(_) => self.scan_again = true,
            None => self.scan = Some(Scan::new(&self.sysfs)),
        }
    }

    /// Takes in what is there, up to a budget.
    ///
    /// # Errors
    /// [`Fatal::System`] when the socket is of no use any more.
    pub fn pump(&mut self, mut tell: impl FnMut(Fact<'_>)) -> Result<Left, Fatal> {
        if let Left::More = self.pump_events(&mut tell)? {
            return Ok(Left::More);
        }
        if std::mem::take(&mut self.lost) {
            self.recover();
            tell(Fact::Lost);
        }
        Ok(self.pump_scan(&mut tell))
    }

    fn pump_events(&mut self, tell: &mut impl FnMut(Fact<'_>)) -> Result<Left, Fatal> {
        let Some(netlink) = &mut self.netlink else { return Ok(Left::Nothing) };
        for _ in 0..EVENTS {
            match netlink.receive(&mut self.buffer) {
                Received::Kernel(datagram) => match message::parse(datagram) {
                    Ok(uevent) => facts(&uevent, &mut *tell),
                    Err(why) => {
                        self.malformed += 1;
                        // The first is worth a line, the rest a counter: a sender that errs, errs often.
                        let level = if self.malformed == 1 { log::Level::Warn } else { log::Level::Debug };
                        let head = escape(&datagram[..datagram.len().min(256)]);
                        log::log!(level, "a uevent was not understood and is ignored: {why}: {head}");
                    }
                },
                Received::Udev(_) | Received::Stranger | Received::Truncated => {}
                Received::Overflow => self.lost = true,
                Received::Drained => return Ok(Left::Nothing),
                Received::Failed(error) => {
                    return Err(Fatal::System(format!("the uevent socket failed: {error}")));
                }
            }
        }
        Ok(Left::More)
    }

    /// The queue was read empty after an overflow: what was dropped is to be read from /sys.
    fn recover(&mut self) {
        let before = self.drops;
        self.drops = self.netlink.as_ref().and_then(|netlink| netlink.drops().ok()).unwrap_or(before);
        if self.episode.is_none() {
            self.episode = Some(Episode { before, scans: 0 });
            let size =
                self.netlink.as_ref().and_then(|netlink| netlink.receive_buffer().ok()).unwrap_or_default();
            log::warn!(
                "{} uevents were dropped by the kernel: reading {} instead; a --receive-buffer above {size} bytes helps",
                self.drops.wrapping_sub(before),
                self.sysfs.display(),
            );
        }
        self.scan();
    }

    fn pump_scan(&mut self, tell: &mut impl FnMut(Fact<'_>)) -> Left {
        let Some(scan) = &mut self.scan else { return Left::Nothing };
        for _ in 0..LINKS {
            match scan.step() {
                Step::Device(device) => {
                    let origin = Origin::Scan { devpath: &device.devpath };
                    for alias in &device.modaliases {
                        tell(Fact::Request(Request { alias, origin, client: None }));
                    }
                }
                Step::Nothing => {}
                Step::Done => {
                    log::debug!("scan of {}: {} links", self.sysfs.display(), scan.links());
                    self.scanned();
                    break;
                }
            }
        }
        if self.scan.is_some() { Left::More } else { Left::Nothing }
    }

    /// A scan is at its end. Where events were lost meanwhile, it may have passed their devices by before they came.
    fn scanned(&mut self) {
        self.scan = std::mem::take(&mut self.scan_again).then(|| Scan::new(&self.sysfs));
        let Some(mut episode) = self.episode.take() else { return };
        episode.scans += 1;
        if self.scan.is_some() {
            self.episode = Some(episode);
            return;
        }
        log::info!(
            "{} was read {} times for {} dropped uevents: nothing is missing any more",
            self.sysfs.display(),
            episode.scans,
            self.drops.wrapping_sub(episode.before),
        );
    }
}

/// The facts that an event stands for.
pub fn facts(uevent: &message::Uevent<'_>, mut tell: impl FnMut(Fact<'_>)) {
    if let Some(module) = uevent.module().and_then(|name| std::str::from_utf8(name).ok()) {
        match uevent.action {
            Action::Add => tell(Fact::ModuleAdded(module)),
            Action::Remove => tell(Fact::ModuleRemoved(module)),
            Action::Other => {}
        }
    }
    if uevent.action == Action::Add {
        let message::Uevent { devpath, seqnum, synthetic, .. } = *uevent;
        let origin = Origin::Uevent { devpath, seqnum, synthetic };
        uevent.modaliases().for_each(|alias| tell(Fact::Request(Request { alias, origin, client: None })));
    }
}
