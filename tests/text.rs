// SPDX-License-Identifier: MIT OR Apache-2.0
//! How bytes, times and counts look as text.

use addonce::escape::{escape, head, unescape};
use addonce::format::{count, duration};

#[test]
fn what_was_escaped_reads_back_exactly() {
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(unescape(&escape(&every)), Some(every));
    assert_eq!(escape(b"dmi:svn\xc3\x9c\\x"), "dmi:svn\\xc3\\x9c\\x5cx");
}

#[test]
fn a_head_is_cut_only_where_there_is_more() {
    assert_eq!([head("abc", 2), head("abc", 3), head("abc", 4)], ["ab...", "abc", "abc"]);
}

#[test]
fn an_escape_that_is_none_is_refused() {
    for text in ["\\x", "\\x1", "\\xzz", "\\x+1", "a\\xé", "a\\b", "\\\\"] {
        assert_eq!(unescape(text), None, "{text}");
    }
}

#[test]
fn a_duration_reads_as_people_say_it() {
    let told = [0, 340, 999, 1_479, 12_399, 125_000, 11_520_000, 187_200_000].map(duration);
    assert_eq!(told, ["0 ms", "340 ms", "999 ms", "1.47 s", "12.3 s", "2 min 5 s", "3 h 12 min", "2 d 4 h"]);
}

#[test]
fn one_is_not_many() {
    assert_eq!(
        [0, 1, 2, 999, 1000, 1_234_067].map(|n| count(n, "device")),
        ["0 devices", "1 device", "2 devices", "999 devices", "1,000 devices", "1,234,067 devices"]
    );
}
