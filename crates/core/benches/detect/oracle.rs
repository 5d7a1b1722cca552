//! The most that anybody could find: a test that is told the agent's true rate and noise and for what to look, and
//! that may spend all false alarms on this alone. One is told when to look, too; the other has to watch all week.
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
/// Weeks as they are, and injections, that are drawn.
const WEEKS: usize = 600;
const DRAWS: usize = 200;
/// Pauses, in seconds, after which an action begins something; 0: every action does.
const PAUSES: [f64; 4] = [0.0, 20.0, 60.0, 200.0];

/// The chance to find `tweak` in the `hours` from `hour` on: told when to look, and not told.
pub fn power(source: &dyn Source, hour: i64, hours: i64, tweak: &Tweak, seed: u64) -> [f64; 2] {
    let mut rng = Rng::new(seed);
    let mut source = source.copy();
    let active = (hour..hour + 168).filter(|at| source.mean(*at) > 0.5).count().max(1) as f64;
    // By pause, by draw, by hour.
    let mut draw = |tweak: &Tweak, draws: usize, hours: i64| -> Vec<Vec<Vec<f64>>> {
        let mut drawn = vec![Vec::new(); PAUSES.len()];
        for _ in 0..draws {
            source.redraw(rng.next());
            let times: Vec<Vec<f64>> = (hour..hour + hours).map(|at| source.times(at, tweak)).collect();
            for (pause, drawn) in PAUSES.iter().zip(&mut drawn) {
                let mut last = f64::MIN;
                let mut begun = |t: f64| t - std::mem::replace(&mut last, t) > *pause || *pause == 0.0;
                let count = |times: &Vec<f64>| times.iter().filter(|t| begun(**t)).count() as f64;
                drawn.push(times.iter().map(count).collect::<Vec<_>>());
            }
        }
        drawn
    };
    let (usual, more) = (draw(&NORMAL, WEEKS, 168), draw(tweak, DRAWS, hours));
    let hours = hours as usize;
    let level = (ALLOWED * hours as f64 / active).min(0.5);
    let mut best = [0.0_f64; 2];
    for (usual, more) in usual.iter().zip(&more) {
        let weigh = weights(usual, more);
        let of =
            |counts: &[f64]| -> Vec<f64> { counts.iter().zip(&weigh).map(|(n, (a, b))| n * a - b).collect() };
        let told = |counts: &Vec<f64>| of(&counts[..hours]).iter().sum::<f64>();
        let watching = |counts: &Vec<f64>| highest(&of(counts), hours);
        best[0] = best[0].max(found(usual, more, level, told));
        best[1] = best[1].max(found(usual, more, ALLOWED, watching));
    }
    best
}

/// For each hour what one more in it adds to the logarithm of the ratio of likelihoods, and what the hour takes off.
fn weights(usual: &[Vec<f64>], more: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let mean_of = |drawn: &[Vec<f64>], at: usize| {
        drawn.iter().filter_map(|counts| counts.get(at)).sum::<f64>() / drawn.len() as f64
    };
    // Sessions overlap: so many times as many actions are not as many times as many beginnings.
    let hours = more[0].len();
    let sum = |drawn: &[Vec<f64>]| (0..hours).map(|at| mean_of(drawn, at)).sum::<f64>();
    let multiple = (sum(more) / sum(usual).max(1e-6)).clamp(1.01, 50.0);
    (0..usual[0].len())
        .map(|at| {
            let mean = mean_of(usual, at).max(0.02);
            let variance =
                usual.iter().map(|counts| (counts[at] - mean).powi(2)).sum::<f64>() / usual.len() as f64;
            let shape = mean * mean / (variance - mean).max(1e-3 * mean * mean + 1e-9);
            let step = ((multiple * mean + shape) / (mean + shape)).ln();
            (multiple.ln() - step, shape * step)
        })
        .collect()
}

/// The highest sum over at most so many hours in a row.
fn highest(evidence: &[f64], hours: usize) -> f64 {
    let from = |at: usize| {
        let sums = evidence[at..].iter().take(hours).scan(0.0, |sum, e| {
            *sum += e;
            Some(*sum)
        });
        sums.fold(f64::MIN, f64::max)
    };
    (0..evidence.len()).map(from).fold(f64::MIN, f64::max)
}

/// The share of `more` beyond what the share `level` of `usual` exceeds.
fn found(usual: &[Vec<f64>], more: &[Vec<f64>], level: f64, statistic: impl Fn(&Vec<f64>) -> f64) -> f64 {
    let mut values: Vec<f64> = usual.iter().map(&statistic).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    let threshold = values[(level * values.len() as f64) as usize];
    more.iter().filter(|counts| statistic(counts) > threshold).count() as f64 / more.len() as f64
}
