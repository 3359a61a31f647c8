// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Words: how numbers and names are written
//!
//! Owns the wording of durations and counts, and the shortening of names from outside to what there is room for.

/// A duration, as exactly as one cares: `7 ms`, `1.47 s`, `12.3 s`, `2 min 5 s`, `3 h 12 min`, `2 d 4 h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{}.{:02} s", seconds, ms % 1000 / 10),
        10..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A count, its thousands set apart.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of something that has a plural in -s.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// At most so many characters of a text; the last one tells that there was more.
pub fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// As much of a text as fits into `room` times the size of its letters.
pub fn fitting(text: &str, room: f64) -> String {
    let mut long = 0.0;
    let fits = |&character: &char| {
        long += width(character);
        long <= room
    };
    match text.chars().take_while(fits).count() {
        most if text.chars().nth(most).is_some() => short(text, most),
        _ => text.to_owned(),
    }
}

/// How wide a text is at most, in the size of its letters: nobody knows the font it will be written in, but this one
/// would be a wide one.
pub fn widest(text: &str) -> f64 {
    text.chars().map(width).sum()
}

fn width(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | 'f' | 't' | 'r' | ' ' | ',' | '.' | '·' => 0.42,
        'm' | 'M' | 'W' | '%' | '@' | '…' => 1.0,
        'A'..='Z' | 'w' => 0.85,
        _ => 0.64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_as_exactly_as_one_cares() {
        let told = [0, 999, 1_479, 12_399, 125_000, 11_520_000, 187_200_000].map(duration);
        assert_eq!(told, ["0 ms", "999 ms", "1.47 s", "12.3 s", "2 min 5 s", "3 h 12 min", "2 d 4 h"]);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1, 2].map(|n| counted(n, "request")), ["0 requests", "1 request", "2 requests"]);
    }

    #[test]
    fn a_long_text_is_cut_and_tells_so() {
        assert_eq!([short("snd_hda_intel", 13), short("snd_hda_intel", 8)], ["snd_hda_intel", "snd_hda…"]);
        assert_eq!(short("snd", 0), "…");
    }

    #[test]
    fn what_fits_is_written_and_no_more() {
        assert_eq!([fitting("nnnn", widest("nnnn")), fitting("nnnn", 2.5)], ["nnnn", "nn…"]);
        assert_eq!(fitting("WWWWWWWW", 3.2), "WW…");
    }
}
