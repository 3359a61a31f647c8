// SPDX-License-Identifier: MIT OR Apache-2.0
//! A figure of several runs: its median, and how far it strays.
//!
//! Owns the arithmetic of the report and how a figure is written. It promises that a ratio is the median of ratios turn by turn, since
//! what the host does changes from one turn to the next; that what nobody measured is no figure; and no number that is not one.

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    pub runs: usize,
}

impl Figure {
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = [sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]];
        let figure = Self { median: (middle[0] + middle[1]) / 2.0, least, most, runs: sorted.len() };
        [least, most].iter().all(|value| value.is_finite()).then_some(figure)
    }

    /// Of pairs, each of one turn.
    pub fn ratio(pairs: &[(f64, f64)]) -> Option<Self> {
        Self::of(&pairs.iter().map(|(value, to)| value / to).collect::<Vec<_>>())
    }

    pub fn scaled(self, by: f64) -> Self {
        Self { median: self.median * by, least: self.least * by, most: self.most * by, ..self }
    }

    pub fn plain(&self, decimals: usize) -> String {
        format!("{:.decimals$}", self.median)
    }

    /// With the least and the most, where those are not the same as written.
    pub fn ranged(&self, decimals: usize) -> String {
        let [median, least, most] =
            [self.median, self.least, self.most].map(|value| format!("{value:.decimals$}"));
        if least == most { median } else { format!("{median} ({least}–{most})") }
    }
}

/// What stands where there is no figure.
pub const NOTHING: &str = "–";

pub fn plain(figure: Option<Figure>, decimals: usize) -> String {
    figure.map_or(NOTHING.into(), |figure| figure.plain(decimals))
}

pub fn ranged(figure: Option<Figure>, decimals: usize) -> String {
    figure.map_or(NOTHING.into(), |figure| figure.ranged(decimals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_stands_in_the_middle_and_what_strays_beside_it() {
        assert_eq!(ranged(Figure::of(&[9.0, 1.0, 2.0]), 1), "2.0 (1.0–9.0)");
        assert_eq!(ranged(Figure::of(&[1.0, 2.0]), 1), "1.5 (1.0–2.0)");
        assert_eq!(ranged(Figure::of(&[75.0, 75.0]), 0), "75");
        assert_eq!(ranged(Figure::of(&[]), 0), NOTHING);
    }

    #[test]
    fn a_ratio_is_the_median_of_those_of_the_turns() {
        let ratio = Figure::ratio(&[(1.0, 4.0), (2.0, 5.0), (6.0, 10.0)]);
        assert_eq!(ranged(ratio, 2), "0.40 (0.25–0.60)");
        assert_eq!(ratio.unwrap().runs, 3);
    }

    #[test]
    fn what_cannot_be_divided_is_no_figure() {
        assert_eq!(Figure::ratio(&[(1.0, 0.0)]), None);
        assert_eq!(Figure::ratio(&[]), None);
    }
}
