//! A plain series of numbers, scored row by row as it comes.
//!
//! Several views of the series (its steps, its level over a few and over many rows, its spread, its
//! roughness, its distance from what the same time of day held before) each say how rare they are by their
//! own past ([`tail`]); the rarest counts, as far as it stands out among the highest of earlier blocks of rows
//! ([`maxima`]), and once an incident. Nothing is known of a series beforehand: not its length, its range or
//! its rhythm.

mod maxima;
mod moment;
mod sorted;
mod tail;

pub use moment::Moment;

use maxima::Maxima;
use sorted::Window;
use tail::Tail;

/// Values remembered.
const MEMORY: usize = 2_500;
/// Rows before anything is said, and over which trust grows.
const SILENT: usize = 20;
const WARM: f64 = 300.0;
/// Rows before a time of day is known.
const DAYS_KNOWN: usize = 400;
/// Rows of the blocks that the present is compared with; none of them fits all series.
const BLOCKS: [u32; 3] = [120, 200, 340];
/// After an alarm another one must stand out more; that fades over so many rows.
const FADES: f64 = 120.0;
const HELD: f64 = 0.9;
/// Times of day that are told apart.
const SLOTS: usize = 48;
/// What is unusual beyond this is no more unusual, in units of the series.
const FARTHEST: f64 = 1e9;

/// The detector of one series.
#[derive(Clone, Debug)]
pub struct Series {
    values: Window,
    lowest: f64,
    highest: f64,
    rows: u64,
    /// Mean and number of days of each time of day.
    days: [(f64, f64); SLOTS],
    tails: Tails,
    maxima: [Maxima; 3],
    /// The last alarm, and the rows since.
    alarm: f64,
    since: u64,
}

#[derive(Clone, Debug)]
struct Tails {
    step: Tail,
    short: Tail,
    long: Tail,
    spread: Tail,
    rough: Tail,
    season: Tail,
}

impl Default for Series {
    fn default() -> Self {
        Self::new()
    }
}

impl Series {
    /// Nothing has been seen.
    pub fn new() -> Self {
        let tails = Tails {
            step: Tail::new(),
            short: Tail::new(),
            long: Tail::new(),
            spread: Tail::new(),
            rough: Tail::new(),
            season: Tail::new(),
        };
        Self {
            values: Window::new(MEMORY),
            lowest: f64::MAX,
            highest: f64::MIN,
            rows: 0,
            days: [(0.0, 0.0); SLOTS],
            tails,
            maxima: BLOCKS.map(Maxima::new),
            alarm: 0.0,
            since: 0,
        }
    }

    /// How unusual this row is after all before it: 0 to 1. A missing value is not, and teaches nothing; one
    /// that is not finite is missing.
    pub fn score(&mut self, at: Moment, value: Option<f64>) -> f64 {
        let Some(value) = value.filter(|value| value.is_finite()) else { return 0.0 };
        self.rows += 1;
        let rarity = self.rarity(at, value) * (self.rows as f64 / WARM).min(1.0);
        self.values.push(value);
        (self.lowest, self.highest) = (self.lowest.min(value), self.highest.max(value));
        let stands_out = self.maxima.iter_mut().map(|maxima| maxima.exceeds(rarity)).sum::<f64>() / 3.0;

        self.since += 1;
        let fading = self.alarm * (-(self.since as f64) / FADES).exp();
        if stands_out <= fading {
            return 0.0;
        }
        (self.alarm, self.since) = (stands_out, 0);
        1.0 - (-(stands_out - HELD * fading) / 8.0).exp()
    }

    /// Decades of rarity of the rarest view.
    fn rarity(&mut self, at: Moment, value: f64) -> f64 {
        let past = &self.values;
        let known = past.len();
        if known < SILENT {
            return 0.0;
        }
        let unit = self.unit();
        let units = |distance: f64| (distance.abs() / unit).min(FARTHEST);
        let median = past.quantile(0.5);
        let mean = |n: usize| (past.last(n).sum::<f64>() + value) / (past.last(n).count() + 1) as f64;
        let (short, middle, long) = (mean(5), mean(30), mean(100));
        let mut before = [0.0; 3];
        before.iter_mut().zip(past.last(3)).for_each(|(place, value)| *place = value);
        before.sort_by(f64::total_cmp);
        let [_, before, _] = before;
        let variance = past.last(30).map(|v| ((v - middle) / unit).powi(2)).sum::<f64>() / 30.0;
        let steps = past.last(51).zip(past.last(51).skip(1));
        let roughness = steps.map(|(a, b)| units(a - b)).sum::<f64>() / 50.0;
        let new = (value - self.highest).max(self.lowest - value) / (self.highest - self.lowest).max(unit);
        let usual = self.time_of_day(at, value);

        let tails = &mut self.tails;
        let season = tails.season.rarity(units(value - usual));
        [
            0.6 * tails.step.rarity(units(value - before)),
            tails.short.rarity(units(short - median)),
            tails.long.rarity(units(long - median)),
            0.8 * tails.spread.rarity(variance.sqrt().min(FARTHEST)),
            tails.rough.rarity(roughness),
            if known > DAYS_KNOWN { season } else { 0.0 },
            // Higher or lower than ever, by a twentieth of all that has been seen.
            if new > 0.05 { 9.0 + 15.0 * new.min(1.0) } else { 0.0 },
        ]
        .into_iter()
        .fold(0.0, f64::max)
    }

    /// What distances are measured in: the width of the middle of the values, never 0.
    fn unit(&self) -> f64 {
        let past = &self.values;
        let middle = past.quantile(0.9) - past.quantile(0.1);
        let most = 0.3 * (past.quantile(0.98) - past.quantile(0.02));
        middle.max(most).max(1e-6 * past.quantile(0.5).abs()).clamp(1e-280, 1e280)
    }

    /// The mean at this time of day so far, which then learns `value`.
    fn time_of_day(&mut self, at: Moment, value: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 47")]
        let slot = (at.seconds().rem_euclid(86_400.0) / 1_800.0) as usize;
        let Some((mean, n)) = self.days.get_mut(slot.min(SLOTS - 1)) else { return value };
        let usual = if *n == 0.0 { value } else { *mean };
        *n = (*n + 1.0).min(40.0);
        *mean = usual + (value - usual) / (*n + 1.0);
        usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(row: usize) -> Moment {
        Moment::parse(&(1_772_409_600 + row * 300).to_string()).unwrap()
    }

    fn noise(row: usize) -> f64 {
        let mixed = (row as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    }

    /// Three weeks of a daily rhythm with noise; the scores.
    fn scores(change: impl Fn(usize, f64) -> Option<f64>) -> Vec<f64> {
        let mut series = Series::new();
        (0..6_048)
            .map(|row| {
                let value =
                    50.0 + 20.0 * (row as f64 / 288.0 * std::f64::consts::TAU).sin() + 6.0 * noise(row);
                series.score(at(row), change(row, value))
            })
            .collect()
    }

    fn highest_at(scores: &[f64]) -> usize {
        (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap()
    }

    #[test]
    fn finds_spikes_shifts_and_changed_spread() {
        let spike = scores(|row, v| Some(if row == 4_000 { v + 60.0 } else { v }));
        assert_eq!(highest_at(&spike), 4_000);
        let shift = scores(|row, v| Some(if row >= 4_000 { v + 45.0 } else { v }));
        assert!((4_000..4_100).contains(&highest_at(&shift)));
        let wild =
            scores(|row, v| Some(if (4_000..4_200).contains(&row) { v + 60.0 * noise(row) } else { v }));
        assert!((4_000..4_200).contains(&highest_at(&wild)));
        let quiet = scores(|_, v| Some(v)).into_iter().skip(900).fold(0.0, f64::max);
        assert!(quiet < 0.5 * spike[4_000], "{quiet} without anything");
    }

    #[test]
    fn an_incident_is_told_once() {
        let shift = scores(|row, v| Some(if row >= 4_000 { v + 45.0 } else { v }));
        let high = shift[4_000..4_400].iter().filter(|score| **score > 0.3).count();
        assert!((1..=4).contains(&high), "{high}");
    }

    #[test]
    fn nothing_from_the_future_and_nothing_of_the_scale() {
        let whole = scores(|_, v| Some(v));
        let cut = scores(|row, v| Some(if row > 3_000 { -1e6 } else { v }));
        assert_eq!(whole[..=3_000], cut[..=3_000]);
        for factor in [2.0_f64.powi(-60), 2.0_f64.powi(60)] {
            assert_eq!(whole, scores(|_, v| Some(v * factor)));
        }
    }

    #[test]
    fn constant_and_missing_values_are_not_unusual() {
        assert!(scores(|_, _| Some(45.0)).iter().all(|score| *score == 0.0));
        assert!(scores(|_, _| Some(0.0)).iter().all(|score| *score == 0.0));
        assert!(scores(|_, _| None).iter().all(|score| *score == 0.0));
        let leaves = scores(|row, _| Some(if row < 5_000 { 0.0 } else { 1e-30 }));
        assert_eq!(highest_at(&leaves), 5_000);
    }

    proptest! {
        #[test]
        fn a_score_is_from_0_to_1(values in prop::collection::vec(any::<f64>(), 0..600), times in any::<u16>()) {
            let mut series = Series::new();
            for (row, value) in values.into_iter().enumerate() {
                let score = series.score(at(row ^ usize::from(times)), Some(value));
                prop_assert!((0.0..=1.0).contains(&score), "{}", score);
            }
        }
    }
}
