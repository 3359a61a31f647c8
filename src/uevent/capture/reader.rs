// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a capture, which anybody may have edited: its records, or the fault and the line that it is in. It holds one record and one
//! line, and reads no further into either than its bound.

use std::io::{BufRead, Read};
use std::time::Duration;

use super::{Fault, HEADER, LINE_MAX, Record, Unreadable};
use crate::uevent::message;

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
        match reader.next_line() {
            Ok(true) if reader.text == HEADER.as_bytes() => Ok(reader),
            Err(Fault::Io(error)) => Err(reader.fail(error.into())),
            _ => Err(reader.fail(Fault::Header)),
        }
    }

    fn next_line(&mut self) -> Result<bool, Fault> {
        self.text.clear();
        self.line += 1;
        self.from.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut self.text)?;
        if self.text.len() > LINE_MAX {
            return Err(Fault::TooLong);
        }
        if self.text.is_empty() {
            return Ok(false);
        }
        if self.text.last() == Some(&b'\n') {
            self.text.pop();
        }
        Ok(true)
    }

    fn record(&mut self) -> Result<Option<Record>, Fault> {
        let mut record: Option<Record> = None;
        let mut terminated = true;
        while self.next_line()? {
            if self.text.first() == Some(&b'#') {
                continue;
            }
            if self.text.is_empty() {
                match record {
                    Some(_) => break,
                    None => continue,
                }
            }
            if !terminated {
                return Err(Fault::Unterminated);
            }
            let (record, string) = match &mut record {
                Some(record) => (record, self.text.as_slice()),
                None => {
                    let space = self.text.iter().position(|&byte| byte == b' ').ok_or(Fault::Time)?;
                    let at = time(&self.text[..space]).ok_or(Fault::Time)?;
                    (record.insert(Record { at, datagram: Vec::new() }), &self.text[space + 1..])
                }
            };
            terminated = unescape(string, &mut record.datagram)?;
            if record.datagram.len() > message::LONGEST {
                return Err(Fault::TooLong);
            }
        }
        Ok(record)
    }

    fn fail(&mut self, why: Fault) -> Unreadable {
        self.done = true;
        Unreadable { line: self.line, why }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let record = self.record().map_err(|why| self.fail(why)).transpose();
        self.done |= record.is_none();
        record
    }
}

/// Appends what a line stands for. False if its NUL byte is said to be missing.
fn unescape(line: &[u8], to: &mut Vec<u8>) -> Result<bool, Fault> {
    let mut rest = line;
    while let Some((&byte, next)) = rest.split_first() {
        rest = next;
        match byte {
            b'\\' if next.is_empty() => return Ok(false),
            b'\\' => {
                let [b'x', high, low, ..] = *next else { return Err(Fault::Escape) };
                to.push(digit(high)? << 4 | digit(low)?);
                rest = &next[3..];
            }
            b' '..=b'~' => to.push(byte),
            other => return Err(Fault::Bare(other)),
        }
    }
    to.push(0);
    Ok(true)
}

fn digit(digit: u8) -> Result<u8, Fault> {
    let value = char::from(digit).to_digit(16).ok_or(Fault::Escape)?;
    Ok(value as u8)
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
