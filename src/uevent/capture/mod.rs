// SPDX-License-Identifier: MIT OR Apache-2.0
//! Uevents as they came, in a text that a person can read and edit, and that gives back every byte:
//!
//! ```text
//! addonce-capture 1
//! # A line that begins with # is a comment, wherever it stands.
//!
//! 0.000000 add@/devices/system/cpu/cpu0
//! ACTION=add
//! DEVPATH=/devices/system/cpu/cpu0
//! SUBSYSTEM=cpu
//! MODALIAS=cpu:type:x86,ven0000fam0006mod008F:feature:,0000
//! SEQNUM=1138
//!
//! 0.000213 add@/devices/system/cpu/cpu1
//! ```
//!
//! A record is one datagram and ends with an empty line or the file. Its first line is the time since the
//! capture began, in seconds, a space, and the datagram's first string; every further line is one more string.
//! The NUL byte that ends each string goes without saying, and a lone backslash at the end of a line says that it is
//! missing. Backslash and bytes outside of printable ASCII are written `\xNN`; so are a NUL where an empty
//! string would make an empty line, and a `#` where it would make a comment. Times are kept to the
//! microsecond.
//!
//! A record has at most [`message::LONGEST`] bytes.

mod reader;
mod writer;

use std::io;
use std::time::Duration;

pub use reader::Reader;
pub use writer::Writer;

use super::message;

const HEADER: &str = "addonce-capture 1";
/// Every byte escaped, and the time before it.
const LINE_MAX: usize = 4 * message::LONGEST + 64;

/// One datagram and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Since the capture began.
    pub at: Duration,
    /// As it came from the socket.
    pub datagram: Vec<u8>,
}

/// Why a capture cannot be read on, and the line that it is about.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unreadable {
    /// The first line is 1.
    pub line: usize,
    /// The fault.
    pub why: Fault,
}

/// What is wrong with a line of a capture.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is another kind of file, or of another version.
    #[error("this is no capture that can be read here: the first line should be \"{HEADER}\"")]
    Header,
    /// The time is not SECONDS or SECONDS.FRACTION.
    #[error("a record begins with its time in seconds, such as 0.000213, and a space")]
    Time,
    /// A byte that has to be escaped is not.
    #[error("byte 0x{0:02x} has to be written \\x{0:02x}")]
    Bare(u8),
    /// An escape that is none.
    #[error("a backslash begins \\xNN, with two hexadecimal digits, or ends the line")]
    Escape,
    /// A record beyond the bound.
    #[error("the record is longer than 16384 bytes")]
    TooLong,
    /// A string after one whose NUL byte is missing.
    #[error("the line before says that its NUL byte is missing, so the record has to end there")]
    Unterminated,
    /// The file could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(datagrams: &[&[u8]]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (n, datagram) in datagrams.iter().enumerate() {
            writer.write(Duration::from_micros(213 * n as u64), datagram).unwrap();
        }
        writer.into_inner()
    }

    fn fault(text: &str) -> String {
        match Reader::new(text.as_bytes()) {
            Err(error) => error.to_string(),
            Ok(mut reader) => {
                let error = reader.find_map(Result::err).expect("an error").to_string();
                assert!(reader.next().is_none());
                error
            }
        }
    }

    #[test]
    fn a_storm_reads_like_the_example_in_the_documentation() {
        let text = written(&[b"add@/d\0ACTION=add\0MODALIAS=a\\b\xff#\0", b"add@/e\0"]);
        let expected =
            "addonce-capture 1\n\n0.000000 add@/d\nACTION=add\nMODALIAS=a\\x5cb\\xff#\n\n0.000213 add@/e\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_person_may_comment_leave_lines_empty_and_round_the_time() {
        let text = "addonce-capture 1\n# one\n\n\n3 add@/d\n# two\nA=1\n\n# three\n4.5 x\n\n";
        let records: Vec<_> = Reader::new(text.as_bytes()).unwrap().map(Result::unwrap).collect();
        assert_eq!(records[0], Record { at: Duration::from_secs(3), datagram: b"add@/d\0A=1\0".to_vec() });
        assert_eq!(records[1], Record { at: Duration::from_millis(4500), datagram: b"x\0".to_vec() });
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn a_comment_stands_between_records_and_changes_none() {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.comment("one\n0 two").unwrap();
        writer.write(Duration::ZERO, b"add@/d\0").unwrap();
        writer.comment("3 uevents were dropped").unwrap();
        writer.write(Duration::ZERO, b"add@/e\0").unwrap();
        let text = writer.into_inner();
        let expected = "addonce-capture 1\n\n# one 0 two\n\n0.000000 add@/d\n\n# 3 uevents were dropped\n\n0.000000 add@/e\n";
        assert_eq!(String::from_utf8_lossy(&text), expected);
        let records: Vec<_> =
            Reader::new(text.as_slice()).unwrap().map(|record| record.unwrap().datagram).collect();
        assert_eq!(records, [b"add@/d\0", b"add@/e\0"]);
    }

    #[test]
    fn a_fault_names_its_line() {
        assert!(fault("").starts_with("line 1: this is no capture"));
        assert!(fault("addonce-capture 2\n").starts_with("line 1: this is no capture"));
        for time in ["x a", "1.a b", "1", ".5 a", "1. a", "-1 a", "1.0000000001 a", "99999999999999999999 a"]
        {
            assert!(
                fault(&format!("addonce-capture 1\n{time}\n")).starts_with("line 2: a record begins"),
                "{time}"
            );
        }
        assert_eq!(
            fault("addonce-capture 1\n\n0 a\nA=\u{ff}\n"),
            "line 4: byte 0xc3 has to be written \\xc3"
        );
        assert_eq!(fault("addonce-capture 1\n0 a\r\n"), "line 2: byte 0x0d has to be written \\x0d");
        assert!(fault("addonce-capture 1\n0 a\\n\n").starts_with("line 2: a backslash"));
        assert!(fault("addonce-capture 1\n0 a\\x4\n").starts_with("line 2: a backslash"));
        assert!(fault("addonce-capture 1\n0 a\\\nb\n").starts_with("line 3: the line before"));
    }

    #[test]
    fn a_record_without_end_is_refused_before_it_fills_the_memory() {
        let long = "x".repeat(LINE_MAX * 2);
        assert!(fault(&format!("addonce-capture 1\n0 {long}")).starts_with("line 2: the record is longer"));
        let many = "A=1\n".repeat(message::LONGEST);
        assert!(fault(&format!("addonce-capture 1\n0 a\n{many}")).contains("the record is longer"));
        let mut writer = Writer::new(Vec::new()).unwrap();
        assert!(writer.write(Duration::ZERO, &vec![0; message::LONGEST + 1]).is_err());
        assert_eq!(writer.into_inner(), written(&[]));
    }

    #[test]
    fn the_longest_record_comes_back() {
        let long = vec![0xff; message::LONGEST];
        let text = written(&[&long]);
        assert_eq!(Reader::new(text.as_slice()).unwrap().next().unwrap().unwrap().datagram, long);
    }

    proptest! {
        #[test]
        fn every_byte_comes_back(datagrams in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![Just(0u8), Just(b'#'), Just(b'\\'), Just(b'\n'), any::<u8>()], 0..12),
            0..6,
        )) {
            let slices: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
            let text = written(&slices);
            prop_assert!(text.iter().all(|&byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
            let read: Vec<_> = Reader::new(text.as_slice()).unwrap().map(Result::unwrap).collect();
            for (n, record) in read.iter().enumerate() {
                prop_assert_eq!(record.at, Duration::from_micros(213 * n as u64));
            }
            let read: Vec<_> = read.into_iter().map(|record| record.datagram).collect();
            prop_assert_eq!(read, datagrams);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9a@\\\\x.# \n]{0,80}") {
            let text = format!("addonce-capture 1\n{text}");
            Reader::new(text.as_bytes()).unwrap().for_each(drop);
        }
    }
}
