//! Names as numbers. Stable for ever, since saved baselines hold them, and salted, so that an agent cannot
//! choose a new name that looks like one it has used before.

const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

/// A number for `text`; equal texts give equal numbers under one salt.
pub(super) fn of(salt: u64, text: &str) -> u64 {
    of_bytes(salt, text.as_bytes())
}

/// [`of`] for bytes.
pub(super) fn of_bytes(salt: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(salt ^ (bytes.len() as u64).wrapping_mul(ODD));
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        hash = fold(hash ^ word);
    }
    let tail = words.remainder().iter().fold(1, |tail: u64, byte| (tail << 8) | u64::from(*byte));
    mix(fold(hash ^ tail))
}

/// A number for what `text` has in common with its like: `tickets/4711` and `tickets/4712` give the same.
/// A run of letters and digits that holds a digit is an id; only that there is one counts.
pub(super) fn template(salt: u64, text: &str) -> u64 {
    let (mut hash, mut run, mut is_id) = (salt, 0_u64, false);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte >= 0x80 {
            run = (run ^ u64::from(byte)).wrapping_mul(ODD).rotate_left(23);
            is_id |= byte.is_ascii_digit();
        } else {
            hash = fold(hash ^ if is_id { 1 } else { run });
            hash = hash.wrapping_add(u64::from(byte)).wrapping_mul(ODD);
            (run, is_id) = (0, false);
        }
    }
    mix(fold(hash ^ if is_id { 1 } else { run }))
}

/// Both, in this order.
pub(super) fn pair(a: u64, b: u64) -> u64 {
    mix(fold(a) ^ b.wrapping_mul(ODD))
}

fn fold(word: u64) -> u64 {
    let word = word.wrapping_mul(ODD);
    (word ^ (word >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_alike_and_names_are_not() {
        let same = |a, b| template(7, a) == template(7, b);
        assert!(same("tickets/4711", "tickets/12"));
        assert!(same(
            "s3://b/550e8400-e29b-41d4-a716-446655440000",
            "s3://b/00000000-0000-1111-2222-abcdef123456"
        ));
        assert!(!same("tickets/4711", "users/4711"));
        assert!(!same("tickets", "tickets/1"));
        assert!(!same("shop.orders", "shop.users"));
        assert_ne!(of(1, "a"), of(2, "a"));
        assert_ne!(of(1, "a"), of(1, "a\0"));
        assert_ne!(of(1, "12345678"), of(1, "12345678\0\0\0\0\0\0\0\0"));
        assert_ne!(pair(1, 2), pair(2, 1));
    }
}
