//! The hash chain of the action log: whoever changes, removes, reorders or cuts off an entry breaks it.
//!
//! The hash of an entry is SHA-256 over the hash of the entry before it (32 bytes; zeros for the first) and
//! then `seq`, `at` (microseconds), `kind`, `subject`, `agent` and `body`, each as UTF-8 text preceded by
//! its length in bytes as an 8-byte big-endian number. Anything with SHA-256 can check it; `docs/action-log.md`
//! shows how in ten lines of Python.

use crate::{event::Entry, fingerprint::hex, time::Timestamp};
use sha2::{Digest, Sha256};

/// A link's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// The hash of an entry that follows one with the hash `before`.
pub fn link(
    before: &Hash,
    seq: u64,
    at: Timestamp,
    kind: &str,
    subject: &str,
    agent: &str,
    body: &str,
) -> Hash {
    let mut sha = Sha256::new();
    sha.update(before.0);
    for part in [&*seq.to_string(), &*at.as_micros().to_string(), kind, subject, agent, body] {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    }
    Hash(sha.finalize().into())
}

/// What is wrong with a log, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An entry's content does not give its hash.
    #[error("entry {0} was changed: its content does not match its hash")]
    Changed(u64),
    /// Entries are missing in the middle.
    #[error("entries {0} to {1} were removed")]
    Removed(u64, u64),
    /// An entry stands where another should.
    #[error("entry {found} stands where entry {expected} should: entries were reordered or repeated")]
    Reordered {
        /// The number that should follow.
        expected: u64,
        /// The number that does.
        found: u64,
    },
    /// The log ends too early.
    #[error("the log was cut off: it ends at entry {found}, but entry {expected} is on record")]
    Truncated {
        /// The last entry that is known to have been written.
        expected: u64,
        /// The last entry that is there.
        found: u64,
    },
    /// The last entry is another one than was written.
    #[error("entry {0} is not the one that was written: its hash differs from the recorded one")]
    Replaced(u64),
}

/// Walks a log in order and says where it breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The last entry seen; 0 before the first.
    pub seq: u64,
    /// Its hash; zeros before the first.
    pub hash: Hash,
}

impl Walk {
    /// Takes the next entry.
    ///
    /// # Errors
    /// When it does not continue the chain.
    pub fn step(&mut self, entry: &Entry) -> Result<(), Broken> {
        let expected = self.seq + 1;
        if entry.seq > expected {
            return Err(Broken::Removed(expected, entry.seq - 1));
        }
        if entry.seq < expected {
            return Err(Broken::Reordered { expected, found: entry.seq });
        }
        let hash =
            link(&self.hash, entry.seq, entry.at, &entry.kind, &entry.subject, &entry.agent, &entry.body);
        if hash != entry.hash {
            return Err(Broken::Changed(entry.seq));
        }
        *self = Self { seq: entry.seq, hash };
        Ok(())
    }

    /// Compares the end with what is known to have been written last.
    ///
    /// # Errors
    /// When the log ends earlier, or in another entry.
    pub fn end(&self, head: &Self) -> Result<(), Broken> {
        if self.seq < head.seq {
            return Err(Broken::Truncated { expected: head.seq, found: self.seq });
        }
        if self.seq == head.seq && self.hash != head.hash {
            return Err(Broken::Replaced(self.seq));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(n: u64) -> Vec<Entry> {
        let mut hash = Hash::default();
        (1..=n)
            .map(|seq| {
                let at = Timestamp::from_micros(seq.cast_signed());
                let body = format!("{{\"n\":{seq}}}");
                hash = link(&hash, seq, at, "check", "chk_1", "a", &body);
                Entry {
                    seq,
                    at,
                    kind: "check".into(),
                    subject: "chk_1".into(),
                    agent: "a".into(),
                    body,
                    hash,
                }
            })
            .collect()
    }

    fn walk(log: &[Entry]) -> Result<Walk, Broken> {
        log.iter().try_fold(Walk::default(), |mut walk, entry| walk.step(entry).map(|()| walk))
    }

    #[test]
    fn names_what_was_done_to_the_log() {
        let whole = log(9);
        let head = walk(&whole).unwrap();
        assert_eq!(head.seq, 9);

        let mut changed = whole.clone();
        changed[4].body = "{}".into();
        assert_eq!(walk(&changed), Err(Broken::Changed(5)));

        let mut moved_text = whole.clone();
        moved_text[4].kind = "checkchk".into();
        moved_text[4].subject = "_1".into();
        assert_eq!(walk(&moved_text), Err(Broken::Changed(5)), "lengths bind each part");

        let mut removed = whole.clone();
        removed.drain(3..5);
        assert_eq!(walk(&removed), Err(Broken::Removed(4, 5)));

        let mut reordered = whole.clone();
        reordered.swap(3, 4);
        assert_eq!(walk(&reordered), Err(Broken::Removed(4, 4)));
        let repeated = [&whole[..3], &whole[1..]].concat();
        assert_eq!(walk(&repeated), Err(Broken::Reordered { expected: 4, found: 2 }));

        assert_eq!(walk(&whole[..7]).unwrap().end(&head), Err(Broken::Truncated { expected: 9, found: 7 }));
        let other = Walk { hash: Hash([1; 32]), ..head };
        assert_eq!(head.end(&other), Err(Broken::Replaced(9)));
        assert_eq!(head.end(&head), Ok(()));
    }
}
