// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes in from the kernel and from udevd, and what makes good for what was lost.
//!
//! With udev its broadcasts are the requests, and /sys is read only to ask it for devices again; without it the kernel's events and
//! what is found in /sys are. Nothing takes more than a budget at a time, so that clients and loads get their turn.

use std::path::PathBuf;

use super::hold;
use super::hold_file::trigger;
use crate::escape::escape;
use crate::fatal::Fatal;
use crate::once::{Origin, Request};
use crate::uevent::message::{self, Action, Uevent};
use crate::uevent::netlink::{self, Netlink, Received};
use crate::uevent::sysfs::{Device, Scan};

/// Datagrams taken at a time: one with a new modalias costs as much as the start of a load.
const EVENTS: usize = 16;
/// Links of a scan taken at a time: about two milliseconds' worth.
const LINKS: usize = 64;

/// What came in.
#[derive(Debug)]
pub enum Event<'a> {
    /// Somebody wants the modules of a modalias.
    Request(Request<'a>),
    /// udevd has an event before it, of a device with a MODALIAS.
    Announced {
        /// The event's number.
        seqnum: u64,
        /// The device.
        devpath: &'a [u8],
        /// We have asked for it behind another event.
        behind: Option<u64>,
        /// It has a UUID: somebody may wait for its broadcast.
        is_awaited: bool,
    },
    /// udevd is done with an event.
    Broadcast {
        /// The event's number.
        seqnum: u64,
        /// The PID of the worker that says so.
        worker: i32,
        /// It is that of the hold with this number.
        own: Option<u64>,
        /// What it asks for, unless a program has done so.
        request: Option<Request<'a>>,
    },
    /// A module is live, says the kernel.
    ModuleAdded(&'a str),
    /// A module is gone, says the kernel.
    ModuleRemoved(&'a str),
    /// Events were lost, and the socket was read empty since.
    Lost,
    /// The socket was read empty.
    Drained,
}

/// The way in.
#[derive(Default)]
pub struct Events {
    /// The socket; none where there is nothing to hear.
    pub netlink: Option<Netlink>,
    /// Requests come from udev.
    pub udev: bool,
    /// What is lost is asked of udev again.
    pub asks_again: bool,
    sysfs: PathBuf,
    scan: Option<Scan>,
    /// Events were lost since the scan began: it has to be followed by another.
    scan_again: bool,
    /// Events were lost since the queue was last empty.
    lost: bool,
    /// What the kernel had dropped before the first overflow, until the end of a scan that nothing was lost in.
    dropped_before: Option<u32>,
    /// Events that the kernel dropped.
    pub drops: u32,
    /// Datagrams that could not be parsed.
    pub malformed: u64,
    buffer: Vec<u8>,
}

/// Whether there is more to be taken without waiting.
pub type More = bool;

impl Events {
    /// Events of this socket, if there is one, and this sysfs; with udev, or without. A socket that was handed over may have
    /// lost events before, and whoever had it then may not have lived to make good for that: that is an overflow, too.
    pub fn new(netlink: Option<Netlink>, udev: bool, sysfs: PathBuf) -> Self {
        let drops = netlink.as_ref().and_then(|netlink| netlink.drops().ok());
        let (lost, buffer) = (drops.is_some_and(|drops| drops > 0), vec![0; netlink::BUFFER]);
        Self { netlink, udev, sysfs, lost, buffer, ..Self::default() }
    }

    /// Goes through all devices, once more where that is going on; with udev [`Events::ask_again`] does it.
    pub fn scan(&mut self) {
        match self.scan {
            Some(_) if !self.udev => self.scan_again = true,
            // udev is asked again from the beginning.
            _ => self.scan = Some(Scan::new(&self.sysfs)),
        }
    }

    /// Takes in what is there.
    pub fn read(&mut self, mut tell: impl FnMut(Event<'_>)) -> Result<More, Fatal> {
        if self.read_socket(&mut tell)? {
            return Ok(true);
        }
        if std::mem::take(&mut self.lost) {
            self.recover();
            tell(Event::Lost);
        }
        tell(Event::Drained);
        Ok(!self.udev && self.read_devices(&mut tell))
    }

    fn read_socket(&mut self, tell: &mut impl FnMut(Event<'_>)) -> Result<More, Fatal> {
        let Some(netlink) = &mut self.netlink else { return Ok(false) };
        for _ in 0..EVENTS {
            let (datagram, result) = match netlink.receive(&mut self.buffer) {
                Received::Kernel(datagram) => {
                    let uevent = message::parse(datagram);
                    (datagram, uevent.map(|uevent| of_kernel(&uevent, self.udev, &mut *tell)))
                }
                Received::Udev(..) if !self.udev => continue,
                Received::Udev(datagram, worker) => {
                    let uevent = message::parse_udev(datagram);
                    (datagram, uevent.map(|uevent| of_udev(&uevent, worker, &mut *tell)))
                }
                Received::Stranger | Received::Truncated => continue,
                Received::Overflow => {
                    self.lost = true;
                    continue;
                }
                Received::Drained => return Ok(false),
                Received::Failed(error) => {
                    return Err(Fatal::System(format!("the uevent socket failed: {error}")));
                }
            };
            if let Err(why) = result {
                // The first is worth a line, the rest a counter: a sender that errs, errs often.
                let level = if self.malformed == 0 { log::Level::Warn } else { log::Level::Debug };
                let head = escape(&datagram[..datagram.len().min(256)]);
                log::log!(level, "a uevent was not understood and is ignored: {why}: {head}");
                self.malformed += 1;
            }
        }
        Ok(true)
    }

    /// The queue was read empty after an overflow.
    fn recover(&mut self) {
        let before = self.drops;
        self.drops = self.netlink.as_ref().and_then(|netlink| netlink.drops().ok()).unwrap_or(before);
        if self.dropped_before.is_none() {
            self.dropped_before = Some(before);
            let dropped = self.drops.wrapping_sub(before);
            let instead = match (self.udev, self.asks_again) {
                (true, true) => "asking udev for its devices again",
                (true, false) => {
                    "a dry run leaves udev alone, so what they would have asked for is not known"
                }
                (false, _) => "reading /sys instead",
            };
            let is_given = self.netlink.as_ref().is_some_and(|netlink| netlink.adopted);
            let size = if is_given { "ReceiveBuffer= in addonce.socket" } else { "--receive-buffer" };
            log::warn!("{dropped} uevents were dropped by the kernel: {instead}; a larger {size} helps");
        }
        // With udev the hold decides when.
        if !self.udev {
            self.scan();
        }
    }

    fn read_devices(&mut self, tell: &mut impl FnMut(Event<'_>)) -> More {
        self.devices(|device| {
            let origin = Origin::Scan { devpath: &device.devpath };
            for alias in &device.modaliases {
                tell(Event::Request(Request { alias, origin, client: None }));
            }
            true
        })
    }

    /// Asks udev again for as many devices as there is `room` for. Returns how many, and whether those were all.
    pub fn ask_again(&mut self, room: usize) -> (usize, bool) {
        let (mut asked, sysfs) = (0, self.sysfs.clone());
        let more = self.devices(|device| {
            match trigger(&sysfs, &device.devpath, "add", 0, "again") {
                Ok(()) => asked += 1,
                // Gone, most likely.
                Err(error) => log::debug!("{}: {error}: not asked for again", escape(&device.devpath)),
            }
            asked < room
        });
        (asked, !more)
    }

    /// Goes on with the scan, within a turn's budget, for as long as this wants another device. True where it is not at its end.
    fn devices(&mut self, mut wants_more: impl FnMut(&Device) -> bool) -> More {
        for _ in 0..LINKS {
            let Some(scan) = &mut self.scan else { break };
            match scan.next() {
                Some(Some(device)) if !wants_more(&device) => break,
                Some(_) => {}
                None => self.scanned(),
            }
        }
        self.scan.is_some()
    }

    /// A scan is at its end. Where events were lost meanwhile, it may have passed their devices by before they came.
    fn scanned(&mut self) {
        let Some(scan) = self.scan.take() else { return };
        let sysfs = self.sysfs.display();
        log::debug!("scan of {sysfs}: {} links", scan.links);
        if scan.unreadable > 0 || scan.truncated() {
            let unreadable = scan.unreadable;
            let more = if scan.truncated() { ", and not all of it was looked at" } else { "" };
            log::warn!(
                "{sysfs}: {unreadable} files could not be read{more}: devices may be without their modules"
            );
        }
        if std::mem::take(&mut self.scan_again) {
            self.scan = Some(Scan::new(&self.sysfs));
        } else if let Some(before) = self.dropped_before.take() {
            let dropped = self.drops.wrapping_sub(before);
            log::info!("all devices were gone through again, for {dropped} dropped uevents");
        }
    }
}

/// What an event of the kernel stands for; with udev, it is on its way only.
pub fn of_kernel(uevent: &Uevent<'_>, udev: bool, mut tell: impl FnMut(Event<'_>)) {
    if let Some(module) = uevent.module().and_then(|name| std::str::from_utf8(name).ok()) {
        match uevent.action {
            Action::Add => tell(Event::ModuleAdded(module)),
            Action::Remove => tell(Event::ModuleRemoved(module)),
            Action::Other => {}
        }
    }
    if uevent.action != Action::Add || uevent.modalias.is_none() {
        return;
    }
    if udev {
        let Uevent { seqnum, devpath, .. } = *uevent;
        let is_awaited = uevent.uuid.is_some_and(|uuid| uuid.contains(&b'-'));
        return tell(Event::Announced { seqnum, devpath, behind: number(uevent, b"ask"), is_awaited });
    }
    let origin = origin(uevent);
    uevent.modaliases().for_each(|alias| tell(Event::Request(Request { alias, origin, client: None })));
}

fn of_udev(uevent: &Uevent<'_>, worker: i32, mut tell: impl FnMut(Event<'_>)) {
    let alias = uevent.modalias.filter(|_| uevent.action == Action::Add);
    let request = alias.map(|alias| Request { alias, origin: origin(uevent), client: None });
    tell(Event::Broadcast { seqnum: uevent.seqnum, worker, own: number(uevent, b"hold"), request });
}

/// The number that we gave an event which we wrote with this argument.
fn number(uevent: &Uevent<'_>, argument: &[u8]) -> Option<u64> {
    let uuid = uevent.uuid.filter(|_| uevent.argument == Some(argument))?;
    std::str::from_utf8(uuid).ok().and_then(hold::number)
}

fn origin<'a>(uevent: &Uevent<'a>) -> Origin<'a> {
    let Uevent { devpath, seqnum, uuid, .. } = *uevent;
    match uevent.argument {
        // We have asked for it; or a hold program has, and udev has loaded.
        Some(b"again" | b"off") => Origin::Scan { devpath },
        _ => Origin::Uevent { devpath, seqnum, synthetic: uuid.is_some() },
    }
}
