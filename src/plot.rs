// SPDX-License-Identifier: MIT OR Apache-2.0
//! A storm as a picture: one pure function, [`draw`], from what `io.addonce.Storm` replies to the text of an SVG file.
//!
//! Above, requests per second as an outline, and within it, filled, those that changed nothing: what stays empty was worth asking.
//! Below, a row for each module: a thin bar while its load waits, a thick one while it runs, a tick or a cross for what it came to.
//! Names stand in a column on the left as wide as the longest of them, and on the right there is room for what is written behind a
//! bar. Colours are of the palette of Okabe and Ito; what they mean is told by shape or word as well.

use std::fmt::{Display, Write};

use serde::Deserialize;

use crate::format::{count, duration, number};

/// How wide a picture is.
pub const WIDTH: f64 = 1320.0;
/// The room around everything.
pub const MARGIN: f64 = 28.0;
/// Where the chart of the rate begins and ends, and where the first row begins.
const RATE_TOP: f64 = 110.0;
const RATE_BOTTOM: f64 = 240.0;
const ROWS_TOP: f64 = 276.0;
/// Where time ends: what is written behind bars, and the legend, have room.
const RIGHT: f64 = WIDTH - MARGIN - 310.0;
/// So much of a module's name is written.
const NAME: usize = 30;
/// How wide a character is, in its size: one of a monospace font, and one of a font that nobody knows, at most and on average.
const MONOSPACE: f64 = 0.61;
const WIDE: f64 = 0.7;

/// What the shapes mean, as it stands beside the chart of the rate.
const LEGEND: &str = include_str!("legend.svg");
/// The look of everything, by class.
pub const STYLE: &str = include_str!("plot.css");

/// A storm. All times are milliseconds from the first request on.
#[derive(Debug, Deserialize)]
pub struct Timeline {
    began_ms_ago: u64,
    /// Up to the last request, or to the end of the last load.
    lasted_ms: u64,
    over: bool,
    bin_ms: u64,
    /// Requests, and those of them that changed nothing, bin by bin.
    requests: Vec<u64>,
    duplicates: Vec<u64>,
    bars: Vec<Bar>,
}

#[derive(Debug, Deserialize)]
struct Bar {
    module: String,
    /// The errno's name, where it failed.
    error: Option<String>,
    asked_ms: u64,
    start_ms: u64,
    end_ms: u64,
    pulled_in_by: Option<String>,
    asked: u64,
}

/// What a storm does not say of itself.
#[derive(Debug)]
pub struct About {
    /// The machine, its kernel, and when it was.
    pub text: String,
    /// When it began, in milliseconds since the kernel's start. Axes begin there.
    pub began_ms: u64,
}

struct Page {
    /// How high a row is, and the size of the letters in it.
    row: f64,
    letter: f64,
    /// Where time begins. It ends at [`RIGHT`].
    left: f64,
    rows_bottom: f64,
    time: Axis,
}

/// A storm as SVG.
pub fn draw(mut storm: Timeline, about: &About) -> String {
    storm.bars.sort_by_key(|bar| (bar.asked_ms, bar.start_ms, bar.end_ms));
    let bars = &storm.bars;
    let end = bars.iter().map(|bar| bar.end_ms).fold(storm.lasted_ms, u64::max) as f64 / 1e3;
    let page = Page::new(bars, end, about.began_ms as f64 / 1e3);
    let title = if storm.over {
        "The last storm of module requests"
    } else {
        "A storm of module requests, still going on"
    };
    let (facts, height) = (facts(&storm), page.rows_bottom + 50.0);
    let style = format!("{STYLE}.name, .note {{ font-size: {}px }}\n", page.letter);
    let mut svg = Svg::new(WIDTH, height, &format!("{title}: {facts}"), &style);
    svg.rect("paper", 0.5, 0.5, WIDTH - 1.0, height - 1.0);
    svg.text("title", MARGIN, 42.0, title);
    svg.text("facts", MARGIN, 61.0, &facts);
    svg.text("facts", MARGIN, 78.0, &short(&about.text, 150));
    for nth in (1..bars.len()).step_by(2) {
        svg.rect("band", MARGIN, ROWS_TOP + page.row * nth as f64, WIDTH - 2.0 * MARGIN, page.row);
    }
    let rows = (!bars.is_empty()).then_some((ROWS_TOP, page.rows_bottom));
    let parts: Vec<_> = [(RATE_TOP, RATE_BOTTOM)].into_iter().chain(rows).collect();
    for (place, _) in page.time.ticks() {
        parts.iter().for_each(|&(top, bottom)| svg.path("grid", &[(place, top), (place, bottom)]));
    }
    rate(&mut svg, &page, &storm, end);
    for (nth, bar) in bars.iter().enumerate() {
        row(&mut svg, &page, bar, ROWS_TOP + page.row * (nth as f64 + 0.5));
    }
    for (_, y) in parts {
        svg.path("axis", &[(page.left, y), (RIGHT, y)]);
        for (place, label) in page.time.ticks() {
            svg.text("tick", place, y + 18.0, &format!("{label} s"));
        }
    }
    svg.line(LEGEND.trim_end());
    svg.finish()
}

fn facts(storm: &Timeline) -> String {
    let failed = storm.bars.iter().filter(|bar| bar.error.is_some()).count();
    [
        format!("storm began {} ago", duration(storm.began_ms_ago)),
        format!("{} {}", if storm.over { "lasted" } else { "has lasted" }, duration(storm.lasted_ms)),
        count(storm.requests.iter().sum(), "request"),
        format!("{} of them duplicate", number(storm.duplicates.iter().sum())),
        format!("{} live", count((storm.bars.len() - failed) as u64, "module")),
        format!("{} failed", number(failed as u64)),
    ]
    .join(" · ")
}

fn rate(svg: &mut Svg, page: &Page, storm: &Timeline, end: f64) {
    let bin = storm.bin_ms as f64 / 1e3;
    let highest = storm.requests.iter().max().map_or(0.0, |&requests| requests as f64 / bin);
    // No line of the grid is for less than one request.
    let axis = Axis::round(RATE_BOTTOM, RATE_TOP, highest.max(5.0), 5);
    svg.text("head", MARGIN, RATE_TOP - 16.0, "requests per second, in time since the kernel's start");
    for (place, label) in axis.ticks() {
        svg.path("grid", &[(page.left, place), (RIGHT, place)]);
        svg.text("level", page.left - 8.0, place + 4.0, &label.parse().map_or(label, number));
    }
    // Steps over the bins, closed along the axis.
    let outline = |counts: &[u64]| {
        let mut points = vec![(page.left, RATE_BOTTOM)];
        for (nth, &count) in counts.iter().enumerate() {
            let (from, y) = (nth as f64 * bin, axis.at(count as f64 / bin));
            points.extend([(page.time.at(from), y), (page.time.at((from + bin).min(end)), y)]);
        }
        points.push((points[points.len() - 1].0, RATE_BOTTOM));
        points
    };
    svg.path("duplicates", &outline(&storm.duplicates));
    svg.path("requests", &outline(&storm.requests));
}

fn row(svg: &mut Svg, page: &Page, bar: &Bar, middle: f64) {
    let base = middle + page.letter * 0.36;
    svg.text("name", page.left - 12.0, base, &short(&bar.module, NAME));
    let [asked, start, end] =
        [bar.asked_ms, bar.start_ms, bar.end_ms].map(|ms| page.time.at(ms as f64 / 1e3));
    // A load that took no time is seen nevertheless.
    let end = end.max(start + 2.0);
    if start > asked {
        svg.rect("waiting", asked, middle - page.row * 0.1, start - asked, page.row * 0.2);
    }
    let failed = bar.error.is_some();
    let class = if failed { "failed" } else { "live" };
    svg.rect(class, start, middle - page.row * 0.3, end - start, page.row * 0.6);
    let x = end + 10.0;
    if failed {
        svg.path("failed mark", &[(x - 3.5, middle - 3.5), (x + 3.5, middle + 3.5)]);
        svg.path("failed mark", &[(x - 3.5, middle + 3.5), (x + 3.5, middle - 3.5)]);
    } else {
        svg.path("live mark", &[(x - 4.0, middle), (x - 1.0, middle + 3.0), (x + 4.0, middle - 3.5)]);
    }
    let mut note = bar.error.as_ref().map_or_else(String::new, |error| format!("{error} · "));
    note.push_str(&duration(bar.end_ms - bar.start_ms));
    if bar.asked > 1 {
        note.push_str(&format!(" · ×{}", number(bar.asked)));
    }
    if let Some(module) = &bar.pulled_in_by {
        note.push_str(&format!(" · for {module}"));
    }
    let class = if failed { "note errno" } else { "note" };
    let room = (WIDTH - MARGIN - end - 20.0) / page.letter / WIDE;
    svg.text(class, end + 20.0, base, &short(&note, room as usize));
}

impl Page {
    fn new(bars: &[Bar], end: f64, began: f64) -> Self {
        let (row, letter) = match bars.len() {
            0..=40 => (24.0, 13.0),
            41..=100 => (19.0, 12.0),
            _ => (15.0, 11.0),
        };
        let longest = bars.iter().map(|bar| bar.module.len().min(NAME)).max().unwrap_or(0);
        let names = (longest as f64 * letter * MONOSPACE).max(60.0);
        let left = MARGIN + names + 12.0;
        let rows_bottom = ROWS_TOP + row * bars.len() as f64;
        Self { row, letter, left, rows_bottom, time: Axis::new(left, RIGHT, end, 12).from(began) }
    }
}

/// An axis: values to places. Values count from its beginning, labels from somewhere else.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What stands at its beginning.
    from: f64,
    zero: f64,
    far: f64,
    span: f64,
    /// Between two ticks: 1, 2 or 5 times a power of ten.
    step: f64,
    /// With so many decimals a value at a tick is written.
    decimals: usize,
}

impl Axis {
    /// An axis from 0, drawn at `zero`, to `span`, drawn at `far`, with at most `most` steps.
    pub fn new(zero: f64, far: f64, span: f64, most: u32) -> Self {
        // A span of nothing cannot be divided.
        let span = if span > 0.0 { span } else { 1.0 };
        // What is beside a whole power by a bit means that power.
        let least = span / f64::from(most.max(1)) * (1.0 - 1e-9);
        let steps = (-320..).flat_map(|power| [1, 2, 5].map(|factor| (power, format!("{factor}e{power}"))));
        let mut steps = steps.map(|(power, step): (i32, _)| (power, step.parse().expect("a number")));
        let (power, step) = steps.find(|(_, step)| *step >= least).expect("a float is not without end");
        Self { from: 0.0, zero, far, span, step, decimals: power.min(0).unsigned_abs() as usize }
    }

    /// As [`Axis::new`], but ending at a tick.
    pub fn round(zero: f64, far: f64, span: f64, most: u32) -> Self {
        let axis = Self::new(zero, far, span, most);
        Self { span: (axis.span / axis.step - 1e-9).ceil() * axis.step, ..axis }
    }

    /// The same with labels that count from elsewhere: this stands at its beginning.
    pub fn from(self, from: f64) -> Self {
        Self { from, ..self }
    }

    /// Where a value is drawn; the ends are as far as it goes.
    pub fn at(&self, value: f64) -> f64 {
        self.zero + (self.far - self.zero) * (value / self.span).clamp(0.0, 1.0)
    }

    /// The ticks: where they are, and their labels.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let Self { from, step, decimals, .. } = *self;
        let (first, last) =
            ((from / step - 1e-9).ceil() as u64, ((from + self.span) / step + 1e-9).floor() as u64);
        let values = (first..=last).map(|n| n as f64 * step);
        values.map(|value| (self.at(value - from), format!("{value:.decimals$}"))).collect()
    }
}

/// A picture in the making. What is written in it is well-formed, whatever text it is given: classes and the style sheet are
/// this program's own words, all else is escaped.
#[derive(Debug)]
pub struct Svg(String);

impl Svg {
    /// An empty picture of this size, with a name for who cannot see it, and a style sheet.
    pub fn new(width: f64, height: f64, name: &str, style: &str) -> Self {
        let [width, height] = [width, height].map(coordinate);
        let mut svg = Self(String::new());
        svg.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(name)
        ));
        svg.line(format_args!("<style>\n{style}</style>"));
        svg
    }

    /// A rectangle.
    pub fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let [x, y, width, height] = [x, y, width.max(0.0), height.max(0.0)].map(coordinate);
        self.line(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ));
    }

    /// A line through these points.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<_> =
            points.iter().map(|&(x, y)| format!("{} {}", coordinate(x), coordinate(y))).collect();
        self.line(format_args!("<path class=\"{class}\" d=\"M{}\"/>", points.join(" L")));
    }

    /// A text on one line; its class says whether it begins, ends or is centred here.
    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let [x, y] = [x, y].map(coordinate);
        self.line(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escape(text)));
    }

    /// The finished picture.
    pub fn finish(mut self) -> String {
        self.line("</svg>");
        self.0
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("writing to a string does not fail");
    }
}

/// A tenth of a pixel is finer than anybody sees.
fn coordinate(value: f64) -> String {
    // Nothing is added, but the sign of a zero goes.
    ((value * 10.0).round() / 10.0 + 0.0).to_string()
}

/// Text as it may stand in an element or in a quoted attribute.
fn escape(text: &str) -> String {
    let pairs = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")];
    pairs.into_iter().fold(text.to_owned(), |text, (character, reference)| text.replace(character, reference))
}

/// At most so many characters of a text; the last one tells that there was more.
fn short(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}
