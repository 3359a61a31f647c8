// SPDX-License-Identifier: MIT OR Apache-2.0
//! What several test programs share; each uses a part of it.
#![allow(dead_code)]

pub mod fixture;
pub mod namespace;
pub mod running;
pub mod tool;
