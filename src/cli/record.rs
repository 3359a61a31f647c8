// SPDX-License-Identifier: MIT OR Apache-2.0
//! `addonce record`: the kernel's uevents, as they come, in a file.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::options::{BufferOption, number};
use super::query::write;
use crate::daemon::signals;
use crate::fatal::Fatal;
use crate::uevent::capture::Writer;
use crate::uevent::netlink::{BUFFER, Netlink, Received};

/// Write the kernel's uevents to a file as they come, until a signal or the bound ends it: what `addonce replay` reads.
///
/// Each uevent is written at once, so a capture that is cut short reads as far as it goes.
#[derive(Args, Debug)]
pub struct Command {
    /// The file; an existing one is replaced, and - is standard output.
    file: PathBuf,
    /// Stop after so many uevents.
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = number::<usize>)]
    count: usize,
    #[command(flatten)]
    buffer: BufferOption,
}

impl Command {
    pub fn run(self) -> Result<ExitCode, Fatal> {
        let file = self.file.display();
        let unwritable = Fatal::at(&file);
        let begun = |to: Box<dyn Write>| Writer::new(to);
        let writer = match self.file.as_os_str() == "-" {
            true => begun(Box::new(io::stdout())),
            false => write(&self.file, |file| begun(Box::new(file))),
        };
        let mut writer = writer.map_err(&unwritable)?;
        let signals = signals::block(&[Signal::SIGTERM, Signal::SIGINT])?;
        let mut netlink = Netlink::open(self.buffer.receive_buffer)?;
        log::info!("recording uevents to {file}");
        let began = Instant::now();
        match self.record(&signals, &mut netlink, &mut writer, began) {
            // A reader that has seen enough is no error.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            result => result.map_err(&unwritable)?,
        }
        let (count, seconds) = (netlink.counters.kernel, began.elapsed().as_secs_f64());
        log::info!("{count} uevents were recorded in {seconds:.1} s");
        let drops = netlink.drops().unwrap_or_default();
        if drops > 0 {
            log::warn!(
                "{drops} uevents were dropped by the kernel and are missing: a larger --receive-buffer helps"
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    fn record(
        &self,
        signals: &SignalFd,
        netlink: &mut Netlink,
        writer: &mut Writer<impl Write>,
        began: Instant,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        while netlink.counters.kernel < self.count as u64 {
            if signals::next(signals).map_err(io::Error::other)?.is_some() {
                break;
            }
            match netlink.receive(&mut buffer) {
                Received::Kernel(datagram) => writer.write(began.elapsed(), datagram)?,
                Received::Udev(..) | Received::Stranger | Received::Truncated | Received::Overflow => {}
                Received::Failed(error) => return Err(error),
                Received::Drained => {
                    let sources = [signals.as_fd(), netlink.as_fd()];
                    let result =
                        poll(&mut sources.map(|fd| PollFd::new(fd, PollFlags::POLLIN)), PollTimeout::NONE);
                    result.map_or_else(|errno| if errno == Errno::EINTR { Ok(0) } else { Err(errno) }, Ok)?;
                }
            }
        }
        Ok(())
    }
}
