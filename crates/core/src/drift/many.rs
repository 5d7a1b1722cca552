//! What several agents do together, where their names prove nothing: the agents of a key with a pattern.
//!
//! Such a program can act under a new name each time, and no agent's own baseline would ever know it. So all
//! that comes with the key is one agent too, and how many of its actions come under new names is counted: a sum of
//! log-likelihood ratios, as for any other kind of action, but with a gauge of its own.

use super::{Baseline, Channel, Group, Observed, Reading, codec::packed, math::log10};

/// New names are at least this share of the actions: whoever had none for weeks may still get one.
const LEAST: f32 = 0.002;
/// How many times the usual share is tested against.
const MULTIPLE: f32 = 6.0;
/// Actions that the usual share is of.
const MEMORY: f32 = 6_000.0;

/// What the mix counts for, where it follows from which of the agents are at work.
const MIX: f32 = 0.5;

packed! {
    /// The share of actions by which a name is first heard of.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Names {
        usual: f32,
        sum: f32,
        /// Actions since the evidence began, and how many of them came under new names.
        calls: u32,
        new: u16,
        /// It was this that stood out last, and not the mix of actions.
        pub told: bool,
    }
}

impl Names {
    /// An action; the evidence in decades that far more than usual come under new names. `calls`: all before it.
    fn observe(&mut self, is_new: bool, calls: u64, learn: bool, top: f32) -> f32 {
        let share = self.usual.max(LEAST);
        let multiple = (0.85 / share).min(MULTIPLE);
        if multiple >= 1.2 {
            let ratio = if is_new { multiple } else { (1.0 - multiple * share) / (1.0 - share) };
            self.sum = (self.sum + log10(ratio)).clamp(0.0, top);
        }
        (self.calls, self.new) = (self.calls.saturating_add(1), self.new.saturating_add(u16::from(is_new)));
        if self.sum <= 0.0 {
            (self.calls, self.new) = (0, 0);
        }
        if learn {
            let known = (calls as f32 + 1.0).min(MEMORY);
            self.usual += (f32::from(u8::from(is_new)) - self.usual) / known;
        }
        self.sum
    }

    /// The usual share, and how many of how many actions came under new names since the evidence began.
    pub(super) fn seen(&self) -> (f64, u16, u32) {
        (f64::from(self.usual), self.new, self.calls)
    }
}

impl Baseline {
    /// One of the agents acts, whose name `is_new`: as [`Baseline::observe`], except that the order of actions
    /// says nothing where several act at once, and that no group is asked: this is one.
    pub fn observe_one_of_many(&mut self, action: &Observed<'_>, is_new: bool) -> Reading {
        let (calls, learn) = (self.calls(), !self.is_frozen());
        let mut reading = self.observe(action, &mut Group::new());
        reading.clear(Channel::Sequence);
        reading.weigh(Channel::Mix, MIX);
        let gauge = &mut self.gauges.names;
        let score = gauge.read(self.names.observe(is_new, calls, learn, gauge.top()));
        // In the first week all come for the first time.
        self.names.told = is_new && !self.is_new() && score > reading.score(Channel::Mix);
        if self.names.told {
            reading.raise(Channel::Mix, score);
        }
        reading
    }
}
