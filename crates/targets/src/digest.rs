//! A digest over a set of records that does not depend on their order.

use serde::{Deserialize, Serialize};

/// What an approval is bound to: the exact records that an action would touch, as they stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(pub String);

/// Adds up records: BLAKE3 of each, summed, so that the order in which they are found does not matter and a
/// record that is there twice counts twice. Bounded memory, whatever the number.
#[derive(Clone, Debug, Default)]
pub struct RowsDigest {
    sum: [u64; 4],
    rows: u64,
    /// What is hashed, in one piece: of short ones that takes half the time.
    piece: Vec<u8>,
}

impl RowsDigest {
    /// Takes part: the record `row` of `resource`.
    pub fn add(&mut self, resource: &str, row: &[u8]) {
        self.piece.clear();
        // The length keeps the two parts apart.
        self.piece.extend_from_slice(&(resource.len() as u64).to_le_bytes());
        self.piece.extend_from_slice(resource.as_bytes());
        self.piece.extend_from_slice(row);
        let hash = blake3::hash(&self.piece);
        for (lane, bytes) in self.sum.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            let mut word = [0_u8; 8];
            word.copy_from_slice(bytes);
            *lane = lane.wrapping_add(u64::from_le_bytes(word));
        }
        self.rows = self.rows.saturating_add(1);
    }

    /// Takes in what another one has taken in.
    pub fn merge(&mut self, other: &Self) {
        for (lane, more) in self.sum.iter_mut().zip(other.sum) {
            *lane = lane.wrapping_add(more);
        }
        self.rows = self.rows.saturating_add(other.rows);
    }

    /// The digest of all that took part.
    pub fn finish(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.rows.to_le_bytes());
        for lane in self.sum {
            hasher.update(&lane.to_le_bytes());
        }
        Digest(hasher.finalize().to_hex().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let of = |rows: &[(&str, &str)]| {
            let mut digest = RowsDigest::default();
            rows.iter().for_each(|(r, row)| digest.add(r, row.as_bytes()));
            digest.finish()
        };
        assert_eq!(of(&[("a", "1"), ("a", "2")]), of(&[("a", "2"), ("a", "1")]));
        assert_ne!(of(&[("a", "1")]), of(&[("a", "1"), ("a", "1")]));
        assert_ne!(of(&[("a", "1")]), of(&[("b", "1")]));
        assert_ne!(of(&[("ab", "c")]), of(&[("a", "bc")]));
        assert_ne!(of(&[]), of(&[("", "")]));
        let mut halves = [RowsDigest::default(), RowsDigest::default()];
        halves[0].add("a", b"1");
        halves[1].add("a", b"2");
        let [mut whole, half] = halves;
        whole.merge(&half);
        assert_eq!(whole.finish(), of(&[("a", "1"), ("a", "2")]));
    }
}
