// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes a capture, each byte so that [`super::Reader`] gives it back. What is longer than a reader takes is refused.

use std::io::{self, Write};
use std::time::Duration;

use super::{Fault, HEADER};
use crate::uevent::message;

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
        if datagram.len() > message::LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, Fault::TooLong));
        }
        write!(self.to, "\n{}.{:06} ", at.as_secs(), at.subsec_micros())?;
        let (mut line_is_empty, mut rest) = (false, datagram);
        while let Some((&byte, next)) = rest.split_first() {
            match byte {
                // It ends the line, unless the next line would be empty: then it is spelt out in this one.
                0 if next.first() != Some(&0) => {
                    self.to.write_all(b"\n")?;
                    line_is_empty = true;
                    rest = next;
                    continue;
                }
                b'#' if line_is_empty => write!(self.to, "\\x23")?,
                b'\\' | ..b' ' | 0x7f.. => write!(self.to, "\\x{byte:02x}")?,
                plain => self.to.write_all(&[plain])?,
            }
            line_is_empty = false;
            rest = next;
        }
        if datagram.last() == Some(&0) && line_is_empty { Ok(()) } else { self.to.write_all(b"\\\n") }
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
