// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report: what was measured, in the places that `docs/PERFORMANCE.in.md` has for it.
//!
//! Owns the names of those places. It promises the same text for the same figures, and that several files of the guests'
//! are of one machine, one addonce and one kernel.

use crate::bench::Measured;
use crate::figure::plain;
use crate::side_by_side::{self, CALLS, figure, sizes};
use crate::{benches, daemon, goals, template};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TEMPLATE: &str = include_str!("../../../docs/PERFORMANCE.in.md");

pub fn render(measured: &[Measured], benches: &Path) -> Result<String, String> {
    let mut figures = benches::tables(benches)?;
    figures.extend(of_the_guests(&joined(measured)?)?);
    template::fill(TEMPLATE, &figures)
}

fn joined(measured: &[Measured]) -> Result<Measured, String> {
    let (first, others) = measured.split_first().ok_or("nothing was measured")?;
    let mut joined = first.clone();
    for other in others {
        if (&other.machine, &other.addonce) != (&joined.machine, &joined.addonce) {
            return Err("these files are of different machines or different addonces".into());
        }
        joined.results.extend(other.results.iter().cloned());
    }
    let worlds: BTreeSet<_> = joined
        .results
        .iter()
        .map(|result| (&result.kernel, &result.udev, &result.kmod, &result.qemu))
        .collect();
    match worlds.len() {
        1 => Ok(joined),
        0 => Err("the files hold no run".into()),
        _ => Err(format!("these runs are of different kernels, udevs or kmods: {worlds:?}")),
    }
}

fn of_the_guests(measured: &Measured) -> Result<BTreeMap<String, String>, String> {
    let sizes = sizes(measured);
    let (Some(&most), Some(any)) = (sizes.last(), measured.results.first()) else {
        return Err("the files hold no run".into());
    };
    let tables = sizes
        .iter()
        .rev()
        .map(|&cpus| format!("### {cpus} CPUs\n\n{}", side_by_side::figures(measured, cpus)));
    let calls = |way: &str| plain(figure(measured, way, most, CALLS), 0);
    let guests = format!("Linux {}, systemd {}, kmod {}", any.kernel, any.udev, any.kmod);
    let places = [
        ("machine", measured.machine.sentence()),
        ("guests", guests),
        ("rounds", rounds(measured)),
        ("most", most.to_string()),
        ("calls.stock", calls("stock")),
        ("calls.addonce", calls("addonce")),
        ("goals", goals::table(measured, most)),
        ("ratios", side_by_side::ratios(measured)),
        ("figures", tables.collect::<Vec<_>>().join("\n")),
        ("daemon", daemon::table(measured, &sizes)),
    ];
    Ok(places.map(|(name, text)| (name.to_string(), text.trim_end().to_string())).into())
}

/// How many turns each had: a number, or the least and the most.
fn rounds(measured: &Measured) -> String {
    let mut turns: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for result in &measured.results {
        *turns.entry((&result.scenario, result.cpus)).or_default() += 1;
    }
    let [least, most] = [turns.values().min(), turns.values().max()].map(|n| n.copied().unwrap_or(0));
    if least == most { format!("{least}") } else { format!("{least} to {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::LabResult;

    fn run(scenario: &str, kernel: &str) -> Measured {
        let result =
            LabResult { scenario: scenario.into(), cpus: 8, kernel: kernel.into(), ..LabResult::default() };
        Measured { results: vec![result], ..Measured::default() }
    }

    #[test]
    fn the_template_has_a_place_for_every_figure_and_no_other() {
        let mut figures = of_the_guests(&run("stock", "6.1")).unwrap();
        figures.extend(benches::PLACES.map(|name| (name.to_string(), String::new())));
        template::fill(TEMPLATE, &figures).unwrap();
    }

    #[test]
    fn files_are_joined_if_they_are_of_one_kernel() {
        let joined = |other| joined(&[run("stock", "6.1"), run("stock", other)]);
        assert_eq!(rounds(&joined("6.1").unwrap()), "2");
        assert!(joined("6.12").unwrap_err().contains("6.12"));
    }
}
