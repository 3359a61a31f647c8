// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is set before anybody can type a flag. On the kernel command line `addonce=off` (in an initramfs `rd.addonce=off`, too) has
//! the commands that load at boot do nothing, and `addonce.log=LEVEL` sets the level of the log, as ADDONCE_LOG in the environment
//! does. The last word counts. What makes no sense is a complaint and nothing else: a boot is no time to be strict.

use std::path::Path;

use log::LevelFilter;

use crate::escape::escape;

/// What makes an initramfs one: os-release(5).
const INITRAMFS: &str = "/etc/initrd-release";

/// What is set.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The word that says that modules are not ours to load.
    pub off: Option<&'static str>,
    /// The level of the log.
    pub log: Option<LevelFilter>,
    /// What was not understood, a line each.
    pub complaints: Vec<String>,
}

impl Settings {
    /// This boot's, where there is a /proc.
    pub(super) fn read_kernel_command_line(&mut self) {
        let line = std::fs::read("/proc/cmdline").unwrap_or_default();
        self.parse(&String::from_utf8_lossy(&line), Path::new(INITRAMFS).exists());
    }

    /// That of whoever starts us.
    pub(super) fn read_environment(&mut self) {
        if let Ok(level) = std::env::var("ADDONCE_LOG") {
            self.set_level(&level, "environment", &format!("ADDONCE_LOG={level}"));
        }
    }

    /// Takes the words of a kernel command line.
    pub fn parse(&mut self, line: &str, initramfs: bool) {
        const KERNEL: &str = "kernel command line";
        let (mut off, mut rd_off) = (false, false);
        for word in line.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, "on"));
            let switch = match name {
                "addonce" => &mut off,
                "rd.addonce" => &mut rd_off,
                "addonce.log" => {
                    self.set_level(value, KERNEL, word);
                    continue;
                }
                _ if name.starts_with("addonce.") => {
                    self.complain(KERNEL, word, "there is no such setting");
                    continue;
                }
                _ => continue,
            };
            match value {
                "off" | "0" => *switch = true,
                "on" | "1" => *switch = false,
                _ => self.complain(KERNEL, word, "it is either on or off"),
            }
        }
        self.off = match (off, rd_off && initramfs) {
            (true, _) => Some("addonce=off"),
            (false, true) => Some("rd.addonce=off"),
            (false, false) => None,
        };
    }

    fn set_level(&mut self, level: &str, place: &str, word: &str) {
        match level.parse() {
            Ok(level) => self.log = Some(level),
            Err(_) => self.complain(place, word, "it is error, warn, info, debug or trace"),
        }
    }

    fn complain(&mut self, place: &str, word: &str, why: &str) {
        self.complaints.push(format!("{place}: {}: {why}: it is ignored", escape(word.as_bytes())));
    }
}
