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

    /// How many values of the window are at least `value`.
    pub(super) fn at_least(&self, value: f64) -> usize {
        self.sorted.len() - self.sorted.partition_point(|v| *v < value)
    }

    /// The mean of what lies above this quantile, less the quantile.
    pub(super) fn excess(&self, share: f64) -> f64 {
        let from = self.quantile(share);
        let at = self.sorted.partition_point(|v| *v <= from);
        let above = self.sorted.get(at..).unwrap_or_default();
        if above.is_empty() { 0.0 } else { above.iter().sum::<f64>() / above.len() as f64 - from }
    }

    /// The last `n` values, the newest first.
    pub(super) fn last(&self, n: usize) -> impl Iterator<Item = f64> {
        self.recent.iter().rev().take(n).copied()
    }
}

impl Window {
    /// The mean of the logarithms of what lies above this quantile, in units of it.
    pub(super) fn log_excess(&self, share: f64) -> f64 {
        let from = self.quantile(share).max(1e-9);
        let at = self.sorted.partition_point(|v| *v <= from);
        let above = self.sorted.get(at..).unwrap_or_default();
        if above.is_empty() { 0.0 } else { above.iter().map(|v| (v / from).ln()).sum::<f64>() / above.len() as f64 }
    }
}
