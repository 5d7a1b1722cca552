//! How many actions an hour of the week normally holds.
//!
//! 168 means, each pulled toward the mean of its hour on weekdays or at weekends, and that toward the
//! overall one, the more the less has been seen; times a level that follows the last days (growth, quiet
//! times). What is tested against is the highest of the hour and its neighbours, so that a changed clock is
//! no surprise. A limit on growth, counted from what a week was when it was last accepted, bounds what a
//! patient attacker can teach.

use super::{codec::packed, math::log10};
use std::f32::consts::LOG10_2;

/// Hours in a week.
pub(super) const WEEK: usize = 168;
/// A week may hold so much more than the one before it without anybody being told.
const FREE_GROWTH: f32 = 1.15;
/// Beyond this many times the accepted week the expectation does not follow; it signals.
pub(super) const GROWTH_LIMIT: f32 = 2.0;
/// The level forgets half in so many hours.
const LEVEL_HALF_LIFE: f32 = 48.0;
/// Silence beyond this many hours is absence and teaches nothing. A weekend is 64.
const ABSENCE: i64 = 90;
/// What like hours count for, in weeks, when an hour is not known to differ from them.
const ALIKE: f32 = 6.0;
/// The share of the days' variance that counts against what gathers within one; whole days are seldom all of it.
const BUSY: f32 = 0.6;
/// The share of the neighbouring hours' highest that any hour may have.
const EDGE: f32 = 0.7;

packed! {
    /// What is known of an agent's rate.
    #[derive(Clone, Debug)]
    pub(super) struct Season {
        bins: [f32; WEEK],
        /// Weeks that have been learnt of each.
        weeks: [u8; WEEK],
        /// Hours learnt, and the hour (since 1970) after the last one.
        hours: u32,
        next: i64,
        /// Mean of hours in which something happened, and how many of them were learnt.
        active_mean: f32,
        active: f32,
        /// What the last days held, and what they would have held without the level.
        seen: f32,
        foreseen: f32,
        /// Variance beyond a Poisson one, as a share of the squared mean.
        dispersion: f32,
        /// The same of whole days, beyond what their hours explain: whether some days are busier than others.
        days: f32,
        /// How far one hour goes as the one before it went, from 0 to 1, and how far that went, in standard
        /// deviations.
        echo: f32,
        before: f32,
        /// What this day held so far and what it should have, and the variance that its hours explain.
        day: [f32; 3],
        /// The share of actions that came in hours from which they were not to be expected: whether the week
        /// explains this agent at all.
        unforeseen: f32,
        /// The sum over the current week so far, its hours, and the accepted week. 0: none yet.
        week: f32,
        week_hours: u32,
        accepted: f32,
        /// The last week, when it was more than [`GROWTH_LIMIT`] times the accepted one; else 0.
        grown_to: f32,
        /// Nobody has been told of that yet.
        news: bool,
    }
}

/// What is expected of an hour.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    /// The mean.
    pub mean: f32,
    /// The same, allowing for a changed clock: what twice as many are counted from.
    pub usual: f32,
    /// The highest of this hour and its neighbours, never near 0.
    pub ceiling: f32,
    /// The standard deviation that belongs to the ceiling.
    pub deviation: f32,
    /// The variance of hours that is not chance, as a share of the squared mean; and that of days.
    pub dispersion: f32,
    pub days: f32,
    /// Decades that each action adds to the evidence for twice as many as usual, and that the hour takes off.
    pub gain: f32,
    pub cost: f32,
}

/// Monday 00:00 UTC is hour 0.
pub(super) fn hour_of_week(hour: i64) -> usize {
    usize::try_from((hour + 72).rem_euclid(168)).unwrap_or(0)
}

impl Season {
    pub(super) fn new(hour: i64) -> Self {
        Self {
            bins: [0.0; WEEK],
            weeks: [0; WEEK],
            hours: 0,
            next: hour,
            active_mean: 0.0,
            active: 0.0,
            seen: 0.0,
            foreseen: 0.0,
            dispersion: 0.15,
            days: 0.02,
            echo: 0.1,
            before: 0.0,
            day: [0.0; 3],
            unforeseen: 0.5,
            week: 0.0,
            week_hours: 0,
            accepted: 0.0,
            grown_to: 0.0,
            news: false,
        }
    }

    /// Weeks that have been learnt of this hour of the week.
    fn weeks(&self, bin: usize) -> f32 {
        f32::from(self.weeks.get(bin % WEEK).copied().unwrap_or(0))
    }

    fn bin(&self, bin: usize) -> f32 {
        self.bins.get(bin % WEEK).copied().unwrap_or(0.0)
    }

    /// The mean of this hour over some days, and how many of those have been seen.
    fn over(&self, days: std::ops::Range<usize>, hour: usize) -> (f32, f32) {
        let (mut sum, mut n) = (0.0, 0.0);
        for day in days {
            let bin = day * 24 + hour;
            let weeks = self.weeks(bin).min(4.0);
            sum += weeks * self.bin(bin);
            n += weeks;
        }
        if n > 0.0 { (sum / n, n) } else { (0.0, 0.0) }
    }

    /// The most that this hour can be taken to hold: what it did hold on this day of the week, or, in the
    /// first week, on any day so far. Whose weekend is when is not known.
    fn high(&self, bin: usize) -> f32 {
        let bin = bin % WEEK;
        let base = self.base(bin);
        if self.hours < 192 {
            return (0..7).map(|day| self.bin(day * 24 + bin % 24)).fold(base, f32::max);
        }
        if self.weeks(bin) < 4.0 { base.max(self.bin(bin)) } else { base }
    }

    fn base(&self, bin: usize) -> f32 {
        let bin = bin % WEEK;
        let (day, hour) = (bin / 24, bin % 24);
        let weeks = self.weeks(bin);
        let (any, seen) = self.over(0..7, hour);
        let (like, days) = self.over(if day < 5 { 0..5 } else { 5..7 }, hour);
        let pull = |own: f32, n: f32, worth: f32, other: f32| (own * n + other * worth) / (n + worth);
        let any = if seen > 0.0 { any } else { self.active_mean };
        let like = pull(like, days, 1.0, any);
        // As far as its distance from like hours may be chance, an hour is one of them.
        let own = self.bin(bin);
        let chance = (like + self.dispersion * like * like) / weeks.max(1.0);
        let worth = 1.2 + ALIKE * chance / (chance + (own - like).powi(2) + 1e-6);
        pull(own, weeks, worth, like)
    }

    /// How the last days compare with the weeks before.
    fn level(&self) -> f32 {
        ((self.seen + 12.0) / (self.foreseen + 12.0)).clamp(0.5, 2.0)
    }

    /// What any hour may hold: an agent that works every fifth hour, or when it is called, has no week.
    fn at_any_hour(&self) -> f32 {
        self.active_mean * ((self.unforeseen - 0.05) * 8.0).clamp(0.0, 1.0)
    }

    /// What to expect of `hour` (since 1970).
    pub(super) fn expect(&self, hour: i64) -> Expected {
        let bin = hour_of_week(hour);
        let base = self.base(bin);
        let level = self.level();
        let mut high = self.high(bin).max(self.high(bin + 1)).max(self.high(bin + WEEK - 1));
        if self.hours < 168 {
            high = high.max(self.active_mean);
        }
        high = high.max(self.at_any_hour());
        // After quiet days normal ones come back at once.
        let ceiling = (high * level.max(0.9)).max(0.15 * self.active_mean).max(0.05);
        let deviation = (ceiling + self.dispersion * ceiling * ceiling).sqrt();
        let mean = base * level;
        // Counts are gamma-Poisson. At the edges of an agent's day a changed clock is no doubling.
        let usual = mean.max(EDGE * ceiling);
        let days = BUSY * self.days.max(0.002);
        let shape = 1.0 / self.dispersion;
        let ratio = log10((2.0 * usual + shape) / (usual + shape));
        // Hours that go alike are so many fewer witnesses.
        let echo = self.echo.clamp(0.0, 0.6);
        let witnesses = (1.0 - echo) / (1.0 + echo);
        let (gain, cost) = ((LOG10_2 - ratio) * witnesses, shape * ratio * witnesses);
        Expected { mean, usual, ceiling, deviation, dispersion: self.dispersion, days, gain, cost }
    }

    /// Learns that `hour` held `count` actions, and every hour since the last one learnt, none.
    /// `unusual`: it stood out, so only as much as could have been expected is learnt.
    pub(super) fn learn(&mut self, hour: i64, count: f32, unusual: bool) {
        if hour - self.next > ABSENCE {
            self.next = hour;
        }
        for quiet in self.next..hour {
            self.learn_hour(quiet, 0.0, false);
        }
        self.learn_hour(hour, count, unusual);
        self.next = hour + 1;
    }

    /// Lets the hours up to and with `hour` pass without learning from them.
    pub(super) fn pass(&mut self, hour: i64) {
        self.next = hour + 1;
    }

    fn learn_hour(&mut self, hour: i64, count: f32, unusual: bool) {
        let bin = hour_of_week(hour);
        let (base, weeks, level) = (self.base(bin), self.weeks(bin), self.level());
        self.hours = self.hours.saturating_add(1);
        let expected = base * level;
        if count > 0.0 && (weeks > 0.0 || self.over(0..7, bin % 24).1 > 0.0) {
            let missed = ((count - 2.0 * expected - 1.0) / count).max(0.0);
            self.unforeseen += 0.04 * (missed - self.unforeseen);
        }
        let known = self.hours > 72 && weeks > 0.0;
        let most = expected.max(self.at_any_hour());
        let (low, high) = match (known, unusual) {
            (false, _) => (0.0, f32::MAX),
            (true, true) => (0.5 * expected, 1.3 * most + 1.0),
            (true, false) => (0.4 * expected, 2.5 * most + 3.0),
        };
        let taught = count.max(low).min(high);
        if weeks > 0.0 {
            let decay = (-1.0 / LEVEL_HALF_LIFE).exp2();
            self.seen = self.seen * decay + count.min(high);
            self.foreseen = self.foreseen * decay + base;
        }
        // An hour that was always quiet, and is expected to be like others only for want of knowledge, says
        // nothing of how uneven hours of work are.
        if known && expected >= 2.0 && (count > 0.0 || self.bin(bin) > 0.5 * base) {
            // Upward alone: that is what is tested against, and a holiday is not uneven work.
            let off = 2.0 * (count.min(high) - expected).max(0.0).powi(2) - expected;
            let most = (4.0 * self.dispersion).min(2.0);
            // Of a few actions an hour it is mostly chance how many came.
            let told = self.dispersion * expected;
            let rate = 0.03 * told / (1.0 + told);
            self.dispersion += rate * ((off / (expected * expected)).clamp(-0.5, most) - self.dispersion);
            self.dispersion = self.dispersion.clamp(0.01, 1.0);
        }
        let mut off = 0.0;
        if known && expected >= 2.0 {
            let deviation = (expected + self.dispersion * expected * expected).sqrt();
            off = ((count.min(high) - expected) / deviation).clamp(-2.5, 2.5);
            if self.before != 0.0 {
                self.echo += 0.015 * (off * self.before - self.echo);
            }
        }
        self.before = off;
        self.learn_day(bin, count.min(high), expected);
        let rate = (1.0 / (weeks + 1.0)).max(0.25);
        if let (Some(own), Some(seen)) = (self.bins.get_mut(bin), self.weeks.get_mut(bin)) {
            *own += rate * (taught - *own);
            *seen = seen.saturating_add(1);
        }
        if taught > 0.0 {
            self.active = (self.active + 1.0).min(200.0);
            self.active_mean += (taught - self.active_mean) / self.active;
        }
        self.end_hour_of_week(taught);
    }

    fn learn_day(&mut self, bin: usize, count: f32, expected: f32) {
        let [seen, foreseen, explained] = &mut self.day;
        *seen += count;
        *foreseen += expected;
        *explained += expected + self.dispersion * expected * expected;
        if bin % 24 < 23 {
            return;
        }
        let [seen, foreseen, explained] = std::mem::take(&mut self.day);
        if foreseen >= 10.0 && self.hours > 168 {
            let off = ((seen - foreseen).powi(2) - explained) / (foreseen * foreseen);
            self.days += 0.06 * (off.clamp(-0.1, 0.5) - self.days);
        }
    }

    fn end_hour_of_week(&mut self, taught: f32) {
        self.week += taught;
        self.week_hours += 1;
        if self.week_hours < 168 {
            return;
        }
        let week = std::mem::take(&mut self.week);
        self.week_hours = 0;
        // The first weeks may be of any size: an agent is being tried out.
        if self.hours <= 336 {
            self.accepted = self.accepted.max(week);
            return;
        }
        let limit = GROWTH_LIMIT * self.accepted.max(20.0);
        self.grown_to = if week > limit { week } else { 0.0 };
        self.news = week > limit;
        if week > limit {
            let scale = limit / week;
            self.bins.iter_mut().for_each(|bin| *bin *= scale.max(0.5));
            self.active_mean *= scale.max(0.5);
        }
        self.accepted = week.clamp(self.accepted / FREE_GROWTH, self.accepted * FREE_GROWTH);
    }

    /// When the rate has grown beyond the limit: the accepted week and the last one.
    pub(super) fn grown(&self) -> Option<(f32, f32)> {
        (self.grown_to > 0.0).then_some((self.accepted, self.grown_to))
    }

    /// Whether that has just come out, the first time it is asked.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// A person says that the present rate is normal.
    pub(super) fn accept(&mut self) {
        if self.grown_to > 0.0 {
            self.accepted = std::mem::take(&mut self.grown_to);
        }
    }

    /// Hours learnt.
    pub(super) fn hours(&self) -> u32 {
        self.hours
    }
}
