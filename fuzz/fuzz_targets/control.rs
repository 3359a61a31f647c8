// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a message of a client: an order or an error reply, and never anything else.
#![no_main]

use addonce::control::protocol::Call;
use addonce::escape::{escape, unescape};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(Err(reply)) = serde_json::from_slice::<Call>(bytes).ok().map(Call::order) {
        assert!(reply.error.is_some());
    }
    assert_eq!(unescape(&escape(bytes)).as_deref(), Some(bytes));
});
