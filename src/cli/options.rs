// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flags that several commands share: which module tree is meant, where the daemon listens, and bounds with their defaults.

use std::ffi::OsString;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::control::SOCKET;
use crate::fatal::Fatal;
use crate::once::Limits;

/// Where the daemon listens.
#[derive(Args, Clone, Debug)]
pub struct SocketOption {
    /// The daemon's control socket.
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
}

/// The bounds of the core.
#[derive(Args, Clone, Debug)]
pub struct CoreOptions {
    /// Loads at a time; one that is older than 5 s no longer counts.
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    #[arg(default_value_t = Limits::default().jobs)]
    jobs: usize,
    /// Loads at a time, old ones included.
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    #[arg(default_value_t = Limits::default().processes)]
    processes: usize,
    /// Modaliases whose resolution is kept.
    #[arg(long, value_name = "N", value_parser = number::<NonZeroUsize>)]
    #[arg(default_value_t = Limits::default().aliases)]
    aliases: NonZeroUsize,
}

impl CoreOptions {
    /// As the core wants them.
    pub fn limits(&self) -> Limits {
        Limits { aliases: self.aliases, jobs: self.jobs, processes: self.processes }
    }
}

/// The bound of the uevent socket.
#[derive(Args, Clone, Debug)]
pub struct BufferOption {
    /// Bytes of uevents the kernel may queue for us; or in K, M or G.
    #[arg(long, value_name = "SIZE", default_value = "134217728", value_parser = size)]
    pub receive_buffer: usize,
}

/// What stands for something: a variable of a script that is empty does not.
pub fn word() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|word| if word.is_empty() { Err("it is empty") } else { Ok(word) })
}

/// A number of things, of which there is room for so many in memory.
pub fn number<N: From<NonZeroUsize>>(text: &str) -> Result<N, &'static str> {
    let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= 1_000_000);
    number.map(N::from).ok_or("it is a whole number from 1 to 1000000")
}

/// Bytes, or another unit.
pub fn size(text: &str) -> Result<usize, &'static str> {
    let bytes = in_units(text, &[("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)]);
    let bytes = bytes.filter(|&bytes| bytes > 0).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or("it is a size above 0, such as 65536, 512K, 128M or 1G")
}

/// Seconds, or another unit.
pub fn seconds(text: &str) -> Result<Duration, &'static str> {
    time(text, 1000).ok_or("it is a time, such as 90 (seconds), 500ms or 2min, 136 years at most")
}

/// Milliseconds, or another unit.
pub fn milliseconds(text: &str) -> Result<Duration, &'static str> {
    time(text, 1).ok_or("it is a time, such as 200 (milliseconds), 2s or 1min, 136 years at most")
}

/// A time, with the milliseconds of a number alone. 136 years are the most, so that no clock overflows.
fn time(text: &str, alone: u64) -> Option<Duration> {
    let time = in_units(text, &[("", alone), ("ms", 1), ("s", 1000), ("min", 60_000)]);
    time.map(Duration::from_millis).filter(|time| time.as_secs() <= u32::MAX.into())
}

/// A whole number and one of these units.
fn in_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// What is wrong with a file that an argument names.
pub fn unreadable<E: Display>(path: &Path) -> impl Fn(E) -> Fatal + use<'_, E> {
    move |why| Fatal::Usage(format!("{}: {why}", path.display()))
}
