// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Paint: colour, and times and numbers for people
//!
//! Owns how values look on a terminal. Colour only repeats what a word says, and only where standard output is a
//! terminal and NO_COLOR (<https://no-color.org>) is not set.

use std::io::IsTerminal;

/// Colours a text, or does not.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// As standard output and NO_COLOR want it.
    pub fn stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !refused)
    }

    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What failed.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// What the eye should find first.
    pub fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A time as people say it: 340 ms, 13.8 s, 2 min 3 s, 1 h 5 min, 3 d 2 h.
pub fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", ms as f64 / 1e3),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// A number of things: `1 device`, `2 devices`.
pub fn count(n: u64, thing: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_people_say_it() {
        let times = [0, 340, 13_800, 123_000, 3_900_000, 266_400_000].map(time);
        assert_eq!(times, ["0 ms", "340 ms", "13.8 s", "2 min 3 s", "1 h 5 min", "3 d 2 h"]);
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            [count(0, "device"), count(1, "device"), count(2, "device")],
            ["0 devices", "1 device", "2 devices"]
        );
    }
}
