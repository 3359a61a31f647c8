// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel command line, as far as it is meant for us: `addonce=off` (in an initramfs `rd.addonce=off`, too) has the commands
//! that load at boot do nothing, and `addonce.log=LEVEL` sets the level of the log. The last word counts. What makes no sense is
//! a complaint and nothing else: a boot is no time to be strict.

use std::path::Path;

use log::LevelFilter;

use crate::escape::escape;

/// What makes an initramfs one: os-release(5).
const INITRAMFS: &str = "/etc/initrd-release";

/// What the kernel command line says to us.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// The word that says that modules are not ours to load.
    pub off: Option<&'static str>,
    /// `addonce.log`.
    pub log: Option<LevelFilter>,
    /// What was not understood, a line each.
    pub complaints: Vec<String>,
}

impl Cmdline {
    /// This boot's; empty where there is no /proc.
    pub fn read() -> Self {
        let line = std::fs::read("/proc/cmdline").unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&line), Path::new(INITRAMFS).exists())
    }

    fn parse(line: &str, initramfs: bool) -> Self {
        let mut cmdline = Self::default();
        let (mut off, mut rd_off) = (false, false);
        for word in line.split_ascii_whitespace() {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let switch = match value {
                Some("off" | "0") => Some(true),
                None | Some("on" | "1") => Some(false),
                Some(_) => None,
            };
            match (name, switch) {
                ("addonce", Some(is_off)) => off = is_off,
                ("rd.addonce", Some(is_off)) => rd_off = is_off,
                ("addonce" | "rd.addonce", None) => cmdline.complain(word, "it is either on or off"),
                ("addonce.log", _) => match value.and_then(|level| level.parse().ok()) {
                    Some(level) => cmdline.log = Some(level),
                    None => cmdline.complain(word, "it is error, warn, info, debug or trace"),
                },
                _ if name.starts_with("addonce.") => cmdline.complain(word, "there is no such setting"),
                _ => {}
            }
        }
        cmdline.off = match (off, rd_off && initramfs) {
            (true, _) => Some("addonce=off"),
            (false, true) => Some("rd.addonce=off"),
            (false, false) => None,
        };
        cmdline
    }

    fn complain(&mut self, word: &str, why: &str) {
        let word = escape(word.as_bytes());
        self.complaints.push(format!("kernel command line: {word}: {why}: it is ignored"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Cmdline {
        Cmdline::parse(line, false)
    }

    #[test]
    fn the_last_word_counts_and_what_is_meant_for_others_is_left_to_them() {
        assert_eq!(parse("addonce=off addonce=on").off, None);
        assert_eq!(parse("addonce.log=warn addonce.log=debug\n").log, Some(LevelFilter::Debug));
        let others = "root=/dev/sda addonceX=off addonce2.log=warn xaddonce=off nomodule";
        assert_eq!(parse(others), Cmdline::default());
    }

    #[test]
    fn what_makes_no_sense_is_named_and_nothing_else_happens() {
        let words = ["addonce.jobs=2", "addonce.log=loud", "addonce.log", "addonce=perhaps"];
        let cmdline = parse(&words.join(" "));
        assert_eq!((cmdline.off, cmdline.log, cmdline.complaints.len()), (None, None, words.len()));
        for (complaint, word) in cmdline.complaints.iter().zip(words) {
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
            let is_off = |initramfs| Cmdline::parse(line, initramfs).off.is_some();
            assert_eq!((is_off(false), is_off(true)), (on_the_host, in_an_initramfs), "{line}");
        }
    }
}
