// SPDX-License-Identifier: MIT OR Apache-2.0
//! Draws what `lab curves` prints: one quantity over another in each panel, a curve for each who was measured.
//!
//! ```text
//! lab curves target/bench/guests.json | cargo run --release --example curves >docs/scale.svg
//! ```
//!
//! In the look of `addonce plot`, and of the same parts. Panels stand beside each other, with the legend of the first one on the
//! right. The same figures are the same text, byte by byte.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::process::ExitCode;

use addonce::plot::{Axis, MARGIN, STYLE, Svg, WIDTH};
use serde::Deserialize;

const HEIGHT: f64 = 560.0;
const TOP: f64 = 124.0;
const BOTTOM: f64 = HEIGHT - 74.0;
/// What the levels of a panel's axis need on its left.
const LEVELS: f64 = 68.0;
/// Between two panels.
const GAP: f64 = 28.0;
/// The legend's room is behind it.
const RIGHT: f64 = WIDTH - 330.0;
/// How high an entry of the legend is.
const ENTRY: f64 = 96.0;
/// Of so few points each is marked, and else the last one.
const MARKED: usize = 10;
/// How long a sample is.
const SAMPLE: f64 = 34.0;

/// Colours of the palette of Okabe and Ito, as everywhere; what is drawn later is on top.
const CURVES: &str = "
.curve { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round }
.faint { stroke-width: 1.25; stroke-opacity: 0.35 }
.first { stroke: #d55e00 }
.second { stroke: #0072b2 }
.drop { fill: none; stroke-width: 1.25; stroke-dasharray: 2 4; stroke-linecap: round }
.under { stroke: none; fill-opacity: 0.07 }
.under.first, .end.first { fill: #d55e00 }
.under.second, .end.second { fill: #0072b2 }
.end { stroke: #ffffff; stroke-width: 2 }
.who { font-size: 15px; font-weight: bold }
.what { font-size: 13px; fill: #57606a }
";

/// A class for each who was measured, in the order in which they come.
const CLASSES: [&str; 2] = ["first", "second"];

#[derive(Deserialize)]
struct Picture {
    title: String,
    facts: String,
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
struct Panel {
    x: Quantity,
    y: Quantity,
    curves: Vec<Curve>,
}

#[derive(Deserialize)]
struct Quantity {
    head: String,
    unit: String,
}

#[derive(Deserialize)]
struct Curve {
    name: String,
    /// What the legend says of it, line by line; one of which it says nothing is faint.
    says: Vec<String>,
    points: Vec<(f64, f64)>,
}

fn main() -> ExitCode {
    let drawn =
        io::read_to_string(io::stdin()).map_err(|error| error.to_string()).and_then(|text| draw(&text));
    match drawn.and_then(|svg| io::stdout().write_all(svg.as_bytes()).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("curves: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(text: &str) -> Result<String, String> {
    let picture: Picture =
        serde_json::from_str(text).map_err(|error| format!("this is not what lab curves prints: {error}"))?;
    let mut names: Vec<&str> = Vec::new();
    for curve in picture.panels.iter().flat_map(|panel| &panel.curves) {
        if !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
    }
    if names.len() > CLASSES.len() {
        return Err(format!(
            "{} curves are more than the {} there are colours for",
            names.len(),
            CLASSES.len()
        ));
    }
    let class =
        |curve: &Curve| names.iter().position(|name| *name == curve.name).map_or("", |nth| CLASSES[nth]);

    let name = format!("{}: {}", picture.title, picture.facts);
    let mut svg = Svg::new(WIDTH, HEIGHT, &name, &format!("{STYLE}{CURVES}"));
    svg.rect("paper", 0.5, 0.5, WIDTH - 1.0, HEIGHT - 1.0);
    svg.text("title", MARGIN, 42.0, &picture.title);
    svg.text("facts", MARGIN, 65.0, &picture.facts);
    let wide = (RIGHT - MARGIN + GAP) / picture.panels.len() as f64;
    for (nth, panel) in picture.panels.iter().enumerate() {
        let left = MARGIN + wide * nth as f64;
        panel.draw(&mut svg, left, left + wide - GAP, class);
    }
    if let Some(first) = picture.panels.first() {
        legend(&mut svg, first, class);
    }
    Ok(svg.finish())
}

impl Panel {
    fn draw<'a>(&'a self, svg: &mut Svg, left: f64, right: f64, class: impl Fn(&'a Curve) -> &'static str) {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = Axis::new(left + LEVELS, right, points().map(|(x, _)| *x).fold(0.0, f64::max), 12);
        let y = Axis::round(BOTTOM, TOP, points().map(|(_, y)| *y).fold(0.0, f64::max), 6);
        self.axes(svg, left, right, &x, &y);
        for curve in &self.curves {
            let line: Vec<_> = curve.points.iter().map(|&(right, up)| (x.at(right), y.at(up))).collect();
            let (class, Some((end_x, end_y))) = (class(curve), line.last().copied()) else { continue };
            if curve.says.is_empty() {
                svg.path(&format!("curve faint {class}"), &line);
                continue;
            }
            let closed: Vec<_> =
                [(line[0].0, BOTTOM)].into_iter().chain(line.clone()).chain([(end_x, BOTTOM)]).collect();
            svg.path(&format!("under {class}"), &closed);
            svg.path(&format!("drop {class}"), &[(end_x, end_y), (end_x, BOTTOM)]);
            svg.path(&format!("curve {class}"), &line);
            let marked = if line.len() <= MARKED { line.as_slice() } else { &[(end_x, end_y)] };
            for (x, y) in marked {
                svg.rect(&format!("end {class}"), x - 5.0, y - 5.0, 10.0, 10.0);
            }
        }
    }

    fn axes(&self, svg: &mut Svg, left: f64, right: f64, x: &Axis, y: &Axis) {
        let zero = left + LEVELS;
        svg.text("head", left, TOP - 22.0, &self.y.to_string());
        for tick in y.ticks() {
            svg.path("grid", &[(zero, tick.0), (right, tick.0)]);
            svg.text("level", zero - 10.0, tick.0 + 4.0, &tick.1);
        }
        svg.path("axis", &[(zero, BOTTOM), (right, BOTTOM)]);
        for tick in x.ticks() {
            svg.path("axis", &[(tick.0, BOTTOM), (tick.0, BOTTOM + 5.0)]);
            svg.text("tick", tick.0, BOTTOM + 21.0, &tick.1);
        }
        svg.text("head", zero, BOTTOM + 46.0, &self.x.to_string());
    }
}

impl Display for Quantity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.unit.as_str() {
            "" => f.write_str(&self.head),
            unit => write!(f, "{}, {unit}", self.head),
        }
    }
}

/// Of those that are not faint.
fn legend<'a>(svg: &mut Svg, panel: &'a Panel, class: impl Fn(&'a Curve) -> &'static str) {
    let left = RIGHT + 36.0;
    let entries = panel.curves.iter().filter(|curve| !curve.says.is_empty());
    for (nth, curve) in entries.enumerate() {
        let (middle, class) = (TOP + 8.0 + ENTRY * nth as f64, class(curve));
        svg.path(&format!("curve {class}"), &[(left, middle), (left + SAMPLE, middle)]);
        svg.rect(&format!("end {class}"), left + SAMPLE - 5.0, middle - 5.0, 10.0, 10.0);
        svg.text("who", left + SAMPLE + 14.0, middle + 5.0, &curve.name);
        for (line, words) in curve.says.iter().enumerate() {
            svg.text("what", left + SAMPLE + 14.0, middle + 25.0 + 18.0 * line as f64, words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"title": "<Memory>", "facts": "of & by", "panels": [
        {"x": {"head": "since", "unit": "s"}, "y": {"head": "taken", "unit": "MB"}, "curves": [
            {"name": "stock", "says": [], "points": [[0, 0], [9.5, 30], [12, 36]]},
            {"name": "stock", "says": ["settled", "36 MB"], "points": [[0, 0], [11, 34]]},
            {"name": "addonce", "says": ["settled"], "points": [[0, -0.1], [5, 20]]}]},
        {"x": {"head": "CPUs", "unit": ""}, "y": {"head": "calls", "unit": ""}, "curves": [
            {"name": "addonce", "says": ["75"], "points": [[8, 75], [64, 75]]}]}]}"#;

    #[test]
    fn a_curve_is_a_line_and_who_is_bold_is_in_the_legend_once() {
        let svg = draw(TWO).expect("a picture");
        let xml = roxmltree::Document::parse(&svg).expect("XML");
        let class = |class: &str| {
            let nodes = xml.descendants().filter(|node| node.attribute("class") == Some(class));
            nodes.map(|node| node.text().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(class("curve faint first").len(), 1);
        assert_eq!(
            class("curve first").len() + class("curve second").len(),
            3 + 2,
            "three are drawn, and two of them are in the legend"
        );
        assert_eq!(class("who"), ["stock", "addonce"]);
        assert_eq!(class("what"), ["settled", "36 MB", "settled"]);
        assert_eq!(class("title"), ["<Memory>"]);
        assert_eq!(class("head"), ["taken, MB", "since, s", "calls", "CPUs"]);
        assert_eq!(class("tick").last().map(String::as_str), Some("60"));
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        assert!(draw("[]").unwrap_err().contains("lab curves"));
        let third = TWO.replacen("stock", "a third", 1);
        assert!(draw(&third).unwrap_err().contains("3 curves"));
        let nothing = TWO.replace("[[0, 0], [11, 34]]", "[]");
        assert!(roxmltree::Document::parse(&draw(&nothing).expect("a picture")).is_ok());
    }
}
