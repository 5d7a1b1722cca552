//! How rare a value of a statistic is, by the statistic's own past.

use super::sorted::Window;

/// Values remembered.
const MEMORY: usize = 8_000;
/// Values before anything is said.
const SILENT: usize = 30;
/// The tail begins above this share of the past, which is so many decades.
const FROM: f64 = 0.97;
const DECADES: f64 = 1.52;
/// The tail is taken to reach at least so far, as a factor (logarithm) and as a distance.
const LEAST_FACTOR: f64 = 0.15;
const LEAST_DISTANCE: f64 = 0.01;
/// What stands farther out than so many scales teaches only that it can happen.
const TAUGHT: f64 = 12.0;

/// The upper tail of a statistic that is at least 0.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    past: Window,
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { past: Window::new(MEMORY) }
    }

    /// Decades of rarity of `value`, which is then part of the past. The tail is taken for exponential or
    /// for a power law, whichever finds the value less rare.
    pub(super) fn rarity(&mut self, value: f64) -> f64 {
        if self.past.len() < SILENT {
            self.past.push(value);
            return 0.0;
        }
        let from = self.past.quantile(FROM).max(1e-9);
        let mut distance = LEAST_DISTANCE.max(0.05 * from);
        let mut rarity = 0.0;
        if value > from {
            let (excess, factor) = self.past.excess(FROM, from);
            distance = distance.max(excess);
            let exponential = (value - from) / distance / std::f64::consts::LN_10;
            let power = (value / from).log10() / factor.max(LEAST_FACTOR);
            rarity = DECADES + exponential.min(power);
        }
        self.past.push(value.min(from + TAUGHT * distance));
        rarity
    }
}
