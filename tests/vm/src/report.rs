// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report: what was measured, in the places that `docs/PERFORMANCE.in.md` has for it.
//!
//! Owns the names of those places. It promises the same text for the same figures, and that several files of the guests'
//! are of one machine, one addonce and one kernel. Storms are of one udev and kmod; so are boots, of those in their Debian.

use crate::bench::Measured;
use crate::figure::plain;
use crate::result::LabResult;
use crate::side_by_side::{self, CALLS, figure, sizes};
use crate::{benches, boots, daemon, goals, template};
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
        if !joined.goes_with(other) {
            return Err("these files are of different machines, addonces or packages".into());
        }
        joined.deb = joined.deb.or_else(|| other.deb.clone());
        joined.results.extend(other.results.iter().cloned());
    }
    let boots = || joined.results.iter().filter(|result| result.boot.is_some());
    let programs = |result: &LabResult| format!("udev {}, kmod {}", result.udev, result.kmod);
    let kernel = |result: &LabResult| format!("Linux {}, QEMU {}", result.kernel, result.qemu);
    must_be_one(joined.storms().map(programs))?;
    must_be_one(boots().map(programs))?;
    must_be_one(joined.results.iter().map(kernel))?;
    Ok(joined)
}

fn must_be_one(worlds: impl Iterator<Item = String>) -> Result<(), String> {
    let worlds: Vec<_> = worlds.collect::<BTreeSet<_>>().into_iter().collect();
    if worlds.len() <= 1 {
        return Ok(());
    }
    Err(format!("these runs are of different kernels, udevs or kmods: {}", worlds.join("; ")))
}

fn of_the_guests(measured: &Measured) -> Result<BTreeMap<String, String>, String> {
    let sizes = sizes(measured);
    let (Some(&most), Some(any)) = (sizes.last(), measured.storms().next()) else {
        return Err("the files hold no storm".into());
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
        ("calls.service", calls("service")),
        ("goals", goals::table(measured, most)),
        ("ratios", side_by_side::ratios(measured)),
        ("figures", tables.collect::<Vec<_>>().join("\n")),
        ("boots", boots::table(measured)),
        ("daemon", daemon::table(measured, &sizes)),
    ];
    Ok(places.map(|(name, text)| (name.to_string(), text.trim_end().to_string())).into())
}

/// How many turns each way had: a number, or the least and the most.
fn rounds(measured: &Measured) -> String {
    let mut turns: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    for result in measured.storms() {
        *turns.entry((&result.scenario, result.cpus)).or_default() += 1;
    }
    let [least, most] = [turns.values().min(), turns.values().max()].map(|n| n.copied().unwrap_or(0));
    if least == most { format!("{least}") } else { format!("{least} to {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Boot;

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

    #[test]
    fn a_debian_that_boots_has_an_udev_of_its_own_but_no_kernel() {
        let boot = |udev: &str, kernel| {
            let mut measured = run("boot-stock", kernel);
            measured.results[0].udev = udev.into();
            measured.results[0].boot = Some(Boot::default());
            measured
        };
        let beside = |boots: [Measured; 2]| joined(&[&[run("stock", "6.1")], &boots[..]].concat());
        let both = beside([boot("252", "6.1"), boot("252", "6.1")]).unwrap();
        assert_eq!((rounds(&both), sizes(&both)), ("1".into(), vec![8]), "boots are no storms");
        assert!(beside([boot("252", "6.1"), boot("257", "6.1")]).unwrap_err().contains("udev 257"));
        assert!(beside([boot("252", "6.12"), boot("252", "6.12")]).unwrap_err().contains("6.12"));
    }
}
