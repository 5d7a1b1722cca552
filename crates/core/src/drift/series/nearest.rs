//! How far the last rows are from the most alike stretch of rows before them.
//!
//! Whatever a series normally does (a rhythm, bursts, steps, noise of any kind), it has done before; what has
//! no like is unusual, without any assumption of what normal looks like. The distances to the stretches at
//! all lags are brought up to date row by row, so that a row costs one pass over the lags.

/// Rows of a stretch.
const ROWS: usize = 100;
/// The farthest lag that is looked at.
const FARTHEST: usize = 2_500;
/// A sum that has lost so much at once is taken anew, since what is left of it is rounding.
const WORN: f64 = 1e8;

/// The last rows, compared with those before at every lag.
#[derive(Clone, Debug, Default)]
pub(super) struct Nearest {
    /// The oldest first.
    past: Vec<f64>,
    /// Sums of squared differences over the last [`ROWS`] rows, at lag 1, 2, and so on.
    sums: Vec<f64>,
}

impl Nearest {
    /// Adds a value of at most 1e140; the root of the mean squared difference to the most alike stretch that
    /// does not overlap, once there are some.
    pub(super) fn distance(&mut self, value: f64) -> Option<f64> {
        if self.past.len() >= 2 * (FARTHEST + ROWS) {
            self.past.drain(..self.past.len() - FARTHEST - ROWS);
        }
        if self.sums.len() < self.past.len().min(FARTHEST) {
            self.sums.push(0.0);
        }
        for (sum, before) in self.sums.iter_mut().zip(self.past.iter().rev()) {
            *sum += (value - before) * (value - before);
        }
        self.past.push(value);
        self.leave();
        // Before three stretches there is little to compare with.
        let whole = (self.past.len() + 1).checked_sub(ROWS).filter(|whole| *whole > 2 * ROWS)?;
        let sums = self.sums.get(ROWS - 1..whole.min(self.sums.len()))?;
        let least = sums.iter().copied().fold(f64::MAX, f64::min);
        Some((least.max(0.0) / ROWS as f64).sqrt())
    }

    /// Takes out the row that is no longer of the last ones.
    fn leave(&mut self) {
        let split = self.past.len().checked_sub(ROWS + 1).and_then(|at| self.past.split_at_checked(at));
        let Some((older, [left, stretch @ ..])) = split else { return };
        let mut worn = false;
        for (sum, before) in self.sums.iter_mut().zip(older.iter().rev()) {
            let square = (left - before) * (left - before);
            *sum -= square;
            worn |= square > WORN * *sum;
        }
        if !worn {
            return;
        }
        for (lag, sum) in (1..).zip(self.sums.iter_mut().take(older.len())) {
            let begins = older.len() - lag;
            let Some([before, alike @ ..]) = self.past.get(begins..) else { continue };
            if (left - before) * (left - before) > WORN * *sum {
                *sum = stretch.iter().zip(alike).map(|(a, b)| (a - b) * (a - b)).sum();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same from scratch.
    fn plainly(values: &[f64]) -> Option<f64> {
        let last = values.len().checked_sub(ROWS).filter(|at| *at >= 2 * ROWS)?;
        let mean = |at: usize| {
            let pairs = values[at..].iter().zip(&values[last..]).take(ROWS);
            pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / ROWS as f64
        };
        (last.saturating_sub(FARTHEST)..=last - ROWS).map(mean).min_by(f64::total_cmp).map(f64::sqrt)
    }

    #[test]
    fn is_what_it_would_be_from_scratch() {
        let mut nearest = Nearest::default();
        let mut values = Vec::new();
        let mut state = 1_u64;
        for row in 0..6_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let noise = (state >> 40) as f64 / (1_u64 << 24) as f64;
            let wild = if row % 1_777 == 5 { 1e12 } else { 1.0 };
            values.push(wild * noise + f64::from(row % 50));
            let quick = nearest.distance(*values.last().unwrap());
            if row % 7 == 0 || row % 1_777 < 3 {
                match (quick, plainly(&values)) {
                    (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-3 * b, "{row}: {a} {b}"),
                    (a, b) => assert_eq!(a, b, "{row}"),
                }
            }
        }
    }
}
