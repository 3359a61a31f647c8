// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce record`: the kernel's uevents, as they come, in a file.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::options::{BufferOption, seconds};
use crate::daemon::signals::Signals;
use crate::fatal::Fatal;
use crate::uevent::capture::Writer;
use crate::uevent::message::LONGEST;
use crate::uevent::netlink::{BUFFER, Netlink, Received};

/// A record goes out in one write: no record is longer, with every byte escaped.
const RECORD: usize = 8 * LONGEST;

/// Write the kernel's uevents to a file as they come, until a signal or a bound ends it: what `addonce replay` reads.
///
/// It records what the daemon would see: `add` of devices with a MODALIAS, `add` and `remove` of modules. Each uevent is
/// written at once, so a capture that is cut short reads as far as it goes.
#[derive(Args, Debug)]
pub struct Command {
    /// The file; an existing one is replaced, and - is standard output.
    file: PathBuf,
    /// Stop after so many seconds.
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Stop after so many uevents.
    #[arg(long, value_name = "N", default_value = "1000000")]
    count: NonZeroU64,
    #[command(flatten)]
    buffer: BufferOption,
}

/// A capture being written.
struct Recording {
    netlink: Netlink,
    writer: Writer<BufWriter<Box<dyn Write>>>,
    origin: Instant,
    count: u64,
    drops: u32,
}

impl Command {
    /// Records until it is over.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let unwritable = |error: io::Error| Fatal::System(format!("{}: {error}", self.file.display()));
        let to: Box<dyn Write> = match self.file.as_os_str() == "-" {
            true => Box::new(io::stdout()),
            false => Box::new(File::create(&self.file).map_err(unwritable)?),
        };
        let signals = Signals::block(&[Signal::SIGTERM, Signal::SIGINT])?;
        let mut recording = Recording {
            netlink: Netlink::open(self.buffer.receive_buffer.get())?,
            writer: Writer::new(BufWriter::with_capacity(RECORD, to)).map_err(unwritable)?,
            origin: Instant::now(),
            count: 0,
            drops: 0,
        };
        log::info!("recording uevents to {}", self.file.display());
        match recording.writer.flush().and_then(|()| self.record(&signals, &mut recording)) {
            // A reader that has seen enough is no error.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            result => result.map_err(unwritable)?,
        }
        log::info!(
            "{} uevents were recorded in {:.1} s, {} were dropped by the kernel",
            recording.count,
            recording.origin.elapsed().as_secs_f64(),
            recording.drops
        );
        Ok(ExitCode::SUCCESS)
    }

    fn record(&self, signals: &Signals, recording: &mut Recording) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        // The kernel tells of an overflow only once, so it is read until nothing is left, without waiting.
        let mut drained = false;
        while recording.count < self.count.get() {
            let left = self.seconds.map(|seconds| seconds.saturating_sub(recording.origin.elapsed()));
            let timeout = match left {
                Some(Duration::ZERO) => break,
                _ if !drained => PollTimeout::ZERO,
                // A millisecond more, for it is rounded down.
                Some(left) => (left + Duration::from_millis(1)).try_into().unwrap_or(PollTimeout::MAX),
                None => PollTimeout::NONE,
            };
            let mut sources =
                [signals.as_fd(), recording.netlink.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut sources, timeout) {
                Err(errno) if errno != Errno::EINTR => return Err(errno.into()),
                _ => {}
            }
            if signals.next().map_err(io::Error::other)?.is_some() {
                break;
            }
            drained = recording.take(&mut buffer)?;
        }
        Ok(())
    }
}

impl Recording {
    /// Takes what comes next; true where nothing does.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.netlink.receive(buffer) {
            Received::Kernel(datagram) => {
                self.writer.write(self.origin.elapsed(), datagram)?;
                self.writer.flush()?;
                self.count += 1;
            }
            Received::Drained => {
                self.own_up()?;
                return Ok(true);
            }
            Received::Failed(error) => return Err(error),
            Received::Udev(_) | Received::Stranger | Received::Truncated | Received::Overflow => {}
        }
        Ok(false)
    }

    /// The queue was read empty: here, in the order of events, is what the kernel had to drop.
    fn own_up(&mut self) -> io::Result<()> {
        let drops = self.netlink.drops().unwrap_or(self.drops);
        let lost = drops.wrapping_sub(std::mem::replace(&mut self.drops, drops));
        if lost == 0 {
            return Ok(());
        }
        let size = self.netlink.receive_buffer().unwrap_or_default();
        log::warn!(
            "{lost} uevents were dropped by the kernel and are missing: a --receive-buffer above {size} bytes helps"
        );
        self.writer.comment(&format!("{lost} uevents were dropped by the kernel about here"))?;
        self.writer.flush()
    }
}
