// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Logger: where the log's lines go
//!
//! Owns the one formatter. Lines go to standard error: with a `<N>` priority before them where that is the
//! journal, plain elsewhere.

use std::io::Write;

use log::{Level, LevelFilter};

/// Starts logging at this level.
pub fn start(level: LevelFilter) {
    // systemd sets JOURNAL_STREAM where it connects standard error to the journal: systemd.exec(5).
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    env_logger::Builder::new()
        .filter_level(level)
        .format(move |line, record| match journal {
            true => writeln!(line, "<{}>{}", priority(record.level()), record.args()),
            false => writeln!(line, "addonce: {}", record.args()),
        })
        .init();
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
