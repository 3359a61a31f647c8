// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Timeline: what is drawn
//!
//! Owns the shape in which a storm is read: the types `Timeline` and `Bar` of `io.addonce`, from the daemon or from a
//! file. Promises that every string in it is printable ASCII, as the contract says, whoever wrote it; numbers are
//! believed to be anything, and who draws them keeps them on the page.

use std::fmt::Write;
use std::ops::Deref;

use serde::{Deserialize, Deserializer};

/// What `Storm` replies.
#[derive(Clone, Debug, Deserialize)]
pub struct Reply {
    /// The last storm, or none. It has to be said that there is none: any other JSON would read as such a reply.
    #[serde(deserialize_with = "said")]
    pub storm: Option<Timeline>,
}

/// A storm. All times are milliseconds from the first request on.
#[derive(Clone, Debug, Deserialize)]
pub struct Timeline {
    /// How long ago the first request was.
    pub began_ms_ago: u64,
    /// From the first request to the last landing, or until now.
    pub lasted_ms: u64,
    /// Nothing is in the air any more.
    pub over: bool,
    /// How long a bin is.
    pub bin_ms: u64,
    /// Requests, bin by bin.
    pub requests: Vec<u64>,
    /// Those of them that were duplicates.
    pub duplicates: Vec<u64>,
    /// The modules.
    pub bars: Vec<Bar>,
    /// How many modules more there were.
    #[serde(default)]
    pub bars_left_out: u64,
}

/// A module in a storm.
#[derive(Clone, Debug, Deserialize)]
pub struct Bar {
    /// Its name.
    pub module: Plain,
    /// What became of it.
    pub state: State,
    /// The errno's name, where it failed.
    pub error: Option<Plain>,
    /// When it was asked for first.
    pub asked_ms: u64,
    /// When its load began.
    pub start_ms: Option<u64>,
    /// When it landed.
    pub end_ms: Option<u64>,
    /// The alias by which it was asked for.
    pub alias: Plain,
    /// The device that asked.
    pub devpath: Option<Plain>,
    /// The module that needs it, where no alias named it.
    pub pulled_in_by: Option<Plain>,
    /// How many requests its load served.
    pub asked: u64,
}

/// What became of a module.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is in the kernel.
    Live,
    /// It was refused.
    Failed,
    /// It waits or loads.
    InAir,
}

/// Text from outside, as printable ASCII: every other byte stands as `\xNN`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
pub struct Plain(String);

impl From<String> for Plain {
    fn from(text: String) -> Self {
        let mut plain = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                // A backslash stays: it is the daemon's own escape.
                b' '..=b'~' => plain.push(byte.into()),
                _ => write!(plain, "\\x{byte:02x}").expect("writing to a string does not fail"),
            }
        }
        Self(plain)
    }
}

impl Deref for Plain {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Timeline {
    /// How many of its modules came to this.
    pub fn count(&self, state: State) -> usize {
        self.bars.iter().filter(|bar| bar.state == state).count()
    }

    /// The last moment that anything is known of.
    pub fn end_ms(&self) -> u64 {
        let bars = self.bars.iter().flat_map(|bar| [Some(bar.asked_ms), bar.start_ms, bar.end_ms]);
        bars.flatten().fold(self.lasted_ms, u64::max)
    }
}

fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Timeline>, D::Error> {
    Option::deserialize(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_from_outside_is_printable_ascii() {
        assert_eq!(&*Plain::from("a\u{202e}b\0\n\\x5c<".to_owned()), "a\\xe2\\x80\\xaeb\\x00\\x0a\\x5c<");
    }

    #[test]
    fn no_storm_has_to_be_said() {
        let read = serde_json::from_str::<Reply>;
        assert!(read(r#"{"storm": null}"#).expect("a reply").storm.is_none());
        assert!(read(r#"{"settled": true}"#).is_err());
    }

    #[test]
    fn what_may_be_missing_may_be_left_out_or_null() {
        let bar = r#"{"module": "a", "state": "in_air", "asked_ms": 7, "start_ms": null, "alias": "b", "asked": 1}"#;
        let bar: Bar = serde_json::from_str(bar).expect("a bar");
        assert_eq!((bar.state, bar.start_ms, bar.end_ms), (State::InAir, None, None));
    }
}
