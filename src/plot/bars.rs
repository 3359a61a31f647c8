// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Bars: a row for each module
//!
//! Owns the rows: the module's name, a thin bar while it waits, a thick one while it loads, a mark where it lands
//! (a tick or a cross) or an open end where it is in the air, and behind that a note: the errno, how long the load
//! took, how many requests it served, who needed it. Rows are in the order of the requests. The note is shortened to the
//! room there is behind the bar.

use super::page::{MARGIN, Page, ROWS_TOP, WIDTH, name};
use super::svg::Svg;
use super::timeline::{Bar, State, Timeline};
use super::words::{count, counted, duration, fitting, short, widest};

/// From the end of a bar to its mark's middle.
const MARK: f64 = 10.0;
/// From there to the note.
const NOTE: f64 = 10.0;
/// A load that took no time is seen nevertheless.
const THINNEST: f64 = 2.0;
/// So much of a modalias is shown on pointing: a CPU's is a thousand characters and more.
const ALIAS: usize = 200;
/// The longest name of an errno is EPROTONOSUPPORT.
const ERRNO: usize = 16;

/// A bar's moments, in order whatever was said of them; `end` is the page's where it is still to come.
struct Moments {
    asked: u64,
    start: u64,
    end: u64,
}

/// Draws the rows.
pub fn draw(svg: &mut Svg, page: &Page, storm: &Timeline) {
    let now = storm.end_ms();
    let mut bars: Vec<&Bar> = storm.bars.iter().collect();
    bars.sort_by_key(|bar| (bar.asked_ms, moments(bar, now).start, moments(bar, now).end));
    for (nth, bar) in bars.into_iter().enumerate() {
        let moments = moments(bar, now);
        let middle = ROWS_TOP + page.row * (nth as f64 + 0.5);
        svg.group(&title(bar, &moments), |svg| row(svg, page, bar, &moments, middle));
    }
}

fn row(svg: &mut Svg, page: &Page, bar: &Bar, moments: &Moments, middle: f64) {
    // Something to point at, as long as the row.
    svg.rect("row", MARGIN, middle - page.row / 2.0, WIDTH - 2.0 * MARGIN, page.row);
    let base = middle + page.letter * 0.36;
    svg.text("name", page.left - 12.0, base, &name(&bar.module));
    let [asked, start] = [moments.asked, moments.start].map(|ms| page.x(ms));
    let end = page.x(moments.end).max(start + THINNEST);
    waiting(svg, asked, start, middle, page.row);
    if bar.start_ms.is_some() {
        loading(svg, bar.state, start, end, middle, page.row);
    }
    mark(svg, bar.state, end + MARK, middle);
    let x = end + MARK + NOTE;
    let rest = note(bar, moments);
    match bar.error.as_deref().map(|error| short(error, ERRNO)) {
        None => svg.text("note", x, base, &fitting(&rest, page.room(x))),
        Some(error) => {
            let rest = if rest.is_empty() { rest } else { format!(" · {rest}") };
            let rest = fitting(&rest, page.room(x) - widest(&error));
            svg.text_led("note", x, base, ("errno", &error), &rest);
        }
    }
}

/// A thin bar: waiting.
pub fn waiting(svg: &mut Svg, from: f64, to: f64, middle: f64, row: f64) {
    if to > from {
        svg.rect("waiting", from, middle - row * 0.1, to - from, row * 0.2);
    }
}

/// A thick bar: loading.
pub fn loading(svg: &mut Svg, state: State, from: f64, to: f64, middle: f64, row: f64) {
    let class = match state {
        State::Live => "live",
        State::Failed => "failed",
        State::InAir => "air",
    };
    svg.rect(class, from, middle - row * 0.3, to - from, row * 0.6);
}

/// What became of it: a tick, a cross, or an arrow that goes on.
pub fn mark(svg: &mut Svg, state: State, x: f64, y: f64) {
    match state {
        State::Live => svg.path("live mark", &[(x - 4.0, y), (x - 1.0, y + 3.0), (x + 4.0, y - 3.5)]),
        State::Failed => {
            svg.path("failed mark", &[(x - 3.5, y - 3.5), (x + 3.5, y + 3.5)]);
            svg.path("failed mark", &[(x - 3.5, y + 3.5), (x + 3.5, y - 3.5)]);
        }
        State::InAir => svg.path("air mark", &[(x - 3.0, y - 4.0), (x + 2.0, y), (x - 3.0, y + 4.0)]),
    }
}

fn moments(bar: &Bar, now: u64) -> Moments {
    let asked = bar.asked_ms;
    // What failed before its turn came has waited until then.
    let start = bar.start_ms.or(bar.end_ms).unwrap_or(now).max(asked);
    let end = bar.end_ms.unwrap_or(now).max(start);
    Moments { asked, start, end }
}

/// What stands behind a bar.
fn note(bar: &Bar, moments: &Moments) -> String {
    let mut words = Vec::new();
    match (bar.state, bar.start_ms) {
        (State::InAir, None) => words.push(format!("waiting, {}", duration(moments.end - moments.asked))),
        (State::InAir, Some(_)) => words.push(format!("loading, {}", duration(moments.end - moments.start))),
        (_, Some(_)) => words.push(duration(moments.end - moments.start)),
        (_, None) => {}
    }
    if bar.asked > 1 {
        words.push(format!("×{}", count(bar.asked)));
    }
    words.extend(bar.pulled_in_by.as_deref().map(|module| format!("for {module}")));
    words.join(" · ")
}

/// What is shown on pointing at a row: all that is known.
fn title(bar: &Bar, moments: &Moments) -> String {
    let state = match bar.state {
        State::Live => "live".to_owned(),
        State::Failed => format!("failed: {}", bar.error.as_deref().unwrap_or("?")),
        State::InAir => "in the air".to_owned(),
    };
    let mut title = format!(
        "{}: {state}\nasked for after {} by {}, waited {}, loaded {}\nalias {}",
        short(&bar.module, ALIAS),
        duration(moments.asked),
        counted(bar.asked, "request"),
        duration(moments.start - moments.asked),
        duration(moments.end - moments.start),
        short(&bar.alias, ALIAS),
    );
    for (word, text) in [("device", &bar.devpath), ("pulled in by", &bar.pulled_in_by)] {
        if let Some(text) = text {
            title.push_str(&format!("\n{word} {}", short(text, ALIAS)));
        }
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(state: State, start_ms: Option<u64>, end_ms: Option<u64>) -> Bar {
        let plain = |text: &str| text.to_owned().into();
        Bar {
            module: plain("parport"),
            state,
            error: (state == State::Failed).then(|| plain("ENODEV")),
            asked_ms: 100,
            start_ms,
            end_ms,
            alias: plain("acpi:PNP0400:"),
            devpath: None,
            pulled_in_by: Some(plain("parport_pc")),
            asked: 3,
        }
    }

    fn noted(state: State, start_ms: Option<u64>, end_ms: Option<u64>) -> String {
        let bar = bar(state, start_ms, end_ms);
        note(&bar, &moments(&bar, 1000))
    }

    #[test]
    fn a_note_says_how_long_for_how_many_and_for_whom() {
        assert_eq!(noted(State::Live, Some(150), Some(900)), "750 ms · ×3 · for parport_pc");
        assert_eq!(noted(State::InAir, Some(150), None), "loading, 850 ms · ×3 · for parport_pc");
        assert_eq!(noted(State::InAir, None, None), "waiting, 900 ms · ×3 · for parport_pc");
        assert_eq!(noted(State::Failed, None, Some(200)), "×3 · for parport_pc");
    }

    #[test]
    fn moments_that_contradict_each_other_are_put_in_order() {
        let moments = moments(&bar(State::Live, Some(20), Some(10)), 0);
        assert_eq!((moments.asked, moments.start, moments.end), (100, 100, 100));
    }
}
