// SPDX-License-Identifier: MIT OR Apache-2.0
//! # Cut: one string after the other out of a datagram
//!
//! Owns the search for the NUL bytes that end a datagram's strings. A storm's datagrams are a handful of short strings and
//! one long one, so this is made for both. Everything borrows; no bytes make it panic.

/// Cuts at the first NUL byte, which belongs to neither side.
#[inline(always)]
pub fn cut(bytes: &[u8]) -> (&[u8], &[u8]) {
    match first_nul(bytes) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// Most strings are short: setting out for a long one, as memchr does, takes longer than looking at a few words.
#[inline(always)]
fn first_nul(bytes: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let words = bytes.chunks_exact(8).take(4).map(|word| word.try_into().expect("8 bytes"));
    for (number, word) in words.enumerate() {
        let word = u64::from_le_bytes(word);
        // The lowest bit set marks the first NUL; a borrow makes marks of other bytes only behind it.
        let nul = word.wrapping_sub(EACH) & !word & (EACH << 7);
        if nul != 0 {
            return Some(8 * number + nul.trailing_zeros() as usize / 8);
        }
    }
    let looked_at = 8 * (bytes.len() / 8).min(4);
    memchr::memchr(0, &bytes[looked_at..]).map(|end| looked_at + end)
}

/// Cuts at the first NUL byte what has to be a number.
#[inline(always)]
pub fn cut_number(bytes: &[u8]) -> (Option<u64>, &[u8]) {
    let (mut read, mut digits) = (0, 0);
    // No number of so many digits is too large.
    while let Some(digit @ b'0'..=b'9') = bytes.get(digits).filter(|_| digits < 19) {
        read = 10 * read + u64::from(digit - b'0');
        digits += 1;
    }
    if digits > 0 && bytes.get(digits) == Some(&0) {
        return (Some(read), &bytes[digits + 1..]);
    }
    let (value, next) = cut(bytes);
    (number(value), next)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fast_cut_agrees_with_the_plain_one(
            bytes in proptest::collection::vec(prop_oneof![9 => 1u8.., 1 => 127u8..130, 1 => Just(0)], 0..150)
        ) {
            let mut plain = bytes.splitn(2, |&byte| byte == 0);
            prop_assert_eq!(cut(&bytes), (plain.next().unwrap(), plain.next().unwrap_or_default()));
        }

        #[test]
        fn the_fast_number_agrees_with_the_plain_one(bytes in "0{0,3}[0-9]{0,22}[x-z]?[0-9]?\\PC?\0?[0-9]?") {
            let (value, next) = cut(bytes.as_bytes());
            prop_assert_eq!(cut_number(bytes.as_bytes()), (number(value), next));
        }
    }
}
