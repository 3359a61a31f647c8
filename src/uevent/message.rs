// SPDX-License-Identifier: MIT OR Apache-2.0
//! One uevent, parsed in place: the kernel's own datagram, or the one in which udevd announces a device it has processed.
//!
//! Both hold `KEY=VALUE` strings, each ended by a NUL byte. The kernel puts `add@/devices/…` before them, udevd a binary
//! header. Nothing is copied; values are bytes, for a modalias need not be UTF-8. Strings that mean nothing here are stepped
//! over, because drivers and rules may add what they like. Of a key given twice the last counts, as in udev: an event that was
//! sent through port 0 and already had a SEQNUM gets the kernel's behind it.

/// What happened to the device, as far as addonce cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It appeared, or somebody asks to treat it as if it had.
    Add,
    /// It is gone.
    Remove,
    /// change, move, online, offline, bind, unbind: nothing to load.
    Other,
}

/// One uevent. Everything borrows from the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// What happened.
    pub action: Action,
    /// The device's place under /sys, with its leading slash.
    pub devpath: &'a [u8],
    /// What drivers are looked up by; never empty. Of several the last, which is the only one that udev keeps.
    pub modalias: Option<&'a [u8]>,
    /// The one before it: the kernel gives some ACPI devices two, `acpi:` and `of:`.
    pub other_modalias: Option<&'a [u8]>,
    /// The kernel's count of uevents. Neither gaps nor disorder mean that one was lost.
    pub seqnum: u64,
    /// SYNTH_UUID, where the event was asked for through a `uevent` file in /sys; `0` where who asked named none.
    pub uuid: Option<&'a [u8]>,
    /// SYNTH_ARG_ADDONCE: what addonce wrote behind `ADDONCE=` when it asked for the event.
    pub argument: Option<&'a [u8]>,
}

impl<'a> Uevent<'a> {
    /// The kernel module this is about, if it is about one: `add@/module/NAME` says that NAME is live,
    /// `remove@/module/NAME` that it was unloaded.
    pub fn module(&self) -> Option<&'a [u8]> {
        let name = self.devpath.strip_prefix(b"/module/")?;
        (!name.is_empty() && !name.contains(&b'/')).then_some(name)
    }

    /// Everything that drivers are looked up by, in the order of the event.
    pub fn modaliases(&self) -> impl Iterator<Item = &'a [u8]> {
        self.other_modalias.into_iter().chain(self.modalias)
    }
}

/// Why a datagram was refused.
pub type Malformed = &'static str;

const NO_HEADER: Malformed = "its header is neither ACTION@DEVPATH nor libudev's";

/// Reads a datagram of the kernel. What its header says the strings say again.
pub fn parse(datagram: &[u8]) -> Result<Uevent<'_>, Malformed> {
    let (header, strings) = cut(terminated(datagram)?);
    if header.contains(&b'@') { read(strings) } else { Err(NO_HEADER) }
}

/// Reads a datagram of udevd: `struct monitor_netlink_header` of systemd's libsystemd/sd-device/device-monitor.c, the same
/// since 2011 and in eudev, and the device's properties. Its words are in the machine's byte order, but for the magic number.
pub fn parse_udev(datagram: &[u8]) -> Result<Uevent<'_>, Malformed> {
    const MAGIC: u32 = 0xfeed_cafe;
    let word = |at: usize| datagram.get(at..at + 4)?.try_into().ok();
    let number = |at: usize| word(at).map(|word| u32::from_ne_bytes(word) as usize);
    if !datagram.starts_with(b"libudev\0") || word(8).map(u32::from_be_bytes) != Some(MAGIC) {
        return Err(NO_HEADER);
    }
    let properties = || {
        let begin = number(16)?;
        datagram.get(begin..begin.checked_add(number(20)?)?)
    };
    read(terminated(properties().ok_or(NO_HEADER)?)?)
}

fn terminated(bytes: &[u8]) -> Result<&[u8], Malformed> {
    bytes.strip_suffix(b"\0").ok_or("it does not end with a NUL byte")
}

/// Cuts at the first NUL byte, which belongs to neither side.
fn cut(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(0, bytes) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// Reads the keys that mean something here.
fn read(mut strings: &[u8]) -> Result<Uevent<'_>, Malformed> {
    let (mut action, mut devpath, mut seqnum) = (None, None, None);
    let (mut modalias, mut other_modalias, mut uuid, mut argument) = (None, None, None, None);
    let mut worker_failed = None;
    while !strings.is_empty() {
        let string;
        (string, strings) = cut(strings);
        let Some(at) = memchr::memchr(b'=', string) else { continue };
        let value = &string[at + 1..];
        let key = match &string[..at] {
            b"MODALIAS" => {
                if modalias != Some(value) {
                    other_modalias = modalias;
                }
                &mut modalias
            }
            b"ACTION" => &mut action,
            b"DEVPATH" => &mut devpath,
            b"SEQNUM" => &mut seqnum,
            b"SYNTH_UUID" => &mut uuid,
            b"SYNTH_ARG_ADDONCE" => &mut argument,
            b"UDEV_WORKER_FAILED" => &mut worker_failed,
            _ => continue,
        };
        *key = Some(value);
    }
    let action = action.ok_or("it has no ACTION")?;
    let devpath = devpath.ok_or("it has no DEVPATH")?;
    let action = match action {
        b"add" => Action::Add,
        b"remove" => Action::Remove,
        _ => Action::Other,
    };
    let seqnum =
        std::str::from_utf8(seqnum.ok_or("it has no SEQNUM")?).ok().and_then(|text| text.parse().ok());
    let seqnum = seqnum.ok_or("its SEQNUM is not a number of 64 bits")?;
    // Of an event whose worker died udevd broadcasts what the kernel had said: no rule has allowed it, and udev loads nothing for it.
    let is_asked_for = |text: &&[u8]| !text.is_empty() && worker_failed.is_none();
    let [modalias, other_modalias] = [modalias, other_modalias].map(|modalias| modalias.filter(is_asked_for));
    Ok(Uevent { action, devpath, modalias, other_modalias, seqnum, uuid, argument })
}
