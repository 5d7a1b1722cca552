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
    if bytes.len() > 8 {
        for word in bytes.chunks_exact(8) {
            let word = word.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            hash = fold(hash ^ word);
        }
    }
    mix(fold(hash ^ last_word(bytes)))
}

/// The last 8 bytes; or all there are, each at least once. With the length that tells texts apart.
fn last_word(bytes: &[u8]) -> u64 {
    if let Some(last) = bytes.last_chunk() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

/// What a byte is to [`template`]: between names, part of one, or a digit.
const BETWEEN: u8 = 0;
const PART: u8 = 1;
const DIGIT: u8 = 3;
const CLASSES: [u8; 256] = {
    let mut classes = [BETWEEN; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "0 to 255, by the compiler"
        )]
        {
            let b = byte as u8;
            classes[byte] = match b {
                b'0'..=b'9' => DIGIT,
                _ if b.is_ascii_alphabetic() || b >= 0x80 => PART,
                _ => BETWEEN,
            };
        }
        byte += 1;
    }
    classes
};

/// A number for what `text` has in common with its like: `tickets/4711` and `tickets/4712` give the same.
/// A run of letters and digits that holds a digit is an id; only that there is one counts.
pub(super) fn template(salt: u64, text: &str) -> u64 {
    let (mut hash, mut rest) = (salt, text.as_bytes());
    loop {
        let mut seen = BETWEEN;
        let end = rest.iter().position(|byte| {
            let class = CLASSES.get(usize::from(*byte)).copied().unwrap_or(BETWEEN);
            seen |= class;
            class == BETWEEN
        });
        let (run, after) = rest.split_at_checked(end.unwrap_or(rest.len())).unwrap_or((rest, &[]));
        hash = fold(hash ^ if seen == DIGIT { 1 } else { of_bytes(salt, run) });
        let Some((between, more)) = after.split_first() else {
            return mix(hash);
        };
        hash = hash.wrapping_add(u64::from(*between)).wrapping_mul(ODD);
        rest = more;
    }
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
        for length in 0..40 {
            // Every byte counts, wherever it is.
            let text = "x".repeat(length);
            for at in 0..length {
                let other: String = (0..length).map(|i| if i == at { 'y' } else { 'x' }).collect();
                assert_ne!(of(1, &text), of(1, &other), "{length} {at}");
            }
        }
        assert_ne!(of(1, "12345678"), of(1, "12345678\0\0\0\0\0\0\0\0"));
        assert_ne!(pair(1, 2), pair(2, 1));
    }
}
