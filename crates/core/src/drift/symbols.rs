//! The few kinds of call (action and tool) that an agent is made of, by number. Whatever an agent invents,
//! there are at most [`SYMBOLS`]; what does not fit is number 0, "other".

use super::codec::packed;

/// Kinds of call told apart; the first is "other".
pub(super) const SYMBOLS: usize = 21;
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
    /// The number has just been given to it; what was kept under it is another's.
    pub reused: bool,
}

impl Symbols {
    /// Finds the number of a key. Without `learn`, an unknown one is "other".
    pub(super) fn find(&mut self, key: u32, learn: bool) -> Found {
        // 0 marks a free place.
        let key = key.max(1);
        let known = self.keys.iter().skip(1).position(|own| *own == key).map(|at| at + 1);
        let mut reused = false;
        let symbol = known.or_else(|| {
            let (at, least) = self
                .counts
                .iter()
                .enumerate()
                .skip(1)
                .min_by(|(_, a), (_, b)| a.total_cmp(b))
                .filter(|(_, count)| learn && **count <= RARE)?;
            reused = true;
            self.total -= least;
            if let (Some(own), Some(count)) = (self.keys.get_mut(at), self.counts.get_mut(at)) {
                (*own, *count) = (key, 0.0);
            }
            Some(at)
        });
        let symbol = symbol.unwrap_or(0);
        let count = self.counts.get(symbol).copied().unwrap_or(0.0);
        Found { symbol, count, share: (count + 0.5) / (self.total + 12.0), reused }
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
