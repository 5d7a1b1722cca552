//! The life of a check: classify, judge, record, answer.

use super::{
    App, Caller, Error,
    counts::{Known, Undoable},
    drift::{self, Look},
    holds::{Settlement, approved_reason, waiting_reason},
    snapshots::Purpose,
    to_the_end,
};
use checkrein_api::{CheckPage, CheckView, OutcomeReport};
use checkrein_core::{
    action::Action,
    check::Check,
    decision::{BlastRadius, Decision, Verdict},
    drift::breaker::State,
    event::{Checked, Event, Outcome, OutcomeStatus},
    fingerprint::Fingerprint,
    key::Role,
    policy::Judgement,
    snapshot::{Execution, Origin},
    time::Timestamp,
};
use checkrein_store::{AppendError, CheckFilter, CheckRow};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest that a caller may wait for a hold in one request.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60);
/// Checks a page.
const MAX_PAGE: usize = 500;
/// Bytes kept of an outcome's error.
const MAX_OUTCOME_ERROR: usize = 4096;

/// What `GET /v1/checks` selects.
#[derive(Clone, Debug, Default)]
pub struct CheckQuery {
    /// What to select.
    pub filter: CheckFilter,
    /// Where the page before ended.
    pub cursor: Option<u64>,
    /// How many; 50 when absent, at most 500.
    pub limit: Option<usize>,
}

/// A decision that is on record, and its JSON as it is recorded: what is answered, word for word.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// The same as JSON.
    pub json: String,
}

/// A check on its way from judgement to record.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) key_id: String,
    pub(super) check: Check,
    pub(super) action: Action,
    pub(super) blast_radius: BlastRadius,
    pub(super) fingerprint: Fingerprint,
    pub(super) judgement: Judgement,
    /// What drift and breakers say of it, which is in the judgement already.
    pub(super) look: Look,
    /// The snapshot that was taken for it.
    pub(super) snapshot_id: Option<String>,
    /// Where Checkrein runs it itself.
    pub(super) execution: Option<Execution>,
    pub(super) at: Timestamp,
}

/// A verdict that replaces what the policies said.
pub(super) struct Settled {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    pub(super) approval_id: Option<String>,
}

impl Asked {
    /// How it is put on record.
    pub(super) fn decided(self, settled: Option<Settled>) -> Checked {
        let (verdict, reason, approval_id) = match settled {
            Some(Settled { verdict, reason, approval_id }) => (verdict, reason, approval_id),
            None => (self.judgement.verdict, self.judgement.reason, None),
        };
        let decision = Decision {
            id: self.id,
            verdict,
            reason,
            policies: self.judgement.matched,
            category: self.action.category,
            environment: self.action.environment,
            blast_radius: self.blast_radius,
            drift: self.look.verdict,
            breaker: self.look.breaker,
            approval_id,
            snapshot_id: self.snapshot_id,
            logged_at: self.at,
        };
        Checked {
            key_id: self.key_id,
            check: self.check,
            action: self.action,
            fingerprint: self.fingerprint,
            decision,
            execution: self.execution,
            probe: self.look.probe,
        }
    }
}

impl App {
    /// Decides whether an action may run. The decision is durably on record when this returns.
    ///
    /// # Errors
    /// When the request makes no sense, the caller may not make it, or it could not be recorded. In each
    /// case the action must not run.
    pub async fn check(self: &Arc<Self>, caller: &Caller, check: Check) -> Result<Answer, Error> {
        let started = Instant::now();
        caller.within_limit()?;
        let agent = caller.agent(check.agent.as_deref())?;
        let fingerprint = Fingerprint::of(&check, &agent, None);
        if let Some(key) = &check.idempotency_key
            && self.recent.seen(caller.key_id(), key)
            && let Some(before) = Box::pin(self.store.by_idempotency_key(caller.key_id(), key)).await?
        {
            return Box::pin(self.again(before, &fingerprint)).await;
        }
        let rules = self.rules();
        let understood = rules.catalogue.understand(&check, agent)?;
        let Known { action, blast_radius, notes, undoable } = self.known(&rules, understood, &check).await?;
        let acting = self.acting(caller.key_id(), &action.agent).await?;
        let (id, at) = (new_id("chk"), self.clock.now());
        let (mut judgement, look) = self.judge(&rules, &acting, (&action, &fingerprint), &check, (&id, at));
        judgement.reason.push_str(&notes);
        let asked = Asked {
            id,
            key_id: caller.key_id().to_owned(),
            check,
            action,
            blast_radius,
            fingerprint,
            judgement,
            look,
            snapshot_id: None,
            execution: None,
            at,
        };
        let answer = match asked.judgement.verdict {
            Verdict::Hold => Box::pin(self.hold(asked, undoable)).await?,
            Verdict::Allow if undoable.is_some() => Box::pin(self.allow(asked, None, None, undoable)).await?,
            Verdict::Allow | Verdict::Block => self.record(asked, None, Vec::new()).await?,
        };
        self.metrics.decided(&answer.decision, started.elapsed());
        Ok(answer)
    }

    /// The answer that the same idempotency key got before; but no allow outlives the breaker, unless the action is
    /// known to have ended: an agent could ask for it for ever.
    async fn again(&self, mut before: Checked, fingerprint: &Fingerprint) -> Result<Answer, Error> {
        // What Checkrein ran itself was another request, whatever it was for.
        if before.execution.is_some() || before.fingerprint != *fingerprint {
            return Err(Error::KeyReused);
        }
        if before.decision.verdict == Verdict::Allow {
            let acting = self.acting(&before.key_id, &before.action.agent).await?;
            let outlived = self.drift.outlived(&self.rules().drift, &acting, &before, self.clock.now());
            if let Some(reason) = outlived
                && self.store.check(&before.decision.id).await?.is_none_or(|row| row.outcome.is_none())
            {
                before.decision.verdict = Verdict::Block;
                before.decision.reason =
                    format!("{reason}. It was allowed before that; ask with a new idempotency key");
                before.decision.breaker = State::Open;
            }
        }
        let json = serde_json::to_string(&before.decision).map_err(|e| unwritable(&e))?;
        Ok(Answer { decision: before.decision, json })
    }

    /// Takes the snapshot that an allowed action leaves, then puts the decision on record; if there is no
    /// snapshot, the action is blocked.
    pub(super) async fn allow(
        self: &Arc<Self>,
        mut asked: Asked,
        settled: Option<Settled>,
        used: Option<Event>,
        undoable: Option<Undoable>,
    ) -> Result<Answer, Error> {
        let app = Arc::clone(self);
        // A file and its record belong together, whether or not the client waits for them.
        to_the_end(async move {
            let purpose = Purpose::of_check(&asked.id, &asked.key_id, &asked.action);
            let taken = match app.automatic(undoable, purpose).await {
                Ok(taken) => taken,
                Err(reason) => {
                    let blocked = Settled { verdict: Verdict::Block, reason, approval_id: None };
                    return app.record(asked, Some(blocked), Vec::new()).await;
                }
            };
            let id = taken.as_ref().map(|record| record.id.clone());
            asked.snapshot_id.clone_from(&id);
            let taken = taken.map(|record| Event::SnapshotTaken(Box::new(record)));
            let recorded = app.record(asked, settled, used.into_iter().chain(taken).collect()).await;
            if let Some(id) = id {
                match &recorded {
                    // It may be on record; the next start finds out.
                    Err(Error::InDoubt(_)) => {}
                    Ok(answer) if answer.decision.snapshot_id.as_ref() == Some(&id) => {}
                    _ => app.shelf.remove(&id, 1),
                }
            }
            recorded
        })
        .await
    }

    /// Puts the decision on record, with `more` in the same breath. `settled` replaces what the policies
    /// said.
    pub(super) async fn record(
        &self,
        mut asked: Asked,
        settled: Option<Settled>,
        mut more: Vec<Event>,
    ) -> Result<Answer, Error> {
        let (at, fingerprint) = (asked.at, asked.fingerprint.clone());
        let touches_approvals = !more.is_empty();
        more.extend(asked.look.events());
        let changes = drift::changes(&more);
        let checked = asked.decided(settled);
        let json = serde_json::to_string(&checked.decision).map_err(|e| unwritable(&e))?;
        let body = checked.body_with(&json).map_err(|e| unwritable(&e))?;
        let mut events = Vec::with_capacity(1 + more.len());
        events.push((Event::Check(Box::new(checked)), body));
        for event in more {
            let body = event.body().map_err(|e| unwritable(&e))?;
            events.push((event, body));
        }
        match self.store.append_written(events, at).await {
            Ok((_, recorded)) => {
                self.drift.recorded(&changes);
                if touches_approvals {
                    self.approvals_changed.send_modify(|n| *n += 1);
                }
                match recorded.into_iter().next() {
                    Some((Event::Check(checked), _)) => Ok(Answer { decision: checked.decision, json }),
                    _ => Err(Error::NotRecorded("the store gave back another event".to_owned())),
                }
            }
            // The same key was on its way at the same time, or was forgotten by `recent`.
            Err(AppendError::Duplicate(before)) => Box::pin(self.again(*before, &fingerprint)).await,
            Err(error) => {
                self.metrics.not_recorded.inc();
                Err(error.into())
            }
        }
    }

    /// A check as it stands, after at most `wait` when it is held.
    ///
    /// The first to ask with the key that made the check, once it is approved, uses the approval.
    ///
    /// # Errors
    /// When there is no such check, or the caller may not see it.
    pub async fn view_check(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
        wait: Duration,
    ) -> Result<CheckView, Error> {
        caller.within_limit()?;
        let row = self.visible_check(caller, id).await?;
        let waits = if wait.is_zero() { None } else { caller.may_wait() };
        let wait = wait.min(if waits.is_some() { MAX_WAIT } else { Duration::from_secs(1) });
        let deadline = tokio::time::Instant::now() + wait;
        let mut changed = self.approvals_changed.subscribe();
        let mut stopping = self.stopping();
        loop {
            // Whoever waits has asked a while ago: the key may be revoked since.
            if !self.in_force(caller) {
                return Err(Error::Unauthenticated("this key was revoked"));
            }
            let (verdict, reason) = self.standing(caller, &row.checked).await?;
            let over = tokio::time::Instant::now() >= deadline || *stopping.borrow();
            if verdict != Verdict::Hold || over {
                let mut view = view(row);
                view.decision.verdict = verdict;
                view.decision.reason = reason;
                view.used_by = self.used_elsewhere(&view.decision).await?;
                if verdict == Verdict::Allow && view.decision.snapshot_id.is_none() {
                    // One that was taken when a person's approval was used.
                    let taken = self.store.snapshots_of_check(id).await?;
                    let automatic = taken.into_iter().find(|s| s.record.origin == Origin::Automatic);
                    view.decision.snapshot_id = automatic.map(|s| s.record.id);
                }
                return Ok(view);
            }
            // Expiry changes no approval until somebody looks, so look at least once a second.
            let look_again = deadline.min(tokio::time::Instant::now() + Duration::from_secs(1));
            tokio::select! {
                _ = changed.changed() => {}
                _ = stopping.changed() => {}
                () = tokio::time::sleep_until(look_again) => {}
            }
        }
    }

    pub(super) async fn visible_check(&self, caller: &Caller, id: &str) -> Result<CheckRow, Error> {
        let row = self.store.check(id).await?;
        row.filter(|row| caller.may_see(&row.checked.action.agent))
            .ok_or_else(|| Error::NotFound("check", id.chars().take(64).collect()))
    }

    /// A page of checks, newest first. An agent's key sees its own agent only.
    ///
    /// # Errors
    /// When an agent's key asks for others.
    pub async fn list_checks(&self, caller: &Caller, mut query: CheckQuery) -> Result<CheckPage, Error> {
        caller.within_limit()?;
        if caller.require(Role::Operator).is_err() {
            query.filter.agent = caller.visible_agents(query.filter.agent)?;
        }
        let limit = query.limit.unwrap_or(50).clamp(1, MAX_PAGE);
        let page = self.store.checks(query.filter, query.cursor, limit).await?;
        let mut checks = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            checks.push(self.standing_view(row).await?);
        }
        Ok(CheckPage { checks, next_cursor: page.next.map(|seq| seq.to_string()) })
    }

    /// A check as it stands. Looking changes nothing, unlike [`App::view_check`].
    ///
    /// # Errors
    /// When there is no such check, or the caller may not see it.
    pub(crate) async fn peek_check(&self, caller: &Caller, id: &str) -> Result<CheckView, Error> {
        let row = self.visible_check(caller, id).await?;
        self.standing_view(row).await
    }

    async fn standing_view(&self, row: CheckRow) -> Result<CheckView, Error> {
        let standing = match (&row.checked.decision.verdict, &row.checked.decision.approval_id) {
            (Verdict::Hold, Some(id)) => self
                .store
                .approval(id)
                .await?
                .map(|a| (self.settlement(&a, &row.checked.decision, self.clock.now()), a)),
            _ => None,
        };
        let mut view = view(row);
        match standing {
            Some((Settlement::Settled(verdict, reason), approval)) => {
                view.decision.verdict = verdict;
                view.decision.reason = reason;
                view.used_by = approval.used_by.filter(|by| *by != view.decision.id);
            }
            Some((Settlement::Approved, approval)) => view.decision.reason = approved_reason(&approval),
            Some((Settlement::Waiting, approval)) => {
                view.decision.reason = waiting_reason(&approval, &view.decision.reason);
            }
            None => {}
        }
        Ok(view)
    }

    /// Puts on record what became of an action. The same report again changes nothing; `unknown` may be
    /// followed by a better answer.
    ///
    /// # Errors
    /// When there is no such check for this caller, or another outcome is on record.
    pub async fn report_outcome(
        &self,
        caller: &Caller,
        id: &str,
        report: OutcomeReport,
    ) -> Result<OutcomeReport, Error> {
        caller.within_limit()?;
        self.put_outcome(caller, id, report, true).await
    }

    /// Puts on record that an action which was allowed did not run, for no fault of its own: nothing is learnt
    /// from that, and no breaker takes it for a failure.
    ///
    /// # Errors
    /// As [`App::report_outcome`].
    pub(crate) async fn report_not_run(&self, caller: &Caller, id: &str, why: &str) -> Result<(), Error> {
        let error = Some(format!("it did not run: {why}"));
        let report = OutcomeReport { status: OutcomeStatus::Error, records: None, error };
        self.put_outcome(caller, id, report, false).await.map(drop)
    }

    async fn put_outcome(
        &self,
        caller: &Caller,
        id: &str,
        report: OutcomeReport,
        ran: bool,
    ) -> Result<OutcomeReport, Error> {
        // The same report twice at once must not count twice.
        let _one_at_a_time = self.locks.lock(&format!("outcome {id}")).await;
        let row = self.visible_check(caller, id).await?;
        if row.checked.execution.is_some() {
            return Err(Error::Conflict(format!(
                "Checkrein ran {id} itself and puts its outcome on record itself; nothing needs to be reported"
            )));
        }
        let error = report.error.map(|e| e.chars().take(MAX_OUTCOME_ERROR).collect::<String>());
        let report = OutcomeReport { error, ..report };
        match row.outcome.as_ref().map(outcome_view) {
            Some(before) if before == report => return Ok(before),
            Some(before) if before.status != OutcomeStatus::Unknown => {
                return Err(Error::Conflict(format!("another outcome of {id} is on record already")));
            }
            _ => {}
        }
        let outcome = Outcome {
            check_id: id.to_owned(),
            status: report.status,
            records: report.records,
            error: report.error.clone(),
            key_id: caller.key_id().to_owned(),
        };
        if report.status == OutcomeStatus::Ok {
            self.seal_automatic(id, caller.key_id()).await;
        }
        let follows = if ran { self.ended(&row.checked, &outcome).await? } else { Vec::new() };
        self.append(std::iter::once(Event::Outcome(outcome)).chain(follows).collect()).await?;
        Ok(report)
    }
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::NotRecorded(format!("it cannot be written as JSON: {error}"))
}

pub(super) fn new_id(prefix: &str) -> String {
    let mut text = [0_u8; uuid::fmt::Simple::LENGTH];
    [prefix, "_", uuid::Uuid::now_v7().simple().encode_lower(&mut text)].concat()
}

fn outcome_view(outcome: &Outcome) -> OutcomeReport {
    OutcomeReport { status: outcome.status, records: outcome.records, error: outcome.error.clone() }
}

pub(super) fn view(row: CheckRow) -> CheckView {
    let Checked { key_id: _, check, action, fingerprint, decision, execution: _, probe: _ } = row.checked;
    CheckView {
        decision,
        agent: action.agent.to_string(),
        session: action.session,
        action: action.action.to_string(),
        tool: action.tool.map(|t| t.to_string()),
        resource: action.resource.to_string(),
        check,
        fingerprint,
        seq: row.seq,
        outcome: row.outcome.as_ref().map(outcome_view),
        used_by: None,
    }
}
