//! The order of actions: what normally follows what. Evidence gathers while the calls come in an order that
//! fits "anything may follow anything" better than what has been learnt of this agent.

use super::{
    codec::packed,
    math::log10,
    symbols::{Found, SYMBOLS},
};

/// So many calls of the general mix are mixed into what is known of each call's followers.
const SMOOTHING: f32 = 1.5;
/// A row of the table is halved when it holds so many.
const ROW_MEMORY: u16 = 2_000;
/// Calls before anything is said.
const SILENT: f32 = 150.0;
/// Taken off at each call, so that noise does not gather.
const SLACK: f32 = 0.12;

packed! {
    /// How often each kind of call followed each.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Sequence {
        rows: [[u16; SYMBOLS]; SYMBOLS],
        totals: [u16; SYMBOLS],
        before: u8,
        sum: f32,
        /// Calls since the sum left 0, and how many of them came out of order.
        pub calls: u16,
        pub odd: u16,
    }
}

impl Sequence {
    pub(super) fn new() -> Self {
        Self { rows: [[0; SYMBOLS]; SYMBOLS], totals: [0; SYMBOLS], before: 0, sum: 0.0, calls: 0, odd: 0 }
    }

    /// A call of this kind after `pause` seconds; the evidence in decades. `total`: calls known.
    pub(super) fn observe(&mut self, found: &Found, total: f32, learn: bool, top: f32) -> f32 {
        if found.reused {
            self.forget(found.symbol);
        }
        let before =
            usize::from(std::mem::replace(&mut self.before, u8::try_from(found.symbol).unwrap_or(0)));
        let seen = self.rows.get(before).and_then(|row| row.get(found.symbol)).copied().unwrap_or(0);
        let known = f32::from(self.totals.get(before).copied().unwrap_or(0));
        if learn {
            self.learn(before, found.symbol);
        }
        // What is new in itself is not out of order.
        if total < SILENT || found.count < 3.0 {
            return self.sum;
        }
        let chance = (f32::from(seen) + SMOOTHING * found.share) / (known + SMOOTHING);
        let step = (found.log_share - log10(chance)).clamp(-1.0, 2.0) - SLACK;
        self.sum = (self.sum + step).min(top);
        if self.sum <= 0.0 {
            (self.sum, self.calls, self.odd) = (0.0, 0, 0);
            return 0.0;
        }
        self.calls = self.calls.saturating_add(1);
        self.odd = self.odd.saturating_add(u16::from(step > 0.3));
        self.sum
    }

    fn learn(&mut self, before: usize, symbol: usize) {
        let Some((row, total)) = self.rows.get_mut(before).zip(self.totals.get_mut(before)) else { return };
        if let Some(count) = row.get_mut(symbol) {
            *count += 1;
            *total += 1;
        }
        if *total >= ROW_MEMORY {
            row.iter_mut().for_each(|count| *count /= 2);
            *total = row.iter().sum();
        }
    }

    fn forget(&mut self, symbol: usize) {
        if let Some((row, total)) = self.rows.get_mut(symbol).zip(self.totals.get_mut(symbol)) {
            (*row, *total) = ([0; SYMBOLS], 0);
        }
        for (row, total) in self.rows.iter_mut().zip(&mut self.totals) {
            if let Some(count) = row.get_mut(symbol) {
                *total -= std::mem::take(count);
            }
        }
    }
}
