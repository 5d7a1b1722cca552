//! The rate over hours: the hour that is going on, and what has gathered over several hours: how much better
//! does twice the usual rate explain them than the usual one does? A sum of log-likelihood ratios that starts
//! again at 0.

use super::{codec::packed, math::log10, season::Expected};
use std::f32::consts::LOG10_2;

/// One hour alone adds no more, in decades: this is for what lasts.
const MOST: f32 = 2.5;
/// Taken off each hour, since hours are less alike than those that were seen.
const SLACK: f32 = 0.1;

packed! {
    /// Counts of the present hour, and the evidence from before it.
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
    /// What this hour adds, as far as it is over.
    fn added(&self, expected: &Expected) -> f32 {
        (self.count * expected.gain - expected.cost - SLACK).min(MOST)
    }

    /// Of what `gathered`, what is left when whole days are now busier, now quieter.
    pub(super) fn uneven(&self, gathered: f32, expected: &Expected) -> f32 {
        let (seen, usual) = (self.seen + self.count, self.expected + expected.usual);
        let shape = 1.0 / (expected.days + expected.dispersion / (self.span + 1.0));
        let ratio = log10((2.0 * usual + shape) / (usual + shape));
        (seen * (LOG10_2 - ratio) - shape * ratio).clamp(0.0, gathered)
    }

    /// One more action. The two statistics: of this hour alone, and with what gathered before.
    pub(super) fn observe(&mut self, expected: &Expected) -> (f32, f32) {
        self.count += 1.0;
        let hour = (self.count - expected.ceiling) / (expected.deviation + 1.0);
        (hour.max(0.0), (self.gathered + self.added(expected)).max(0.0))
    }

    /// The hour is over. `top` bounds what gathers.
    pub(super) fn close(&mut self, expected: &Expected, top: f32) {
        self.gathered = (self.gathered + self.added(expected)).clamp(0.0, top);
        self.span += 1.0;
        self.seen += self.count;
        self.expected += expected.usual;
        self.count = 0.0;
        self.pass(std::iter::empty());
    }

    /// Hours without an action passed, each of which costs so much.
    pub(super) fn pass(&mut self, costs: impl Iterator<Item = f32>) {
        self.gathered -= costs.map(|cost| cost + SLACK).sum::<f32>();
        if self.gathered <= 0.0 {
            (self.gathered, self.span, self.seen, self.expected) = (0.0, 0.0, 0.0, 0.0);
        }
    }
}
