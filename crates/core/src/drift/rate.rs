//! The rate over hours: the hour that is going on, and what has gathered over several hours.

use super::{codec::packed, season::Expected};

/// A departure that is expected of any hour, in standard deviations; only what is beyond gathers.
const SLACK: f32 = 0.6;

packed! {
    /// Counts of the present hour, and the sum of departures before it.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Rate {
        /// Actions in this hour so far.
        pub count: f32,
        gathered: f32,
        /// Hours over which it gathered, what they held, and what was expected of them.
        pub span: f32,
        pub seen: f32,
        pub expected: f32,
    }
}

impl Rate {
    fn departure(&self, expected: &Expected, of: f32) -> f32 {
        (self.count - of) / (expected.deviation + 1.0)
    }

    /// One more action. The two statistics: of this hour alone, and with what gathered before.
    pub(super) fn observe(&mut self, expected: &Expected) -> (f32, f32) {
        self.count += 1.0;
        let hour = self.departure(expected, expected.ceiling);
        let gathered = self.departure(expected, 0.5 * (expected.ceiling + expected.mean));
        (hour.max(0.0), (self.gathered + gathered - SLACK).max(0.0))
    }

    /// The hour is over; `silent` empty ones followed. `top` bounds what gathers.
    pub(super) fn close(&mut self, expected: &Expected, silent: i64, top: f32) {
        let expects = 0.5 * (expected.ceiling + expected.mean);
        let sum = self.gathered + self.departure(expected, expects) - SLACK;
        self.gathered = (sum - SLACK * silent.clamp(0, 1_000) as f32).clamp(0.0, top);
        if self.gathered > 0.0 {
            self.span += 1.0;
            self.seen += self.count;
            self.expected += expects;
        } else {
            (self.span, self.seen, self.expected) = (0.0, 0.0, 0.0);
        }
        self.count = 0.0;
    }
}
