//! Finding out what became of things that were under way: after a crash, a lost connection, or a log that
//! could not be written.

use super::{
    App, Connected, Error,
    checks::new_id,
    commit::{EXECUTION_LOCKS, NOT_COMMITTED, NOT_WANTED, execution_lock, needs_images},
    snapshots::snapshot_lock,
};
use checkrein_core::{
    event::{Event, OutcomeStatus},
    snapshot::{RollbackState, RollbackStatus},
};
use checkrein_store::{OpenExecution, StoreError};
use checkrein_targets::{Error as TargetError, Settled, snapshot::Snapshot};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How many unsettled things are read at a time.
const AT_ONCE: usize = 100;

/// How long a stop waits for executions and rollbacks that are being committed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is not settled.
#[derive(Clone, Copy)]
enum Open<'a> {
    Execution(&'a OpenExecution),
    Rollback(&'a RollbackState),
}

/// Where it stands after somebody has tried to settle it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Settled,
    Open,
    /// Still open, and its target does not answer: neither will it to the next question.
    Silent,
}

/// Why nothing can be said yet: it is asked again.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("{0}")]
    Target(String),
    #[error("{0}")]
    Snapshot(String),
}

impl NoAnswer {
    const fn standing(&self) -> Standing {
        match self {
            Self::Target(_) => Standing::Silent,
            Self::Snapshot(_) => Standing::Open,
        }
    }
}

/// What a target says became of a transaction.
struct Answer {
    settled: Settled,
    /// It keeps no record of transactions, so its records were compared with the snapshot. Those that are as
    /// before may also have been put back since, so the snapshot stays.
    by_records: bool,
}

impl Answer {
    const fn not_committed(&self) -> &'static str {
        if self.by_records {
            "its records are as they were before it. Checkrein or the database stopped before it was committed, \
             or somebody has put them back since; the snapshot is kept"
        } else {
            "Checkrein or the database stopped before it was committed"
        }
    }
}

/// A snapshot with nothing in it, for what has none; its file goes with it.
struct Empty<'a> {
    app: &'a App,
    id: String,
}

impl<'a> Empty<'a> {
    fn of(app: &'a App) -> Self {
        Self { app, id: new_id("snp") }
    }

    async fn write(&self, target: &Connected) -> Result<Snapshot, NoAnswer> {
        let (shelf, id) = (&self.app.shelf, &self.id);
        let empty = async {
            shelf.finish(id, 1, shelf.begin(id, 1, target)?).await?;
            shelf.load(id, 1).await
        };
        empty.await.map_err(|e| NoAnswer::Snapshot(e.to_string()))
    }
}

impl Drop for Empty<'_> {
    fn drop(&mut self) {
        self.app.shelf.remove(&self.id, 1);
    }
}

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
        match self.settle_pages().await {
            Ok(open) => {
                self.metrics.unsettled.set(i64::try_from(open).unwrap_or(i64::MAX));
                open == 0
            }
            Err(error) => {
                tracing::error!(%error, "what is not settled cannot be read");
                false
            }
        }
    }

    /// How many are still not settled.
    async fn settle_pages(&self) -> Result<usize, StoreError> {
        // Targets that did not answer once are not asked again and again.
        let (mut silent, mut open) = (BTreeSet::new(), 0);
        let mut after = 0;
        loop {
            let page = self.store.open_executions(after, AT_ONCE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let list = page.iter().map(|(_, one)| (one.target.as_str(), Open::Execution(one)));
            open += self.settle_each(list, &mut silent).await;
        }
        after = 0;
        loop {
            let page = self.store.open_rollbacks(after, AT_ONCE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            let list = page.iter().map(|(_, one)| (one.record.target.as_str(), Open::Rollback(one)));
            open += self.settle_each(list, &mut silent).await;
        }
        Ok(open)
    }

    /// Settles what can be, each target by itself: one that does not answer keeps no other waiting. How many
    /// are left.
    async fn settle_each<'a>(
        &self,
        list: impl Iterator<Item = (&'a str, Open<'a>)>,
        silent: &mut BTreeSet<String>,
    ) -> usize {
        let mut by_target = BTreeMap::<&str, Vec<Open<'_>>>::new();
        list.for_each(|(target, one)| by_target.entry(target).or_default().push(one));
        let quiet = &*silent;
        let each = by_target.into_iter().map(async |(target, list)| {
            let (mut left, mut answers) = (0, !quiet.contains(target));
            for one in list {
                let standing = match one {
                    _ if !answers => Standing::Open,
                    Open::Execution(open) => self.resolve_execution(open).await,
                    Open::Rollback(open) => self.resolve_rollback(open).await,
                };
                answers &= standing != Standing::Silent;
                left += usize::from(standing != Standing::Settled);
            }
            (target, left, answers)
        });
        let each = futures_util::future::join_all(each).await;
        silent.extend(each.iter().filter(|(.., answers)| !answers).map(|(target, ..)| (*target).to_owned()));
        each.iter().map(|(_, left, _)| left).sum()
    }

    /// Finds out what became of one execution, if that is not on record. Whether it now is.
    pub(super) async fn settle_execution(&self, check_id: &str) -> bool {
        match self.store.open_execution(check_id).await {
            Ok(None) => true,
            Ok(Some(open)) => self.resolve_execution(&open).await == Standing::Settled,
            Err(error) => {
                tracing::error!(%error, check = check_id, "what is not settled cannot be read");
                false
            }
        }
    }

    async fn resolve_execution(&self, open: &OpenExecution) -> Standing {
        // Under way in this process: it settles itself.
        let Some(_alone) = self.locks.try_lock(&execution_lock(&open.check_id)) else {
            return Standing::Open;
        };
        // It may have been settled while the lock was not held.
        match self.store.open_execution(&open.check_id).await {
            Ok(Some(_)) => {}
            Ok(None) => return Standing::Settled,
            Err(_) => return Standing::Open,
        }
        let found = match self.ask(&open.target, &open.token, open.snapshot_id.as_deref()).await {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(%why, check = open.check_id, "it is not known whether this execution took place");
                return why.standing();
            }
        };
        let (status, error) = match found.settled {
            Settled::Committed => (OutcomeStatus::Ok, None),
            Settled::NotCommitted => {
                (OutcomeStatus::Error, Some(format!("it did not take place: {}", found.not_committed())))
            }
            Settled::Unknown(ref why) => (OutcomeStatus::Unknown, Some(why.clone())),
            Settled::Running => return Standing::Open,
        };
        tracing::warn!(check = open.check_id, status = ?status, "an execution was settled by asking the database");
        let records = match status {
            OutcomeStatus::Ok => self.measured(&open.check_id).await,
            OutcomeStatus::Error => Some(0),
            OutcomeStatus::Unknown => None,
        };
        let row = self.store.check(&open.check_id).await.ok().flatten();
        let checked = row.as_ref().map(|row| &row.checked);
        let settled = self.settle(&open.check_id, checked, status, records, error).await;
        if let Some(id) = open.snapshot_id.as_ref().filter(|_| settled) {
            match (status, self.wanted(&open.check_id).await) {
                (OutcomeStatus::Error, _) if !found.by_records => {
                    self.remove_snapshot(id, NOT_COMMITTED).await;
                }
                (OutcomeStatus::Ok | OutcomeStatus::Error, Some(false)) => {
                    self.remove_snapshot(id, NOT_WANTED).await;
                }
                _ => {}
            }
        }
        match self.store.open_execution(&open.check_id).await {
            Ok(None) => Standing::Settled,
            _ => Standing::Open,
        }
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
        self.resolve_rollback(open).await == Standing::Settled
    }

    async fn resolve_rollback(&self, open: &RollbackState) -> Standing {
        let record = &open.record;
        let shown = {
            let rolling = self.rolling.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            rolling.get(&record.snapshot_id).is_some_and(|(id, _)| *id == record.id)
        };
        if shown {
            return Standing::Open;
        }
        let found = match self.ask(&record.target, &record.token, Some(&record.undo_snapshot_id)).await {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(%why, rollback = record.id, "it is not known whether this rollback took place");
                return why.standing();
            }
        };
        let (status, reason) = match found.settled {
            Settled::Committed => (RollbackStatus::Done, None),
            Settled::NotCommitted => (RollbackStatus::NotDone, Some(found.not_committed().to_owned())),
            Settled::Unknown(ref why) => (RollbackStatus::Unknown, Some(why.clone())),
            Settled::Running => return Standing::Open,
        };
        tracing::warn!(
            rollback = record.id,
            status = status.as_str(),
            "a rollback was settled by asking the database"
        );
        self.end_rollback(&record.id, status, reason).await;
        if status == RollbackStatus::NotDone && !found.by_records {
            self.remove_snapshot(&record.undo_snapshot_id, NOT_COMMITTED).await;
        }
        match self.store.rollback_of(&record.snapshot_id).await {
            Ok(last) if last.as_ref().is_none_or(|l| l.record.id != record.id || l.status.is_some()) => {
                Standing::Settled
            }
            _ => Standing::Open,
        }
    }

    async fn ask(&self, target: &str, token: &str, snapshot: Option<&str>) -> Result<Answer, NoAnswer> {
        let rules = self.rules();
        let target = rules.targets.get(target).ok_or_else(|| {
            NoAnswer::Target(format!(
                "the target `{target}` is not configured any more; add it again to [targets]"
            ))
        })?;
        let by_records = needs_images(target.kind());
        let empty;
        let snapshot = match snapshot.filter(|_| by_records) {
            Some(id) => match self.shelf.load(id, 1).await {
                Ok(snapshot) => snapshot,
                // It will not be whole again. What can be told without it is asked all the same.
                Err(error @ TargetError::Snapshot(_)) => {
                    tracing::error!(%error, snapshot = id, "the snapshot that tells what happened cannot be used");
                    empty = Empty::of(self);
                    empty.write(target).await?
                }
                Err(error) => return Err(NoAnswer::Snapshot(error.to_string())),
            },
            None => {
                empty = Empty::of(self);
                empty.write(target).await?
            }
        };
        let settled = target.target.resolve(token, &snapshot).await;
        let settled = settled.map_err(|e| NoAnswer::Target(e.to_string()))?;
        Ok(Answer { settled, by_records })
    }

    /// Puts on record that a snapshot goes, and removes its files. Whether it is gone.
    pub(super) async fn remove_snapshot(&self, id: &str, reason: &str) -> bool {
        let event = Event::SnapshotRemoved { id: id.to_owned(), reason: reason.to_owned() };
        let removed = self.append(vec![event]).await;
        match removed {
            Ok(()) => {
                self.metrics.snapshots.removed.inc();
                self.shelf.remove(id, 1);
            }
            Err(ref error) => tracing::error!(%error, snapshot = id, "a snapshot could not be removed"),
        }
        removed.is_ok()
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
