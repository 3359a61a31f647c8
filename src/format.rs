// SPDX-License-Identifier: MIT OR Apache-2.0
//! How values look to people: times, counts, colour. Colour only repeats what a word says, and only where standard output is a
//! terminal and NO_COLOR (<https://no-color.org>) is not set.

use std::io::IsTerminal;

/// What went well.
pub fn good(text: &str) -> String {
    coloured("32", text)
}

/// What failed.
pub fn bad(text: &str) -> String {
    coloured("31", text)
}

/// What the eye should find first.
pub fn strong(text: &str) -> String {
    coloured("1", text)
}

fn coloured(code: &str, text: &str) -> String {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_shown = std::io::stdout().is_terminal() && !is_refused;
    if is_shown { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

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
