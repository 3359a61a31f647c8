// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is set before anybody can type a flag. On the kernel command line `addonce=off` (in an initramfs `rd.addonce=off`, too) has
//! the commands that load at boot do nothing, and `addonce.log=LEVEL` sets the level of the log. The last word counts. What makes
//! no sense is a complaint and nothing else: a boot is no time to be strict.

use std::path::Path;

use log::LevelFilter;

use crate::escape::escape;
use crate::fatal::Fatal;

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
    pub(super) fn of_this_boot() -> Self {
        let line = std::fs::read("/proc/cmdline").unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&line), Path::new(INITRAMFS).exists())
    }

    /// What went wrong, and where addonce is off, that there is no daemon for that.
    pub(super) fn explaining(error: Fatal) -> Fatal {
        match (error, Self::of_this_boot().off) {
            (Fatal::NoDaemon(_), Some(word)) => Fatal::NoDaemon(format!(
                "addonce is off ({word} on the kernel command line): udev loads modules itself; use modprobe"
            )),
            (error, _) => error,
        }
    }

    /// Those of a kernel command line.
    pub fn parse(line: &str, initramfs: bool) -> Self {
        let (mut settings, mut off, mut rd_off) = (Self::default(), false, false);
        for word in line.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, "on"));
            let taken = match name {
                "addonce" => is_off(value).map(|is_off| off = is_off),
                "rd.addonce" => is_off(value).map(|is_off| rd_off = is_off),
                "addonce.log" => level(value).map(|level| settings.log = Some(level)),
                _ if name.starts_with("addonce.") => Err("there is no such setting"),
                _ => Ok(()),
            };
            if let Err(why) = taken {
                let word = escape(word.as_bytes());
                settings.complaints.push(format!("kernel command line: {word}: {why}: it is ignored"));
            }
        }
        let rd_off = (rd_off && initramfs).then_some("rd.addonce=off");
        settings.off = if off { Some("addonce=off") } else { rd_off };
        settings
    }
}

fn is_off(value: &str) -> Result<bool, &'static str> {
    match value {
        "off" | "0" => Ok(true),
        "on" | "1" => Ok(false),
        _ => Err("it is either on or off"),
    }
}

pub(super) fn level(text: &str) -> Result<LevelFilter, &'static str> {
    let level = text.parse().ok().filter(|level| *level > LevelFilter::Off);
    level.ok_or("it is error, warn, info, debug or trace")
}
