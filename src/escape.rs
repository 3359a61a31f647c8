// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes as text. Modaliases and device paths are bytes; in logs, JSON and captures printable ASCII stands as it is, a backslash and
//! every other byte as `\xNN`. What was escaped reads back exactly.

use std::fmt::Write;

/// Bytes as text.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\x5c"),
            b' '..=b'~' => text.push(byte.into()),
            _ => write!(text, "\\x{byte:02x}").expect("writing to a string does not fail"),
        }
    }
    text
}

/// The head of such a text, for a line that people read: a CPU's modalias is a thousand bytes and more.
pub fn head(text: &str, width: usize) -> String {
    match text.get(..width) {
        Some(head) if head.len() < text.len() => format!("{head}..."),
        _ => text.to_owned(),
    }
}

/// The bytes of such a text; none where a backslash is not followed by `x` and two hexadecimal digits.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.strip_prefix('x')?.get(..2).filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[3..]);
    }
    Some(bytes)
}
