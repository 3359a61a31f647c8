// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Storm: the whole picture
//!
//! Owns the title, the grid of time behind both parts, and the order in which all is drawn. Pure: the same timeline
//! is the same text, byte by byte.

use super::page::{MARGIN, Page, RATE_BOTTOM, RATE_TOP, ROWS_TOP, WIDTH};
use super::svg::Svg;
use super::timeline::{State, Timeline};
use super::words::{count, counted, duration};
use super::{bars, legend, rate};

/// A storm as SVG.
pub fn draw(storm: &Timeline) -> String {
    let page = Page::new(storm);
    let facts = facts(storm);
    let mut svg = Svg::new(WIDTH, page.height, &format!("{}: {facts}", title(storm)), &page.style());
    svg.rect("paper", 0.5, 0.5, WIDTH - 1.0, page.height - 1.0);
    svg.text("title", MARGIN, 42.0, title(storm));
    svg.text("facts", MARGIN, 65.0, &facts);
    grid(&mut svg, &page, storm);
    rate::draw(&mut svg, &page, storm);
    bars::draw(&mut svg, &page, storm);
    axes(&mut svg, &page);
    legend::draw(&mut svg, &page);
    if storm.bars_left_out > 0 {
        let more = format!("and {} that are not shown", counted(storm.bars_left_out, "module"));
        svg.text("facts", MARGIN, page.height - MARGIN + 4.0, &more);
    }
    svg.finish()
}

fn title(storm: &Timeline) -> &'static str {
    if storm.over {
        "The last storm of module requests"
    } else {
        "A storm of module requests, still going on"
    }
}

/// The storm in one line.
fn facts(storm: &Timeline) -> String {
    let sum = |bins: &[u64]| bins.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
    let (requests, duplicates) = (sum(&storm.requests), sum(&storm.duplicates));
    let lasted = if storm.over { "lasted" } else { "has lasted" };
    let mut facts = vec![
        format!("began {} ago", duration(storm.began_ms_ago)),
        format!("{lasted} {}", duration(storm.lasted_ms)),
        counted(requests, "request"),
        counted(duplicates, "duplicate"),
        format!("{} live", counted(storm.count(State::Live) as u64, "module")),
        format!("{} failed", count(storm.count(State::Failed) as u64)),
    ];
    let in_air = storm.count(State::InAir) as u64;
    if in_air > 0 {
        facts.push(format!("{} in the air", count(in_air)));
    }
    facts.join(" · ")
}

/// What is behind everything: a band for every other row, a line at every tick.
fn grid(svg: &mut Svg, page: &Page, storm: &Timeline) {
    for nth in (1..storm.bars.len()).step_by(2) {
        let y = ROWS_TOP + page.row * nth as f64;
        svg.rect("band", MARGIN, y, WIDTH - 2.0 * MARGIN, page.row);
    }
    for tick in page.time.ticks() {
        for (top, bottom) in parts(page) {
            svg.path("grid", &[(tick.place, top), (tick.place, bottom)]);
        }
    }
}

/// Time, below the chart and below the rows.
fn axes(svg: &mut Svg, page: &Page) {
    for (_, y) in parts(page) {
        svg.path("axis", &[(page.left, y), (page.right, y)]);
        for tick in page.time.ticks() {
            svg.text("tick", tick.place, y + 18.0, &format!("{} s", tick.label));
        }
    }
}

/// Where the chart is and, where there are any, the rows: from top to bottom.
fn parts(page: &Page) -> impl Iterator<Item = (f64, f64)> {
    let rows = (page.rows_bottom > ROWS_TOP).then_some((ROWS_TOP, page.rows_bottom));
    [(RATE_TOP, RATE_BOTTOM)].into_iter().chain(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_are_one_line() {
        let reply = r#"{"began_ms_ago": 61000, "lasted_ms": 8249, "over": true, "bin_ms": 100, "requests": [3000, 101],
            "duplicates": [2990, 0], "bars": [], "bars_left_out": 0}"#;
        let storm: Timeline = serde_json::from_str(reply).expect("a timeline");
        let expected = "began 1 min 1 s ago · lasted 8.24 s · 3,101 requests · 2,990 duplicates · \
                        0 modules live · 0 failed";
        assert_eq!(facts(&storm), expected);
    }
}
