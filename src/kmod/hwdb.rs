// SPDX-License-Identifier: MIT OR Apache-2.0
//! Module policy, as distributions and administrators write it in hwdb: the properties `ADDONCE`, `ADDONCE_UNLESS` and
//! `ADDONCE_BACKOFF_SEC` under the keys `addonce:module:NAME` and `addonce:modalias:MODALIAS`. What a modalias says goes over
//! what its module says. One that does not parse is named once and left at its default.
//!
//! libudev maps hwdb.bin when it is opened, so a changed one takes a new [`Policies`]. What we ship holds wherever hwdb does not say
//! otherwise; without the feature `udev` that is all there is.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::once::{Backoff, Mode, Policy};

#[cfg(not(feature = "udev"))]
type Hwdb = std::convert::Infallible;
#[cfg(feature = "udev")]
use udev::Hwdb;

/// The source of what distributions compile into hwdb.bin.
pub const SHIPPED: &str = include_str!("../../hwdb/60-addonce.hwdb");

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
        Self { hwdb, ..Self::shipped() }
    }

    /// What we ship.
    pub fn shipped() -> Self {
        Self { hwdb: None, default: Arc::default(), complaints: RefCell::default() }
    }

    /// hwdb's word on a module, asked for by a modalias if there is one.
    pub fn lookup(&self, module: &str, modalias: Option<&[u8]>) -> Arc<Policy> {
        let modalias = modalias.map(|modalias| [b"addonce:modalias:", modalias].concat());
        let keys = [format!("addonce:module:{module}").into_bytes()].into_iter().chain(modalias);
        let mut policy = Policy::default();
        for (name, value) in keys.flat_map(|key| self.properties(&key)) {
            let Err(complaint) = set(&mut policy, &name, &value) else { continue };
            let complaint = format!("hwdb: {module}: {complaint}");
            if self.complaints.borrow_mut().insert(complaint.clone()) {
                log::warn!("{complaint}");
            }
        }
        if policy == *self.default { Arc::clone(&self.default) } else { Arc::new(policy) }
    }

    /// What we ship, and then what hwdb says, which so goes over it: there are databases that were compiled without ours, as in an image.
    fn properties(&self, key: &[u8]) -> Vec<(String, String)> {
        // In each paragraph keys come before properties, and none of them has wildcards.
        let is_meant = |paragraph: &&str| paragraph.lines().any(|line| line.as_bytes() == key);
        let lines = SHIPPED.split("\n\n").find(is_meant).into_iter().flat_map(str::lines);
        let shipped = lines.filter_map(|line| line.strip_prefix(' ')?.split_once('='));
        let shipped = shipped.map(|(name, value)| (name.to_owned(), value.to_owned()));
        match &self.hwdb {
            // libudev takes C strings, and the crate panics on a NUL within.
            #[cfg(feature = "udev")]
            Some(hwdb) if !key.contains(&0) => {
                use std::ffi::OsStr;
                use std::os::unix::ffi::OsStrExt;
                let text = |text: &OsStr| text.to_string_lossy().into_owned();
                let found = hwdb
                    .query(OsStr::from_bytes(key))
                    .map(|property| (text(property.name()), text(property.value())));
                shipped.chain(found).collect()
            }
            _ => shipped.collect(),
        }
    }
}

/// Takes one property of hwdb. Keys of others are no error: several programs share a hwdb entry.
/// The error names the property, the value and the forms it may have.
pub fn set(policy: &mut Policy, key: &str, value: &str) -> Result<(), String> {
    let expected = |what: &str| format!("{key}={value}: expected {what}");
    match key {
        "ADDONCE" => {
            policy.mode = match value {
                "once" => Mode::Once,
                "always" => Mode::Always,
                "never" => Mode::Never,
                _ => return Err(expected("once, always or never")),
            }
        }
        "ADDONCE_UNLESS" if !value.starts_with('/') => return Err(expected("an absolute path")),
        "ADDONCE_UNLESS" => policy.unless = Some(value.into()),
        "ADDONCE_BACKOFF_SEC" => {
            let forms = "MIN-MAX in whole seconds, MIN not above MAX and MAX not above 4294967295";
            policy.backoff = parse_backoff(value).ok_or_else(|| expected(forms))?;
        }
        _ => {}
    }
    Ok(())
}

fn parse_backoff(value: &str) -> Option<Backoff> {
    let seconds = |text: &str| Some(Duration::from_secs(text.parse::<u32>().ok()?.into()));
    let (min, max) = value.split_once('-')?;
    let backoff = Backoff { min: seconds(min)?, max: seconds(max)? };
    (backoff.min <= backoff.max).then_some(backoff)
}
