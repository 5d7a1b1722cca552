//! The life of a check: classify, judge, record, answer.

use super::{
    App, Caller, Error, Rules,
    holds::{Settlement, approved_reason},
};
use checkrein_api::{CheckPage, CheckView, OutcomeReport};
use checkrein_core::{
    action::Action,
    check::Check,
    decision::{Basis, BlastRadius, Decision, ResourceCount, Verdict},
    event::{Checked, Event, Outcome, OutcomeStatus},
    fingerprint::Fingerprint,
    key::Role,
    policy::{Facts, Judgement, Windows},
    time::Timestamp,
};
use checkrein_store::{AppendError, CheckFilter, CheckRow};
use std::{
    sync::PoisonError,
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
pub(super) struct Asked {
    pub(super) id: String,
    pub(super) key_id: String,
    pub(super) check: Check,
    pub(super) action: Action,
    pub(super) fingerprint: Fingerprint,
    pub(super) judgement: Judgement,
    pub(super) at: Timestamp,
}

impl App {
    /// Decides whether an action may run. The decision is durably on record when this returns.
    ///
    /// # Errors
    /// When the request makes no sense, the caller may not make it, or it could not be recorded. In each
    /// case the action must not run.
    pub async fn check(&self, caller: &Caller, check: Check) -> Result<Answer, Error> {
        let started = Instant::now();
        caller.within_limit()?;
        let agent = caller.agent(check.agent.as_deref())?;
        let fingerprint = Fingerprint::of(&check, &agent, None);
        if let Some(key) = &check.idempotency_key
            && self.recent.seen(caller.key_id(), key)
            && let Some(before) = Box::pin(self.store.by_idempotency_key(caller.key_id(), key)).await?
        {
            return same_answer(before, &fingerprint);
        }
        let rules = self.rules();
        let action = rules.catalogue.classify(&check, agent)?;
        let at = self.clock.now();
        let judgement = self.judge(&rules, &action, &check, at);
        let asked = Asked {
            id: new_id("chk"),
            key_id: caller.key_id().to_owned(),
            check,
            action,
            fingerprint,
            judgement,
            at,
        };
        let answer = match asked.judgement.verdict {
            Verdict::Hold => Box::pin(self.hold(asked)).await?,
            Verdict::Allow | Verdict::Block => self.record(asked, None, Vec::new()).await?,
        };
        self.metrics.decided(&answer.decision, started.elapsed());
        Ok(answer)
    }

    fn judge(&self, rules: &Rules, action: &Action, check: &Check, now: Timestamp) -> Judgement {
        let facts = Facts::of(action, check.details(), now);
        if rules.policies.needs().rate_period_seconds.is_some() {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            rules.policies.evaluate(&facts, &mut windows)
        } else {
            rules.policies.evaluate(&facts, &mut Windows::default())
        }
    }

    /// Puts the decision on record, with `more` in the same breath. `settled` replaces what the policies
    /// said.
    pub(super) async fn record(
        &self,
        asked: Asked,
        settled: Option<(Verdict, String, String)>,
        more: Vec<Event>,
    ) -> Result<Answer, Error> {
        let (verdict, reason, approval_id) = match settled {
            Some((verdict, reason, approval_id)) => (verdict, reason, Some(approval_id)),
            None => (asked.judgement.verdict, asked.judgement.reason, None),
        };
        let decision = Decision {
            id: asked.id,
            verdict,
            reason,
            policies: asked.judgement.matched,
            category: asked.action.category,
            environment: asked.action.environment,
            blast_radius: blast_radius(&asked.action),
            approval_id,
            logged_at: asked.at,
        };
        let json = serde_json::to_string(&decision).map_err(|e| unwritable(&e))?;
        let fingerprint = asked.fingerprint.clone();
        let checked = Checked {
            key_id: asked.key_id,
            check: asked.check,
            action: asked.action,
            fingerprint: asked.fingerprint,
            decision,
        };
        let touches_approvals = !more.is_empty();
        let body = checked.body_with(&json).map_err(|e| unwritable(&e))?;
        let mut events = Vec::with_capacity(1 + more.len());
        events.push((Event::Check(Box::new(checked)), body));
        for event in more {
            let body = event.body().map_err(|e| unwritable(&e))?;
            events.push((event, body));
        }
        match self.store.append_written(events, asked.at).await {
            Ok((_, recorded)) => {
                if touches_approvals {
                    self.approvals_changed.send_modify(|n| *n += 1);
                }
                match recorded.into_iter().next() {
                    Some((Event::Check(checked), _)) => Ok(Answer { decision: checked.decision, json }),
                    _ => Err(Error::NotRecorded("the store gave back another event".to_owned())),
                }
            }
            // The same key was on its way at the same time, or was forgotten by `recent`.
            Err(AppendError::Duplicate(before)) => same_answer(*before, &fingerprint),
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
    pub async fn view_check(&self, caller: &Caller, id: &str, wait: Duration) -> Result<CheckView, Error> {
        caller.within_limit()?;
        let row = self.visible_check(caller, id).await?;
        let deadline = tokio::time::Instant::now() + wait.min(MAX_WAIT);
        let mut changed = self.approvals_changed.subscribe();
        let mut stopping = self.stopping();
        loop {
            let (verdict, reason) = self.standing(caller, &row.checked).await?;
            let over = tokio::time::Instant::now() >= deadline || *stopping.borrow();
            if verdict != Verdict::Hold || over {
                let mut view = view(row);
                view.decision.verdict = verdict;
                view.decision.reason = reason;
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

    async fn visible_check(&self, caller: &Caller, id: &str) -> Result<CheckRow, Error> {
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
                Some((Settlement::Settled(verdict, reason), _)) => {
                    view.decision.verdict = verdict;
                    view.decision.reason = reason;
                }
                Some((Settlement::Approved, approval)) => view.decision.reason = approved_reason(&approval),
                Some((Settlement::Waiting, _)) | None => {}
            }
            checks.push(view);
        }
        Ok(CheckPage { checks, next_cursor: page.next.map(|seq| seq.to_string()) })
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
        let row = self.visible_check(caller, id).await?;
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
        self.append(vec![Event::Outcome(outcome)]).await?;
        Ok(report)
    }
}

/// The answer that the same key got before, if it asks for the same action.
fn same_answer(before: Checked, fingerprint: &Fingerprint) -> Result<Answer, Error> {
    if before.fingerprint != *fingerprint {
        return Err(Error::KeyReused);
    }
    let json = serde_json::to_string(&before.decision).map_err(|e| unwritable(&e))?;
    Ok(Answer { decision: before.decision, json })
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::NotRecorded(format!("it cannot be written as JSON: {error}"))
}

/// The blast radius as far as the request tells it.
pub(super) fn blast_radius(action: &Action) -> BlastRadius {
    let records = action.records;
    BlastRadius {
        records,
        systems: action.systems,
        recipients: action.recipients,
        basis: Basis::Declared,
        declared: action.declared,
        by_resource: vec![ResourceCount { resource: action.resource.clone(), records }],
    }
}

pub(super) fn new_id(prefix: &str) -> String {
    let mut text = [0_u8; uuid::fmt::Simple::LENGTH];
    [prefix, "_", uuid::Uuid::now_v7().simple().encode_lower(&mut text)].concat()
}

fn outcome_view(outcome: &Outcome) -> OutcomeReport {
    OutcomeReport { status: outcome.status, records: outcome.records, error: outcome.error.clone() }
}

fn view(row: CheckRow) -> CheckView {
    let Checked { key_id: _, check, action, fingerprint, decision } = row.checked;
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
    }
}
