//! How each sink is, for people and metrics.

use crate::queue::Circuit;
use checkrein_core::time::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// How a sink is. Numbers count since the server started, where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkReport {
    /// Messages that wait now.
    pub queued: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages given up.
    pub dead: u64,
    /// Whether the sink is tried.
    pub circuit: Circuit,
    /// Whether it counts as failing.
    pub failing: bool,
    /// When a message or a batch was last delivered.
    pub last_delivered_at: Option<Timestamp>,
    /// When and why an attempt last failed.
    pub last_error: Option<(Timestamp, String)>,
    /// The last entry of the log that was sent, where the sink takes all actions.
    pub fed: Option<u64>,
    /// Records sent.
    pub records: u64,
    /// Records that were refused for good, or removed from the log before they could be sent.
    pub lost: u64,
}

/// The reports of all sinks. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<BTreeMap<String, SinkReport>>>);

impl Reports {
    /// All of them, by the sink's name.
    pub fn all(&self) -> BTreeMap<String, SinkReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change(&self, sink: &str, change: impl FnOnce(&mut SinkReport)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = all.get_mut(sink) {
            change(report);
        }
    }

    /// Sinks that are gone are not reported any more.
    pub(crate) fn retain<'a>(&self, sinks: impl Iterator<Item = &'a String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *all);
        *all = sinks.map(|name| (name.clone(), before.remove(name).unwrap_or_default())).collect();
    }
}
