//! The few kinds of call (action and tool) that an agent is made of, by number. Whatever an agent invents,
//! there are at most [`SYMBOLS`]; what does not fit is number 0, "other".

use super::{codec::packed, math::log10};

/// Kinds of call told apart; the first is "other".
pub(super) const SYMBOLS: usize = 20;
/// Calls after which all counts are halved.
const MEMORY: f32 = 6_000.0;
/// A symbol seen so rarely gives way to a new one when there is no room.
const RARE: f32 = 2.0;

packed! {
    /// The kinds of call of an agent and how often each came.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Symbols {
        keys: [u32; SYMBOLS],
        counts: [f32; SYMBOLS],
        total: f32,
    }
}

/// Where a call belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Its number.
    pub symbol: usize,
    /// How often it came before.
    pub count: f32,
    /// Its share of all calls before this one, never 0.
    pub share: f32,
    /// Its decimal logarithm.
    pub log_share: f32,
    /// The number has just been given to it; what was kept under it is another's.
    pub reused: bool,
}

impl Symbols {
    /// Finds the number of a key. Without `learn`, an unknown one is "other".
    pub(super) fn find(&mut self, key: u32, learn: bool) -> Found {
        // 0 marks a free place.
        let key = key.max(1);
        // All of them at once, one bit each: quicker than one after the other.
        let equal = |found: u32, own: &u32| (found << 1) | u32::from(*own == key);
        let places = self.keys.iter().rev().fold(0_u32, equal) & !1;
        let known = (places != 0).then(|| usize::try_from(places.trailing_zeros()).unwrap_or(0));
        let mut reused = false;
        let symbol = known.or_else(|| {
            let least = self.counts.iter().skip(1).copied().fold(f32::MAX, |a, b| if b < a { b } else { a });
            if !learn || least > RARE {
                return None;
            }
            let at = self.counts.iter().skip(1).position(|count| *count <= least)? + 1;
            reused = true;
            self.total -= least;
            if let (Some(own), Some(count)) = (self.keys.get_mut(at), self.counts.get_mut(at)) {
                (*own, *count) = (key, 0.0);
            }
            Some(at)
        });
        let symbol = symbol.unwrap_or(0);
        let count = self.counts.get(symbol).copied().unwrap_or(0.0);
        let share = (count + 0.5) / (self.total + 12.0);
        Found { symbol, count, share, log_share: log10(share), reused }
    }

    /// Counts one call.
    pub(super) fn learn(&mut self, symbol: usize) {
        if let Some(count) = self.counts.get_mut(symbol) {
            *count += 1.0;
            self.total += 1.0;
        }
        if self.total > MEMORY {
            self.counts.iter_mut().for_each(|count| *count *= 0.5);
            self.total *= 0.5;
        }
    }

    /// Calls counted.
    pub(super) fn total(&self) -> f32 {
        self.total
    }
}
