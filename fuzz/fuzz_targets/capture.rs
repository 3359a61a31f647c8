// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a capture: what is read can be written, and reads back the same.
#![no_main]

use addonce::uevent::capture::{Reader, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = Reader::new(bytes) else { return };
    let records: Vec<_> = reader.map_while(Result::ok).collect();
    let mut written = Vec::new();
    let mut writer = Writer::new(&mut written).expect("memory");
    for record in &records {
        writer.write(record.at, &record.datagram).expect("memory");
    }
    let again = Reader::new(&written[..]).expect("what was written reads");
    let again: Vec<_> = again.collect::<Result<_, _>>().expect("what was written reads");
    assert_eq!(again.len(), records.len());
    assert!(again.iter().zip(&records).all(|(one, other)| one.datagram == other.datagram));
});
