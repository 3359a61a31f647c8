// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Svg: elements, and what is written in them
//!
//! Owns the few SVG elements that a picture is made of, and their escaping. Promises well-formed XML whatever text
//! it is given: what is markup is escaped, and what XML cannot hold is replaced. Classes and the style sheet are not:
//! they are this program's own words.

use std::fmt::{Display, Write};

/// A picture in the making.
#[derive(Debug)]
pub struct Svg {
    text: String,
}

impl Svg {
    /// An empty picture of this size, with a name for who cannot see it, and a style sheet.
    pub fn new(width: f64, height: f64, name: &str, style: &str) -> Self {
        let [width, height] = [width, height].map(number);
        let mut svg = Self { text: String::new() };
        svg.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(name)
        ));
        svg.line(format_args!("<style>{style}</style>"));
        svg
    }

    /// A rectangle.
    pub fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        let [x, y, width, height] = [x, y, width.max(0.0), height.max(0.0)].map(number);
        self.line(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        ));
    }

    /// A line through these points.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let mut data = String::new();
        for &(x, y) in points {
            let word = if data.is_empty() { "M" } else { " L" };
            write!(data, "{word}{} {}", number(x), number(y)).expect("writing to a string does not fail");
        }
        self.line(format_args!("<path class=\"{class}\" d=\"{data}\"/>"));
    }

    /// A text on one line; its class says whether it begins, ends or is centred here.
    pub fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let [x, y] = [x, y].map(number);
        self.line(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escape(text)));
    }

    /// A text on one line whose beginning has a class of its own.
    pub fn text_led(&mut self, class: &str, x: f64, y: f64, (lead_class, lead): (&str, &str), rest: &str) {
        let ([x, y], [lead, rest]) = ([x, y].map(number), [lead, rest].map(escape));
        self.line(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"><tspan class=\"{lead_class}\">{lead}</tspan>{rest}</text>"
        ));
    }

    /// What belongs together, with a text that viewers show where one points at it.
    pub fn group(&mut self, title: &str, inner: impl FnOnce(&mut Self)) {
        self.line(format_args!("<g><title>{}</title>", escape(title)));
        inner(self);
        self.line("</g>");
    }

    /// The finished picture.
    pub fn finish(mut self) -> String {
        self.line("</svg>");
        self.text
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.text, "{line}").expect("writing to a string does not fail");
    }
}

/// A coordinate: a tenth of a pixel is finer than anybody sees.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

/// Text as it may stand in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            // XML 1.0 has no way to write these, not even as a reference.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_is_text() {
        let hostile = "</text><script>alert(\"1\")</script>&'\0\u{1b}\u{ffff}]]>";
        let mut svg = Svg::new(10.0, 10.0, hostile, "");
        svg.group(hostile, |svg| {
            svg.text("a", 0.0, 0.0, hostile);
            svg.text_led("a", 0.0, 0.0, ("b", hostile), hostile);
        });
        let text = svg.finish();
        assert!(!text.contains("<script") && !text.contains('\0'), "{text}");
        let xml = roxmltree::Document::parse(&text).expect("XML");
        let replaced = hostile.replace(['\0', '\u{1b}', '\u{ffff}'], "\u{fffd}");
        let texts: Vec<_> =
            xml.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect();
        assert_eq!(texts.iter().filter(|text| **text == replaced).count(), 4, "{texts:?}");
        assert_eq!(xml.root_element().attribute("aria-label"), Some(replaced.as_str()));
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([12.0, 12.34, -0.01, 0.05].map(number), ["12", "12.3", "0", "0.1"]);
    }
}
