// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Rate: requests and duplicates over time
//!
//! Owns the chart above: requests per second as an outline, duplicates as the filled area within it, so what stays
//! empty was worth asking. Bounded in width: bins that are finer than the picture are taken together.

use super::page::{MARGIN, Page, RATE_BOTTOM, RATE_TOP};
use super::scale::Axis;
use super::svg::Svg;
use super::timeline::Timeline;
use super::words::count;

/// More columns than these nobody tells apart.
const COLUMNS: usize = 300;

/// Requests and duplicates per second, from `from` to `to` seconds.
struct Column {
    from: f64,
    to: f64,
    requests: f64,
    duplicates: f64,
}

/// Draws the chart.
pub fn draw(svg: &mut Svg, page: &Page, storm: &Timeline) {
    let columns = columns(storm);
    let highest = columns.iter().map(|column| column.requests).fold(0.0, f64::max);
    // No line of the grid is for less than one request.
    let axis = Axis::round(RATE_BOTTOM, RATE_TOP, highest.max(5.0), 5);
    svg.text("head", MARGIN, RATE_TOP - 16.0, "requests per second");
    for tick in axis.ticks() {
        svg.path("grid", &[(page.left, tick.place), (page.right, tick.place)]);
        let label = tick.label.parse().map_or(tick.label, count);
        svg.text("level", page.left - 8.0, tick.place + 4.0, &label);
    }
    svg.path("duplicates", &outline(page, &axis, &columns, |column| column.duplicates));
    svg.path("requests", &outline(page, &axis, &columns, |column| column.requests));
}

fn columns(storm: &Timeline) -> Vec<Column> {
    let together = storm.requests.len().div_ceil(COLUMNS).max(1);
    let bin = storm.bin_ms.max(1) as f64 / 1e3;
    let end = storm.end_ms() as f64 / 1e3;
    let sum = |bins: &[u64]| bins.iter().map(|&n| n as f64).sum::<f64>();
    let column = |(at, bins): (usize, &[u64])| {
        let first = at * together;
        let after = first + bins.len();
        let long = bins.len() as f64 * bin;
        let same = &storm.duplicates[first.min(storm.duplicates.len())..after.min(storm.duplicates.len())];
        let (requests, duplicates) = (sum(bins) / long, sum(same) / long);
        let (from, to) = (first as f64 * bin, (after as f64 * bin).min(end));
        Column { from, to, requests, duplicates: duplicates.min(requests) }
    };
    storm.requests.chunks(together).enumerate().map(column).collect()
}

/// Steps over the columns, closed along the axis.
fn outline(page: &Page, axis: &Axis, columns: &[Column], rate: impl Fn(&Column) -> f64) -> Vec<(f64, f64)> {
    let mut points = vec![(page.left, RATE_BOTTOM)];
    for column in columns {
        let y = axis.at(rate(column));
        points.extend([(page.time.at(column.from), y), (page.time.at(column.to), y)]);
    }
    points.push((points[points.len() - 1].0, RATE_BOTTOM));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm(bin_ms: u64, requests: Vec<u64>, duplicates: Vec<u64>) -> Timeline {
        let lasted_ms = bin_ms * requests.len() as u64;
        let (bars, began_ms_ago, bars_left_out) = (Vec::new(), 0, 0);
        Timeline { began_ms_ago, lasted_ms, over: true, bin_ms, requests, duplicates, bars, bars_left_out }
    }

    #[test]
    fn a_rate_is_per_second() {
        let columns = columns(&storm(50, vec![10, 0, 5], vec![9, 0, 0]));
        let rates = columns.iter().map(|column| (column.requests, column.duplicates));
        assert_eq!(rates.collect::<Vec<_>>(), [(200.0, 180.0), (0.0, 0.0), (100.0, 0.0)]);
    }

    #[test]
    fn fine_bins_are_taken_together() {
        let columns = columns(&storm(1, vec![1; 10_000], vec![1; 10_000]));
        assert!(columns.len() <= COLUMNS);
        assert!(columns.iter().all(|column| (column.requests - 1000.0).abs() < 1e-6));
    }

    #[test]
    fn there_are_no_more_duplicates_than_requests_whatever_is_said() {
        let columns = columns(&storm(0, vec![1, 2], vec![5]));
        assert!(columns.iter().all(|column| column.duplicates <= column.requests));
    }
}
