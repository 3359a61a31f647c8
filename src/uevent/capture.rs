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
//! A record has at most [`LONGEST`] bytes. A reader, whose file anybody may have edited, holds one record and one line, and reads no
//! further into either than its bound.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use super::message::LONGEST;
use crate::escape::{escape, unescape};

const HEADER: &str = "addonce-capture 1";
/// Every byte escaped, and the time before it.
const LINE_MAX: usize = 4 * LONGEST + 64;
const TOO_LONG: &str = "the record is longer than 16384 bytes";
const TIME: &str = "a record begins with its time in seconds, such as 0.000213, and a space";

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
    pub why: String,
}

/// Writes a capture. What it is given should be buffered; nothing is flushed but by [`Writer::flush`].
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
}

impl<W: Write> Writer<W> {
    /// Begins a capture.
    pub fn new(mut to: W) -> io::Result<Writer<W>> {
        writeln!(to, "{HEADER}")?;
        Ok(Writer { to })
    }

    /// Adds one datagram. InvalidInput if it is too long to be read back.
    pub fn write(&mut self, at: Duration, datagram: &[u8]) -> io::Result<()> {
        if datagram.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, TOO_LONG));
        }
        write!(self.to, "\n{}.{:06} ", at.as_secs(), at.subsec_micros())?;
        // A NUL ends the line, unless the next line would be empty: then it is spelt out in this one.
        let lines = datagram.chunk_by(|&byte, &next| byte != 0 || next == 0);
        for (nth, line) in lines.enumerate() {
            let line = escape(line.strip_suffix(b"\0").unwrap_or(line));
            match line.strip_prefix('#').filter(|_| nth > 0) {
                Some(rest) => write!(self.to, "\n\\x23{rest}")?,
                None => write!(self.to, "{}{line}", if nth > 0 { "\n" } else { "" })?,
            }
        }
        writeln!(self.to, "{}", if datagram.ends_with(b"\0") { "" } else { "\\" })
    }

    /// Adds a comment, one line of it: between records, where it is about what is not there.
    pub fn comment(&mut self, text: &str) -> io::Result<()> {
        let text = text.replace(|byte: char| byte.is_control(), " ");
        writeln!(self.to, "\n# {text}")
    }

    /// Hands on what is buffered: a capture that is cut short afterwards reads up to here.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Gives back what was written to.
    pub fn into_inner(self) -> W {
        self.to
    }
}

/// Reads a capture, record by record. After an error it yields no more.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    text: Vec<u8>,
    line: usize,
    done: bool,
}

impl<R: BufRead> Reader<R> {
    /// Begins to read; fails if this is no capture.
    pub fn new(from: R) -> Result<Reader<R>, Unreadable> {
        let mut reader = Reader { from, text: Vec::new(), line: 0, done: false };
        let why = match reader.next_line() {
            Ok(true) if reader.text == HEADER.as_bytes() => return Ok(reader),
            Err(why) if why != TOO_LONG => why,
            _ => format!("this is no capture that can be read here: the first line should be \"{HEADER}\""),
        };
        Err(Unreadable { line: 1, why })
    }

    fn next_line(&mut self) -> Result<bool, String> {
        self.text.clear();
        self.line += 1;
        let mut line = self.from.by_ref().take(LINE_MAX as u64 + 1);
        let read = line.read_until(b'\n', &mut self.text).map_err(|error| error.to_string())?;
        if read > LINE_MAX {
            return Err(TOO_LONG.into());
        }
        if self.text.last() == Some(&b'\n') {
            self.text.pop();
        }
        Ok(read > 0)
    }

    fn record(&mut self) -> Result<Option<Record>, String> {
        let mut record: Option<Record> = None;
        let mut terminated = true;
        while self.next_line()? {
            match (self.text.first(), &record) {
                (Some(b'#'), _) | (None, None) => continue,
                (None, Some(_)) => break,
                _ if terminated => {}
                _ => {
                    return Err(
                        "the line before says that its NUL byte is missing, so the record has to end there"
                            .into(),
                    );
                }
            }
            let (record, string) = match &mut record {
                Some(record) => (record, self.text.as_slice()),
                None => {
                    let space = memchr::memchr(b' ', &self.text).ok_or(TIME)?;
                    let at = time(&self.text[..space]).ok_or(TIME)?;
                    (record.insert(Record { at, datagram: Vec::new() }), &self.text[space + 1..])
                }
            };
            terminated = append(string, &mut record.datagram)?;
            if record.datagram.len() > LONGEST {
                return Err(TOO_LONG.into());
            }
        }
        Ok(record)
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let record = self.record().map_err(|why| Unreadable { line: self.line, why }).transpose();
        self.done = !matches!(record, Some(Ok(_)));
        record
    }
}

/// Appends what a line stands for. False if its NUL byte is said to be missing.
fn append(line: &[u8], to: &mut Vec<u8>) -> Result<bool, String> {
    if let Some(bare) = line.iter().find(|byte| !(b' '..=b'~').contains(byte)) {
        return Err(format!("byte 0x{bare:02x} has to be written \\x{bare:02x}"));
    }
    let (line, terminated) = line.strip_suffix(b"\\").map_or((line, true), |line| (line, false));
    let text = unescape(&String::from_utf8_lossy(line));
    to.extend(text.ok_or("a backslash begins \\xNN, with two hexadecimal digits, or ends the line")?);
    to.extend(terminated.then_some(0));
    Ok(terminated)
}

fn time(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    Some(Duration::new(seconds.parse().ok()?, format!("{fraction:0<9}").parse().ok()?))
}
