// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory over time, and what the daemon itself cost: read from what the guest wrote.
//!
//! Owns the section `memory` and the facts `daemon_...` of `guest/init`. It promises that a sample nobody can read is an
//! error. Bounded by the guest's clock: five samples a second.

use crate::raw::Raw;
use serde::{Deserialize, Serialize};

/// Hundredths of a second since the storm began, and MemAvailable in kB.
pub type Sample = (i64, i64);

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// User and system time in hundredths of a second, without the processes that load.
    pub jiffies: i64,
    /// The most memory that was ever resident.
    pub peak_kb: i64,
    /// Of what is resident in the end, that which no file has: the rest is shared with whoever else maps it.
    pub private_kb: i64,
}

impl Daemon {
    /// Nothing if no daemon was there when the storm was over.
    pub fn read(raw: &Raw) -> Result<Option<Self>, String> {
        if raw.fact("daemon_jiffies").is_err() {
            return Ok(None);
        }
        Ok(Some(Self {
            jiffies: raw.number("daemon_jiffies")?,
            peak_kb: raw.number("daemon_peak_kb")?,
            private_kb: raw.number("daemon_private_kb")?,
        }))
    }
}

pub fn samples(raw: &Raw) -> Result<Vec<Sample>, String> {
    raw.section("memory")?.lines().map(sample).collect()
}

fn sample(line: &str) -> Result<Sample, String> {
    let (at, kb) = line.split_once(' ').unwrap_or_default();
    match (at.parse(), kb.parse()) {
        (Ok(at), Ok(kb)) => Ok((at, kb)),
        _ => Err(format!("the guest wrote a sample of its memory that nobody can read: {line}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_time_and_an_amount() {
        assert_eq!(sample("-1 2900000"), Ok((-1, 2_900_000)));
        for unreadable in ["", "20", "20 x", "x 20"] {
            assert!(sample(unreadable).unwrap_err().ends_with(unreadable), "{unreadable}");
        }
    }

    #[test]
    fn a_daemon_that_was_there_is_described_whole_or_not_at_all() {
        let read = |text: &str| Daemon::read(&Raw::parse(&format!("{text}@@done\n")).unwrap());
        assert_eq!(read(""), Ok(None));
        let jiffies = "@@fact daemon_jiffies 30\n";
        let expected = Daemon { jiffies: 30, peak_kb: 5996, private_kb: 928 };
        let memory = "@@fact daemon_peak_kb 5996\n@@fact daemon_private_kb 928\n";
        assert_eq!(read(&format!("{jiffies}{memory}")), Ok(Some(expected)));
        assert!(read(jiffies).is_err());
    }
}
