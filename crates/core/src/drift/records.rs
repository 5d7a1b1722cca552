//! Records per action: how large each kind of call usually is, on a logarithmic scale.

use super::{
    codec::packed,
    math::log10,
    symbols::{Found, SYMBOLS},
};

/// What is assumed of the spread (in decades) at first, and how many calls that is worth.
const SPREAD: f32 = 0.5;
const WORTH: f32 = 6.0;
/// Calls that are remembered, about.
const MEMORY: u16 = 400;
/// Calls of a kind before anything is said.
const SILENT: u16 = 12;

packed! {
    /// Sizes per kind of call.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Records {
        mean: [f32; SYMBOLS],
        variance: [f32; SYMBOLS],
        n: [u16; SYMBOLS],
        sum: f32,
    }
}

impl Records {
    /// A call that touches so many records; the evidence in decades that calls are too large.
    pub(super) fn observe(&mut self, found: &Found, records: u64, learn: bool, top: f32) -> f32 {
        let symbol = found.symbol;
        let places = self.mean.get_mut(symbol).zip(self.variance.get_mut(symbol)).zip(self.n.get_mut(symbol));
        let Some(((mean, variance), n)) = places else { return 0.0 };
        if found.reused {
            (*mean, *variance, *n) = (0.0, 0.0, 0);
        }
        let size = log10(records as f32 + 1.0);
        let off = size - *mean;
        // Half a record more or less is nothing, however regular the agent is.
        let known = f32::from(*n);
        let spread = ((*variance * known + SPREAD * SPREAD * WORTH) / (known + WORTH)).sqrt().max(0.08);
        let z = (off / spread).min(12.0);
        let ready = *n >= SILENT;
        if learn {
            let taught = if ready { off.clamp(-3.0 * spread, 3.0 * spread) } else { off };
            let rate = 1.0 / (known + 1.0);
            *mean += rate * taught;
            *variance += rate * (taught * (taught - rate * taught) - *variance);
            *n = (*n + 1).min(MEMORY);
        }
        if ready {
            self.sum = (self.sum + rarity(z) - 0.9).clamp(0.0, top);
        }
        self.sum
    }

    /// What a call of this kind usually touches, and what it seldom exceeds.
    pub(super) fn usual(&self, symbol: usize) -> (f32, f32) {
        let of = |values: &[f32; SYMBOLS]| values.get(symbol).copied().unwrap_or(0.0);
        let (mean, spread) = (of(&self.mean), of(&self.variance).max(0.0).sqrt());
        (10_f32.powf(mean) - 1.0, 10_f32.powf(mean + 2.3 * spread) - 1.0)
    }
}

/// Decades of rarity of `z` standard deviations, with tails heavier than a normal distribution's.
fn rarity(z: f32) -> f32 {
    if z <= 0.0 {
        return 0.2;
    }
    // As far as an exponential tail goes.
    0.3 + 0.45 * z
}
