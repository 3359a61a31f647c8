// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a datagram: what is accepted borrows from it and keeps what the type promises. Cut at line ends they are
//! one datagram after the other: what came before changes nothing.
#![no_main]

use addonce::uevent::alike::Alike;
use addonce::uevent::message::{modalias_of_file, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let within = |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr());
    if let Ok(uevent) = parse(bytes) {
        assert!(uevent.devpath.starts_with(b"/") && within(uevent.devpath));
        assert!(uevent.modalias.is_none_or(|modalias| !modalias.is_empty() && !modalias.contains(&0)));
        assert!(uevent.module().is_none_or(|name| !name.is_empty() && !name.contains(&b'/')));
    }
    let mut alike = Alike::default();
    for datagram in bytes.split(|&byte| byte == b'\n') {
        // The second time it is like the one before.
        assert_eq!(alike.parse(datagram), parse(datagram));
        assert_eq!(alike.parse(datagram), parse(datagram));
    }
    assert!(modalias_of_file(bytes).is_none_or(|modalias| within(modalias)));
});
