// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a message of a client: a method, what the service says of itself, or an error, and never anything else.
#![no_main]

use addonce::control::protocol::Call;
use addonce::escape::{escape, unescape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let (call, Err(reply)) = Call::parse(bytes) {
        assert!(reply.error.is_some() || call.method.starts_with("org.varlink.service.Get"));
    }
    assert_eq!(unescape(&escape(bytes)).as_deref(), Some(bytes));
});
