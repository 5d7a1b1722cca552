//! From what was measured to figures: the median, over all rounds, of what one round says.

use std::time::Duration;

use super::load::Report;

/// One subject under one number of connections, in one round.
#[derive(Clone, Debug)]
pub struct Sample {
    /// From 0.
    pub round: usize,
    /// Connections of the load.
    pub connections: usize,
    /// The subject's name.
    pub subject: &'static str,
    /// What the load generator saw.
    pub load: Report,
    /// CPU time that the server used meanwhile.
    pub cpu: Duration,
}

impl Sample {
    /// Nanoseconds of the server's CPU for each request.
    #[must_use]
    pub fn cpu_per_request(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let requests = self.load.requests as f64;
        self.cpu.as_secs_f64() * 1e9 / requests
    }
}

/// A number that a sample has.
pub type Figure = fn(&Sample) -> f64;

/// All samples of a run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// In the order in which they were taken.
    pub samples: Vec<Sample>,
}

impl Run {
    /// One figure of a subject, round by round. Empty if it was not measured.
    pub fn figures(&self, subject: &str, connections: usize, figure: Figure) -> impl Iterator<Item = f64> {
        self.of(subject, connections).map(figure)
    }

    /// The median of the ratios that each round has between two subjects. `None` if no round has both.
    #[must_use]
    pub fn ratio(&self, subject: &str, to: &str, connections: usize, figure: Figure) -> Option<f64> {
        let ratios: Vec<_> = self
            .of(subject, connections)
            .filter_map(|sample| {
                let other = self.of(to, connections).find(|other| other.round == sample.round)?;
                Some(figure(sample) / figure(other))
            })
            .collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    fn of(&self, subject: &str, connections: usize) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |s| s.subject == subject && s.connections == connections)
    }

    /// A Markdown table for one number of connections: for each subject the median of each figure, and in
    /// brackets the median of its per-round ratios to `baseline`.
    #[must_use]
    pub fn table(&self, subjects: &[&'static str], baseline: &str, connections: usize) -> String {
        let columns: [(Figure, f64); 4] = [
            (|s| s.load.per_second, 1.0),
            (|s| s.load.p50, 1e3),
            (|s| s.load.p99, 1e3),
            (Sample::cpu_per_request, 1e3),
        ];
        let plural = if connections == 1 { "" } else { "s" };
        let mut table = format!(
            "| {connections} connection{plural} | requests/s | p50 µs | p99 µs | server CPU µs/request |\n|---|---|---|---|---|\n"
        );
        for subject in subjects {
            let mut cells = String::new();
            for (figure, unit) in columns {
                let typical = median(self.figures(subject, connections, figure).collect());
                let ratio = self.ratio(subject, baseline, connections, figure);
                if let Some(ratio) = ratio {
                    cells += &format!(" {} ({}) |", number(typical / unit), number(ratio));
                }
            }
            if !cells.is_empty() {
                table += &format!("| {subject} |{cells}\n");
            }
        }
        table
    }
}

/// Three figures that count.
fn number(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// The middle one, or the mean of the middle two; not a number if there are none.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.get(middle), figures.len() % 2) {
        (Some(only), 1) => *only,
        (Some(upper), _) => {
            figures.get(middle.wrapping_sub(1)).map_or(*upper, |lower| f64::midpoint(*lower, *upper))
        }
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: usize, subject: &'static str, per_second: f64) -> Sample {
        let load = Report { requests: 100, measured: 90, per_second, p50: 20_000.0, p99: 50_000.0 };
        Sample { round, connections: 1, subject, load, cpu: Duration::from_millis(2) }
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_only_then_the_median() {
        // The machine was ten times slower in round 1: the ratio does not mind, the medians would.
        let samples = [(0, 100.0, 50.0), (1, 10.0, 6.0), (2, 100.0, 80.0)]
            .into_iter()
            .flat_map(|(round, noop, check)| [sample(round, "noop", noop), sample(round, "check", check)])
            .collect();
        let run = Run { samples };
        assert_eq!(run.ratio("check", "noop", 1, |s| s.load.per_second), Some(0.6));
        assert_eq!(run.ratio("check", "noop", 16, |s| s.load.per_second), None);
        let table = run.table(&["noop", "check", "absent"], "noop", 1);
        assert!(
            table.contains("| check | 50.0 (0.60) | 20.0 (1.00) | 50.0 (1.00) | 20.0 (1.00) |"),
            "{table}"
        );
        assert!(!table.contains("absent"));
    }
}
