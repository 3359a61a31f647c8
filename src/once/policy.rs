// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Policy: what hwdb says of one module
//!
//! Owns the meaning of the properties `ADDONCE`, `ADDONCE_UNLESS` and `ADDONCE_BACKOFF_SEC`, as they stand in
//! hwdb under `addonce:module:NAME` and `addonce:modalias:MODALIAS`. Pure: reading hwdb is `kmod::hwdb`'s part.
//! A property that does not parse is named and left at its default, so a typing error in one file costs one
//! property, not the policy.

use std::path::PathBuf;
use std::time::Duration;

/// hwdb's word on one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How requests for the module are taken.
    pub mode: Mode,
    /// The module is ruled out while this path exists.
    pub unless: Option<PathBuf>,
    /// How long a failed module is left alone.
    pub backoff: Backoff,
}

/// How requests for a module are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The once rules hold.
    #[default]
    Once,
    /// Every request is an attempt.
    Always,
    /// Not loaded by addonce.
    Never,
}

/// The wait after a failure: `min`, doubled with every further failure, up to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub min: Duration,
    /// Never longer than this.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after the given number of failures in a row.
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { mode: Mode::Once, unless: None, backoff: Backoff::default() }
    }
}

impl Policy {
    /// Takes one property of hwdb. Keys of others are no error: several programs share a hwdb entry.
    ///
    /// # Errors
    /// A sentence that names the property, the value and the forms it may have.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "ADDONCE" => self.mode = parse_mode(value)?,
            "ADDONCE_UNLESS" => self.unless = Some(parse_unless(value)?),
            "ADDONCE_BACKOFF_SEC" => self.backoff = parse_backoff(value)?,
            _ => {}
        }
        Ok(())
    }
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

    #[test]
    fn the_backoff_doubles_from_min_to_max() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = (1..=8).map(|n| backoff.after(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.after(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn a_property_that_does_not_parse_is_named_and_left_alone() {
        let mut policy = Policy::default();
        for (key, value) in [
            ("ADDONCE", "twice"),
            ("ADDONCE_UNLESS", "sys/module/kvm"),
            ("ADDONCE_BACKOFF_SEC", "9-3"),
            ("ADDONCE_BACKOFF_SEC", "5"),
        ] {
            let error = policy.set(key, value).expect_err(value);
            assert!(error.starts_with(&format!("{key}={value}: expected ")), "{error}");
        }
        assert_eq!(policy, Policy::default());
    }

    #[test]
    fn properties_of_other_programs_are_none_of_ours() {
        let mut policy = Policy::default();
        policy.set("ID_VENDOR_FROM_DATABASE", "Intel").expect("ignored");
        policy.set("ADDONCE", "never").expect("known");
        assert_eq!(policy, Policy { mode: Mode::Never, ..Policy::default() });
    }
}
