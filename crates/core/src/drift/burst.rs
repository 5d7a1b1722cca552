//! Bursts, within minutes: how much better does a rate of several times the expected one explain the last
//! actions than the expected one does? A sum of log-likelihood ratios that starts again at 0, for a few
//! multiples. For a sudden rise that is the quickest test there is at a given number of false alarms.

use super::{codec::packed, math::log10};
use std::f32::consts::LN_10;

/// How many times the expected rate is tested against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Multiple {
    pub of: f32,
    pub log10: f32,
}

packed! {
    /// The test against one multiple.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Burst {
        sum: f32,
        /// When the sum last left 0 (microseconds), and the actions since.
        pub since: i64,
        pub count: u32,
        /// What was expected since then, the first action left out.
        foreseen: f32,
    }
}

impl Burst {
    /// An action, where since the one before so many were `expected`. The evidence in decades.
    pub(super) fn observe(&mut self, now: i64, expected: f32, multiple: Multiple, top: f32) -> f32 {
        self.sum -= (multiple.of - 1.0) / LN_10 * expected;
        self.foreseen += expected;
        if self.sum <= 0.0 || self.count == 0 {
            (self.sum, self.since, self.count, self.foreseen) = (0.0, now, 0, 0.0);
        }
        self.count = self.count.saturating_add(1);
        self.sum = (self.sum + multiple.log10).min(top);
        self.sum
    }

    /// The same evidence, when the agent's pace itself is now higher, now lower: gamma-distributed, with this
    /// `shape`. Never more than without.
    pub(super) fn uneven(&self, multiple: Multiple, shape: f32) -> f32 {
        if self.count < 2 {
            return self.sum;
        }
        let count = self.count as f32;
        let ratio = log10((multiple.of * self.foreseen + shape) / (self.foreseen + shape));
        (count * multiple.log10 - (count + shape) * ratio).min(self.sum)
    }
}
