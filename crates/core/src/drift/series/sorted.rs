//! The last values, in order of time and of size.

use std::collections::VecDeque;

/// A sliding window whose quantiles can be asked for at any time.
#[derive(Clone, Debug)]
pub(super) struct Window {
    capacity: usize,
    recent: VecDeque<f64>,
    sorted: Vec<f64>,
}

impl Window {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, recent: VecDeque::new(), sorted: Vec::new() }
    }

    /// Adds a finite value; the oldest leaves when the window is full.
    pub(super) fn push(&mut self, value: f64) {
        if self.recent.len() >= self.capacity
            && let Some(oldest) = self.recent.pop_front()
        {
            let at = self.sorted.partition_point(|v| *v < oldest);
            if at < self.sorted.len() {
                self.sorted.remove(at);
            }
        }
        self.recent.push_back(value);
        let at = self.sorted.partition_point(|v| *v < value);
        self.sorted.insert(at, value);
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The value below which this share of the window lies; 0 when it is empty.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the window")]
        let at = (share * last as f64).round() as usize;
        self.sorted.get(at.min(last)).copied().unwrap_or(0.0)
    }

    /// The mean of the window and `value`.
    pub(super) fn mean_with(&self, value: f64) -> f64 {
        (self.sorted.iter().sum::<f64>() + value) / (self.sorted.len() + 1) as f64
    }

    /// How far the values above `from`, the quantile of `share`, lie beyond it on average: as a distance,
    /// and as the logarithm of a factor.
    pub(super) fn excess(&self, share: f64, from: f64) -> (f64, f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the window")]
        let near = (share * self.sorted.len().saturating_sub(1) as f64) as usize;
        let tail = self.sorted.get(near..).unwrap_or_default();
        let above = tail.get(tail.partition_point(|v| *v <= from)..).unwrap_or_default();
        let n = above.len().max(1) as f64;
        let sum = above.iter().fold((0.0, 0.0), |sum, v| (sum.0 + (v - from), sum.1 + (v / from).ln()));
        (sum.0 / n, sum.1 / n)
    }

    /// How rare a value so far out is, on either side, in decades of the window's own share.
    pub(super) fn surprise(&self, value: f64) -> f64 {
        let (below, known) = (self.sorted.partition_point(|v| *v < value), self.sorted.len());
        let not_above = self.sorted.partition_point(|v| *v <= value);
        let beyond = not_above.min(known - below) as f64;
        -(2.0 * (beyond + 0.5) / (known + 1) as f64).min(1.0).log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_values_sorted() {
        let mut window = Window::new(5);
        for value in [9.0, 1.0, 5.0, 3.0, 3.0, 7.0, 2.0] {
            window.push(value);
        }
        assert_eq!(window.sorted, [2.0, 3.0, 3.0, 5.0, 7.0]);
        assert_eq!(window.surprise(3.0), 0.0);
        assert!(window.surprise(8.0) > window.surprise(7.0));
        assert_eq!((window.quantile(0.0), window.quantile(0.5), window.quantile(1.0)), (2.0, 3.0, 7.0));
        assert_eq!(window.excess(0.5, 3.0).0, 3.0);
        assert_eq!(window.mean_with(10.0), 5.0);
        assert_eq!(Window::new(5).quantile(0.5), 0.0);
    }
}
