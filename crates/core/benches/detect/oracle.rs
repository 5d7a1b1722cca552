//! The most that anybody could find: a test that is told the agent's true rate and noise, when to look and for
//! what, and that may spend all false alarms on this alone.
//!
//! Two simple hypotheses, the hour as usual and so many times as much: no test is better than the one that
//! compares their likelihoods (Neyman and Pearson). Counts are taken for negative binomial with the mean and the
//! variance that the generator really has; where hours hang together, the threshold, drawn from the generator,
//! is still exact and the test nearly the best. Where actions come in sessions, counting those is better still, so
//! the oracle may count actions after a pause instead. What a detector finds is to be compared with this, not with 100%.

use crate::{
    fleet::{NORMAL, Source, Tweak},
    rng::Rng,
};

/// False alarms per agent-week.
const ALLOWED: f64 = 0.02;
const DRAWS: usize = 1_200;
/// Pauses, in seconds, after which an action begins something.
const PAUSES: [f64; 3] = [20.0, 60.0, 200.0];

/// The chance to find `tweak` in the `hours` from `hour` on.
pub fn power(source: &dyn Source, hour: i64, hours: i64, tweak: &Tweak, seed: u64) -> f64 {
    let mut rng = Rng::new(seed);
    let mut source = source.copy();
    // The count of each hour, and behind them how many actions came after each pause.
    let mut draw = |tweak: &Tweak, n: usize| -> Vec<Vec<f64>> {
        (0..n)
            .map(|_| {
                source.redraw(rng.next());
                let times: Vec<Vec<f64>> = (hour..hour + hours).map(|at| source.times(at, tweak)).collect();
                let all: Vec<f64> = times.iter().flatten().copied().collect();
                let begun = PAUSES
                    .map(|pause| all.windows(2).filter(|pair| pair[1] - pair[0] > pause).count() as f64);
                times.iter().map(|times| times.len() as f64).chain(begun).collect()
            })
            .collect()
    };
    let (usual, more) = (draw(&NORMAL, DRAWS), draw(tweak, DRAWS / 4));
    let moments: Vec<(f64, f64)> = (0..hours as usize)
        .map(|at| {
            let n = usual.len() as f64;
            let mean = usual.iter().map(|counts| counts[at]).sum::<f64>() / n;
            let variance = usual.iter().map(|counts| (counts[at] - mean).powi(2)).sum::<f64>() / n;
            let shape = mean * mean / (variance - mean).max(1e-3 * mean * mean + 1e-9);
            (mean, shape)
        })
        .collect();
    let ratio = |counts: &[f64]| -> f64 {
        let terms = counts.iter().zip(&moments).filter(|(_, (mean, _))| *mean > 0.0);
        terms
            .map(|(count, (mean, shape))| {
                let step = ((tweak.rate * mean + shape) / (mean + shape)).ln();
                count * (tweak.rate.ln() - step) - shape * step
            })
            .sum()
    };
    let total = |counts: &[f64]| counts[..hours as usize].iter().sum::<f64>();
    // So many such windows a week.
    let active = (hour..hour + 168).filter(|at| source.mean(*at) > 0.5).count().max(1) as f64;
    let level = (ALLOWED * hours as f64 / active).min(0.5);
    let found = |statistic: &dyn Fn(&[f64]) -> f64| {
        let mut usual: Vec<f64> = usual.iter().map(|counts| statistic(counts)).collect();
        usual.sort_by(|a, b| b.total_cmp(a));
        let threshold = usual[(level * usual.len() as f64) as usize];
        more.iter().filter(|counts| statistic(counts) > threshold).count() as f64 / more.len() as f64
    };
    let begun = |at: usize| found(&|counts: &[f64]| counts[hours as usize + at]);
    (0..PAUSES.len()).map(begun).fold(found(&ratio).max(found(&total)), f64::max)
}
