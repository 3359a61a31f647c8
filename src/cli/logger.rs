// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the log's lines go: to standard error, with a `<N>` priority before each line where that is the journal; but to /dev/kmsg where
//! that is what standard error is, or where nobody reads it, as in an initramfs whose programs are started with /dev/null.
//!
//! No line has a time: who reads puts one before it. The kernel drops lines that come to /dev/kmsg too fast, unless it was booted with
//! `printk.devkmsg=on`.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};

/// Not /dev/stderr: in an initramfs that may not be there yet.
const STDERR: &str = "/proc/self/fd/2";

/// /dev/null.
const NULL: u32 = 3;
/// /dev/kmsg.
const KMSG: u32 = 11;

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
    // systemd sets JOURNAL_STREAM where it connects standard error to the journal: systemd.exec(5). It is inherited by
    // programs whose standard error is something else.
    let journal = std::env::var("JOURNAL_STREAM");
    if journal.is_ok_and(|stream| std::fs::metadata(STDERR).is_ok_and(|file| is_stream(&stream, &file))) {
        return Reader::Journal;
    }
    let kernel =
        is_memory_device(STDERR, NULL).unwrap_or(false) || is_memory_device(STDERR, KMSG).unwrap_or(false);
    match OpenOptions::new().write(true).open("/dev/kmsg") {
        Ok(file) if kernel => Reader::Kernel(file),
        _ => Reader::Terminal,
    }
}

/// Whether a stream of the journal, by device and inode, is this one.
fn is_stream(stream: &str, file: &Metadata) -> bool {
    stream == format!("{}:{}", file.dev(), file.ino())
}

/// Whether a path leads to this device of major number 1: Documentation/admin-guide/devices.txt.
fn is_memory_device(path: &str, minor: u32) -> io::Result<bool> {
    let file = std::fs::metadata(path)?;
    Ok(file.file_type().is_char_device() && file.rdev() == libc::makedev(1, minor))
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
        assert!(is_memory_device("/dev/null", NULL).expect("/dev/null"));
        assert!(!is_memory_device("/dev/zero", NULL).expect("/dev/zero"));
        assert!(!is_memory_device("/proc/self/stat", NULL).expect("/proc"));
    }

    #[test]
    fn the_journals_stream_is_known_by_device_and_inode() {
        let file = std::fs::metadata("/dev/null").expect("/dev/null");
        let stream = format!("{}:{}", file.dev(), file.ino());
        assert!(is_stream(&stream, &file));
        assert!(!is_stream("", &file) && !is_stream(&format!("{stream}0"), &file));
    }
}
