// SPDX-License-Identifier: MIT OR Apache-2.0
//! Uevents as they came, in a text that a person can read and edit, and that gives back every byte:
//!
//! ```text
//! addonce-capture 1
//! # A line that begins with # is a comment; one that is empty means nothing.
//! 0.000000 add@/devices/system/cpu/cpu0 ACTION=add DEVPATH=/devices/system/cpu/cpu0 SUBSYSTEM=cpu SEQNUM=1138
//! 0.000213 add@/devices/system/cpu/cpu1 ACTION=add DEVPATH=/devices/system/cpu/cpu1 SUBSYSTEM=cpu SEQNUM=1139
//! ```
//!
//! A line is one datagram: the time since the capture began, in seconds and kept to the microsecond, and the strings of the datagram,
//! with a space before each. The NUL byte that ends each string goes without saying, and a lone backslash at the end of the line
//! says that the last one is missing. Space, backslash and bytes outside of printable ASCII are written `\xNN`.
//!
//! A reader, whose file anybody may have edited, reads no further into a line than the longest datagram can be long.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use crate::escape::{escape, unescape};

const HEADER: &str = "addonce-capture 1";
/// The longest datagram, in bytes: more than twice what the kernel's can have (`UEVENT_BUFFER_SIZE`, and the header).
pub const LONGEST: usize = 16 * 1024;
/// The longest line: every byte escaped, and the time before it.
const LINE_MAX: usize = 4 * LONGEST + 64;
const TOO_LONG: &str = "the uevent is longer than 16384 bytes";

/// One datagram and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Since the capture began.
    pub at: Duration,
    /// As it came from the socket.
    pub datagram: Vec<u8>,
}

/// Writes a capture, each datagram in one write.
#[derive(Debug)]
pub struct Writer<W>(W);

impl<W: Write> Writer<W> {
    /// Begins a capture.
    pub fn new(mut to: W) -> io::Result<Self> {
        writeln!(to, "{HEADER}")?;
        Ok(Self(to))
    }

    /// Adds one datagram.
    pub fn write(&mut self, at: Duration, datagram: &[u8]) -> io::Result<()> {
        let (strings, end) = match datagram.strip_suffix(b"\0") {
            Some(strings) => (strings, ""),
            None => (datagram, "\\"),
        };
        let text = escape(strings).replace(' ', "\\x20").replace("\\x00", " ");
        let line = format!("{}.{:06} {text}{end}\n", at.as_secs(), at.subsec_micros());
        self.0.write_all(line.as_bytes())
    }
}

/// Reads a capture, record by record. An error names the line; after it there are no more records.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    line: usize,
    failed: bool,
}

impl<R: BufRead> Reader<R> {
    /// Begins to read; fails if this is no capture.
    pub fn new(from: R) -> Result<Self, String> {
        let mut reader = Self { from, line: 0, failed: false };
        match reader.next_line() {
            Ok(Some(line)) if line == HEADER => Ok(reader),
            Err(why) if why != TOO_LONG => Err(format!("line 1: {why}")),
            _ => Err(format!(
                "line 1: this is no capture that can be read here: the first line should be \"{HEADER}\""
            )),
        }
    }

    fn next_line(&mut self) -> Result<Option<String>, String> {
        self.line += 1;
        let mut line = Vec::new();
        let read = self.from.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line);
        match read.map_err(|error| error.to_string())? {
            0 => return Ok(None),
            1..=LINE_MAX => {}
            _ => return Err(TOO_LONG.into()),
        }
        let line = line.strip_suffix(b"\n").unwrap_or_else(|| {
            log::warn!("line {}, the last, does not end: the capture was cut off", self.line);
            &line
        });
        match line.iter().find(|byte| !(b' '..=b'~').contains(byte)) {
            Some(bare) => Err(format!("byte 0x{bare:02x} has to be written \\x{bare:02x}")),
            None => Ok(Some(String::from_utf8_lossy(line).into_owned())),
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            let line = self.next_line().transpose()?;
            if line.as_ref().is_ok_and(|line| line.is_empty() || line.starts_with('#')) {
                continue;
            }
            let record = line.and_then(|line| record(&line));
            self.failed = record.is_err();
            return Some(record.map_err(|why| format!("line {}: {why}", self.line)));
        }
        None
    }
}

fn record(line: &str) -> Result<Record, String> {
    const TIME: &str = "a uevent begins with its time in seconds, such as 0.000213, and a space";
    let (time, strings) = line.split_once(' ').ok_or(TIME)?;
    let at = Duration::try_from_secs_f64(time.parse().map_err(|_| TIME)?).map_err(|_| TIME)?;
    let (strings, end) = match strings.strip_suffix('\\') {
        Some(strings) => (strings, ""),
        None => (strings, "\\x00"),
    };
    let datagram = unescape(&(strings.replace(' ', "\\x00") + end))
        .ok_or("a backslash begins \\xNN, with two hexadecimal digits, or ends the line")?;
    if datagram.len() > LONGEST { Err(TOO_LONG.into()) } else { Ok(Record { at, datagram }) }
}
