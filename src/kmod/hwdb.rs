// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Hwdb: module policy, as distributions and administrators write it
//!
//! Owns the way from hwdb.bin to a [`Policy`]: the properties `ADDONCE`, `ADDONCE_UNLESS` and
//! `ADDONCE_BACKOFF_SEC` under the keys `addonce:module:NAME` and `addonce:modalias:MODALIAS`. What a modalias says
//! goes over what its module says. Without hwdb.bin, or without the feature `udev`, the table of this file holds:
//! the entries of hwdb/60-addonce.hwdb. Promises that a property that does not parse is named once and skipped.
//!
//! libudev maps the file when it is opened, so a changed hwdb takes a new [`Policies`].

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::policy::set;
use crate::once::Policy;

/// The properties that make up a policy.
const PROPERTIES: [&str; 3] = ["ADDONCE", "ADDONCE_UNLESS", "ADDONCE_BACKOFF_SEC"];

/// What holds where there is no hwdb: module, property, value.
///
/// A cpufreq driver cannot come in while another one is registered (`cpufreq_register_driver()` returns -EEXIST, and
/// some ask even before), and policy0 exists only while one is: so this rules out nothing that could have come in.
const DEFAULTS: [(&str, &str, &str); 4] = [
    ("acpi_cpufreq", "ADDONCE_UNLESS", "/sys/devices/system/cpu/cpufreq/policy0"),
    ("p4_clockmod", "ADDONCE_UNLESS", "/sys/devices/system/cpu/cpufreq/policy0"),
    ("pcc_cpufreq", "ADDONCE_UNLESS", "/sys/devices/system/cpu/cpufreq/policy0"),
    ("powernow_k8", "ADDONCE_UNLESS", "/sys/devices/system/cpu/cpufreq/policy0"),
];

/// The policies of all modules.
pub struct Policies {
    source: Source,
    /// Most modules have none of their own: they share this one.
    default: Arc<Policy>,
    /// Complaints already made. Bounded by what hwdb contains, which is why the modalias is no part of them.
    complaints: RefCell<HashSet<String>>,
}

enum Source {
    #[cfg(feature = "udev")]
    Hwdb(udev::Hwdb),
    Defaults,
}

impl Default for Policies {
    fn default() -> Self {
        Self::open()
    }
}

impl Policies {
    /// Opens hwdb.bin as it is now, or falls back to the built-in table.
    pub fn open() -> Self {
        Self::over(Source::open())
    }

    fn over(source: Source) -> Self {
        Self { source, default: Arc::default(), complaints: RefCell::default() }
    }

    /// hwdb's word on a module, asked for by a modalias if there is one. A modalias that is not UTF-8 cannot be
    /// matched by hwdb and is left out.
    pub fn lookup(&self, module: &str, modalias: Option<&[u8]>) -> Arc<Policy> {
        let mut policy = Policy::default();
        self.apply(&mut policy, module, &format!("addonce:module:{module}"));
        if let Some(modalias) = modalias.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
            self.apply(&mut policy, module, &format!("addonce:modalias:{modalias}"));
        }
        if policy == *self.default { Arc::clone(&self.default) } else { Arc::new(policy) }
    }

    fn apply(&self, policy: &mut Policy, module: &str, key: &str) {
        // libudev takes C strings, and the crate panics on a NUL within.
        if key.contains('\0') {
            return;
        }
        for property in PROPERTIES {
            let Some(value) = self.source.get(key, property) else { continue };
            if let Err(complaint) = set(policy, property, &value) {
                let complaint = format!("hwdb: {module}: {complaint}");
                if self.complaints.borrow_mut().insert(complaint.clone()) {
                    log::warn!("{complaint}");
                }
            }
        }
    }
}

impl Source {
    #[cfg(feature = "udev")]
    fn open() -> Self {
        udev::Hwdb::new().map_or_else(
            |error| {
                log::debug!("hwdb: {error}: the built-in policies hold");
                Source::Defaults
            },
            Source::Hwdb,
        )
    }

    #[cfg(not(feature = "udev"))]
    fn open() -> Self {
        Source::Defaults
    }

    /// One property, copied at once: libudev frees it with the next query.
    fn get(&self, key: &str, property: &str) -> Option<String> {
        match self {
            #[cfg(feature = "udev")]
            Source::Hwdb(hwdb) => {
                hwdb.query_one(key, property).map(|value| value.to_string_lossy().into_owned())
            }
            Source::Defaults => {
                let module = key.strip_prefix("addonce:module:")?;
                let entry = DEFAULTS.iter().find(|entry| entry.0 == module && entry.1 == property);
                entry.map(|entry| entry.2.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn without_hwdb_a_second_cpufreq_driver_is_ruled_out_while_one_is_active() {
        let policies = Policies::over(Source::Defaults);
        for module in ["acpi_cpufreq", "pcc_cpufreq"] {
            let policy = policies.lookup(module, Some(b"cpu:type:x86"));
            assert_eq!(policy.unless.as_deref(), Some(Path::new("/sys/devices/system/cpu/cpufreq/policy0")));
        }
    }

    #[test]
    fn modules_that_nobody_wrote_about_share_the_default() {
        let policies = Policies::over(Source::Defaults);
        let (one, other) = (policies.lookup("ext4", None), policies.lookup("xfs", Some(b"fs-xfs")));
        assert!(Arc::ptr_eq(&one, &other) && *one == Policy::default());
    }

    #[test]
    fn the_built_in_table_parses() {
        for (module, property, value) in DEFAULTS {
            assert_eq!(set(&mut Policy::default(), property, value), Ok(()), "{module}");
            assert!(PROPERTIES.contains(&property), "{module}");
        }
    }

    #[test]
    fn any_bytes_may_be_asked_for() {
        let policies = Policies::open();
        for modalias in [&b"\xff\xfe"[..], b"a\0b", b"", b"["] {
            assert_eq!(*policies.lookup("addonce_test", Some(modalias)), Policy::default());
        }
        assert_eq!(*policies.lookup("a\0b", None), Policy::default());
    }

    #[test]
    fn the_built_in_table_is_the_shipped_file() {
        let mut shipped = Vec::new();
        let mut modules = Vec::new();
        for line in include_str!("../../hwdb/60-addonce.hwdb").lines() {
            if let Some(module) = line.strip_prefix("addonce:module:") {
                modules.push(module);
            } else if let Some((property, value)) =
                line.strip_prefix(' ').and_then(|line| line.split_once('='))
            {
                shipped.extend(modules.iter().map(|&module| (module, property, value)));
            } else {
                modules.clear();
            }
        }
        assert_eq!(shipped, DEFAULTS);
    }
}
