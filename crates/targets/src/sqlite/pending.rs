//! The open transaction, as the caller holds it.

use super::execute::Open;
use crate::{Captured, CommitError, Error, Measured, Pending, ResultSet, snapshot::SnapshotWriter};
use async_trait::async_trait;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::OwnedSemaphorePermit;

/// Turns that are held until the transaction is over.
pub(super) struct Held(
    #[expect(dead_code, reason = "held, never looked at")] pub(super) OwnedSemaphorePermit,
    #[expect(dead_code, reason = "held, never looked at")] pub(super) Option<OwnedSemaphorePermit>,
);

/// The tokens of transactions that are open in this process.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashSet<String>>>);

impl Running {
    pub(super) fn has(&self, token: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(token)
    }

    /// Hands an open transaction out.
    pub(super) fn pending(&self, open: Open, held: Held, limit: Duration) -> Box<dyn Pending> {
        let token = open.token.clone();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone());
        let (measured, results) = (open.measured.clone(), open.results.clone());
        let mark = Mark { running: self.clone(), token: token.clone() };
        Box::new(Transaction { open: Some((open, held, mark)), measured, results, token, limit })
    }
}

/// Takes the token off the list when the transaction is over, however that comes about.
struct Mark {
    running: Running,
    token: String,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

struct Transaction {
    /// Gone while a thread works on it, and for good when that work was given up. Dropped in this order: the
    /// connections close (and so roll back) before the turn and the token are given up.
    open: Option<(Open, Held, Mark)>,
    measured: Measured,
    results: Vec<ResultSet>,
    token: String,
    limit: Duration,
}

#[async_trait]
impl Pending for Transaction {
    fn measured(&self) -> &Measured {
        &self.measured
    }

    fn results(&self) -> &[ResultSet] {
        &self.results
    }

    fn token(&self) -> &str {
        &self.token
    }

    fn bind(&mut self) {
        if let Some((open, ..)) = &mut self.open {
            open.bound = true;
        }
    }

    async fn capture(&mut self, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        let Some(open) = self.open.take() else {
            return Err(Error::Internal("the transaction was given up".to_owned()));
        };
        open.0.clock.restart("taking the snapshot", self.limit);
        let clock = Arc::clone(&open.0.clock);
        let guard = clock.guard();
        let work = move |sink| {
            let captured = open.0.capture(sink);
            (open, captured)
        };
        let ((open, captured), written) = super::stream::streaming(out, work).await?;
        guard.disarm();
        self.open = Some(open);
        written?;
        captured.map_err(|fault| clock.explain(fault))
    }

    async fn commit(mut self: Box<Self>) -> Result<(), CommitError> {
        let Some((open, held, mark)) = self.open.take() else {
            return Err(CommitError::NotCommitted(
                "the transaction was given up before its commit".to_owned(),
            ));
        };
        // Nothing may stop it half-way because of an earlier limit.
        open.clock.restart("the commit", self.limit);
        let work = move || {
            let done = open.commit();
            drop((mark, held));
            done
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(e) => Err(CommitError::Unknown(format!("the thread for SQLite: {e}"))),
        }
    }

    async fn rollback(mut self: Box<Self>) {
        // Closing the connection rolls back.
        let open = self.open.take();
        let _done = tokio::task::spawn_blocking(move || drop(open)).await;
    }
}
