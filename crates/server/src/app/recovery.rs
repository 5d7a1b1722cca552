//! Finding out what became of things that were under way: after a crash, a lost connection, or a log that
//! could not be written.

use super::{
    App, Error,
    checks::new_id,
    commit::{EXECUTION_LOCKS, NOT_COMMITTED, NOT_WANTED, execution_lock},
    snapshots::snapshot_lock,
};
use checkrein_core::{
    event::{Event, OutcomeStatus},
    snapshot::{RollbackState, RollbackStatus},
};
use checkrein_store::OpenExecution;
use checkrein_targets::{Settled, snapshot::Snapshot};
use std::{collections::BTreeMap, time::Duration};

/// How many things are settled at a time.
const AT_ONCE: usize = 100;

/// How long a stop waits for executions and rollbacks that are being committed.
const PATIENCE: Duration = Duration::from_secs(10);

impl App {
    /// Looks whether the folder of snapshots holds what the log says, before anything else happens.
    ///
    /// # Errors
    /// When the store or the folder cannot be read.
    pub(super) async fn tidy_snapshots(&self) -> Result<(), Error> {
        let mut live = BTreeMap::new();
        for (id, parts) in self.store.live_snapshot_parts().await? {
            live.insert(id, parts);
        }
        let missing = self.shelf.tidy(&live).map_err(|e| {
            Error::Invalid(format!(
                "the folder for snapshots cannot be used: {e}; check the rights on the data folder"
            ))
        })?;
        self.metrics.snapshots.missing.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        for id in missing {
            tracing::error!(
                snapshot = id,
                "the file of this snapshot is missing: it cannot be rolled back; restore the folder `snapshots` \
                 from a backup of the data folder"
            );
        }
        Ok(())
    }

    /// Asks the targets what became of everything that is not settled. Answers whether all of it now is.
    pub(super) async fn settle_all(&self) -> bool {
        let (executions, rollbacks) =
            match (self.store.open_executions(AT_ONCE).await, self.store.open_rollbacks(AT_ONCE).await) {
                (Ok(executions), Ok(rollbacks)) => (executions, rollbacks),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(%error, "what is not settled cannot be read");
                    return false;
                }
            };
        let open = executions.len() + rollbacks.len();
        let mut settled = true;
        for execution in &executions {
            settled &= self.resolve_execution(execution).await;
        }
        for rollback in &rollbacks {
            settled &= self.settle_rollback(rollback).await;
        }
        self.metrics.unsettled.set(if settled { 0 } else { i64::try_from(open).unwrap_or(i64::MAX) });
        settled && open < AT_ONCE
    }

    /// Finds out what became of one execution, if that is not on record. Whether it now is.
    pub(super) async fn settle_execution(&self, check_id: &str) -> bool {
        match self.store.open_execution(check_id).await {
            Ok(None) => true,
            Ok(Some(open)) => self.resolve_execution(&open).await,
            Err(error) => {
                tracing::error!(%error, check = check_id, "what is not settled cannot be read");
                false
            }
        }
    }

    async fn resolve_execution(&self, open: &OpenExecution) -> bool {
        // Under way in this process: it settles itself.
        let Some(_alone) = self.locks.try_lock(&execution_lock(&open.check_id)) else { return false };
        // It may have been settled while the lock was not held.
        match self.store.open_execution(&open.check_id).await {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
        let (status, error) = match self.ask(&open.target, &open.token, open.snapshot_id.as_deref()).await {
            Ok(Settled::Committed) => (OutcomeStatus::Ok, None),
            Ok(Settled::NotCommitted) => (
                OutcomeStatus::Error,
                Some(
                    "it did not take place: Checkrein or the database stopped before it was committed"
                        .to_owned(),
                ),
            ),
            Ok(Settled::Unknown(why)) => (OutcomeStatus::Unknown, Some(why)),
            Ok(Settled::Running) => return false,
            Err(error) => {
                tracing::warn!(%error, check = open.check_id, "it is not known whether this execution took place");
                return false;
            }
        };
        tracing::warn!(check = open.check_id, status = ?status, "an execution was settled by asking the database");
        let records = match status {
            OutcomeStatus::Ok => self.measured(&open.check_id).await,
            OutcomeStatus::Error => Some(0),
            OutcomeStatus::Unknown => None,
        };
        let settled = self.settle(&open.check_id, status, records, error).await;
        if let Some(id) = open.snapshot_id.as_ref().filter(|_| settled) {
            match (status, self.wanted(&open.check_id).await) {
                (OutcomeStatus::Error, _) => self.remove_snapshot(id, NOT_COMMITTED).await,
                (OutcomeStatus::Ok, Some(false)) => self.remove_snapshot(id, NOT_WANTED).await,
                _ => {}
            }
        }
        matches!(self.store.open_execution(&open.check_id).await, Ok(None))
    }

    /// How many records the recorded decision says it changed.
    async fn measured(&self, check_id: &str) -> Option<u64> {
        let row = self.store.check(check_id).await.ok()??;
        let touched = row.checked.decision.blast_radius.by_resource;
        let changed = touched.iter().filter(|r| r.how.is_some_and(|h| h != checkrein_targets::How::Read));
        Some(changed.filter_map(|r| r.records.known()).fold(0, u64::saturating_add))
    }

    /// Whether the snapshot of an execution is one to keep.
    async fn wanted(&self, check_id: &str) -> Option<bool> {
        let row = self.store.check(check_id).await.ok()??;
        Some(row.checked.decision.snapshot_id.is_some())
    }

    /// Finds out what became of a rollback. Whether it is on record now.
    pub(super) async fn settle_rollback(&self, open: &RollbackState) -> bool {
        let record = &open.record;
        let shown = {
            let rolling = self.rolling.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            rolling.get(&record.snapshot_id).is_some_and(|(id, _)| *id == record.id)
        };
        if shown {
            return false;
        }
        let (status, reason) = match self
            .ask(&record.target, &record.token, Some(&record.undo_snapshot_id))
            .await
        {
            Ok(Settled::Committed) => (RollbackStatus::Done, None),
            Ok(Settled::NotCommitted) => (
                RollbackStatus::NotDone,
                Some("Checkrein or the database stopped before it was committed".to_owned()),
            ),
            Ok(Settled::Unknown(why)) => (RollbackStatus::Unknown, Some(why)),
            Ok(Settled::Running) => return false,
            Err(error) => {
                tracing::warn!(%error, rollback = record.id, "it is not known whether this rollback took place");
                return false;
            }
        };
        tracing::warn!(
            rollback = record.id,
            status = status.as_str(),
            "a rollback was settled by asking the database"
        );
        self.end_rollback(&record.id, status, reason).await;
        if status == RollbackStatus::NotDone {
            self.remove_snapshot(&record.undo_snapshot_id, NOT_COMMITTED).await;
        }
        matches!(self.store.rollback_of(&record.snapshot_id).await, Ok(last)
            if last.as_ref().is_none_or(|last| last.record.id != record.id || last.status.is_some()))
    }

    async fn ask(&self, target: &str, token: &str, snapshot: Option<&str>) -> Result<Settled, String> {
        let rules = self.rules();
        let target = rules.targets.get(target).ok_or_else(|| {
            format!("the target `{target}` is not configured any more; add it again to [targets]")
        })?;
        let snapshot = match snapshot {
            Some(id) => match self.shelf.load(id, 1).await {
                Ok(snapshot) => snapshot,
                // Without it some systems cannot tell; they say so.
                Err(error) => {
                    tracing::error!(%error, snapshot = id, "the snapshot that tells what happened cannot be read");
                    self.empty_snapshot(target).await?
                }
            },
            None => self.empty_snapshot(target).await?,
        };
        target.target.resolve(token, &snapshot).await.map_err(|e| e.to_string())
    }

    /// For an execution that captured nothing: the system keeps a record of its own.
    async fn empty_snapshot(&self, target: &super::Connected) -> Result<Snapshot, String> {
        let id = new_id("snp");
        let empty = async {
            let writer = self.shelf.begin(&id, 1, target)?;
            self.shelf.finish(&id, 1, writer).await?;
            self.shelf.load(&id, 1).await
        };
        let snapshot = empty.await.map_err(|e| e.to_string());
        self.shelf.remove(&id, 1);
        snapshot
    }

    /// Puts on record that a snapshot goes, and removes its files.
    pub(super) async fn remove_snapshot(&self, id: &str, reason: &str) {
        let event = Event::SnapshotRemoved { id: id.to_owned(), reason: reason.to_owned() };
        match self.append(vec![event]).await {
            Ok(()) => {
                self.metrics.snapshots.removed.inc();
                self.shelf.remove(id, 1);
            }
            Err(error) => tracing::error!(%error, snapshot = id, "a snapshot could not be removed"),
        }
    }

    /// Removes snapshots that are older than `keep_seconds`, and the oldest beyond `keep_bytes`; never one of
    /// which somebody may still need to know whether it happened.
    pub(super) async fn retain_snapshots(&self) -> Result<(), Error> {
        let live = self.store.live_snapshots().await?;
        let mut bytes = live.iter().fold(0_u64, |sum, (.., bytes)| sum.saturating_add(*bytes));
        self.metrics.snapshots.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.snapshots.live.set(i64::try_from(live.len()).unwrap_or(i64::MAX));
        let oldest = self.keep_snapshots.0.map(|keep| self.clock.now().plus_seconds(keep.saturating_neg()));
        for (id, at, size) in live {
            let reason = if oldest.is_some_and(|oldest| at < oldest) {
                "it was older than [snapshots] keep_for"
            } else if self.keep_snapshots.1.is_some_and(|most| bytes > most) {
                "all snapshots together were larger than [snapshots] keep_bytes"
            } else {
                // By age the next ones stay too; by size they might not have to go any more.
                return Ok(());
            };
            let Some(_alone) = self.locks.try_lock(&snapshot_lock(&id)) else { continue };
            if self.store.snapshot_needed(&id).await? {
                continue;
            }
            self.remove_snapshot(&id, reason).await;
            bytes = bytes.saturating_sub(size);
        }
        Ok(())
    }

    /// Waits for what is being committed.
    pub(super) async fn land(&self) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while self.locks.any(EXECUTION_LOCKS) || self.locks.any(&snapshot_lock("")) {
            if tokio::time::Instant::now() >= until {
                tracing::warn!(
                    "stopping although an execution is still being committed; the next start settles it"
                );
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
