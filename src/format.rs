// SPDX-License-Identifier: MIT OR Apache-2.0
//! How values look to people: times, counts and dates, and lines that fit into 80 columns.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::escape::head;

/// Every terminal has so many.
const COLUMNS: usize = 80;

/// A duration, as exactly as one cares: `7 ms`, `1.47 s`, `12.3 s`, `2 min 5 s`, `3 h 12 min`, `2 d 4 h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{seconds}.{:02} s", ms % 1000 / 10),
        10..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A number, its thousands set apart.
pub fn number(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", number(n / 1000), n % 1000) }
}

/// A number of things: `1 device`, `2,000 devices`.
pub fn count(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", number(n), if n == 1 { "" } else { "s" })
}

/// How long something took that may be quick: `0.3 ms`, and then as [`duration`] has it.
pub fn took(us: u64) -> String {
    if us < 10_000 { format!("{:.1} ms", us as f64 / 1e3) } else { duration(us / 1000) }
}

/// The seconds from 1970 to so many milliseconds ago.
pub fn ago(ms: u64) -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| (now.as_millis() as u64).saturating_sub(ms) / 1000)
}

/// A date, from the seconds since 1970: `2026-11-26 13:57:01 UTC`.
pub fn date(seconds: u64) -> String {
    let (mut day, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = |year| if is_leap(year) { 366 } else { 365 };
    let year = (1970..).find(|&year| day.checked_sub(days(year)).map(|rest| day = rest).is_none());
    let year = year.expect("years have no end");
    let lengths = [31, days(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months =
        lengths.iter().take_while(|&&length| day.checked_sub(length).map(|rest| day = rest).is_some());
    let month = months.count() + 1;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", day + 1)
}

/// A paragraph: words that do not fit go on the next line, this far in. A word that is longer than a line stays whole.
pub fn wrapped(text: &str, indent: usize) -> String {
    let (mut lines, mut column) = (String::new(), 0);
    for (nth, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > COLUMNS {
            lines += &format!("\n{:indent$}", "");
            column = indent;
        } else if nth > 0 {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += width;
    }
    lines + "\n"
}

/// A line of a table. Each cell has a column of so many characters, aligned at its right where the number is negative, and one that is
/// too long for it is followed by a new line. The `last` column is what is left, and its text is cut.
pub fn row(cells: &[(&str, isize)], last: &str) -> String {
    let (mut lines, mut line, mut column) = (String::new(), String::new(), 0);
    for &(cell, width) in cells {
        let (is_right, width) = (width < 0, width.unsigned_abs());
        line += &if is_right { format!("{cell:>width$} ") } else { format!("{cell:<width$} ") };
        column += width + 1;
        if line.chars().count() > column {
            lines += &format!("{}\n", line.trim_end());
            line = " ".repeat(column);
        }
    }
    let room = COLUMNS - column;
    let last = if last.len() > room { head(last, room - 3) } else { last.into() };
    format!("{lines}{}\n", (line + &last).trim_end())
}
