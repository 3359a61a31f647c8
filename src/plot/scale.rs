// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Scale: from values to places
//!
//! Owns the axis: where a value is drawn, and at which round values there is a tick. Promises that ticks are 1, 2 or
//! 5 times a power of ten apart and no more than asked for, whether the axis spans half a second or an hour, and that
//! no value is placed off the axis.

/// An axis that begins at zero.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    zero: f64,
    far: f64,
    span: f64,
    step: f64,
}

/// A value worth a line in the grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where it is drawn.
    pub place: f64,
    /// The value, with as many decimals as the step between ticks has.
    pub label: String,
}

impl Axis {
    /// An axis from 0, drawn at `zero`, to `span`, drawn at `far`, with at most `most` steps.
    pub fn new(zero: f64, far: f64, span: f64, most: u32) -> Self {
        // A span of nothing cannot be divided.
        let span = if span.is_finite() && span > 0.0 { span } else { 1.0 };
        Self { zero, far, span, step: step(span, most) }
    }

    /// As [`Axis::new`], but ending at a tick.
    pub fn round(zero: f64, far: f64, span: f64, most: u32) -> Self {
        let axis = Self::new(zero, far, span, most);
        Self { span: (axis.span / axis.step - 1e-9).ceil() * axis.step, ..axis }
    }

    /// Where a value is drawn; the ends are as far as it goes.
    pub fn at(&self, value: f64) -> f64 {
        self.zero + (self.far - self.zero) * (value / self.span).clamp(0.0, 1.0)
    }

    /// The ticks, from zero on.
    pub fn ticks(&self) -> Vec<Tick> {
        let decimals = exponent(self.step).min(0).unsigned_abs() as usize;
        let last = (self.span / self.step + 1e-9).floor() as u32;
        let tick = |n| {
            let value = f64::from(n) * self.step;
            Tick { place: self.at(value), label: format!("{value:.decimals$}") }
        };
        (0..=last).map(tick).collect()
    }
}

/// The smallest round step of which no more than `most` are needed.
fn step(span: f64, most: u32) -> f64 {
    let least = span / f64::from(most.max(1));
    let step = |factor| format!("{factor}e{}", exponent(least)).parse().expect("a number");
    let steps: [f64; 4] = [1, 2, 5, 10].map(step);
    // What is beside a whole power by a bit means that power.
    steps.into_iter().find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(steps[3])
}

/// The power of ten that a value is written with: its logarithm, rounded down. Nothing else of addonce is in need of libm,
/// and each library more is one more in which the dynamic linker looks for libcrypto's symbols.
fn exponent(value: f64) -> i32 {
    let text = format!("{value:e}");
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).expect("a finite number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(span: f64, most: u32) -> Vec<String> {
        Axis::new(0.0, 100.0, span, most).ticks().into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round_at_any_span() {
        assert_eq!(labels(0.5, 10).join(" "), "0.00 0.05 0.10 0.15 0.20 0.25 0.30 0.35 0.40 0.45 0.50");
        assert_eq!(labels(8.2, 10).join(" "), "0 1 2 3 4 5 6 7 8");
        assert_eq!(labels(20.0, 10).join(" "), "0 2 4 6 8 10 12 14 16 18 20");
        assert_eq!(labels(0.003, 5).join(" "), "0.000 0.001 0.002 0.003");
        assert_eq!(labels(3600.0, 4).join(" "), "0 1000 2000 3000");
    }

    #[test]
    fn there_are_never_more_steps_than_asked_for() {
        for exponent in -30..190 {
            for most in 1..12 {
                let ticks = labels(1.37f64.powi(exponent), most);
                assert!(ticks.len() <= most as usize + 1, "1.37^{exponent}: {ticks:?}");
            }
        }
    }

    #[test]
    fn a_round_axis_ends_at_a_tick() {
        let axis = Axis::round(100.0, 0.0, 830.0, 4);
        assert_eq!(axis.ticks().last(), Some(&Tick { place: 0.0, label: "1000".into() }));
        assert_eq!(axis.at(500.0), 50.0);
    }

    #[test]
    fn nothing_is_placed_off_the_axis() {
        for span in [0.0, 1e-300, 7.0, 1.8e16, f64::NAN, f64::INFINITY] {
            let axis = Axis::new(10.0, 90.0, span, 10);
            for value in [-1.0, 0.0, 1.8e16, f64::INFINITY] {
                assert!((10.0..=90.0).contains(&axis.at(value)), "{value} of {span}");
            }
            assert!(!axis.ticks().is_empty());
        }
    }
}
