// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Plot: a storm as a picture
//!
//! One pure function from a [`Timeline`] to the text of an SVG file, [`draw`]: above, how much was asked and how much
//! of it was duplicates; below, a bar for each module.
//!
//! | file | owns |
//! |---|---|
//! | [`timeline`] | what is drawn, as `io.addonce.Storm` replies it |
//! | [`scale`] | values to places, and round ticks |
//! | [`svg`] | elements, and the escaping of what is written in them |
//! | [`words`] | how durations, counts and names are written |
//! | [`page`] | where things are, and how they look |
//! | [`rate`] | requests and duplicates over time |
//! | [`bars`] | a row for each module |
//! | [`legend`] | what the shapes mean |
//! | [`storm`] | title and grid, and all of the above put together |

pub mod bars;
pub mod legend;
pub mod page;
pub mod rate;
pub mod scale;
pub mod storm;
pub mod svg;
pub mod timeline;
pub mod words;

pub use storm::draw;
pub use timeline::{Reply, Timeline};
