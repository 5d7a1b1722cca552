//! How rare a value of a statistic is, by the statistic's own past.

use super::sorted::Window;

fn p(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The upper tail of a statistic.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    past: Window,
    from: f64,
    gfloor: f64,
    sfloor: f64,
    mode: f64,
    clip: f64,
}

impl Tail {
    pub(super) fn new(from: f64) -> Self {
        Self { past: Window::new(p("TMEM", 3000.0) as usize), from, gfloor: p("GF", 0.06), sfloor: p("SF", 0.02), mode: p("MODE", 2.0), clip: p("CLIP", 12.0) }
    }

    /// Decades of rarity of `value`, which is then part of the past.
    pub(super) fn rarity(&mut self, value: f64) -> f64 {
        let past = &self.past;
        if past.len() < 30 {
            self.past.push(value);
            return 0.0;
        }
        let from = past.quantile(self.from).max(1e-9);
        let scale = past.excess(self.from).max(0.05 * from).max(self.sfloor);
        let base = -(1.0 - self.from).log10();
        let rarity = if value <= from {
            0.0
        } else {
            let expo = 0.434 * (value - from) / scale;
            let gamma = past.log_excess(self.from).max(self.gfloor);
            let pareto = (value / from).log10() / gamma * 0.434 * 2.303;
            base + if self.mode > 1.5 { expo.min(pareto) } else if self.mode > 0.5 { pareto } else { expo }
        };
        // What stands far out teaches that it can happen, not how far.
        self.past.push(value.min(from + self.clip * scale));
        rarity
    }
}
