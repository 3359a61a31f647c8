// SPDX-License-Identifier: MIT OR Apache-2.0
//! What several test programs share; each uses a part of it.
#![allow(dead_code)]

pub mod devices;
pub mod fake;
pub mod figures;
pub mod fixture;
pub mod flood;
pub mod interface;
pub mod left_out;
pub mod many;
pub mod modules;
pub mod namespace;
pub mod proc;
pub mod running;
pub mod sender;
pub mod slow;
pub mod socket;
pub mod supervisor;
pub mod tool;
pub mod udev;
