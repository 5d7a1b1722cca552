//! The calibrated statistics of a baseline, and what is assumed of each before an agent is known.

use super::{
    codec::packed,
    gauge::{Gauge, Prior},
};

packed! {
    /// One gauge a statistic.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Gauges {
        pub hour: Gauge,
        pub gathered: Gauge,
        pub slow: Gauge,
        pub quick: Gauge,
        pub spells: Gauge,
        pub repeat: Gauge,
        pub novelty: Gauge,
        pub resource: Gauge,
        pub sequence: Gauge,
        pub mix: Gauge,
        pub surprise: Gauge,
        pub records: Gauge,
        pub errors: Gauge,
        pub names: Gauge,
    }
}

/// The first so many are measured against the rate.
const RATES: usize = 5;

const HOUR: Prior = Prior { mean: 1.5, spread: 0.6, floor: 0.4, trusted: false, weight: 1.06 };
const GATHERED: Prior = Prior { mean: 1.2, spread: 0.6, floor: 0.36, trusted: false, weight: 1.1 };
const SLOW: Prior = Prior { mean: 3.0, spread: 0.8, floor: 0.54, trusted: false, weight: 0.77 };
const QUICK: Prior = Prior { mean: 3.0, spread: 0.7, floor: 0.4, trusted: false, weight: 1.06 };
const SPELLS: Prior = Prior { mean: 1.2, spread: 0.6, floor: 0.4, trusted: false, weight: 1.9 };
const REPEAT: Prior = Prior { mean: 0.9, spread: 0.45, floor: 0.45, trusted: true, weight: 1.45 };
const NOVELTY: Prior = Prior { mean: 0.3, spread: 0.2, floor: 0.22, trusted: true, weight: 1.0 };
const RESOURCE: Prior = Prior { mean: 0.8, spread: 0.4, floor: 0.3, trusted: true, weight: 1.0 };
const SEQUENCE: Prior = Prior { mean: 2.0, spread: 0.8, floor: 0.4, trusted: true, weight: 1.0 };
const MIX: Prior = Prior { mean: 2.5, spread: 0.9, floor: 0.434, trusted: true, weight: 1.0 };
const SURPRISE: Prior = Prior { mean: 2.5, spread: 0.8, floor: 0.434, trusted: true, weight: 1.0 };
const RECORDS: Prior = Prior { mean: 1.5, spread: 0.8, floor: 0.5, trusted: true, weight: 0.7 };
const NAMES: Prior = Prior { mean: 1.5, spread: 0.8, floor: 0.434, trusted: true, weight: 1.0 };
const ERRORS: Prior = Prior { mean: 1.5, spread: 0.7, floor: 0.434, trusted: true, weight: 1.0 };

impl Gauges {
    pub(super) fn new() -> Self {
        Self {
            hour: Gauge::new(HOUR),
            gathered: Gauge::new(GATHERED),
            slow: Gauge::new(SLOW),
            quick: Gauge::new(QUICK),
            spells: Gauge::new(SPELLS),
            repeat: Gauge::new(REPEAT),
            novelty: Gauge::new(NOVELTY),
            resource: Gauge::new(RESOURCE),
            sequence: Gauge::new(SEQUENCE),
            mix: Gauge::new(MIX),
            surprise: Gauge::new(SURPRISE),
            records: Gauge::new(RECORDS),
            errors: Gauge::new(ERRORS),
            names: Gauge::new(NAMES),
        }
    }

    fn each(&mut self) -> [(&mut Gauge, Prior); 14] {
        [
            (&mut self.hour, HOUR),
            (&mut self.gathered, GATHERED),
            (&mut self.slow, SLOW),
            (&mut self.quick, QUICK),
            (&mut self.spells, SPELLS),
            (&mut self.repeat, REPEAT),
            (&mut self.novelty, NOVELTY),
            (&mut self.resource, RESOURCE),
            (&mut self.sequence, SEQUENCE),
            (&mut self.mix, MIX),
            (&mut self.surprise, SURPRISE),
            (&mut self.records, RECORDS),
            (&mut self.errors, ERRORS),
            (&mut self.names, NAMES),
        ]
    }

    /// The block of an hour is over, and that of a day with it. `rates`: the rate is known well enough for
    /// what is measured against it to mean something.
    pub(super) fn close(&mut self, day_too: bool, learn: bool, rates: bool) {
        for (at, (gauge, prior)) in self.each().into_iter().enumerate() {
            let learn = learn && (rates || at >= RATES);
            gauge.close_hour(prior, learn);
            if day_too {
                gauge.close_day(prior, learn);
            }
        }
    }
}
