// SPDX-License-Identifier: MIT OR Apache-2.0
//! The properties `ADDONCE`, `ADDONCE_UNLESS` and `ADDONCE_BACKOFF_SEC`, as they are written in hwdb under `addonce:module:NAME` and
//! `addonce:modalias:MODALIAS`. One that does not parse is named and left at its default, so a typing error costs one property,
//! not the policy.

use std::path::PathBuf;
use std::time::Duration;

use crate::once::{Backoff, Mode, Policy};

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

    #[test]
    fn a_property_that_does_not_parse_is_named_and_left_alone() {
        let mut policy = Policy::default();
        for (key, value) in [
            ("ADDONCE", "twice"),
            ("ADDONCE_UNLESS", "sys/module/kvm"),
            ("ADDONCE_BACKOFF_SEC", "9-3"),
            ("ADDONCE_BACKOFF_SEC", "5"),
        ] {
            let error = set(&mut policy, key, value).expect_err(value);
            assert!(error.starts_with(&format!("{key}={value}: expected ")), "{error}");
        }
        assert_eq!(policy, Policy::default());
    }

    #[test]
    fn properties_of_other_programs_are_none_of_ours() {
        let mut policy = Policy::default();
        set(&mut policy, "ID_VENDOR_FROM_DATABASE", "Intel").expect("ignored");
        set(&mut policy, "ADDONCE", "never").expect("known");
        assert_eq!(policy, Policy { mode: Mode::Never, ..Policy::default() });
    }
}
