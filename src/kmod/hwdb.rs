// SPDX-License-Identifier: MIT OR Apache-2.0
//! Module policy, as distributions and administrators write it in hwdb: the properties `ADDONCE`, `ADDONCE_UNLESS` and
//! `ADDONCE_BACKOFF_SEC` under the keys `addonce:module:NAME` and `addonce:modalias:MODALIAS`. What a modalias says goes over
//! what its module says. One that does not parse is named once and left at its default, so a typing error costs one property,
//! not the policy.
//!
//! libudev maps hwdb.bin when it is opened, so a changed one takes a new [`Policies`]. Where there is none, or without the feature
//! `udev`, what we ship holds.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::once::{Backoff, Mode, Policy};

#[cfg(not(feature = "udev"))]
type Hwdb = std::convert::Infallible;
#[cfg(feature = "udev")]
use udev::Hwdb;

/// The properties that make up a policy.
const PROPERTIES: [&str; 3] = ["ADDONCE", "ADDONCE_UNLESS", "ADDONCE_BACKOFF_SEC"];

/// The source of what distributions compile into hwdb.bin.
const SHIPPED: &str = include_str!("../../hwdb/60-addonce.hwdb");

/// The policies of all modules.
pub struct Policies {
    hwdb: Option<Hwdb>,
    /// Most modules have none of their own: they share this one.
    default: Arc<Policy>,
    /// Complaints already made. Bounded by what hwdb contains, which is why the modalias is no part of them.
    complaints: RefCell<HashSet<String>>,
}

impl Policies {
    /// Opens hwdb.bin as it is now.
    pub fn open() -> Self {
        #[cfg(not(feature = "udev"))]
        let hwdb = None;
        #[cfg(feature = "udev")]
        let hwdb = Hwdb::new().inspect_err(|error| log::debug!("hwdb: {error}: what we ship holds")).ok();
        Self::over(hwdb)
    }

    fn over(hwdb: Option<Hwdb>) -> Self {
        Self { hwdb, default: Arc::default(), complaints: RefCell::default() }
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
            let value = match &self.hwdb {
                Some(hwdb) => query(hwdb, key, property),
                None => shipped(key, property),
            };
            let Some(value) = value else { continue };
            if let Err(complaint) = set(policy, property, &value) {
                let complaint = format!("hwdb: {module}: {complaint}");
                if self.complaints.borrow_mut().insert(complaint.clone()) {
                    log::warn!("{complaint}");
                }
            }
        }
    }
}

/// One property, copied at once: libudev frees it with the next query.
#[cfg(feature = "udev")]
fn query(hwdb: &Hwdb, key: &str, property: &str) -> Option<String> {
    hwdb.query_one(key, property).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(not(feature = "udev"))]
fn query(hwdb: &Hwdb, _: &str, _: &str) -> Option<String> {
    match *hwdb {}
}

/// The same of the shipped source, whose keys have no wildcards: in each of its paragraphs keys come before properties.
fn shipped(key: &str, property: &str) -> Option<String> {
    let paragraph = SHIPPED.split("\n\n").find(|paragraph| paragraph.lines().any(|line| line == key))?;
    let properties = paragraph.lines().filter_map(|line| line.strip_prefix(' ')?.split_once('='));
    properties.filter(|(name, _)| *name == property).map(|(_, value)| value.to_owned()).next()
}

/// Takes one property of hwdb. Keys of others are no error: several programs share a hwdb entry.
///
/// # Errors
/// A sentence that names the property, the value and the forms it may have.
pub fn set(policy: &mut Policy, key: &str, value: &str) -> Result<(), String> {
    match key {
        "ADDONCE" => policy.mode = parse_mode(value)?,
        "ADDONCE_UNLESS" => policy.unless = Some(parse_unless(value)?),
        "ADDONCE_BACKOFF_SEC" => policy.backoff = parse_backoff(value)?,
        _ => {}
    }
    Ok(())
}

fn parse_mode(value: &str) -> Result<Mode, String> {
    match value {
        "once" => Ok(Mode::Once),
        "always" => Ok(Mode::Always),
        "never" => Ok(Mode::Never),
        _ => Err(format!("ADDONCE={value}: expected once, always or never")),
    }
}

fn parse_unless(value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("ADDONCE_UNLESS={value}: expected an absolute path"))
    }
}

fn parse_backoff(value: &str) -> Result<Backoff, String> {
    let seconds = |text: &str| text.parse::<u32>().ok().map(|s| Duration::from_secs(s.into()));
    value
        .split_once('-')
        .and_then(|(min, max)| Some(Backoff { min: seconds(min)?, max: seconds(max)? }))
        .filter(|backoff| backoff.min <= backoff.max)
        .ok_or_else(|| {
            format!("ADDONCE_BACKOFF_SEC={value}: expected MIN-MAX in whole seconds, MIN not above MAX")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn without_hwdb_a_second_cpufreq_driver_is_ruled_out_while_one_is_active() {
        let policies = Policies::over(None);
        for module in ["acpi_cpufreq", "p4_clockmod", "pcc_cpufreq", "powernow_k8"] {
            let policy = policies.lookup(module, Some(b"cpu:type:x86"));
            assert_eq!(policy.unless.as_deref(), Some(Path::new("/sys/devices/system/cpu/cpufreq/policy0")));
        }
        assert!(policies.complaints.borrow().is_empty());
    }

    #[test]
    fn modules_that_nobody_wrote_about_share_the_default() {
        let policies = Policies::over(None);
        let (one, other) = (policies.lookup("ext4", None), policies.lookup("xfs", Some(b"fs-xfs")));
        assert!(Arc::ptr_eq(&one, &other) && *one == Policy::default());
    }

    #[test]
    fn every_key_that_we_ship_is_one_module() {
        let keys = SHIPPED.lines().filter(|line| line.starts_with("addonce:"));
        for name in keys.map(|key| key.strip_prefix("addonce:module:").expect("a module's")) {
            assert!(!name.contains(['*', '?', '[']), "{name}");
            assert_ne!(*Policies::over(None).lookup(name, None), Policy::default(), "{name}");
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
}
