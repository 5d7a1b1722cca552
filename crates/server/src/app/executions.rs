//! Guarded execution: run in an open transaction, measure, judge, keep what can undo it, record, commit.
//!
//! ```text
//! understand ─► block early? ─► run ─► measure ─► judge ─► capture ─► record ─► commit ─► outcome
//!                                │ refused, blocked, held, not recorded: rolled back, nothing changed
//! ```
//! Until its record is begun, an execution belongs to the request: a client that leaves takes it back. From
//! then on it runs to its end on a task of its own.

use super::{
    App, Caller, Connected, Error, Rules,
    checks::{Asked, Settled, new_id},
    counts, drift,
    grants::Granted,
    holds::{approved_reason, still_covers},
    locks,
    results::{self, Given},
    shelf,
    statements::{self, Statements},
    to_the_end,
};
use checkrein_api::{ExecutionRequest, ExecutionView};
use checkrein_core::{
    action::{Action, Category, Count},
    approval::{Approval, State, Transition},
    check::Check,
    decision::{Basis, BlastRadius, NO_SNAPSHOT, Verdict},
    event::{Event, OutcomeStatus},
    fingerprint::Fingerprint,
    policy::Facts,
    snapshot::Execution,
    touched::{Found, Touched},
};
use checkrein_store::ApprovalFilter;
use checkrein_targets::{Affected, Error as TargetError, How, Pending, Selection};
use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

/// Approvals of an agent that are looked through for one of the same action on other rows.
const STALE_APPROVALS: usize = 100;

/// An execution on its way.
pub(super) struct Run {
    pub(super) id: String,
    pub(super) key_id: String,
    pub(super) target: Arc<Connected>,
    pub(super) rules: Arc<Rules>,
    pub(super) statements: Statements,
    pub(super) check: Check,
    pub(super) action: Action,
    pub(super) acting: drift::Acting,
    /// Of the action, whatever rows it touches.
    pub(super) fingerprint: Fingerprint,
    pub(super) started: Instant,
    /// Keeps a repeated idempotency key waiting.
    pub(super) _once: Option<locks::Held>,
}

/// Where a run stands when it is put on record.
pub(super) struct Decided {
    pub(super) asked: Asked,
    pub(super) settled: Option<Settled>,
    pub(super) used: Option<Event>,
}

impl App {
    /// Runs statements on a target, if the policies allow what they really change.
    ///
    /// # Errors
    /// When the request makes no sense, the database refuses it, or it could not be recorded. Nothing was
    /// changed then, unless the error says that it is unknown.
    pub async fn execute(
        self: &Arc<Self>,
        caller: &Caller,
        request: ExecutionRequest,
    ) -> Result<ExecutionView, Error> {
        let started = Instant::now();
        caller.within_limit()?;
        let agent = caller.agent(request.agent.as_deref())?;
        let rules = self.rules();
        let target = rules
            .targets
            .get(&request.target)
            .cloned()
            .ok_or_else(|| Error::NotFound("target", request.target.chars().take(64).collect()))?;
        let statements = Statements::of(&request)?;
        let (check, action) =
            statements::understand(&rules.catalogue, &target, request, &statements, &agent)?;
        let fingerprint = Fingerprint::of(&check, &agent, None);
        let mut once = None;
        if let Some(key) = &check.idempotency_key {
            once = Some(self.locks.lock(&format!("idempotency {} {key}", caller.key_id())).await);
            self.recent.seen(caller.key_id(), key);
            if let Some(before) = self.store.by_idempotency_key(caller.key_id(), key).await? {
                return self.repeated(before, &fingerprint).await;
            }
        }
        let acting = self.acting(caller.key_id(), &action.agent).await?;
        let run = Run {
            id: new_id("chk"),
            key_id: caller.key_id().to_owned(),
            target,
            rules,
            statements,
            check,
            action,
            acting,
            fingerprint,
            started,
            _once: once,
        };
        if self.blocks_early(&run) {
            let asked = self.judged(&run, run.action.clone(), None);
            // A cool-down, or a minute of a rate, may have ended between the two looks. Nothing ran all the same.
            let late = (asked.judgement.verdict != Verdict::Block)
                .then(|| "Blocked: what stopped it has just ended; send it again.".to_owned());
            return self.refuse(&run, asked, late).await;
        }
        if run.action.category == Category::Read {
            Box::pin(self.read(run)).await
        } else {
            Box::pin(self.write(run)).await
        }
    }

    fn blocks_early(&self, run: &Run) -> bool {
        let now = self.clock.now();
        let is_read = run.action.category == Category::Read;
        if self.drift.refuses(&run.rules.drift, &run.acting, (is_read, true), now).is_some() {
            return true;
        }
        // A score that is not known is no reason to stop here: it is, once the action has been looked at.
        let facts = Facts { drift: Some(0.0), ..Facts::of(&run.action, run.check.details(), now) };
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        run.rules.policies.blocks_uncounted(&facts, &windows)
    }

    /// Judges what is known now. Once an execution: it counts in the rates.
    fn judged(&self, run: &Run, action: Action, found: Option<&Found>) -> Asked {
        let at = self.clock.now();
        let exact = Fingerprint::of(&run.check, &action.agent, None);
        let (mut judgement, look) =
            self.judge(&run.rules, &run.acting, (&action, &exact), &run.check, (&run.id, at));
        let blast_radius = BlastRadius::of(&action, found);
        if let Some(said) = found.and_then(|found| blast_radius.comparison(found)) {
            judgement.reason.push(' ');
            judgement.reason.push_str(&said);
        }
        Asked {
            id: run.id.clone(),
            key_id: run.key_id.clone(),
            check: run.check.clone(),
            action,
            fingerprint: run.fingerprint.clone(),
            blast_radius,
            judgement,
            look,
            snapshot_id: None,
            execution: Some(Execution {
                target: run.target.name.to_string(),
                token: None,
                snapshot_id: None,
            }),
            at,
        }
    }

    /// Puts a decision on record by which nothing runs.
    pub(super) async fn refuse(
        &self,
        run: &Run,
        asked: Asked,
        reason: Option<String>,
    ) -> Result<ExecutionView, Error> {
        let settled = reason.map(|reason| Settled { verdict: Verdict::Block, reason, approval_id: None });
        let decided = Decided { asked, settled, used: None };
        match self.record_execution(run, decided, None).await? {
            Ok(checked) => Ok(results::nothing(checked.decision)),
            Err(before) => self.repeated(*before, &run.fingerprint).await,
        }
    }

    // Reading.

    async fn read(self: &Arc<Self>, run: Run) -> Result<ExecutionView, Error> {
        let mut action = run.action.clone();
        let (mut found, mut note) = (None, String::new());
        let facts = Facts::of(&action, run.check.details(), self.clock.now());
        if run.rules.policies.turns_on_records(&facts) {
            let selection = Selection::Statements(run.statements.list.clone());
            match run.target.target.count(&selection).await {
                Ok(counted) => {
                    let whole = counted.at_least.is_empty();
                    let counted = found_by(&run.target, Basis::Counted, &counted.affected, whole)?;
                    action.affect(&counted)?;
                    found = Some(counted);
                }
                // What nobody can count is too many for a policy that asks.
                Err(error) => {
                    note =
                        format!(" Its records could not be counted: {}.", counts::words(&error.to_string()));
                    action.records = Count::Unknown;
                }
            }
        }
        let mut asked = self.judged(&run, action, found.as_ref());
        asked.judgement.reason.push_str(&note);
        match asked.judgement.verdict {
            Verdict::Block => self.refuse(&run, asked, None).await,
            Verdict::Hold => {
                // An approval of a check is none of its execution, nor the other way round.
                asked.fingerprint = Fingerprint::of(&run.check, &asked.action.agent, Some("read"));
                let Some((settled, used)) = self.answered(&mut asked).await? else {
                    return self.hold(asked, None).await.map(|answer| results::nothing(answer.decision));
                };
                let decided = Decided { asked, settled: Some(settled), used: Some(used) };
                to_the_end(Arc::clone(self).read_now(run, decided)).await
            }
            Verdict::Allow => {
                let decided = Decided { asked, settled: None, used: None };
                to_the_end(Arc::clone(self).read_now(run, decided)).await
            }
        }
    }

    async fn read_now(self: Arc<Self>, run: Run, decided: Decided) -> Result<ExecutionView, Error> {
        let checked = match self.record_execution(&run, decided, None).await? {
            Ok(checked) => checked,
            Err(before) => return self.repeated(*before, &run.fingerprint).await,
        };
        let mut given = Vec::with_capacity(run.statements.list.len());
        for statement in &run.statements.list {
            match run.target.target.read(statement).await {
                Ok(result) => given.push(result),
                Err(error) => {
                    let message = error.to_string();
                    self.settle(&run.id, Some(&checked), OutcomeStatus::Error, None, Some(message)).await;
                    return Err(statement_error(error, &run.id));
                }
            }
        }
        self.settle(&run.id, Some(&checked), OutcomeStatus::Ok, Some(0), None).await;
        self.metrics.executions.done.inc();
        Ok(results::view(checked.decision, 0, Given { results: given, several: run.statements.several }))
    }

    // Changing.

    async fn write(self: &Arc<Self>, run: Run) -> Result<ExecutionView, Error> {
        let pending = match run.target.target.execute(&run.statements.list).await {
            Ok(pending) => pending,
            Err(error) => return self.not_run(&run, error).await,
        };
        let measured = pending.measured();
        let mut action = run.action.clone();
        // What returns more records than it changes has read them, whatever it was taken for.
        let returned: usize = pending.results().iter().map(|result| result.rows.len()).sum();
        let returned = u64::try_from(returned).unwrap_or(u64::MAX);
        let mut affected = measured.affected.clone();
        if measured.records() == 0 || returned > measured.records() {
            affected.push(Affected { resource: String::new(), how: How::Read, records: returned });
        }
        let found = found_by(&run.target, Basis::Measured, &affected, true)
            .and_then(|found| action.affect(&found).map(|()| found).map_err(Error::from));
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                pending.rollback().await;
                return Err(error);
            }
        };
        let asked = self.judged(&run, action, Some(&found));
        match asked.judgement.verdict {
            Verdict::Block => {
                pending.rollback().await;
                self.refuse(&run, asked, None).await
            }
            Verdict::Hold => Box::pin(self.held(run, pending, asked)).await,
            Verdict::Allow => {
                let wanted = run.target.snapshot_when.wants(pending.measured().records());
                let decided = Decided { asked, settled: None, used: None };
                Box::pin(self.capture_and_commit(run, pending, decided, wanted)).await
            }
        }
    }

    /// The database would not run it, or what it does cannot be known.
    async fn not_run(&self, run: &Run, error: TargetError) -> Result<ExecutionView, Error> {
        let reason = match &error {
            TargetError::Statement { message, .. } | TargetError::Invalid(message) => {
                format!("Blocked: {} refused the statement: {message}", run.target.name)
            }
            TargetError::Unmeasurable(why) => {
                format!(
                    "Blocked: what it changes cannot be measured or undone, so it does not run here. {why}"
                )
            }
            TargetError::Unsupported(why) | TargetError::TooLarge(why) | TargetError::Forbidden(why) => {
                format!("Blocked: {why}")
            }
            TargetError::TimedOut { .. } => format!("Blocked: {error}"),
            // Nothing was decided: the same request can be sent again.
            _ => {
                self.metrics.executions.failed.inc();
                return Err(Error::of_target(error));
            }
        };
        let asked = self.judged(run, run.action.clone(), None);
        let id = asked.id.clone();
        let view = self.refuse(run, asked, Some(reason)).await?;
        match error {
            TargetError::Statement { .. } | TargetError::Invalid(_) => Err(statement_error(error, &id)),
            _ => Ok(view),
        }
    }

    /// A person must approve: exactly this, on exactly these rows, with exactly these values from elsewhere.
    async fn held(
        self: &Arc<Self>,
        run: Run,
        mut pending: Box<dyn Pending>,
        mut asked: Asked,
    ) -> Result<ExecutionView, Error> {
        pending.bind();
        let draft = match self.capture_pending(&run, pending.as_mut()).await {
            Ok(draft) => draft,
            Err(error) => {
                pending.rollback().await;
                return self.refuse(&run, asked, Some(no_snapshot(&error))).await;
            }
        };
        let digest = draft.captured.digest.as_ref().map_or("rows", |digest| digest.0.as_str());
        asked.fingerprint = Fingerprint::of(&run.check, &asked.action.agent, Some(digest));
        let answered = match self.answered(&mut asked).await {
            Ok(answered) => answered,
            Err(error) => {
                pending.rollback().await;
                return Err(error);
            }
        };
        if let Some((settled, used)) = answered {
            let wanted = run.target.snapshot_when.wants(pending.measured().records());
            let decided = Decided { asked, settled: Some(settled), used: Some(used) };
            return Box::pin(self.commit_with(run, pending, decided, Some(draft), wanted)).await;
        }
        // No lock and no snapshot outlives this.
        pending.rollback().await;
        drop(draft);
        if let Some(stale) = self.approved_for_other_rows(&run, &asked).await? {
            let who = stale.decided_by.as_ref().map_or("somebody", |by| &by.name);
            asked.judgement.reason.push_str(&format!(
                " {who} approved it, but the rows that it touches, or what it takes from others, have changed since, so it is asked again."
            ));
        }
        self.hold(asked, None).await.map(|answer| results::nothing(answer.decision))
    }

    /// What answers the hold already: the approval of exactly this action, if somebody gave it, it was not
    /// used, and the action has not grown since (what a read touches is in its count only); or a grant.
    async fn answered(&self, asked: &mut Asked) -> Result<Option<(Settled, Event)>, Error> {
        let open = self.store.open_approval(&asked.fingerprint).await?;
        let approved = open
            .filter(|a| a.state == State::Approved && asked.at < a.expires_at)
            .filter(|a| still_covers(a, asked));
        if let Some(approval) = approved {
            return Ok(Some(by_approval(&approval, asked)));
        }
        Ok(match self.granted(asked).await? {
            Granted::By(by) => Some(by.uses(&asked.id)),
            Granted::Not(notes) => {
                asked.judgement.reason.push_str(&notes);
                None
            }
        })
    }

    /// An unused approval of the same action that was given for other rows.
    async fn approved_for_other_rows(&self, run: &Run, asked: &Asked) -> Result<Option<Approval>, Error> {
        let filter = ApprovalFilter {
            state: Some(State::Approved),
            open: Some(true),
            agent: checkrein_core::name::Pattern::new(&asked.action.agent).ok(),
        };
        let page = self.store.approvals(filter, None, STALE_APPROVALS).await?;
        Ok(page.rows.into_iter().find(|a| {
            Fingerprint::of(&a.check, &a.action.agent, None) == run.fingerprint && asked.at < a.expires_at
        }))
    }
}

/// What a target says, with the names that policies know.
fn found_by(of: &Connected, basis: Basis, affected: &[Affected], whole: bool) -> Result<Found, Error> {
    let named = |a: &Affected| {
        let resource = of.resource(&a.resource).map_err(|error| {
            Error::Unsupported(format!(
                "it touches a table whose name no policy could be written for ({error}); rename it: {}",
                shelf::full_name(of, &a.resource).chars().take(128).collect::<String>().escape_debug()
            ))
        })?;
        Ok(Touched { resource, how: a.how, records: a.records })
    };
    let touched = affected.iter().map(named).collect::<Result<_, Error>>()?;
    Ok(Found { basis, environment: of.environment, touched, whole })
}

fn by_approval(approval: &Approval, asked: &Asked) -> (Settled, Event) {
    let settled = Settled {
        verdict: Verdict::Allow,
        reason: approved_reason(approval),
        approval_id: Some(approval.id.clone()),
    };
    let transition = Transition::Use { check_id: asked.id.clone(), fingerprint: asked.fingerprint.clone() };
    (settled, Event::ApprovalChanged { id: approval.id.clone(), transition })
}

pub(super) fn no_snapshot(error: &TargetError) -> String {
    format!("{NO_SNAPSHOT}: {error}")
}

fn statement_error(error: TargetError, check_id: &str) -> Error {
    match error {
        TargetError::Statement { code, message } => {
            Error::Statement { code, message, check_id: Some(check_id.to_owned()) }
        }
        TargetError::Invalid(message) => {
            Error::Statement { code: String::new(), message, check_id: Some(check_id.to_owned()) }
        }
        other => Error::of_target(other),
    }
}
