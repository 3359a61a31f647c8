// SPDX-License-Identifier: MIT OR Apache-2.0
//! How bytes, times and counts look as text.

use addonce::escape::{escape, head, unescape};
use addonce::format::{count, date, duration, row, took, wrapped};

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

#[test]
fn what_is_quick_is_told_in_parts_of_a_millisecond() {
    assert_eq!(
        [0, 340, 9_999, 10_000, 1_479_000].map(took),
        ["0.0 ms", "0.3 ms", "10.0 ms", "10 ms", "1.47 s"]
    );
}

#[test]
fn a_date_is_that_of_the_calendar() {
    // As date -u says.
    for (seconds, is) in [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_782_399, "2000-02-28 23:59:59 UTC"),
        (951_868_800, "2000-03-01 00:00:00 UTC"),
        (1_798_761_599, "2026-12-31 23:59:59 UTC"),
        (4_107_542_400, "2100-03-01 00:00:00 UTC"),
    ] {
        assert_eq!(date(seconds), is);
    }
}

#[test]
fn a_paragraph_has_80_columns_and_no_broken_words() {
    let text = wrapped(&format!("   label: {}", "word ".repeat(30).trim_end()), 10);
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(text.lines().skip(1).all(|line| line.starts_with("          word")), "{text}");
    assert_eq!(text.split_whitespace().count(), 31);
    let long = "x".repeat(100);
    assert_eq!(wrapped(&format!("a {long} b"), 0), format!("a\n{long}\nb\n"));
}

#[test]
fn a_table_has_its_columns_whatever_is_in_them() {
    assert_eq!(
        row(&[("12 ms", -9), ("ext4", 6), ("live", 8)], "by hand"),
        "    12 ms ext4   live     by hand\n"
    );
    let lines = row(&[("12 ms", -9), ("ext4_long", 6), ("live", 8)], &"x".repeat(90));
    assert_eq!(lines, format!("    12 ms ext4_long\n{:17}live     {}...\n", "", "x".repeat(51)));
    assert!(lines.lines().all(|line| line.len() <= 80), "{lines}");
}

#[test]
fn every_link_of_a_document_leads_to_a_file_or_a_heading() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in [
        "README.md",
        "NEWS.md",
        "docs/DESIGN.md",
        "docs/initramfs.md",
        "docs/requests.md",
        "docs/PERFORMANCE.md",
        "docs/PERFORMANCE.in.md",
        "docs/releases.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).expect(document);
        let headings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let headings =
            headings.iter().map(|heading| heading.to_lowercase().replace(' ', "-")).collect::<Vec<_>>();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let directory = root.join(document).parent().expect("a directory").to_owned();
            let leads = match link.strip_prefix('#') {
                Some(heading) => headings.iter().any(|known| known == heading),
                None => link.starts_with("https://") || directory.join(link).exists(),
            };
            assert!(leads, "{document}: {link}");
        }
    }
}
