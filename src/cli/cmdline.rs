// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Cmdline: what the kernel was booted with, as far as it is meant for us
//!
//! Owns the reading of the kernel command line: `addonce.NAME=VALUE` is the flag `--NAME VALUE` of the commands that load at
//! boot, if NAME is one of [`NAMES`], and `addonce=off` (in an initramfs `rd.addonce=off`, too) has them do nothing. Words
//! and quotes are the kernel's: lib/cmdline.c; dashes and underscores are alike, as for its own parameters; the last word
//! counts. What makes no sense is a complaint and nothing else: a boot is no time to be strict.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::escape::escape;

/// The flags that may be named: the limits of `daemon` and `scan`, and the level of the log.
pub const NAMES: [&str; 8] =
    ["aliases", "clients", "jobs", "landing-time", "log", "patience", "receive-buffer", "threads"];

/// What the kernel command line says to us.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// The word that says that modules are not ours to load.
    pub off: Option<&'static str>,
    /// Flags and their values, each flag once.
    pub flags: Vec<(&'static str, OsString)>,
    /// What was not understood, a line each.
    pub complaints: Vec<String>,
}

impl Cmdline {
    /// Reads a kernel command line; of an initramfs or not.
    pub fn parse(line: &[u8], initramfs: bool) -> Self {
        let mut cmdline = Self::default();
        let (mut off, mut rd_off) = (None, None);
        for word in words(line) {
            let (name, value) = split(&word);
            let name: Vec<u8> = name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect();
            match (name.as_slice(), value) {
                (b"addonce", _) => off = cmdline.switch(&word, value).then_some("addonce=off"),
                (b"rd.addonce", _) => rd_off = cmdline.switch(&word, value).then_some("rd.addonce=off"),
                (name, value) if name.starts_with(b"addonce.") => {
                    let name = &name[b"addonce.".len()..];
                    let known = NAMES.into_iter().find(|known| known.as_bytes() == name);
                    match (known, value) {
                        (Some(flag), Some(value)) => cmdline.set(flag, value),
                        (Some(_), None) => cmdline.complain(&word, "it needs a value"),
                        (None, _) => cmdline.complain(&word, "there is no such setting"),
                    }
                }
                _ => {}
            }
        }
        cmdline.off = off.or(rd_off.filter(|_| initramfs));
        cmdline
    }

    fn set(&mut self, flag: &'static str, value: &[u8]) {
        self.flags.retain(|(other, _)| *other != flag);
        self.flags.push((flag, OsStr::from_bytes(value).to_owned()));
    }

    /// Whether a switch says off.
    fn switch(&mut self, word: &[u8], value: Option<&[u8]>) -> bool {
        match value {
            Some(b"off" | b"0") => return true,
            None | Some(b"on" | b"1") => {}
            Some(_) => self.complain(word, "it is either on or off"),
        }
        false
    }

    fn complain(&mut self, word: &[u8], why: &str) {
        let word = escape(word);
        self.complaints.push(format!("kernel command line: {word}: {why}: it is ignored"));
    }
}

/// A complaint about a value that its flag does not take.
pub fn bad_value(flag: &str, value: &OsStr) -> String {
    let value = escape(value.as_bytes());
    format!("kernel command line: addonce.{flag}={value}: --{flag} does not take this: the default holds")
}

/// Blanks separate words, but for those between quotes. Quotes around a word, or around its value, are not part of it.
fn words(line: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut quoted = false;
    let words = line.split(move |&byte| {
        quoted ^= byte == b'"';
        !quoted && (byte.is_ascii_whitespace() || byte == 0x0b || byte == 0)
    });
    words.filter(|word| !word.is_empty()).map(|word| match word.strip_prefix(b"\"") {
        Some(word) => word.strip_suffix(b"\"").unwrap_or(word).to_vec(),
        None => word.to_vec(),
    })
}

/// The name, and the value without its quotes, if there is one.
fn split(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(at) = memchr::memchr(b'=', word) else { return (word, None) };
    let value = &word[at + 1..];
    let unquoted = value.strip_prefix(b"\"").map(|value| value.strip_suffix(b"\"").unwrap_or(value));
    (&word[..at], Some(unquoted.unwrap_or(value)))
}

/// The kernel command line; none where there is no /proc.
pub fn read() -> Vec<u8> {
    std::fs::read("/proc/cmdline").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Cmdline {
        Cmdline::parse(line.as_bytes(), false)
    }

    fn flags(line: &str) -> Vec<(&'static str, String)> {
        let cmdline = parse(line);
        assert!(cmdline.complaints.is_empty(), "{:?}", cmdline.complaints);
        cmdline.flags.into_iter().map(|(flag, value)| (flag, value.into_string().expect("text"))).collect()
    }

    fn flag(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
        vec![(name, value.to_owned())]
    }

    #[test]
    fn a_limit_is_set_by_its_name_with_dashes_or_underscores() {
        for line in
            ["addonce.landing-time=3", "quiet addonce.landing_time=3\n", "\taddonce.landing_time=3 --"]
        {
            assert_eq!(flags(line), flag("landing-time", "3"), "{line}");
        }
    }

    #[test]
    fn the_last_word_counts() {
        assert_eq!(flags("addonce.jobs=1 addonce.jobs=x addonce.jobs=2"), flag("jobs", "2"));
        assert_eq!(parse("addonce=off addonce=on").off, None);
    }

    #[test]
    fn quotes_are_the_kernels() {
        for line in [
            "addonce.log=\"a b\"",
            "\"addonce.log=a b\"",
            "x=\"addonce.jobs=1 y\" addonce.log=\"a b\"",
            "addonce.log=\"a b",
        ] {
            assert_eq!(flags(line), flag("log", "a b"), "{line}");
        }
        assert_eq!(flags("addonce.log=a\"b c\"d"), flag("log", "a\"b c\"d"));
    }

    #[test]
    fn what_is_meant_for_others_is_left_to_them() {
        assert_eq!(
            parse("root=/dev/sda addonceX=off addonce2.jobs=2 xaddonce=off nomodule"),
            Cmdline::default()
        );
    }

    #[test]
    fn what_makes_no_sense_is_named_and_nothing_else_happens() {
        let line = b"addonce.dry-run addonce.socket=/x addonce.jobs addonce=perhaps addonce.\xff=1";
        let cmdline = Cmdline::parse(line, false);
        assert_eq!((cmdline.off, cmdline.flags.len(), cmdline.complaints.len()), (None, 0, 5));
        for (complaint, word) in cmdline.complaints.iter().zip([
            "addonce.dry-run",
            "addonce.socket=/x",
            "addonce.jobs",
            "addonce=perhaps",
            "addonce.\\xff=1",
        ]) {
            assert!(complaint.contains(&format!(" {word}: ")), "{complaint}");
        }
    }

    #[test]
    fn off_is_off_everywhere_and_rd_off_in_an_initramfs() {
        for (line, on_the_host, in_an_initramfs) in [
            ("addonce=off", true, true),
            ("addonce=0", true, true),
            ("rd.addonce=0", false, true),
            ("rd.addonce=off", false, true),
            ("addonce rd.addonce=1", false, false),
            ("addonce=on addonce.off=1", false, false),
        ] {
            let is_off = |initramfs| Cmdline::parse(line.as_bytes(), initramfs).off.is_some();
            assert_eq!((is_off(false), is_off(true)), (on_the_host, in_an_initramfs), "{line}");
        }
    }
}
