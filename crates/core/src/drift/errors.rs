//! The error rate: how much better do frequent failures explain the last outcomes than the usual few do?

use super::{codec::packed, math::log10};

/// The share of failures assumed at first, and how many outcomes that is worth.
const SHARE: f32 = 0.05;
const WORTH: f32 = 20.0;
const MEMORY: f32 = 3_000.0;

packed! {
    /// Outcomes seen.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Errors {
        failed: f32,
        outcomes: f32,
        sum: f32,
        /// Outcomes since the sum left 0, and how many of them were failures.
        pub calls: u16,
        pub failures: u16,
    }
}

impl Errors {
    /// The usual share of failures.
    pub(super) fn usual(&self) -> f32 {
        (self.failed + SHARE * WORTH) / (self.outcomes + WORTH)
    }

    /// An outcome; the evidence in decades that failures have become frequent.
    pub(super) fn observe(&mut self, failed: bool, learn: bool, top: f32) -> f32 {
        // A success takes off, and below 0 there is nothing.
        if failed || self.sum > 0.0 {
            let usual = self.usual().clamp(0.005, 0.95);
            let frequent = (usual + 0.3).min(0.5 + usual / 2.0);
            let step = if failed { frequent / usual } else { (1.0 - frequent) / (1.0 - usual) };
            self.sum = (self.sum + log10(step)).clamp(0.0, top);
        }
        if self.sum > 0.0 {
            self.calls = self.calls.saturating_add(1);
            self.failures = self.failures.saturating_add(u16::from(failed));
        } else {
            (self.calls, self.failures) = (0, 0);
        }
        if learn {
            self.failed += f32::from(u8::from(failed));
            self.outcomes += 1.0;
            if self.outcomes > MEMORY {
                (self.failed, self.outcomes) = (self.failed * 0.5, self.outcomes * 0.5);
            }
        }
        self.sum
    }
}
