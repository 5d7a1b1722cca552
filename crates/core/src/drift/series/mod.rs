//! A plain series of numbers, scored row by row as it comes.
//!
//! Four views of the series: values, steps and levels beyond all before ([`record`]), stretches that have no
//! like before ([`nearest`]), rows that are unusual one after the other, and rows far from those just before.
//! Each says how rare that is by its own past ([`tail`]), and by how much it stands out among its highest
//! values in earlier blocks of rows ([`maxima`]); the view in which the present stands out most counts, once
//! an incident. Nothing is known of a series beforehand: not its length, its range or its rhythm.

mod maxima;
mod moment;
mod nearest;
mod record;
mod sorted;
mod tail;

pub use moment::Moment;

use maxima::Maxima;
use nearest::Nearest;
use record::Record;
use sorted::Window;
use std::collections::VecDeque;
use tail::Tail;

/// Values remembered.
const MEMORY: usize = 2_500;
/// Rows before anything is said, and over which trust grows.
const SILENT: usize = 20;
const WARM: f64 = 300.0;
/// Rows over which unusual values gather.
const GATHER: usize = 150;
/// Rows just before: for a level and a step, and for how far a row may lie from them.
const STEP: usize = 9;
const NEAR: usize = 200;
/// A row leaves those just before for no reason more often than other views speak, so this one weighs less.
const LOCAL: f64 = 0.4;
/// What stands out by more is no clearer; or else one great incident would hide those after it for long.
const CLEAR: f64 = 2.5;
/// After an alarm another one must stand out more; that fades over so many rows.
const FADES: f64 = 80.0;
/// Incidents do not come ever more often as a series goes on, chance does: after so many rows it takes more
/// to stand out, by this power of the rows; but what stands out far enough is told at any age.
const YOUNG: f64 = 3_000.0;
const OLD: f64 = 30_000.0;
const AGEING: f64 = 0.5;
/// What is unusual beyond this is no more unusual, in units of the series.
const FARTHEST: f64 = 1e9;
/// Values are taken for at most this, so that sums of squares are finite.
const LARGEST: f64 = 1e140;

/// The detector of one series.
#[derive(Clone, Debug)]
pub struct Series {
    values: Window,
    /// The last values: for steps, and for the level and spread near by.
    step: Window,
    near: Window,
    rows: u64,
    /// Of values, of steps, and of levels.
    records: [Record; 3],
    nearest: Nearest,
    surprises: VecDeque<f64>,
    /// Of distances, of surprises, and of how far a row lies from those just before.
    tails: [Tail; 3],
    /// One a view.
    maxima: [Maxima; 4],
    /// What the last alarm still asks of another one.
    fading: f64,
}

impl Default for Series {
    fn default() -> Self {
        Self::new()
    }
}

impl Series {
    /// Nothing has been seen.
    pub fn new() -> Self {
        Self {
            values: Window::new(MEMORY),
            step: Window::new(STEP),
            near: Window::new(NEAR),
            rows: 0,
            records: Default::default(),
            nearest: Nearest::default(),
            surprises: VecDeque::new(),
            tails: [Tail::new(), Tail::new(), Tail::new()],
            maxima: [Maxima::new(); 4],
            fading: 0.0,
        }
    }

    /// How unusual this row is after all before it: 0 to 1. A missing value is not, and teaches nothing; one
    /// that is not finite is missing.
    pub fn score(&mut self, value: Option<f64>) -> f64 {
        let Some(value) = value.filter(|value| value.is_finite()) else { return 0.0 };
        let value = value.clamp(-LARGEST, LARGEST);
        self.rows += 1;
        let rows = self.rows as f64;
        let rarities = self.rarities(value);
        for window in [&mut self.values, &mut self.step, &mut self.near] {
            window.push(value);
        }
        let weights = [1.0, 1.0, 1.0, LOCAL];
        let views = self.maxima.iter_mut().zip(rarities).zip(weights);
        let stands_out = views
            .map(|((maxima, rarity), weight)| weight * maxima.exceeds(rarity * (rows / WARM).min(1.0)))
            .fold(0.0, f64::max);
        let stands_out = (stands_out * (YOUNG / (rows.min(OLD) + YOUNG)).powf(AGEING)).min(CLEAR);

        self.fading *= (-1.0 / FADES).exp();
        let more = stands_out - self.fading;
        if more <= 0.0 {
            return 0.0;
        }
        self.fading = stands_out;
        more / CLEAR
    }

    /// Decades of rarity in each view.
    fn rarities(&mut self, value: f64) -> [f64; 4] {
        let known = self.values.len();
        let distance = self.nearest.distance(value);
        let unit = self.unit();
        let [values, steps, levels] = &mut self.records;
        let record = values.rarity(value, unit);
        if known < SILENT {
            return [0.0; 4];
        }
        let step = value - self.step.quantile(0.5);
        let record = record
            .max(steps.rarity(step, 0.3 * unit))
            .max(levels.rarity(self.step.mean_with(value), 0.3 * unit));
        self.surprises.push_back(self.values.surprise(value));
        if self.surprises.len() > GATHER {
            self.surprises.pop_front();
        }
        let surprise = self.surprises.iter().sum::<f64>() / self.surprises.len() as f64;
        let spread = (self.near.quantile(0.9) - self.near.quantile(0.1)).max(0.05 * unit);
        let off = (value - self.near.quantile(0.5)).abs() / spread;
        let [distances, surprises, locals] = &mut self.tails;
        [
            record,
            distance.map_or(0.0, |distance| distances.rarity((distance / unit).min(FARTHEST))),
            surprises.rarity(surprise),
            if known < 3 * SILENT { 0.0 } else { locals.rarity(off.min(FARTHEST)) },
        ]
    }

    /// What distances are measured in: the width of the middle of the values, never 0.
    fn unit(&self) -> f64 {
        let past = &self.values;
        let middle = past.quantile(0.9) - past.quantile(0.1);
        let most = 0.3 * (past.quantile(0.98) - past.quantile(0.02));
        middle.max(most).max(1e-6 * past.quantile(0.5).abs()).max(1e-280)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
                series.score(change(row, value))
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
        let quiet = scores(|_, v| Some(v)).into_iter().skip(900).filter(|score| *score > 0.25).count();
        assert!(quiet <= 2 && spike[4_000] > 0.5, "{quiet} without anything, {}", spike[4_000]);
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
        fn a_score_is_from_0_to_1(values in prop::collection::vec(any::<f64>(), 0..600)) {
            let mut series = Series::new();
            for value in values {
                let score = series.score(Some(value));
                prop_assert!((0.0..=1.0).contains(&score), "{}", score);
            }
        }
    }
}
