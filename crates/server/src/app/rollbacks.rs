//! Rolling a snapshot back: planned, done in an open transaction, kept so that it can be undone, recorded,
//! committed.

use super::{
    App, Caller, Connected, Error,
    checks::new_id,
    locks, shelf,
    snapshots::{Draft, Purpose, no_snapshot, snapshot_lock},
    to_the_end,
};
use checkrein_api::{RollbackConflict, RollbackOutcome, RollbackPlan, RollbackRequest, RollbackView};
use checkrein_core::{
    approval::Actor,
    event::Event,
    fingerprint::hex,
    key::Role,
    rollback::OnConflict,
    snapshot::{Origin, RollbackRecord, RollbackStatus, SnapshotState, Steps},
};
use checkrein_targets::{
    Captured, CommitError, Error as TargetError, Pending, Plan, Progress, Undo, UndoOptions,
};
use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

/// A rollback that has done its work and is not committed.
struct Ready {
    id: String,
    state: SnapshotState,
    target: Arc<Connected>,
    plan: RollbackPlan,
    pending: Box<dyn Pending>,
    undo: Draft,
    by: Actor,
    on_conflict: OnConflict,
    _alone: locks::Held,
    _shown: Shown,
}

/// Shows how far a rollback is, for as long as it lives.
struct Shown {
    app: Arc<App>,
    snapshot_id: String,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.app.rolling.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.snapshot_id);
    }
}

impl App {
    /// Gives the records of a snapshot back their old content, or says what that would change.
    ///
    /// # Errors
    /// When the caller is an agent, when somebody has worked on the records since, and when it cannot be
    /// made whole. Nothing was changed then, unless the error says that it is unknown.
    pub async fn rollback(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
        request: RollbackRequest,
    ) -> Result<RollbackView, Error> {
        caller.require(Role::Operator)?;
        let known = self.store.snapshot(id).await?.ok_or_else(|| no_snapshot(id))?;
        let alone = self.locks.try_lock(&snapshot_lock(&known.record.id)).ok_or_else(|| {
            Error::Conflict(format!("somebody else is working on {id}; ask again when that is done"))
        })?;
        self.settled_before(&known).await?;
        // As it stands now that nobody else can change it.
        let state = self.store.snapshot(id).await?.ok_or_else(|| no_snapshot(id))?;
        let target = self.target_of(&state).map_err(Error::RollbackImpossible)?;
        let snapshot = self.shelf.load(id, state.parts).await.map_err(unreadable)?;
        let progress = Arc::new(Progress::default());
        let options = UndoOptions { on_conflict: request.on_conflict, progress: Arc::clone(&progress) };
        let view = |status, plan: RollbackPlan| RollbackView {
            id: None,
            snapshot_id: id.to_owned(),
            status,
            dry_run: request.dry_run,
            restored: restored(&plan),
            plan,
            undo_snapshot_id: None,
        };
        if request.dry_run {
            let plan = target.target.plan(&snapshot, &options).await.map_err(impossible)?;
            return Ok(view(RollbackOutcome::Planned, plan_view(&target, plan)));
        }
        let rollback_id = new_id("rbk");
        let shown = self.show(id, &rollback_id, progress);
        let since = Instant::now();
        let undo_id = new_id("snp");
        let mut writer =
            self.shelf.begin(&undo_id, 1, &target).map_err(|e| Error::Snapshot(e.to_string()))?;
        match target.target.rollback(&snapshot, &options, &mut writer).await {
            Ok(Undo::Nothing(plan)) => Ok(view(RollbackOutcome::Nothing, plan_view(&target, plan))),
            Ok(Undo::Conflicts(plan)) => {
                self.metrics.rollbacks.refused.inc();
                Err(Error::RollbackConflicts(Box::new(plan_view(&target, plan))))
            }
            Ok(Undo::Ready(plan, pending)) => {
                let captured = captured(&plan);
                let plan = plan_view(&target, plan);
                // Nobody can change the records any more, so this is what will be overwritten or left out.
                if request.plan_digest.is_some_and(|seen| seen != plan.digest) {
                    pending.rollback().await;
                    self.metrics.rollbacks.refused.inc();
                    return Err(Error::RollbackChanged(Box::new(plan)));
                }
                let ready = Ready {
                    id: rollback_id,
                    plan,
                    state,
                    target,
                    pending,
                    undo: Draft { id: undo_id, writer, captured, since },
                    by: caller.actor(),
                    on_conflict: request.on_conflict,
                    _alone: alone,
                    _shown: shown,
                };
                let app = Arc::clone(self);
                to_the_end(async move { app.finish_rollback(ready).await }).await
            }
            Err(error) => {
                self.metrics.rollbacks.failed.inc();
                Err(impossible(error))
            }
        }
    }

    /// What is not known to have happened cannot be undone.
    async fn settled_before(&self, state: &SnapshotState) -> Result<(), Error> {
        let id = &state.record.id;
        if let Some(last) = self.store.rollback_of(id).await?
            && last.status.is_none()
            && !self.settle_rollback(&last).await
        {
            return Err(Error::Conflict(format!(
                "it is not known yet whether the rollback {} of {id} took place; ask again in a moment",
                last.record.id
            )));
        }
        if let Some(check_id) = &state.record.check_id
            && state.record.origin == Origin::Execution
            && !self.settle_execution(check_id).await
        {
            return Err(Error::Conflict(format!(
                "it is not known yet whether {check_id} took place; ask again in a moment"
            )));
        }
        Ok(())
    }

    fn show(self: &Arc<Self>, snapshot_id: &str, rollback_id: &str, progress: Arc<Progress>) -> Shown {
        let mut rolling = self.rolling.lock().unwrap_or_else(PoisonError::into_inner);
        rolling.insert(snapshot_id.to_owned(), (rollback_id.to_owned(), progress));
        Shown { app: Arc::clone(self), snapshot_id: snapshot_id.to_owned() }
    }

    /// From here on it runs to its end.
    async fn finish_rollback(self: Arc<Self>, ready: Ready) -> Result<RollbackView, Error> {
        let Ready { id, state, target, plan, pending, undo, by, on_conflict, _alone, _shown } = ready;
        let undo_id = undo.id.clone();
        let purpose = Purpose {
            resource: state.record.resource.clone(),
            agent: state.record.agent.clone(),
            session: state.record.session.clone(),
            check_id: state.record.check_id.clone(),
            origin: Origin::Rollback,
            key_id: by.key_id.clone(),
        };
        let record = match self.finish(&target, undo, purpose).await {
            Ok(record) => record,
            Err(error) => {
                pending.rollback().await;
                return Err(error);
            }
        };
        let started = RollbackRecord {
            id: id.clone(),
            snapshot_id: state.record.id.clone(),
            undo_snapshot_id: undo_id.clone(),
            target: state.record.target.clone(),
            token: pending.token().to_owned(),
            by,
            on_conflict,
            restored: restored(&plan),
            by_resource: plan.by_resource.clone(),
        };
        let events =
            |record| vec![Event::SnapshotTaken(Box::new(record)), Event::RollbackStarted(Box::new(started))];
        if let Err(error) = self.keep(record, events).await {
            pending.rollback().await;
            return Err(error);
        }
        match pending.commit().await {
            Ok(()) => {
                self.metrics.rollbacks.done.inc();
                self.end_rollback(&id, RollbackStatus::Done, None).await;
                Ok(RollbackView {
                    id: Some(id),
                    snapshot_id: state.record.id,
                    status: RollbackOutcome::Done,
                    dry_run: false,
                    restored: restored(&plan),
                    plan,
                    undo_snapshot_id: Some(undo_id),
                })
            }
            Err(CommitError::NotCommitted(why)) => {
                self.metrics.rollbacks.failed.inc();
                self.end_rollback(&id, RollbackStatus::NotDone, Some(why.clone())).await;
                self.remove_snapshot(&undo_id, super::commit::NOT_COMMITTED).await;
                Err(Error::RollbackImpossible(why))
            }
            Err(CommitError::Unknown(why)) => {
                self.metrics.rollbacks.unknown.inc();
                self.look_again.notify_one();
                Err(Error::RollbackUnknown(format!(
                    "it is not known yet whether the rollback {id} took place: {why}. \
                     GET /v1/snapshots/{} has it as soon as the database tells",
                    state.record.id
                )))
            }
        }
    }

    /// Puts on record how a rollback ended. If that cannot be recorded, it is settled later.
    pub(super) async fn end_rollback(&self, id: &str, status: RollbackStatus, reason: Option<String>) {
        let event = Event::RollbackFinished { id: id.to_owned(), status, reason };
        if let Err(error) = self.append(vec![event]).await {
            tracing::error!(%error, rollback = id, "the end of a rollback is not on record yet");
            self.look_again.notify_one();
        }
    }
}

/// Why a snapshot's file cannot be used.
fn unreadable(error: TargetError) -> Error {
    match error {
        // It may be over the next time.
        TargetError::Internal(message) | TargetError::Disk(message) => Error::Snapshot(message),
        other => Error::RollbackImpossible(other.to_string()),
    }
}

/// Why a rollback does not take place.
fn impossible(error: TargetError) -> Error {
    match error {
        TargetError::Unreachable(_)
        | TargetError::TimedOut { .. }
        | TargetError::Internal(_)
        | TargetError::Disk(_)
        | TargetError::Config(_) => Error::of_target(error),
        other => Error::RollbackImpossible(other.to_string()),
    }
}

/// What the rollback overwrites, as its own snapshot counts it.
fn captured(plan: &Plan) -> Captured {
    let affected = plan
        .by_resource
        .iter()
        .map(|r| checkrein_targets::Affected {
            resource: r.resource.clone(),
            how: checkrein_targets::How::Update,
            records: r.insert.saturating_add(r.update).saturating_add(r.delete),
        })
        .filter(|a| a.records > 0)
        .collect();
    Captured { affected, digest: None }
}

fn restored(plan: &RollbackPlan) -> u64 {
    plan.by_resource
        .iter()
        .fold(0, |sum, s| sum.saturating_add(s.insert).saturating_add(s.update).saturating_add(s.delete))
}

fn plan_view(of: &Connected, plan: Plan) -> RollbackPlan {
    let conflicts: Vec<_> = plan
        .conflicts
        .into_iter()
        .map(|c| RollbackConflict {
            resource: shelf::full_name(of, &c.resource),
            key: c.key,
            kind: c.kind,
            before: c.before,
            after: c.after,
            now: c.now,
        })
        .collect();
    RollbackPlan {
        digest: hex(&plan.conflict_digest),
        by_resource: plan
            .by_resource
            .into_iter()
            .map(|r| Steps {
                resource: shelf::full_name(of, &r.resource),
                insert: r.insert,
                update: r.update,
                delete: r.delete,
                keep: r.keep,
                conflicts: r.conflicts,
            })
            .collect(),
        conflicts,
        conflict_count: plan.conflict_count,
        notes: plan.notes,
    }
}
