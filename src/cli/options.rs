// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flags that several commands share: which module tree is meant, where the daemon listens, and bounds with their defaults.

use std::fmt::Display;
use std::num::{NonZeroUsize, ParseIntError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

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
    /// Loads at a time; one that is older than 5 s no longer counts [default: twice the CPUs, within 4 to 16].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Loads at a time, old ones included.
    #[arg(long, value_name = "N", default_value = "64")]
    processes: NonZeroUsize,
    /// Modaliases whose resolution is kept.
    #[arg(long, value_name = "N", default_value = "1024")]
    aliases: NonZeroUsize,
}

impl CoreOptions {
    /// As the core wants them.
    pub fn limits(&self) -> Limits {
        Limits {
            aliases: self.aliases,
            jobs: self.jobs.map_or_else(Limits::default_jobs, NonZeroUsize::get),
            processes: self.processes.get(),
        }
    }
}

/// The bound of the uevent socket.
#[derive(Args, Clone, Debug)]
pub struct BufferOption {
    /// Bytes of uevents the kernel may queue for us.
    #[arg(long, value_name = "BYTES", default_value = "134217728")]
    pub receive_buffer: NonZeroUsize,
}

/// Whole seconds.
pub fn seconds(text: &str) -> Result<Duration, ParseIntError> {
    text.parse::<u32>().map(|seconds| Duration::from_secs(seconds.into()))
}

/// What is wrong with a file that an argument names.
pub fn unreadable<E: Display>(path: &Path) -> impl Fn(E) -> Fatal + use<'_, E> {
    move |why| Fatal::Usage(format!("{}: {why}", path.display()))
}
