// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Message: one uevent, parsed in place
//!
//! A uevent is a header, `add@/devices/…`, and `KEY=VALUE` strings, each ended by a NUL byte. [`parse`] reads
//! it in one pass, copies nothing, allocates nothing and looks at no more than [`LONGEST`] bytes; values are
//! bytes, for a modalias need not be UTF-8. A datagram that contradicts itself is refused whole, with the
//! contradiction's name; strings that mean nothing here are stepped over, because drivers may add what they
//! like. Of a key given twice the last counts, as in udev: a re-broadcast datagram that already had a SEQNUM
//! gets the kernel's behind it.

use std::fmt;

use super::cut::{cut, cut_number};

/// The longest datagram taken, and the size for a receive buffer. The kernel's own are at most 2 KiB of
/// strings (`UEVENT_BUFFER_SIZE`, DEVPATH among them) and once more the path in the header, so about 4 KiB:
/// what is longer than this did not come from a kernel we know.
pub const LONGEST: usize = 16 * 1024;

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
    /// The bus or class it belongs to.
    pub subsystem: Option<&'a [u8]>,
    /// What drivers are looked up by; never empty.
    pub modalias: Option<&'a [u8]>,
    /// The kernel's count of uevents. Neither gaps nor disorder mean that one was lost.
    pub seqnum: u64,
    /// Real hardware, not a replay asked for through a `uevent` file (those carry SYNTH_UUID).
    pub genuine: bool,
}

impl<'a> Uevent<'a> {
    /// The kernel module this is about, if it is about one: `add@/module/NAME` says that NAME is live,
    /// `remove@/module/NAME` that it was unloaded.
    pub fn module(&self) -> Option<&'a [u8]> {
        let name = self.devpath.strip_prefix(b"/module/")?;
        (self.subsystem == Some(b"module") && !name.is_empty() && !name.contains(&b'/')).then_some(name)
    }
}

/// Why a datagram was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// More than [`LONGEST`] bytes.
    TooLong,
    /// No bytes, or the last is not NUL.
    NotTerminated,
    /// The first string is not ACTION@DEVPATH.
    NoHeader,
    /// No ACTION.
    NoAction,
    /// ACTION and header name different actions.
    ActionDisagrees,
    /// No DEVPATH.
    NoDevpath,
    /// DEVPATH and header name different devices.
    DevpathDisagrees,
    /// The header's path does not begin with a slash.
    DevpathNotAbsolute,
    /// No SEQNUM.
    NoSeqnum,
    /// SEQNUM is no decimal number of 64 bits.
    BadSeqnum,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::TooLong => "the uevent is longer than 16384 bytes",
            Malformed::NotTerminated => "the uevent does not end with a NUL byte",
            Malformed::NoHeader => "the uevent does not begin with ACTION@DEVPATH",
            Malformed::NoAction => "the uevent has no ACTION",
            Malformed::ActionDisagrees => "the uevent's ACTION is not the one in its header",
            Malformed::NoDevpath => "the uevent has no DEVPATH",
            Malformed::DevpathDisagrees => "the uevent's DEVPATH is not the one in its header",
            Malformed::DevpathNotAbsolute => "the uevent's device path does not begin with a slash",
            Malformed::NoSeqnum => "the uevent has no SEQNUM",
            Malformed::BadSeqnum => "the uevent's SEQNUM is not a number of 64 bits",
        })
    }
}

impl std::error::Error for Malformed {}

/// Reads one datagram.
pub fn parse(datagram: &[u8]) -> Result<Uevent<'_>, Malformed> {
    if datagram.len() > LONGEST {
        return Err(Malformed::TooLong);
    }
    if datagram.last() != Some(&0) {
        return Err(Malformed::NotTerminated);
    }
    let (header, mut rest) = cut(datagram);
    let at = header.iter().position(|&byte| byte == b'@').ok_or(Malformed::NoHeader)?;
    let (action, devpath) = (&header[..at], &header[at + 1..]);
    if action.is_empty() {
        return Err(Malformed::NoHeader);
    }
    if devpath.first() != Some(&b'/') {
        return Err(Malformed::DevpathNotAbsolute);
    }

    // What the kernel sends goes on like this, always; other orders cost a little more.
    let (mut same_action, mut same_devpath) = (None, None);
    if let Some(next) = as_in_header(rest, action, devpath) {
        (same_action, same_devpath) = (Some(true), Some(true));
        rest = next;
    }
    let (mut subsystem, mut modalias, mut seqnum, mut genuine) = (None, None, None, true);
    // By the first byte: most strings are none of these. Only values are searched for their end, not the names.
    while let Some(first) = rest.first() {
        rest = match first {
            b'M' if rest.starts_with(b"MODALIAS=") => {
                let (value, next) = cut(&rest[b"MODALIAS=".len()..]);
                modalias = Some(value);
                next
            }
            b'S' if rest.starts_with(b"SEQNUM=") => {
                let (value, next) = cut_number(&rest[b"SEQNUM=".len()..]);
                seqnum = Some(value);
                next
            }
            b'S' if rest.starts_with(b"SUBSYSTEM=") => {
                let (value, next) = cut(&rest[b"SUBSYSTEM=".len()..]);
                subsystem = Some(value);
                next
            }
            b'S' if rest.starts_with(b"SYNTH_UUID=") => {
                genuine = false;
                cut(&rest[b"SYNTH_UUID=".len()..]).1
            }
            b'A' if rest.starts_with(b"ACTION=") => {
                let (value, next) = cut(&rest[b"ACTION=".len()..]);
                same_action = Some(value == action);
                next
            }
            b'D' if rest.starts_with(b"DEVPATH=") => {
                let (value, next) = cut(&rest[b"DEVPATH=".len()..]);
                same_devpath = Some(value == devpath);
                next
            }
            _ => cut(rest).1,
        };
    }

    if !same_action.ok_or(Malformed::NoAction)? {
        return Err(Malformed::ActionDisagrees);
    }
    if !same_devpath.ok_or(Malformed::NoDevpath)? {
        return Err(Malformed::DevpathDisagrees);
    }
    let seqnum = seqnum.ok_or(Malformed::NoSeqnum)?.ok_or(Malformed::BadSeqnum)?;
    let action = match action {
        b"add" => Action::Add,
        b"remove" => Action::Remove,
        _ => Action::Other,
    };
    let modalias = modalias.filter(|modalias| !modalias.is_empty());
    Ok(Uevent { action, devpath, subsystem, modalias, seqnum, genuine })
}

/// The MODALIAS in the contents of a sysfs `uevent` file, where strings end with a newline.
pub fn modalias_of_file(contents: &[u8]) -> Option<&[u8]> {
    let lines = contents.split(|&byte| byte == b'\n');
    let modalias = lines.filter_map(|line| line.strip_prefix(b"MODALIAS=")).next_back()?;
    (!modalias.is_empty()).then_some(modalias)
}

/// What follows ACTION and DEVPATH, if these two come first and say what the header says.
#[inline(always)]
fn as_in_header<'a>(rest: &'a [u8], action: &[u8], devpath: &[u8]) -> Option<&'a [u8]> {
    let rest = match action {
        // Of what gets through the filter most is this, and comparing with what is known beforehand is no call.
        b"add" => rest.strip_prefix(b"ACTION=add\0DEVPATH=")?,
        _ => rest.strip_prefix(b"ACTION=")?.strip_prefix(action)?.strip_prefix(b"\0DEVPATH=")?,
    };
    rest.strip_prefix(devpath)?.strip_prefix(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CPU: &[u8] = b"add@/devices/system/cpu/cpu3\0ACTION=add\0DEVPATH=/devices/system/cpu/cpu3\0\
        SUBSYSTEM=cpu\0MODALIAS=cpu:type:x86,ven0000fam0006mod008F:feature:,0000,0001\0SEQNUM=4711\0";

    fn refused(datagram: &[u8], why: Malformed) {
        assert_eq!(parse(datagram), Err(why), "{}", datagram.escape_ascii());
    }

    #[test]
    fn a_cpu_is_read_in_place() {
        let uevent = parse(CPU).unwrap();
        assert_eq!(uevent.action, Action::Add);
        assert_eq!(uevent.devpath, b"/devices/system/cpu/cpu3");
        assert_eq!(uevent.subsystem, Some(&b"cpu"[..]));
        assert!(uevent.modalias.unwrap().ends_with(b",0000,0001"));
        assert_eq!((uevent.seqnum, uevent.genuine, uevent.module()), (4711, true, None));
    }

    #[test]
    fn every_contradiction_has_its_name() {
        refused(b"", Malformed::NotTerminated);
        refused(b"add@/d", Malformed::NotTerminated);
        refused(&[0; LONGEST + 1], Malformed::TooLong);
        refused(b"\0", Malformed::NoHeader);
        refused(b"libudev\0\xfe\xed\xca\xfe\0", Malformed::NoHeader);
        refused(b"@/d\0ACTION=\0DEVPATH=/d\0SEQNUM=1\0", Malformed::NoHeader);
        refused(b"add@d\0ACTION=add\0DEVPATH=d\0SEQNUM=1\0", Malformed::DevpathNotAbsolute);
        refused(b"add@\0ACTION=add\0DEVPATH=\0SEQNUM=1\0", Malformed::DevpathNotAbsolute);
        refused(b"add@/d\0DEVPATH=/d\0SEQNUM=1\0", Malformed::NoAction);
        refused(b"add@/d\0ACTION=remove\0DEVPATH=/d\0SEQNUM=1\0", Malformed::ActionDisagrees);
        refused(b"add@/d\0ACTION=add\0SEQNUM=1\0", Malformed::NoDevpath);
        refused(b"add@/d\0ACTION=add\0DEVPATH=/e\0SEQNUM=1\0", Malformed::DevpathDisagrees);
        refused(b"add@/d\0ACTION=add\0DEVPATH=/d\0", Malformed::NoSeqnum);
        for seqnum in ["", "-1", "+1", "1x", "18446744073709551616"] {
            let datagram = format!("add@/d\0ACTION=add\0DEVPATH=/d\0SEQNUM={seqnum}\0");
            refused(datagram.as_bytes(), Malformed::BadSeqnum);
        }
    }

    #[test]
    fn a_synthetic_event_is_told_from_real_hardware() {
        let asked = b"add@/d\0ACTION=add\0DEVPATH=/d\0SUBSYSTEM=mem\0SYNTH_UUID=0\0SEQNUM=1\0";
        assert!(!parse(asked).unwrap().genuine);
    }

    #[test]
    fn a_module_is_named_only_by_its_own_subsystem_and_place() {
        let name = |subsystem: &str, path: &str| {
            let text =
                format!("remove@{path}\0ACTION=remove\0DEVPATH={path}\0SUBSYSTEM={subsystem}\0SEQNUM=1\0");
            let uevent = parse(text.as_bytes()).unwrap();
            assert_eq!(uevent.action, Action::Remove);
            uevent.module().map(<[u8]>::to_vec)
        };
        assert_eq!(name("module", "/module/nfit"), Some(b"nfit".to_vec()));
        assert_eq!(name("drivers", "/module/nfit"), None);
        assert_eq!(name("module", "/module/"), None);
        assert_eq!(name("module", "/module/nfit/holders"), None);
        assert_eq!(name("module", "/bus/nfit"), None);
    }

    #[test]
    fn bytes_that_are_no_text_and_strings_that_mean_nothing_are_taken() {
        let odd = b"add@/d\0ACTION=add\0\0ACTIONS\0DEVPATH=/d\0=x\0MODALIAS=\xff\xfe[*\0SEQNUM=1\0SEQNUM=2\0";
        let uevent = parse(odd).unwrap();
        assert_eq!((uevent.modalias, uevent.seqnum), (Some(&b"\xff\xfe[*"[..]), 2));
        let empty = b"add@/d\0ACTION=add\0DEVPATH=/d\0MODALIAS=\0SEQNUM=1\0";
        assert_eq!(parse(empty).unwrap().modalias, None);
    }

    #[test]
    fn the_modalias_of_a_uevent_file_is_found_on_any_line() {
        assert_eq!(modalias_of_file(b"DRIVER=x\nMODALIAS=pci:v\xff\n"), Some(&b"pci:v\xff"[..]));
        assert_eq!(modalias_of_file(b"MODALIAS=acpi:A:\nNAME=\"MODALIAS=b\"\n"), Some(&b"acpi:A:"[..]));
        assert_eq!(modalias_of_file(b"MODALIAS=\n"), None);
        assert_eq!(modalias_of_file(b"XMODALIAS=a\n"), None);
        assert_eq!(modalias_of_file(b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
            bytes.splice(0..0, CPU.iter().copied());
            bytes.push(0);
            let _ = parse(&bytes);
        }
    }
}
