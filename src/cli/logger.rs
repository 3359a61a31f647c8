// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the log's lines go: to standard error, with a `<N>` priority before each line where that is the journal; but to /dev/kmsg where
//! that is what standard error is, or where nobody reads it, as in an initramfs whose programs are started with /dev/null.
//!
//! No line has a time: who reads puts one before it. Without `printk.devkmsg=on` the kernel drops what comes too fast.

use std::fs::{Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};

pub fn start(level: LevelFilter) {
    let mut builder = Builder::new();
    builder.filter_level(level);
    // Not /dev/stderr: in an initramfs that may not be there yet.
    let stderr = std::fs::metadata("/proc/self/fd/2").ok();
    let is_journal = stderr.as_ref().is_some_and(is_the_journal);
    let kernel = stderr.filter(is_for_the_kernel);
    let kernel = kernel.and_then(|_| OpenOptions::new().write(true).open("/dev/kmsg").ok());
    let has_priority = is_journal || kernel.is_some();
    let before = match &kernel {
        Some(_) => format!("addonce[{}]: ", std::process::id()),
        None if is_journal => String::new(),
        None => "addonce: ".into(),
    };
    if let Some(kernel) = kernel {
        builder.target(Target::Pipe(Box::new(kernel)));
    }
    builder.format(move |line, record| {
        if has_priority {
            write!(line, "<{}>", priority(record.level()))?;
        }
        writeln!(line, "{before}{}", record.args())
    });
    builder.init();
}

/// systemd names the journal's stream, by device and inode, where it connects standard error to it: JOURNAL_STREAM in
/// systemd.exec(5). It is inherited by programs whose standard error is something else.
fn is_the_journal(stderr: &Metadata) -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|it| it == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Whether it is /dev/null or /dev/kmsg: Documentation/admin-guide/devices.txt.
fn is_for_the_kernel(stderr: &Metadata) -> bool {
    let [null, kmsg] = [3, 11].map(|minor| libc::makedev(1, minor));
    stderr.file_type().is_char_device() && [null, kmsg].contains(&stderr.rdev())
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
