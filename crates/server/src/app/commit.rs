//! The end of an execution: captured, recorded, committed, and what became of it.

use super::{
    App, Error,
    checks::new_id,
    drift,
    executions::{Decided, Run, no_snapshot},
    results::{self, Given},
    snapshots::{Draft, Purpose},
    to_the_end,
};
use checkrein_api::ExecutionView;
use checkrein_core::{
    decision::Verdict,
    event::{Checked, Event, Outcome, OutcomeStatus},
    fingerprint::Fingerprint,
    snapshot::{Execution, Origin},
};
use checkrein_store::AppendError;
use checkrein_targets::{CommitError, Error as TargetError, Kind, Pending};
use std::{sync::Arc, time::Instant};

/// The key that outcomes which Checkrein observed itself are recorded under.
pub(super) const OWN_KEY_ID: &str = "checkrein";

/// Why a snapshot goes that nobody asked to keep.
pub(super) const NOT_WANTED: &str = "it was only kept until the execution was settled (snapshot_when)";
/// Why a snapshot goes of what did not happen.
pub(super) const NOT_COMMITTED: &str = "what it was taken for did not take place";

/// Whoever runs or settles an execution holds this.
pub(super) fn execution_lock(check_id: &str) -> String {
    format!("{EXECUTION_LOCKS}{check_id}")
}

/// How the names of those locks begin.
pub(super) const EXECUTION_LOCKS: &str = "execution ";

/// Whether such a system can tell only by its records, before and after, if a transaction took place.
pub(super) const fn needs_images(kind: Kind) -> bool {
    !matches!(kind, Kind::Postgres)
}

impl App {
    pub(super) async fn capture_pending(
        &self,
        run: &Run,
        pending: &mut dyn Pending,
    ) -> Result<Draft, TargetError> {
        let since = Instant::now();
        let id = new_id("snp");
        let mut writer = self.shelf.begin(&id, 1, &run.target)?;
        let captured = pending.capture(&mut writer).await;
        if captured.is_err() {
            self.metrics.snapshots.failed.inc();
        }
        Ok(Draft { id, writer, captured: captured?, since })
    }

    pub(super) async fn capture_and_commit(
        self: &Arc<Self>,
        run: Run,
        mut pending: Box<dyn Pending>,
        decided: Decided,
        wanted: bool,
    ) -> Result<ExecutionView, Error> {
        let mut draft = None;
        if wanted || needs_images(run.target.target.kind()) {
            match self.capture_pending(&run, pending.as_mut()).await {
                Ok(captured) => draft = Some(captured),
                Err(error) => {
                    pending.rollback().await;
                    return self.refuse(&run, decided.asked, Some(no_snapshot(&error))).await;
                }
            }
        }
        Box::pin(self.commit_with(run, pending, decided, draft, wanted)).await
    }

    /// From here on it runs to its end.
    pub(super) async fn commit_with(
        self: &Arc<Self>,
        run: Run,
        pending: Box<dyn Pending>,
        decided: Decided,
        draft: Option<Draft>,
        wanted: bool,
    ) -> Result<ExecutionView, Error> {
        // Only for an approval whose rows were captured to tell them from others.
        let draft = draft.filter(|_| wanted || needs_images(run.target.target.kind()));
        let app = Arc::clone(self);
        to_the_end(Box::pin(async move { app.record_and_commit(run, pending, decided, draft, wanted).await }))
            .await
    }

    async fn record_and_commit(
        self: Arc<Self>,
        run: Run,
        pending: Box<dyn Pending>,
        mut decided: Decided,
        draft: Option<Draft>,
        wanted: bool,
    ) -> Result<ExecutionView, Error> {
        let _in_flight = self.locks.lock(&execution_lock(&run.id)).await;
        let mut snapshot = None;
        if let Some(draft) = draft {
            let purpose = Purpose {
                resource: decided.asked.action.resource.to_string(),
                agent: decided.asked.action.agent.to_string(),
                session: run.check.session.clone(),
                check_id: Some(run.id.clone()),
                origin: Origin::Execution,
                key_id: run.key_id.clone(),
            };
            match self.finish(&run.target, draft, purpose).await {
                Ok(record) => snapshot = Some(record),
                Err(error) => {
                    pending.rollback().await;
                    let asked = decided.asked;
                    return self.refuse(&run, asked, Some(format!("Blocked: {error}"))).await;
                }
            }
        }
        let snapshot_id = snapshot.as_ref().map(|record| record.id.clone());
        decided.asked.snapshot_id = snapshot_id.clone().filter(|_| wanted);
        decided.asked.execution = Some(Execution {
            target: run.target.name.to_string(),
            token: Some(pending.token().to_owned()),
            snapshot_id: snapshot_id.clone(),
        });
        let taken = snapshot.map(|record| Event::SnapshotTaken(Box::new(record)));
        let checked = match self.record_execution(&run, decided, taken).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(before)) => {
                pending.rollback().await;
                if let Some(id) = &snapshot_id {
                    self.shelf.remove(id, 1);
                }
                return self.repeated(*before, &run.fingerprint).await;
            }
            Err(error) => {
                pending.rollback().await;
                if let (Some(id), false) = (&snapshot_id, matches!(error, Error::InDoubt(_))) {
                    self.shelf.remove(id, 1);
                }
                return Err(error);
            }
        };
        let records = pending.measured().records();
        let given = Given { results: pending.results().to_vec(), several: run.statements.several };
        // Kept only to tell whether it was committed, should nobody hear the answer.
        let spare = snapshot_id.filter(|_| !wanted);
        match pending.commit().await {
            Ok(()) => {
                self.metrics.executions.done.inc();
                let settled =
                    self.settle(&run.id, Some(&checked), OutcomeStatus::Ok, Some(records), None).await;
                if let Some(id) = spare.filter(|_| settled) {
                    self.remove_snapshot(&id, NOT_WANTED).await;
                }
                Ok(results::view(checked.decision, records, given))
            }
            Err(CommitError::NotCommitted(why)) => {
                self.metrics.executions.failed.inc();
                let settled = self
                    .settle(&run.id, Some(&checked), OutcomeStatus::Error, Some(0), Some(why.clone()))
                    .await;
                if let Some(id) = checked.decision.snapshot_id.or(spare).filter(|_| settled) {
                    self.remove_snapshot(&id, NOT_COMMITTED).await;
                }
                Err(Error::Statement { code: String::new(), message: why, check_id: Some(run.id) })
            }
            Err(CommitError::Unknown(why)) => {
                self.metrics.executions.unknown.inc();
                self.look_again.notify_one();
                Err(unknown(&run.id, &why))
            }
        }
    }

    /// Puts a decision on record; or tells which execution had the idempotency key before.
    pub(super) async fn record_execution(
        &self,
        run: &Run,
        decided: Decided,
        taken: Option<Event>,
    ) -> Result<Result<Checked, Box<Checked>>, Error> {
        let Decided { mut asked, settled, used } = decided;
        asked.at = self.clock.now();
        let changed = asked.look.events().collect::<Vec<_>>();
        let changes = drift::changes(&changed);
        let (at, touches_approvals) = (asked.at, used.is_some());
        let checked = asked.decided(settled);
        let mut events = vec![Event::Check(Box::new(checked.clone()))];
        events.extend(used);
        events.extend(taken);
        events.extend(changed);
        match self.store.append(events, at).await {
            Ok(_) => {
                self.drift.recorded(&changes);
                if touches_approvals {
                    self.approvals_changed.send_modify(|n| *n += 1);
                }
                self.metrics.decided(&checked.decision, run.started.elapsed());
                Ok(Ok(checked))
            }
            Err(AppendError::Duplicate(before)) => Ok(Err(before)),
            Err(error) => {
                self.metrics.not_recorded.inc();
                Err(error.into())
            }
        }
    }

    /// Puts on record how an execution ended. If that cannot be recorded, the record of the execution itself
    /// stands, and it is settled later by asking the target. Whether it is recorded: until then whatever tells
    /// how it ended must stay.
    pub(super) async fn settle(
        &self,
        check_id: &str,
        checked: Option<&Checked>,
        status: OutcomeStatus,
        records: Option<u64>,
        error: Option<String>,
    ) -> bool {
        let outcome = Outcome {
            check_id: check_id.to_owned(),
            status,
            records,
            error: error.map(|e| e.chars().take(4096).collect()),
            key_id: OWN_KEY_ID.to_owned(),
        };
        // How it ended goes on record, also when nothing can be learnt from it.
        let follows = match checked {
            Some(checked) => Box::pin(self.ended(checked, &outcome)).await.unwrap_or_else(|error| {
                tracing::error!(%error, check = check_id, "nothing was learnt from how an execution ended");
                Vec::new()
            }),
            None => Vec::new(),
        };
        let events = std::iter::once(Event::Outcome(outcome)).chain(follows).collect();
        let recorded = self.append(events).await;
        if let Err(error) = &recorded {
            tracing::error!(%error, check = check_id, "the outcome of an execution is not on record yet");
            self.look_again.notify_one();
        }
        recorded.is_ok()
    }

    /// The answer to an idempotency key that was used before.
    pub(super) async fn repeated(
        &self,
        before: Checked,
        fingerprint: &Fingerprint,
    ) -> Result<ExecutionView, Error> {
        let same = before.execution.is_some()
            && Fingerprint::of(&before.check, &before.action.agent, None) == *fingerprint;
        if !same {
            return Err(Error::KeyReused);
        }
        if before.decision.verdict != Verdict::Allow {
            return Ok(results::nothing(before.decision));
        }
        let id = before.decision.id.clone();
        let outcome = || async { Ok::<_, Error>(self.store.check(&id).await?.and_then(|row| row.outcome)) };
        let mut settled = outcome().await?;
        if settled.is_none() {
            self.settle_execution(&id).await;
            settled = outcome().await?;
        }
        match settled {
            Some(Outcome { status: OutcomeStatus::Ok, records, .. }) => {
                let given = Given { results: Vec::new(), several: false };
                let view = results::view(before.decision, records.unwrap_or(0), given);
                Ok(ExecutionView { rows: None, ..view })
            }
            Some(Outcome { status: OutcomeStatus::Error, error, .. }) => Err(Error::Statement {
                code: String::new(),
                message: error.unwrap_or_else(|| "it did not take place".to_owned()),
                check_id: Some(id),
            }),
            Some(Outcome { error, .. }) => Err(unknown(&id, error.as_deref().unwrap_or("nobody can tell"))),
            None => Err(unknown(&id, "it is not on record yet how it ended")),
        }
    }
}

fn unknown(check_id: &str, why: &str) -> Error {
    Error::ExecutionUnknown {
        message: format!(
            "it is not known yet whether this took place: {why}. Do not send it again; \
             GET /v1/checks/{check_id} has the outcome as soon as the database tells"
        ),
        check_id: check_id.to_owned(),
    }
}
