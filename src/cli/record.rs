// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce record`: the kernel's uevents, as they come, in a file.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::Signal;

use super::options::BufferOption;
use crate::daemon::signals::Signals;
use crate::fatal::Fatal;
use crate::uevent::capture::Writer;
use crate::uevent::message::LONGEST;
use crate::uevent::netlink::{BUFFER, Netlink, Received};

/// A record goes out in one write: no record is longer, with every byte escaped.
const RECORD: usize = 8 * LONGEST;
/// Datagrams taken at a time, between looks at the clock and for signals.
const EVENTS: usize = 512;

/// Write the kernel's uevents to a file as they come, until a signal or a bound ends it: what `addonce replay` reads.
///
/// It records what the daemon would see: `add` of devices with a MODALIAS, `add` and `remove` of modules. Each uevent is
/// written at once, so a capture that is cut short reads as far as it goes.
#[derive(Args, Debug)]
pub struct Command {
    /// The file; an existing one is replaced, and - is standard output.
    file: PathBuf,
    /// Stop after so many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,
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
    bound: u64,
    drops: u32,
    buffer: Vec<u8>,
}

/// What a turn of the loop left.
enum Left {
    /// The queue is empty.
    Nothing,
    /// More to read.
    More,
    /// As many as were asked for.
    Full,
}

impl Command {
    /// Records until it is over.
    ///
    /// # Errors
    /// [`Fatal`] where the file cannot be written or the kernel does not speak to us.
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let unwritable = |error: io::Error| Fatal::System(format!("{}: {error}", self.file.display()));
        let to: Box<dyn Write> = match self.file.as_os_str() == "-" {
            true => Box::new(io::stdout()),
            false => Box::new(File::create(&self.file).map_err(unwritable)?),
        };
        let signals = Signals::block(&[Signal::SIGTERM, Signal::SIGINT])?;
        let netlink = Netlink::open(self.buffer.receive_buffer.get())?;
        let mut poll = Poll::new().map_err(refused)?;
        for descriptor in [signals.as_raw_fd(), netlink.as_raw_fd()] {
            let source = &mut SourceFd(&descriptor);
            poll.registry().register(source, Token(0), Interest::READABLE).map_err(refused)?;
        }
        let mut recording = Recording {
            netlink,
            writer: Writer::new(BufWriter::with_capacity(RECORD, to)).map_err(unwritable)?,
            origin: Instant::now(),
            count: 0,
            bound: self.count.get(),
            drops: 0,
            buffer: vec![0; BUFFER],
        };
        log::info!("recording uevents to {}", self.file.display());
        let result = match recording.writer.flush() {
            Ok(()) => self.record(&mut poll, &signals, &mut recording),
            Err(error) => Err(error),
        };
        match result {
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

    fn record(&self, poll: &mut Poll, signals: &Signals, recording: &mut Recording) -> io::Result<()> {
        let deadline = self.seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let mut events = Events::with_capacity(2);
        loop {
            let left = recording.turn()?;
            let rest = deadline.map(|deadline| deadline.saturating_sub(recording.origin.elapsed()));
            if matches!(left, Left::Full) || rest.is_some_and(|rest| rest.is_zero()) {
                return Ok(());
            }
            let timeout = match left {
                Left::More => Some(Duration::ZERO),
                // Epoll rounds down to milliseconds.
                _ => rest.map(|rest| rest + Duration::from_millis(1)),
            };
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if signals.next().map_err(io::Error::other)?.is_some() {
                return Ok(());
            }
        }
    }
}

impl Recording {
    fn turn(&mut self) -> io::Result<Left> {
        for _ in 0..EVENTS {
            match self.netlink.receive(&mut self.buffer) {
                Received::Kernel(datagram) => {
                    self.writer.write(self.origin.elapsed(), datagram)?;
                    self.writer.flush()?;
                    self.count += 1;
                    if self.count == self.bound {
                        return Ok(Left::Full);
                    }
                }
                Received::Udev(_) | Received::Stranger | Received::Truncated | Received::Overflow => {}
                Received::Drained => {
                    self.own_up()?;
                    return Ok(Left::Nothing);
                }
                Received::Failed(error) => return Err(error),
            }
        }
        Ok(Left::More)
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

fn refused(error: io::Error) -> Fatal {
    Fatal::System(format!("epoll: {error}"))
}
