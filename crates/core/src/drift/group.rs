//! What agents of one role have in common: which calls any of them makes.

use super::{
    codec::packed,
    saved::{self, RestoreError},
};

/// Words of the filter; 8,192 bits.
const WORDS: usize = 128;

packed! {
    /// The shared knowledge of a group of agents. About 1 KiB.
    #[derive(Clone, Debug)]
    pub(super) struct Known {
        filter: [u64; WORDS],
        kinds: u32,
        calls: u64,
    }
}

/// The group that an agent belongs to: agents of a role share what is known of their calls, so that a new
/// member's first days are judged by what its colleagues do.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) known: Known,
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl Group {
    /// A group of which nothing is known.
    pub fn new() -> Self {
        Self { known: Known { filter: [0; WORDS], kinds: 0, calls: 0 } }
    }

    /// The saved form.
    pub fn save(&self) -> Vec<u8> {
        saved::save(&self.known)
    }

    /// What [`Group::save`] wrote.
    ///
    /// # Errors
    /// When the bytes are of another version, or damaged.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        saved::restore(bytes).map(|known| Self { known })
    }

    /// How the group sees a kind of call that is new for a member: added decades. Negative when colleagues
    /// make such calls, positive when none of many ever did.
    pub(super) fn stranger(&self, key: u64) -> f32 {
        let known = &self.known;
        if self.contains(key) {
            return -0.5;
        }
        // Half of the filter set: what is not in it is still new, but ever fewer things are.
        if known.calls < 1_000 { 0.0 } else { 0.8 }
    }

    fn places(key: u64) -> [(usize, u64); 2] {
        [key, key >> 24]
            .map(|bits| (usize::try_from((bits >> 6) % WORDS as u64).unwrap_or(0), 1_u64 << (bits & 63)))
    }

    fn contains(&self, key: u64) -> bool {
        Self::places(key)
            .into_iter()
            .all(|(place, bit)| self.known.filter.get(place).is_some_and(|word| word & bit != 0))
    }

    /// A member made this kind of call, which was new for it.
    pub(super) fn learn(&mut self, key: u64) {
        // Bounded against members that invent: past so many kinds it knows enough.
        if self.known.kinds >= 2_000 {
            return;
        }
        let mut fresh = 0;
        for (place, bit) in Self::places(key) {
            if let Some(word) = self.known.filter.get_mut(place) {
                fresh |= u32::from(*word & bit == 0);
                *word |= bit;
            }
        }
        self.known.kinds += fresh;
    }

    /// A member made a call.
    pub(super) fn count(&mut self) {
        self.known.calls = self.known.calls.saturating_add(1);
    }
}
