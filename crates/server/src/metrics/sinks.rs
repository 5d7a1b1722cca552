//! The sinks, as Prometheus sees them. Their numbers are taken over when somebody asks.

use checkrein_signals::{Circuit, SinkReport};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    sink: String,
}

type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// By sink.
#[derive(Default)]
pub(crate) struct Sinks {
    queued: Gauges,
    circuit_open: Gauges,
    failing: Gauges,
    behind: Gauges,
    delivered: Counters,
    failed: Counters,
    dead: Counters,
    records: Counters,
    lost: Counters,
    /// Those of which there are numbers.
    known: Mutex<BTreeSet<String>>,
}

impl Sinks {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("sink_queued", "Messages that wait for a sink", all.queued.clone());
        registry.register(
            "sink_circuit_open",
            "1 while a sink is left alone, or tried with one message, after failures",
            all.circuit_open.clone(),
        );
        registry.register(
            "sink_failing",
            "1 while a sink takes no messages or no records, or since it refused one for good",
            all.failing.clone(),
        );
        registry.register(
            "sink_records_behind",
            "Entries of the action log that a sink was not sent yet",
            all.behind.clone(),
        );
        for (name, help, family) in [
            ("sink_delivered", "Messages that a sink took", &all.delivered),
            ("sink_failed", "Attempts to deliver that failed", &all.failed),
            ("sink_dead", "Messages that were given up", &all.dead),
            ("sink_records", "Records of the stream of all actions that a sink took", &all.records),
            ("sink_records_lost", "Records that never reached a sink", &all.lost),
        ] {
            registry.register(name, help, family.clone());
        }
        all
    }

    /// Takes the numbers over; `head` is the last entry of the action log.
    pub(crate) fn update(&self, reports: &BTreeMap<String, SinkReport>, head: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in known.iter().filter(|name| !reports.contains_key(*name)) {
            // Or it would be failing for ever.
            let labels = Labels { sink: gone.clone() };
            for gauges in [&self.queued, &self.circuit_open, &self.failing, &self.behind] {
                gauges.remove(&labels);
            }
            for counters in [&self.delivered, &self.failed, &self.dead, &self.records, &self.lost] {
                counters.remove(&labels);
            }
        }
        *known = reports.keys().cloned().collect();
        for (name, report) in reports {
            let labels = Labels { sink: name.clone() };
            let queued = i64::try_from(report.queued).unwrap_or(i64::MAX);
            self.queued.get_or_create(&labels).set(queued);
            self.circuit_open.get_or_create(&labels).set(i64::from(report.circuit != Circuit::Closed));
            self.failing.get_or_create(&labels).set(i64::from(report.failing));
            if let Some(fed) = report.fed {
                let behind = i64::try_from(head.saturating_sub(fed)).unwrap_or(i64::MAX);
                self.behind.get_or_create(&labels).set(behind);
            } else {
                self.behind.remove(&labels);
            }
            for (family, total) in [
                (&self.delivered, report.delivered),
                (&self.failed, report.failed),
                (&self.dead, report.dead),
                (&self.records, report.records),
                (&self.lost, report.lost),
            ] {
                let counter = family.get_or_create(&labels);
                counter.inc_by(total.saturating_sub(counter.get()));
            }
        }
    }
}
