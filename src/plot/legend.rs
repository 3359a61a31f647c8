// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Legend: what the shapes mean
//!
//! Owns the words beside the chart of the rate, one for each shape, drawn by what draws the shapes themselves.

use super::bars::{loading, mark, waiting};
use super::page::{Page, RATE_TOP};
use super::svg::Svg;
use super::timeline::State;

/// How high a line of it is.
const LINE: f64 = 20.0;
/// How long a sample is.
const SAMPLE: f64 = 28.0;

/// Draws it.
pub fn draw(svg: &mut Svg, page: &Page) {
    let left = page.right + 36.0;
    let line = |nth: f64| RATE_TOP + 2.0 + LINE * nth;
    let words = [
        "requests",
        "of them duplicates",
        "waiting",
        "loading, then live",
        "loading, then failed: errno",
        "in the air",
        "×64 requests that one load served",
    ];
    for (nth, word) in words.into_iter().enumerate() {
        let x = if word.starts_with('×') { left } else { left + SAMPLE + 24.0 };
        svg.text("legend", x, line(nth as f64) + 4.0, word);
    }
    let half = LINE * 0.3;
    svg.rect("requests", left, line(0.0) - half, SAMPLE, 2.0 * half);
    svg.rect("duplicates", left, line(1.0) - half, SAMPLE, 2.0 * half);
    waiting(svg, left, left + SAMPLE, line(2.0), LINE);
    for (nth, state) in [(3.0, State::Live), (4.0, State::Failed), (5.0, State::InAir)] {
        loading(svg, state, left, left + SAMPLE, line(nth), LINE);
        mark(svg, state, left + SAMPLE + 10.0, line(nth));
    }
}
