//! Spells: spans of five minutes in which an agent acts at all.
//!
//! An agent that comes in sessions may do ten things in one and a hundred in the next, so how much it does says
//! little, however often it came; how often it is there says more. What is expected follows from what is expected
//! of the hour, and from how many spells so many actions usually fill.

use super::{codec::packed, math::log10, season::Expected};

/// Microseconds of a spell, and spells in an hour.
const SPELL: i64 = 300_000_000;
const MOST: f32 = 12.0;
/// How many times as many pieces of work are tested against.
const MULTIPLE: f32 = 4.0;
/// Taken off each hour, since hours are less alike than those that were seen; and each without an action.
const SLACK: f32 = 0.1;
const QUIET: f32 = 0.3;
/// Pieces of work before anything is said.
const SILENT: f32 = 20.0;
/// What each hour leaves of those before.
const KEPT: f32 = 0.995;
/// Hours teach no more than so many times what was expected, and a few.
const TAUGHT: f32 = 3.0;
/// Variance beyond chance, as a share of the squared mean: at first, and at least.
const UNEVEN: f32 = 0.15;
const EVEN: f32 = 0.02;

packed! {
    /// In how many spells an agent acts, and the evidence that work begins far more often.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Spells {
        /// The last spell in which it acted.
        last: i64,
        /// Actions of the hours that were learnt, and the pieces of work that would fill their spells, if each
        /// began whenever it liked.
        actions: f32,
        pieces: f32,
        dispersion: f32,
        /// Spells in this hour, and how many are expected of it.
        count: f32,
        foreseen: f32,
        /// What each adds to the evidence, what the hour takes off, and what has gathered before it.
        gain: f32,
        cost: f32,
        gathered: f32,
        /// Hours over which it gathered, their spells, and how many were expected.
        hours: f32,
        seen: f32,
        expected: f32,
        /// It was this that stood out last, and not the number of actions.
        pub told: bool,
    }
}

/// How many spells of an hour so many pieces of work fill, some together.
fn filled(pieces: f32) -> f32 {
    (MOST * pieces / (MOST + pieces)).max(0.05)
}

impl Spells {
    /// An hour begins of which so much is expected.
    pub(super) fn begin(&mut self, expected: &Expected) {
        let pieces = self.pieces / self.actions.max(1.0) * expected.usual;
        self.foreseen = filled(pieces);
        // Counts are gamma-Poisson. Where all spells are filled anyway, more work fills no more of them.
        let multiple = filled(MULTIPLE * pieces) / self.foreseen;
        let shape = 1.0 / self.dispersion.max(EVEN);
        let ratio = log10((multiple * self.foreseen + shape) / (self.foreseen + shape));
        self.gain = log10(multiple) - ratio;
        self.cost = shape * ratio + SLACK;
    }

    fn added(&self) -> f32 {
        self.count * self.gain - self.cost
    }

    /// An action; the evidence in decades.
    pub(super) fn observe(&mut self, now: i64) -> f32 {
        let spell = now.div_euclid(SPELL);
        self.count += f32::from(u8::from(spell != self.last));
        self.last = spell;
        if self.pieces < SILENT {
            return 0.0;
        }
        (self.gathered + self.added()).max(0.0)
    }

    /// The hour of so many `actions` is over, and as many hours after it as were `quiet`. `top` bounds what gathers.
    pub(super) fn close(&mut self, actions: f32, quiet: f32, learn: bool, top: f32) {
        self.gathered = (self.gathered + self.added() - QUIET * quiet).clamp(0.0, top);
        (self.hours, self.seen) = (self.hours + 1.0 + quiet, self.seen + self.count);
        self.expected += self.foreseen;
        if self.gathered <= 0.0 {
            (self.hours, self.seen, self.expected) = (0.0, 0.0, 0.0);
        }
        if learn {
            self.learn(actions);
        }
        self.count = 0.0;
    }

    fn learn(&mut self, actions: f32) {
        let (count, foreseen) = (self.count, self.foreseen);
        let known = self.pieces >= SILENT;
        if !known {
            self.dispersion = UNEVEN;
        } else if foreseen > 0.2 {
            // Upward alone, as of the rate.
            let off = 2.0 * (count - foreseen).max(0.0).powi(2) - foreseen;
            let told = self.dispersion * foreseen;
            let share = 0.03 * told / (1.0 + told);
            let off = (off / (foreseen * foreseen)).clamp(-0.5, (4.0 * self.dispersion).min(2.0));
            self.dispersion = (self.dispersion + share * (off - self.dispersion)).clamp(EVEN, 1.0);
        }
        let scale = if known { ((TAUGHT * foreseen + TAUGHT) / count.max(1.0)).min(1.0) } else { 1.0 };
        let filled = count.min(MOST - 0.5);
        self.actions = self.actions * KEPT + actions * scale;
        self.pieces = self.pieces * KEPT + MOST * filled / (MOST - filled) * scale;
    }

    /// For the sentence: over how many hours, in how many spells it acted, and in how many it normally does.
    pub(super) fn seen(&self) -> (f32, f32, f32) {
        (self.hours + 1.0, self.seen + self.count, self.expected + self.foreseen)
    }
}
