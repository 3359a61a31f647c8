// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Page: where things are, and how they look
//!
//! Owns the measures and the style sheet. A page is as wide as any other: names stand in a column on the left as wide
//! as the longest of them, time runs in the middle, and on the right there is room for what is written behind a bar.
//! It is as long as it has rows, which are lower the more there are. Colours are of the palette of Okabe and Ito; what
//! they mean is told by shape or word as well. The background is the picture's own, so it reads the same on any page.

use super::scale::Axis;
use super::timeline::Timeline;
use super::words::short;

/// How wide a picture is.
pub const WIDTH: f64 = 1320.0;
/// The room around everything.
pub const MARGIN: f64 = 28.0;
/// Where the chart of the rate begins.
pub const RATE_TOP: f64 = 110.0;
/// Where it ends.
pub const RATE_BOTTOM: f64 = 240.0;
/// Where the first row begins: below the chart and the labels of time.
pub const ROWS_TOP: f64 = 276.0;
/// So much of a module's name is written; the text shown on pointing at it has all of it.
const NAME_LONGEST: usize = 30;
/// The room for what is written behind bars, and for the legend.
const NOTES: f64 = 310.0;
/// The width of a character of a monospace font, in its size.
const MONOSPACE: f64 = 0.61;

/// The look of everything, by class.
pub const STYLE: &str = "
svg { font-family: system-ui, sans-serif; font-size: 12px; fill: #24292f }
.paper { fill: #ffffff; stroke: #d0d7de }
.title { font-size: 20px; font-weight: bold }
.facts { font-size: 13px; fill: #57606a }
.head { font-weight: bold; fill: #57606a }
.tick, .level { fill: #57606a; font-size: 11px; text-anchor: middle }
.level, .name { text-anchor: end }
.name { font-family: ui-monospace, monospace }
.note { fill: #57606a }
.errno { fill: #a33c00; font-weight: bold }
.grid { stroke: #e4e8ec; fill: none; shape-rendering: crispEdges }
.axis { stroke: #8c959f; fill: none; shape-rendering: crispEdges }
.row { fill: none; pointer-events: all }
.band { fill: #f6f8fa }
.requests { fill: none; stroke: #24292f; stroke-linejoin: round }
.duplicates { fill: #9fb0c0 }
.waiting { fill: #9ccbea }
.live { fill: #0072b2 }
.failed { fill: #d55e00 }
.air { fill: #fdf1d3; stroke: #b37b00; stroke-dasharray: 4 2 }
.mark { fill: none; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round }
.live.mark { stroke: #0072b2 }
.failed.mark { stroke: #d55e00 }
.air.mark { fill: none; stroke: #b37b00; stroke-dasharray: none }
";

/// The measures of one picture.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// How high a row is.
    pub row: f64,
    /// The size of the letters in it.
    pub letter: f64,
    /// Where time begins, at the right end of the names.
    pub left: f64,
    /// Where time ends.
    pub right: f64,
    /// Below the last row.
    pub rows_bottom: f64,
    /// The height of all.
    pub height: f64,
    /// Time, in seconds.
    pub time: Axis,
}

impl Page {
    /// The page that a storm needs.
    pub fn new(storm: &Timeline) -> Self {
        let (row, letter) = match storm.bars.len() {
            0..=40 => (24.0, 13.0),
            41..=100 => (19.0, 12.0),
            _ => (15.0, 11.0),
        };
        let longest = storm.bars.iter().map(|bar| name(&bar.module).chars().count()).max().unwrap_or(0);
        let names = (longest as f64 * letter * MONOSPACE).max(60.0);
        let (left, right) = (MARGIN + names + 12.0, WIDTH - MARGIN - NOTES);
        let rows_bottom = ROWS_TOP + row * storm.bars.len() as f64;
        let foot = if storm.bars_left_out > 0 { 52.0 } else { 30.0 };
        let seconds = storm.end_ms() as f64 / 1e3;
        let time = Axis::new(left, right, seconds, 12);
        Self { row, letter, left, right, rows_bottom, height: rows_bottom + foot + MARGIN - 8.0, time }
    }

    /// The style sheet.
    pub fn style(&self) -> String {
        format!("{STYLE}.name, .note {{ font-size: {}px }}\n", self.letter)
    }

    /// The x of a moment.
    pub fn x(&self, ms: u64) -> f64 {
        self.time.at(ms as f64 / 1e3)
    }

    /// How much room there is in a row from x on, in the size of its letters.
    pub fn room(&self, x: f64) -> f64 {
        (WIDTH - MARGIN - x) / self.letter
    }
}

/// A module's name as it is written before its row.
pub fn name(module: &str) -> String {
    short(module, NAME_LONGEST)
}
