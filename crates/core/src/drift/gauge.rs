//! Calibration: how rare is it that an active hour, or an active day, of this agent reaches such a value?
//!
//! A raw statistic means nothing by itself: what is wild for one agent is Monday for another. So each is
//! judged against the agent's own highest values per active hour and per active day. Maxima of blocks follow
//! a Gumbel distribution, whose two parameters are learnt from the mean of past blocks and their mean distance
//! from it; a block that stood out teaches no more than a high normal one would have (winsorising).

use super::codec::packed;

/// What is assumed of an agent before it has shown anything: mean and spread of its block maxima.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prior {
    pub mean: f32,
    pub spread: f32,
    /// The least scale of the fitted distribution. Log-likelihood ratios in decades have 0.43.
    pub floor: f32,
    /// Agents are alike in this: the first blocks are held to the prior too.
    pub trusted: bool,
    /// What a decade of the fitted distribution counts for in the score: less than 1 where highest values have
    /// heavier tails than it (sizes), more where lighter.
    pub weight: f32,
}

/// Blocks after which nothing is left of the prior.
const PRIOR_LASTS: f32 = 14.0;
/// How many blocks the prior counts for at first.
const PRIOR_WEIGHT: f32 = 4.0;
/// Active days and active hours that the memory reaches back, about.
const DAYS: f32 = 25.0;
const HOURS: f32 = 120.0;
/// The scale is at least this share of the mean: nobody is as regular as a few blocks may look.
const RELATIVE_FLOOR: f32 = 0.06;
/// A score tells no more beyond this.
pub(super) const TOP_SCORE: f32 = 12.0;

packed! {
    /// The maxima of one kind of block.
    #[derive(Clone, Copy, Debug, Default)]
    struct Blocks {
        mean: f32,
        /// The mean distance from the mean.
        spread: f32,
        n: f32,
        /// The maximum of the block that is going on; negative when nothing happened in it yet.
        current: f32,
        location: f32,
        /// The distance from there that is one decade rarer.
        decade: f32,
    }
}

impl Blocks {
    fn new(prior: Prior) -> Self {
        let mut new = Self { current: -1.0, ..Self::default() };
        new.fit(prior);
        new
    }

    fn score(&self, value: f32) -> f32 {
        ((value - self.location) / self.decade).min(TOP_SCORE)
    }

    fn moments(&self, prior: Prior) -> (f32, f32) {
        let weight = PRIOR_WEIGHT * (1.0 - self.n / PRIOR_LASTS).max(0.0);
        let total = weight + self.n;
        let (a, b) = (weight / total, self.n / total);
        let mean = a * prior.mean + b * self.mean;
        let between = 2.0 * a * b * (prior.mean - self.mean).abs();
        (mean, a * prior.spread + b * self.spread + between)
    }

    fn fit(&mut self, prior: Prior) {
        let (mean, spread) = self.moments(prior);
        // The mean distance of a Gumbel distribution is 0.99 of its scale.
        let scale = spread.max(prior.floor).max(RELATIVE_FLOOR * mean);
        self.location = mean - 0.577 * scale;
        self.decade = scale * std::f32::consts::LN_10 / prior.weight;
    }

    fn close(&mut self, prior: Prior, learn: bool, memory: f32) {
        let value = std::mem::replace(&mut self.current, -1.0);
        if value < 0.0 || !learn {
            return;
        }
        let (mean, spread) = self.moments(prior);
        let high =
            if self.n < 4.0 && !prior.trusted { f32::MAX } else { mean + 4.0 * spread.max(prior.floor) };
        let value = value.min(high);
        // The first blocks, when little was known, are soon forgotten.
        let rate = (1.6 / (self.n + 1.6)).max(1.0 / memory);
        let off = value - self.mean;
        self.mean += rate * off;
        if self.n > 0.0 {
            self.spread += rate * (off.abs() - self.spread);
        }
        self.n = (self.n + 1.0).min(1_000.0);
        self.fit(prior);
    }
}

packed! {
    /// One calibrated statistic.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Gauge {
        hour: Blocks,
        day: Blocks,
    }
}

impl Gauge {
    pub(super) fn new(prior: Prior) -> Self {
        Self { hour: Blocks::new(prior), day: Blocks::new(prior) }
    }

    /// Decades of rarity of `value`, the lower of hour and day; notes it as part of both.
    pub(super) fn read(&mut self, value: f32) -> f32 {
        self.hour.current = self.hour.current.max(value);
        self.day.current = self.day.current.max(value);
        // Nearly all values.
        if value <= self.hour.location || value <= self.day.location {
            return 0.0;
        }
        self.day.score(value).min(self.hour.score(value))
    }

    /// Whether no value up to this one matters: none scores, or is the highest of its blocks.
    pub(super) fn is_idle(&self, most: f32) -> bool {
        most <= self.hour.current && most <= self.hour.location.max(self.day.location)
    }

    /// The value beyond which the score cannot rise: a statistic that accumulates stops here, so that it
    /// comes down again soon after what caused it is over.
    pub(super) fn top(&self) -> f32 {
        let of = |blocks: &Blocks| blocks.location + TOP_SCORE * blocks.decade;
        of(&self.hour).max(of(&self.day))
    }

    pub(super) fn close_hour(&mut self, prior: Prior, learn: bool) {
        self.hour.close(prior, learn, HOURS);
    }

    pub(super) fn close_day(&mut self, prior: Prior, learn: bool) {
        self.day.close(prior, learn, DAYS);
    }

    /// The value that scores `score`.
    pub(super) fn value_at(&self, score: f32) -> f32 {
        let of = |blocks: &Blocks| blocks.location + score * blocks.decade;
        of(&self.hour).max(of(&self.day))
    }

    /// Days learnt from.
    pub(super) fn days(&self) -> f32 {
        self.day.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIOR: Prior = Prior { mean: 3.0, spread: 1.0, floor: 0.4, trusted: false, weight: 1.0 };

    fn taught(maxima: impl IntoIterator<Item = f32>) -> Gauge {
        let mut gauge = Gauge::new(PRIOR);
        for value in maxima {
            gauge.read(value);
            gauge.close_hour(PRIOR, true);
            gauge.close_day(PRIOR, true);
        }
        gauge
    }

    #[test]
    fn what_happens_daily_is_not_rare_and_what_never_did_is() {
        let mut gauge = taught((0..60).map(|day| 40.0 + (day % 5) as f32));
        assert!(gauge.read(44.0) < 1.5);
        assert!(gauge.read(90.0) > 5.0);
        let mut gauge = taught((0..60).map(|day| 2.0 + (day % 3) as f32 * 0.5));
        assert!(gauge.read(9.0) > 5.0);
    }

    #[test]
    fn one_wild_day_teaches_little() {
        let calm = taught((0..60).map(|day| 2.0 + (day % 3) as f32 * 0.5));
        let mut wild = calm;
        wild.read(1e6);
        wild.close_hour(PRIOR, true);
        wild.close_day(PRIOR, true);
        assert!(wild.value_at(5.0) < calm.value_at(5.0) * 1.3);
    }

    #[test]
    fn a_block_without_learning_teaches_nothing() {
        let calm = taught((0..20).map(|_| 2.0));
        let mut frozen = calm;
        frozen.read(50.0);
        frozen.close_hour(PRIOR, false);
        frozen.close_day(PRIOR, false);
        assert_eq!(frozen.value_at(5.0).to_bits(), calm.value_at(5.0).to_bits());
    }
}
