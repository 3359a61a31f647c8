// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a datagram: what is accepted borrows from it and keeps what the type promises.
#![no_main]

use addonce::uevent::message::{modalias_of_file, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let within = |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr());
    if let Ok(uevent) = parse(bytes) {
        assert!(uevent.devpath.starts_with(b"/") && within(uevent.devpath));
        assert!(uevent.modalias.is_none_or(|modalias| !modalias.is_empty() && !modalias.contains(&0)));
        assert!(uevent.module().is_none_or(|name| !name.is_empty() && !name.contains(&b'/')));
    }
    assert!(modalias_of_file(bytes).is_none_or(|modalias| within(modalias)));
});
