// SPDX-License-Identifier: MIT OR Apache-2.0
//! An order in which the modules of a storm can be inserted one after the other.
//!
//! Owns what "knows them" means for whoever inserts without asking: every module that was tried, in the order in which
//! they came in or, those that never did, first failed. It promises that a module stands behind all it needs: an insert
//! call succeeds only when what it needs has succeeded before.

use crate::trace::Call;
use std::collections::{BTreeMap, BTreeSet};

pub fn of(calls: &[Call]) -> Vec<String> {
    let mut ends: BTreeMap<&str, f64> = BTreeMap::new();
    let mut live: BTreeSet<&str> = BTreeSet::new();
    let mut returned: Vec<_> = calls.iter().filter_map(|call| Some((call.returned?, call))).collect();
    returned.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (at, call) in returned {
        let module = call.module.as_str();
        if call.errno == Some(0) && live.insert(module) {
            ends.insert(module, at);
        } else {
            ends.entry(module).or_insert(at);
        }
    }
    let mut order: Vec<_> = ends.into_iter().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    order.into_iter().map(|(module, _)| module.into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(module: &str, errno: i32, returned: f64) -> Call {
        Call {
            module: module.into(),
            caller: "x".into(),
            errno: Some(errno),
            called: 0.0,
            returned: Some(returned),
        }
    }

    #[test]
    fn a_module_stands_where_it_came_in_or_where_it_failed_first() {
        let mut calls = vec![
            call("usbcore", 16, 1.0),
            call("acpi_cpufreq", 19, 1.5),
            call("xhci_pci", 0, 3.0),
            call("usbcore", 0, 2.0),
            call("usbcore", 17, 4.0),
            call("acpi_cpufreq", 19, 5.0),
        ];
        calls.push(Call { returned: None, errno: None, ..call("ext4", 0, 0.0) });
        assert_eq!(of(&calls), ["acpi_cpufreq", "usbcore", "xhci_pci"]);
    }
}
