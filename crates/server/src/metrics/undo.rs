//! Executions, snapshots and rollbacks, counted.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::time::Duration;

/// The upper bounds of how long a snapshot takes, in seconds.
const DURATIONS: [f64; 10] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

/// Guarded executions that the policies allowed.
#[derive(Default)]
pub(crate) struct Executions {
    pub(crate) done: Counter,
    pub(crate) failed: Counter,
    pub(crate) unknown: Counter,
}

/// Snapshots.
pub(crate) struct Snapshots {
    taken: Counter,
    bytes_written: Counter,
    seconds: Histogram,
    pub(crate) failed: Counter,
    pub(crate) removed: Counter,
    pub(crate) live: Gauge,
    pub(crate) bytes: Gauge,
    pub(crate) missing: Gauge,
}

/// Rollbacks, dry runs aside.
#[derive(Default)]
pub(crate) struct Rollbacks {
    pub(crate) done: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    pub(crate) unknown: Counter,
}

impl Executions {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("executions_done", "Guarded executions that took place", all.done.clone());
        registry.register(
            "executions_failed",
            "Guarded executions that were allowed and did not take place",
            all.failed.clone(),
        );
        registry.register(
            "executions_unknown",
            "Guarded executions of which the commit was not answered",
            all.unknown.clone(),
        );
        all
    }
}

impl Snapshots {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self {
            taken: Counter::default(),
            bytes_written: Counter::default(),
            seconds: Histogram::new(DURATIONS),
            failed: Counter::default(),
            removed: Counter::default(),
            live: Gauge::default(),
            bytes: Gauge::default(),
            missing: Gauge::default(),
        };
        registry.register("snapshots_taken", "Snapshots taken", all.taken.clone());
        registry.register("snapshots_written_bytes", "Bytes of snapshots taken", all.bytes_written.clone());
        registry.register(
            "snapshot_duration_seconds",
            "From the first record to the disk",
            all.seconds.clone(),
        );
        registry.register("snapshots_failed", "Snapshots that could not be taken", all.failed.clone());
        registry.register("snapshots_removed", "Snapshots removed", all.removed.clone());
        registry.register("snapshots", "Snapshots kept, as of the last clean-up", all.live.clone());
        registry.register("snapshots_bytes", "Their bytes, as of the last clean-up", all.bytes.clone());
        registry.register(
            "snapshots_missing",
            "Snapshots on record of which the file was missing at the start",
            all.missing.clone(),
        );
        all
    }

    pub(crate) fn taken(&self, bytes: u64, took: Duration) {
        self.taken.inc();
        self.bytes_written.inc_by(bytes);
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Rollbacks {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register("rollbacks_done", "Rollbacks that took place", all.done.clone());
        registry.register("rollbacks_refused", "Rollbacks refused for conflicts", all.refused.clone());
        registry.register("rollbacks_failed", "Rollbacks that could not be done", all.failed.clone());
        registry.register(
            "rollbacks_unknown",
            "Rollbacks of which the commit was not answered",
            all.unknown.clone(),
        );
        all
    }
}
