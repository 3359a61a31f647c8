// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a datagram of the kernel and of udevd: what is accepted borrows from it and keeps what the type promises.
#![no_main]

use addonce::uevent::message::{parse, parse_udev};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let within = |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr());
    for uevent in [parse(bytes), parse_udev(bytes)].into_iter().flatten() {
        assert!(uevent.devpath.is_empty() || within(uevent.devpath));
        assert!(uevent.modaliases().all(|modalias| !modalias.is_empty() && !modalias.contains(&0)));
        assert!(uevent.module().is_none_or(|name| !name.is_empty() && !name.contains(&b'/')));
    }
});
