//! The end of the log, for everybody else.

use crate::error::AppendError;
use checkrein_core::chain::Walk;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Head(Arc<Inner>);

struct Inner {
    /// The last entry on record.
    walk: Mutex<Walk>,
    /// When and why the last attempt to record failed, if it did.
    failure: Mutex<Option<(Instant, AppendError)>>,
    seq: watch::Sender<u64>,
    /// The last entry that the database shows to readers.
    shown: watch::Sender<u64>,
    /// The last entry that the database cannot lose.
    kept: AtomicU64,
}

impl Head {
    /// All of it on record, shown and kept.
    pub(crate) fn new(walk: Walk) -> Self {
        Self(Arc::new(Inner {
            walk: Mutex::new(walk),
            failure: Mutex::default(),
            seq: watch::Sender::new(walk.seq),
            shown: watch::Sender::new(walk.seq),
            kept: AtomicU64::new(walk.seq),
        }))
    }

    pub(crate) fn get(&self) -> Walk {
        *self.0.walk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, walk: Walk) {
        *self.0.walk.lock().unwrap_or_else(PoisonError::into_inner) = walk;
        self.0.seq.send_replace(walk.seq);
    }

    pub(crate) fn shown(&self) -> u64 {
        *self.0.shown.borrow()
    }

    pub(crate) fn show(&self, seq: u64) {
        self.0.shown.send_replace(seq);
    }

    pub(crate) fn kept(&self) -> u64 {
        self.0.kept.load(Ordering::Acquire)
    }

    pub(crate) fn keep(&self, seq: u64) {
        self.0.kept.fetch_max(seq, Ordering::AcqRel);
    }

    /// Why the last attempt failed, if it did within `recently`.
    pub(crate) fn failure(&self, recently: Duration) -> Option<AppendError> {
        let failure = self.0.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().filter(|(at, _)| at.elapsed() < recently).map(|(_, error)| error.clone())
    }

    /// How the last attempt ended.
    pub(crate) fn ended(&self, error: Option<&AppendError>) {
        let failure = error.map(|error| (Instant::now(), error.clone()));
        *self.0.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    pub(crate) fn subscribe_shown(&self) -> watch::Receiver<u64> {
        self.0.shown.subscribe()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.seq.subscribe()
    }
}
