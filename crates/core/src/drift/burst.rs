//! Bursts, within minutes: how much better does a rate of several times the expected one explain the last
//! actions than the expected one does? A sum of log-likelihood ratios that starts again at 0, for a few
//! multiples. For a sudden rise that is the quickest test there is at a given number of false alarms.

use super::codec::packed;
use std::f32::consts::LN_10;

packed! {
    /// The test against one multiple.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Burst {
        sum: f32,
        /// When the sum last left 0 (microseconds), and the actions since.
        pub since: i64,
        pub count: u32,
    }
}

impl Burst {
    /// An action `gap` seconds after the one before, where `per_second` are expected. In decades.
    pub(super) fn observe(&mut self, now: i64, gap: f32, per_second: f32, multiple: f32, top: f32) -> f32 {
        self.sum -= (multiple - 1.0) * per_second * gap / LN_10;
        if self.sum <= 0.0 || self.count == 0 {
            (self.sum, self.since, self.count) = (0.0, now, 0);
        }
        self.count = self.count.saturating_add(1);
        self.sum = (self.sum + multiple.log10()).min(top);
        self.sum
    }
}
