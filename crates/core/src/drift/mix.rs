//! The mix: one kind of call takes a much larger share of an agent's calls than it used to.
//!
//! For each kind a sum of log-likelihood ratios, counted in calls instead of seconds, so that doing
//! everything faster is not a change of the mix.

use super::{
    codec::packed,
    math::log10,
    symbols::{Found, SYMBOLS},
};

/// How many times the usual share is tested against.
const MULTIPLE: f32 = 6.0;
const MULTIPLE_LOG10: f32 = 0.778_151;

packed! {
    /// The sums, and where each began.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Mix {
        sums: [f32; SYMBOLS],
        /// The number of the call at which the sum was last brought up to date.
        at: [u32; SYMBOLS],
        since: [u32; SYMBOLS],
        counts: [u16; SYMBOLS],
        calls: u32,
    }
}

impl Mix {
    pub(super) fn new() -> Self {
        Self { sums: [0.0; SYMBOLS], at: [0; SYMBOLS], since: [0; SYMBOLS], counts: [0; SYMBOLS], calls: 0 }
    }

    /// A call; the evidence, in decades, that its kind comes far more often than it should.
    pub(super) fn observe(&mut self, found: &Found, top: f32) -> f32 {
        self.calls = self.calls.wrapping_add(1);
        let calls = self.calls;
        let places = self.sums.get_mut(found.symbol).zip(self.at.get_mut(found.symbol));
        let starts = self.since.get_mut(found.symbol).zip(self.counts.get_mut(found.symbol));
        let (Some((sum, at)), Some((since, count))) = (places, starts) else { return 0.0 };
        if found.reused {
            *sum = 0.0;
        }
        // Never more often than always; and few agents are so regular that a share of 1% means 1%.
        let share = found.share.max(0.01);
        let most = 0.85 / share;
        let (multiple, log10_multiple) =
            if most < MULTIPLE { (most, log10(most)) } else { (MULTIPLE, MULTIPLE_LOG10) };
        if multiple < 1.2 {
            return 0.0;
        }
        if *sum > 0.0 {
            let others = calls.wrapping_sub(*at).saturating_sub(1) as f32;
            *sum += others * log10((1.0 - multiple * share) / (1.0 - share));
        }
        *at = calls;
        if *sum <= 0.0 {
            (*sum, *since, *count) = (0.0, calls, 0);
        }
        *count = count.saturating_add(1);
        *sum = (*sum + log10_multiple).min(top);
        *sum
    }

    /// Of how many calls, since the evidence began, how many were of this kind.
    pub(super) fn seen(&self, symbol: usize) -> (u32, u16) {
        let since = self.since.get(symbol).copied().unwrap_or(0);
        (self.calls.wrapping_sub(since).saturating_add(1), self.counts.get(symbol).copied().unwrap_or(0))
    }
}

packed! {
    /// How surprising the kinds of call are, whichever they are: several rare ones at once are a change of
    /// the mix that none of them shows alone.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Surprise {
        usual: f32,
        calls: f32,
        sum: f32,
    }
}

impl Surprise {
    /// A call whose kind has a share of this logarithm; the evidence in decades.
    pub(super) fn observe(&mut self, log_share: f32, learn: bool, top: f32) -> f32 {
        let surprise = (-log_share).min(2.5);
        if self.calls >= 100.0 {
            self.sum = (self.sum + surprise - self.usual - 0.15).clamp(0.0, top);
        }
        if learn {
            self.calls = (self.calls + 1.0).min(1_000.0);
            self.usual += (surprise - self.usual) / self.calls;
        }
        self.sum
    }
}
