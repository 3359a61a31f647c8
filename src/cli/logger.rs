// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Logger: where the log's lines go
//!
//! Owns the one formatter and the choice of its reader. Standard error, with a `<N>` priority before each line where that
//! is the journal, and plain elsewhere; but /dev/kmsg where nobody reads standard error, as in an initramfs whose
//! programs are started with /dev/null. The kernel drops lines that come to /dev/kmsg too fast, unless it was booted
//! with `printk.devkmsg=on`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};

/// Not /dev/stderr: in an initramfs that may not be there yet.
const STDERR: &str = "/proc/self/fd/2";

/// Who reads the log.
enum Reader {
    Terminal,
    Journal,
    Kernel(File),
}

/// Starts logging at this level.
pub fn start(level: LevelFilter) {
    let mut builder = Builder::new();
    builder.filter_level(level);
    match reader() {
        Reader::Terminal => builder.format(|line, record| writeln!(line, "addonce: {}", record.args())),
        Reader::Journal => {
            builder.format(|line, record| writeln!(line, "<{}>{}", priority(record.level()), record.args()))
        }
        Reader::Kernel(file) => {
            let pid = std::process::id();
            builder.target(Target::Pipe(Box::new(file))).format(move |line, record| {
                writeln!(line, "<{}>addonce[{pid}]: {}", priority(record.level()), record.args())
            })
        }
    };
    builder.init();
}

fn reader() -> Reader {
    // systemd sets JOURNAL_STREAM where it connects standard error to the journal: systemd.exec(5).
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        return Reader::Journal;
    }
    match OpenOptions::new().write(true).open("/dev/kmsg") {
        Ok(file) if nobody_reads(STDERR).unwrap_or(false) => Reader::Kernel(file),
        _ => Reader::Terminal,
    }
}

/// Whether a path leads to /dev/null, which is device 1:3: Documentation/admin-guide/devices.txt.
fn nobody_reads(path: &str) -> io::Result<bool> {
    let file = std::fs::metadata(path)?;
    Ok(file.file_type().is_char_device() && file.rdev() == libc::makedev(1, 3))
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_reads_dev_null() {
        assert!(nobody_reads("/dev/null").expect("/dev/null"));
        assert!(!nobody_reads("/dev/zero").expect("/dev/zero"));
        assert!(!nobody_reads("/proc/self/stat").expect("/proc"));
    }
}
