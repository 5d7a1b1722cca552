//! What the server counts about itself, in the texts that Prometheus reads.

mod drift;
mod sinks;
mod text;
mod undo;

pub(crate) use text::Format;

use crate::app::pulse::Pulse;
use checkrein_core::{
    action::Category,
    decision::{Decision, Verdict},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{sync::Arc, time::Duration};

/// The upper bounds of the duration histogram, in seconds.
const DURATIONS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
const VERDICTS: [Verdict; 3] = [Verdict::Allow, Verdict::Hold, Verdict::Block];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CheckLabels {
    verdict: &'static str,
    category: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

/// The counters, made once; counting touches an atomic and takes no lock.
pub(crate) struct Metrics {
    registry: Registry,
    /// By verdict, then category, in the order of [`VERDICTS`] and [`Category::ALL`].
    checks: Vec<(Verdict, Category, Counter)>,
    durations: Histogram,
    pub(crate) not_recorded: Counter,
    /// How long targets took to count.
    pub(crate) counts: Histogram,
    pub(crate) counts_unknown: Counter,
    pub(crate) approvals_decided: Counter,
    pub(crate) policies: Gauge,
    pub(crate) refused: Counter,
    pub(crate) streams: Gauge,
    pub(crate) executions: undo::Executions,
    pub(crate) snapshots: undo::Snapshots,
    pub(crate) rollbacks: undo::Rollbacks,
    pub(crate) sinks: sinks::Sinks,
    pub(crate) drift: drift::Drift,
    pub(crate) unsettled: Gauge,
    log_entries: Gauge,
    clock_ahead: Gauge,
    /// For people: the last minutes. Its lock is held for a few instructions.
    pub(crate) pulse: Pulse,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("checkrein");
        let family = Family::<CheckLabels, Counter>::default();
        registry.register("checks", "Checks decided and put on record", family.clone());
        let checks = VERDICTS
            .into_iter()
            .flat_map(|v| Category::ALL.into_iter().map(move |c| (v, c)))
            .map(|(v, c)| {
                let labels = CheckLabels { verdict: v.as_str(), category: c.as_str() };
                (v, c, family.get_or_create_owned(&labels))
            })
            .collect();
        let durations = Histogram::new(DURATIONS);
        registry.register(
            "check_duration_seconds",
            "From reading a check to its durable decision",
            durations.clone(),
        );
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The running version", build);
        let metrics = Self {
            checks,
            durations,
            not_recorded: Counter::default(),
            counts: Histogram::new(DURATIONS),
            counts_unknown: Counter::default(),
            approvals_decided: Counter::default(),
            policies: Gauge::default(),
            refused: Counter::default(),
            streams: Gauge::default(),
            executions: undo::Executions::register(&mut registry),
            snapshots: undo::Snapshots::register(&mut registry),
            rollbacks: undo::Rollbacks::register(&mut registry),
            sinks: sinks::Sinks::register(&mut registry),
            drift: drift::Drift::register(&mut registry),
            unsettled: Gauge::default(),
            log_entries: Gauge::default(),
            clock_ahead: Gauge::default(),
            pulse: Pulse::default(),
            registry: Registry::default(),
        };
        registry.register(
            "checks_not_recorded",
            "Checks refused because they could not be put on record",
            metrics.not_recorded.clone(),
        );
        registry.register(
            "count_duration_seconds",
            "How long a target took to count what an action would touch",
            metrics.counts.clone(),
        );
        registry.register(
            "counts_unknown",
            "Checks on a connected target whose records could not be counted",
            metrics.counts_unknown.clone(),
        );
        registry.register(
            "approvals_decided",
            "Approvals answered by a person",
            metrics.approvals_decided.clone(),
        );
        registry.register("requests_refused", "Requests answered with an error", metrics.refused.clone());
        registry.register(
            "unsettled",
            "Executions and rollbacks of which it is not known yet whether they took place",
            metrics.unsettled.clone(),
        );
        registry.register("policies", "Policies in force", metrics.policies.clone());
        registry.register("streams", "Open event streams", metrics.streams.clone());
        registry.register(
            "log_last_entry",
            "Number of the last entry of the action log",
            metrics.log_entries.clone(),
        );
        registry.register(
            "clock_ahead_seconds",
            "How far time is held ahead of the machine's clock; over 60, something is wrong with that clock",
            metrics.clock_ahead.clone(),
        );
        Self { registry, ..metrics }
    }

    /// Counts a decision.
    pub(crate) fn decided(&self, decision: &Decision, took: Duration) {
        let counter = self.checks.iter().find(|(v, c, _)| *v == decision.verdict && *c == decision.category);
        if let Some((_, _, counter)) = counter {
            counter.inc();
        }
        if let Some(drift) = &decision.drift {
            self.drift.found(drift);
        }
        self.durations.observe(took.as_secs_f64());
        self.pulse.beat(decision.logged_at, decision.verdict);
    }

    /// Everything as text. `head` is the last entry of the log, `ahead` how many seconds time is held back.
    pub(crate) fn text(&self, format: Format, head: u64, ahead: i64) -> String {
        self.clock_ahead.set(ahead);
        self.log_entries.set(i64::try_from(head).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing into a String has no way to fail.
        let _infallible = encode(&mut text, &self.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Prometheus => text::classic(&text),
        }
    }
}

/// Counts itself in a gauge for as long as it lives.
pub(crate) struct Counted(Arc<crate::app::App>);

impl Counted {
    pub(crate) fn stream(app: Arc<crate::app::App>) -> Self {
        app.metrics().streams.inc();
        Self(app)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics().streams.dec();
    }
}
