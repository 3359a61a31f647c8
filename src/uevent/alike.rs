// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Alike: the datagrams of a storm, read by what differs
//!
//! In a storm one device after the other says the same, and only DEVPATH and SEQNUM are its own. [`Alike`] owns what the
//! last datagram said between the two, as bytes and as what they came to. Where the next one says the same, byte for
//! byte, one comparison stands in for cutting it up; any other is parsed. It promises to read every datagram as
//! [`message::parse`] does, whatever came before it, and copies nothing of it out. Bounded by [`LONGEST`] bytes.

use std::ops::Range;

use super::cut::{cut, cut_number};
use super::message::{self, Action, Malformed, Uevent};

/// The longest middle that is remembered: what a kernel says of a device, its path left out, fits `UEVENT_BUFFER_SIZE`
/// (include/linux/kobject.h).
const LONGEST: usize = 2048;

/// What the kernel puts first, always, and what its filter lets through but for a few.
const BEGIN: &[u8] = b"add@";
const REPEATED: &[u8] = b"ACTION=add\0DEVPATH=";
/// What it puts last, always.
const END: &[u8] = b"SEQNUM=";

/// What the last datagram said.
#[derive(Debug, Default)]
pub struct Alike {
    /// All that stood behind DEVPATH, up to the number of SEQNUM; empty where nothing is remembered.
    middle: Vec<u8>,
    /// What it came to, by its place in the middle.
    subsystem: Option<Range<usize>>,
    modalias: Option<Range<usize>>,
    genuine: bool,
}

impl Alike {
    /// Reads one datagram.
    ///
    /// # Errors
    /// Those of [`message::parse`].
    #[inline]
    pub fn parse<'a>(&mut self, datagram: &'a [u8]) -> Result<Uevent<'a>, Malformed> {
        match self.again(datagram) {
            Some(uevent) => Ok(uevent),
            None => self.anew(datagram),
        }
    }

    /// The datagram, if it says what the last one said.
    #[inline(always)]
    fn again<'a>(&self, datagram: &'a [u8]) -> Option<Uevent<'a>> {
        let (devpath, rest) = behind_devpath(datagram)?;
        if self.middle.is_empty() || datagram.last() != Some(&0) || datagram.len() > message::LONGEST {
            return None;
        }
        let (seqnum, end) = cut_number(rest.strip_prefix(&*self.middle)?);
        if !end.is_empty() {
            return None;
        }
        let value = |place: &Option<Range<usize>>| place.clone().map(|place| &rest[place]);
        let (subsystem, modalias) = (value(&self.subsystem), value(&self.modalias));
        let (action, genuine) = (Action::Add, self.genuine);
        Some(Uevent { action, devpath, subsystem, modalias, seqnum: seqnum?, genuine })
    }

    #[inline(never)]
    fn anew<'a>(&mut self, datagram: &'a [u8]) -> Result<Uevent<'a>, Malformed> {
        let uevent = message::parse(datagram)?;
        self.remember(datagram, &uevent);
        Ok(uevent)
    }

    /// Takes down what could be said again; of a datagram in another order nothing.
    fn remember(&mut self, datagram: &[u8], uevent: &Uevent<'_>) {
        self.middle.clear();
        let Some((_, rest)) = behind_devpath(datagram) else { return };
        // What was accepted ends with a NUL byte; this is where the string before it begins.
        let last = memchr::memrchr(0, &rest[..rest.len().saturating_sub(1)]).map_or(0, |nul| nul + 1);
        // A second DEVPATH has to be compared with the header of each datagram.
        let mut strings = &rest[..last];
        while !strings.is_empty() {
            let (string, next) = cut(strings);
            if string.starts_with(b"DEVPATH=") {
                return;
            }
            strings = next;
        }
        if !rest[last..].starts_with(END) || last + END.len() > LONGEST {
            return;
        }
        let place = |value: &[u8]| {
            let begin = value.as_ptr().addr() - rest.as_ptr().addr();
            begin..begin + value.len()
        };
        self.subsystem = uevent.subsystem.map(place);
        self.modalias = uevent.modalias.map(place);
        self.genuine = uevent.genuine;
        self.middle.extend_from_slice(&rest[..last + END.len()]);
    }
}

/// The device of an `add` event that begins as the kernel's do and does not contradict itself, and what follows.
#[inline(always)]
fn behind_devpath(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let (devpath, rest) = cut(datagram.strip_prefix(BEGIN)?);
    let rest = rest.strip_prefix(REPEATED)?.strip_prefix(devpath)?.strip_prefix(b"\0")?;
    devpath.starts_with(b"/").then_some((devpath, rest))
}

#[cfg(test)]
mod tests {
    use super::super::capture::Reader;
    use super::*;
    use proptest::prelude::*;

    fn cpu(path: &str, middle: &str, seqnum: &str) -> Vec<u8> {
        format!("add@{path}\0ACTION=add\0DEVPATH={path}\0{middle}SEQNUM={seqnum}\0").into_bytes()
    }

    const MIDDLE: &str = "SUBSYSTEM=cpu\0SYNTH_UUID=0\0DRIVER=processor\0MODALIAS=cpu:x\0";

    #[test]
    fn what_the_next_device_says_again_is_not_parsed_again() {
        let mut alike = Alike::default();
        alike.parse(&cpu("/devices/cpu9", MIDDLE, "99")).unwrap();
        let next = cpu("/devices/cpu10", MIDDLE, "100");
        let read = alike.again(&next).unwrap();
        assert_eq!(Ok(read), message::parse(&next));
        assert_eq!((read.seqnum, read.genuine, read.modalias), (100, false, Some(&b"cpu:x"[..])));
    }

    #[test]
    fn most_of_a_real_storm_is_said_again() {
        let storm = include_bytes!("../../tests/captures/guest-255-cpus.capture");
        let (mut alike, mut datagrams, mut again) = (Alike::default(), 0, 0);
        for record in Reader::new(&storm[..]).unwrap() {
            let datagram = record.unwrap().datagram;
            datagrams += 1;
            again += usize::from(alike.again(&datagram).is_some());
            assert_eq!(alike.parse(&datagram), message::parse(&datagram));
        }
        assert!(again * 4 > datagrams * 3, "{again} of {datagrams}");
    }

    #[test]
    fn one_byte_that_differs_is_noticed_wherever_it_is() {
        let first = cpu("/devices/cpu9", MIDDLE, "99");
        let next = cpu("/devices/cpu8", MIDDLE, "98");
        for place in 0..next.len() {
            for byte in [0, b'/', b'9', b'@', b'M', next[place] + 1] {
                let mut alike = Alike::default();
                alike.parse(&first).unwrap();
                let mut other = next.clone();
                other[place] = byte;
                assert_eq!(alike.parse(&other), message::parse(&other), "{}", other.escape_ascii());
            }
        }
        for len in 0..next.len() {
            let mut alike = Alike::default();
            alike.parse(&first).unwrap();
            assert_eq!(alike.parse(&next[..len]), message::parse(&next[..len]), "{len} bytes");
        }
    }

    #[test]
    fn a_second_devpath_is_held_against_each_header() {
        let mut alike = Alike::default();
        let twice = "DEVPATH=/d\0MODALIAS=x\0";
        alike.parse(&cpu("/d", twice, "1")).unwrap();
        assert_eq!(alike.parse(&cpu("/e", twice, "2")), Err(Malformed::DevpathDisagrees));
    }

    #[test]
    fn what_comes_after_seqnum_counts_as_well() {
        let mut alike = Alike::default();
        alike.parse(&cpu("/d", MIDDLE, "1")).unwrap();
        let more = [&cpu("/e", MIDDLE, "2")[..], b"MODALIAS=y\0"].concat();
        assert_eq!(alike.parse(&more), message::parse(&more));
    }

    #[test]
    fn a_number_without_its_name_is_no_seqnum_for_who_remembers_nothing() {
        let bare = b"add@/d\0ACTION=add\0DEVPATH=/d\x001\0";
        assert_eq!(Alike::default().parse(bare), Err(Malformed::NoSeqnum));
    }

    #[test]
    fn no_more_is_remembered_than_a_kernel_says() {
        let mut alike = Alike::default();
        let long = cpu("/d", &format!("MODALIAS={}\0", "x".repeat(LONGEST)), "1");
        alike.parse(&long).unwrap();
        assert!(alike.again(&long).is_none());
        alike.parse(&cpu("/d", MIDDLE, "1")).unwrap();
        assert!(alike.middle.len() <= LONGEST && alike.again(&cpu("/e", MIDDLE, "2")).is_some());
        let mut path = "/".to_owned();
        path.push_str(&"x".repeat(message::LONGEST / 2));
        assert_eq!(alike.parse(&cpu(&path, MIDDLE, "3")), Err(Malformed::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_came_before_a_datagram_is_read_as_if_it_came_alone(
            datagrams in proptest::collection::vec(
                (
                    "(add|add|add|remove)@(/d|/d|/e|d)",
                    proptest::collection::vec(
                        "(ACTION=add|ACTION=add|ACTION=x|DEVPATH=/[de]|DEVPATH=/[de]|SUBSYSTEM=s?|MODALIAS=m?|SYNTH_UUID=0|SEQNUM=[0-9x]{0,3}|X)\0",
                        0..4,
                    ),
                    any::<bool>(),
                    "(SEQNUM=[0-9]{1,20}\0)?",
                ),
                1..6,
            )
        ) {
            let mut alike = Alike::default();
            for (header, strings, regular, last) in datagrams {
                let (action, devpath) = header.split_once('@').expect("a header");
                let repeated = format!("ACTION={action}\0DEVPATH={devpath}\0");
                let repeated = if regular { &*repeated } else { "" };
                let datagram = format!("{header}\0{repeated}{}{last}", strings.concat());
                for _ in 0..2 {
                    prop_assert_eq!(alike.parse(datagram.as_bytes()), message::parse(datagram.as_bytes()));
                }
            }
        }
    }
}
