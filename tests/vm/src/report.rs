// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report: what was measured, in the places that `docs/PERFORMANCE.in.md` has for it. The same figures are the same text.

use crate::bench::Measured;
use crate::figure::plain;
use crate::machine::Machine;
use crate::result::LabResult;
use crate::side_by_side::{self, CALLS, figure, sizes};
use crate::{benches, boots, daemon, goals, template};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TEMPLATE: &str = include_str!("../../../docs/PERFORMANCE.in.md");

/// `newer` is what was measured with the kernel, udev and kmod of a later release.
pub fn render(measured: &Measured, newer: Option<&Measured>, benches: &Path) -> Result<String, String> {
    let mut figures = benches::tables(benches)?;
    figures.extend(of_the_guests(measured, newer)?);
    template::fill(TEMPLATE, &figures)
}

/// Storms are of one kernel, udev, kmod and QEMU; so are boots, of those in their Debian.
fn must_be_one(measured: &Measured) -> Result<(), String> {
    let world = |result: &LabResult| {
        (
            result.boot.is_some(),
            format!(
                "Linux {}, udev {}, kmod {}, QEMU {}",
                result.kernel, result.udev, result.kmod, result.qemu
            ),
        )
    };
    let worlds: BTreeSet<_> = measured.results.iter().map(world).collect();
    let of = |boots: bool| {
        let worlds: Vec<_> =
            worlds.iter().filter(|(is_boot, _)| *is_boot == boots).map(|(_, world)| &**world).collect();
        if worlds.len() <= 1 {
            return Ok(());
        }
        Err(format!("these runs are of different kernels, udevs, kmods or QEMUs: {}", worlds.join("; ")))
    };
    of(false).and_then(|()| of(true))
}

fn of_the_guests(measured: &Measured, newer: Option<&Measured>) -> Result<BTreeMap<String, String>, String> {
    must_be_one(measured)?;
    newer.map_or(Ok(()), must_be_one)?;
    let without_qemu = |of: &Measured| Machine { qemu: String::new(), ..of.machine.clone() };
    if newer.is_some_and(|newer| without_qemu(newer) != without_qemu(measured)) {
        return Err("these files are of different machines".into());
    }
    let sizes = sizes(measured);
    let (Some(&most), Some(any)) = (sizes.last(), measured.storms().next()) else {
        return Err("the files hold no storm".into());
    };
    let tables = |of: &Measured| {
        let table = |&cpus: &u32| format!("{cpus} CPUs:\n\n{}", side_by_side::figures(of, cpus));
        side_by_side::sizes(of).iter().rev().map(table).collect::<Vec<_>>().join("\n")
    };
    let not_measured = || String::from("Not measured.");
    let calls = |way: &str| plain(figure(measured, way, most, CALLS), 0);
    let guests = |of: &LabResult| {
        let LabResult { kernel, udev, kmod, qemu, .. } = of;
        format!("Linux {kernel}, systemd {udev}, kmod {kmod}, in QEMU {qemu} without KVM")
    };
    let places = [
        ("machine", measured.machine.sentence()),
        ("guests", guests(any)),
        ("commit", measured.commit.clone()),
        ("newer.commit", newer.map_or_else(not_measured, |newer| newer.commit.clone())),
        ("newer.guests", newer.and_then(|newer| newer.storms().next()).map_or_else(not_measured, guests)),
        ("newer.ratios", newer.map_or_else(not_measured, side_by_side::ratios)),
        ("newer.figures", newer.map_or_else(not_measured, tables)),
        ("rounds", rounds(measured)),
        ("most", most.to_string()),
        ("calls.stock", calls("stock")),
        ("calls.service", calls("service")),
        ("goals", goals::table(measured, newer, most)),
        ("ratios", side_by_side::ratios(measured)),
        ("figures", tables(measured)),
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
        for newer in [None, Some(&run("stock", "6.12"))] {
            let mut figures = of_the_guests(&run("stock", "6.1"), newer).unwrap();
            figures.extend(benches::PLACES.map(|name| (name.to_string(), String::new())));
            template::fill(TEMPLATE, &figures).unwrap();
        }
    }

    #[test]
    fn a_file_is_of_one_kernel_and_both_are_of_one_machine() {
        let with = |kernel: &str, boots: bool| {
            let (mut measured, mut other) = (run("stock", "6.1"), run("stock", kernel));
            other.results[0].boot = boots.then(Boot::default);
            measured.results.append(&mut other.results);
            of_the_guests(&measured, None)
        };
        assert_eq!(with("6.1", false).unwrap()["rounds"], "2");
        assert!(with("6.12", false).unwrap_err().contains("6.12"));
        assert_eq!(with("6.12", true).unwrap()["rounds"], "1", "boots are no storms");
        let machine = Machine { cpus: 96, ..Machine::default() };
        let other = Measured { machine, ..run("stock", "6.12") };
        assert!(of_the_guests(&run("stock", "6.1"), Some(&other)).unwrap_err().contains("machines"));
        let machine = Machine { qemu: "10".into(), ..Machine::default() };
        let other = Measured { machine, ..run("stock", "6.12") };
        assert!(
            of_the_guests(&run("stock", "6.1"), Some(&other)).is_ok(),
            "a newer release may need a newer QEMU"
        );
    }
}
