//! Holds: how a check that a person must approve is asked for, waits, and uses its approval.

use super::{
    App, Caller, Error,
    checks::{Answer, Asked, Settled, new_id},
    counts::{Known, Undoable},
    grants::Granted,
    snapshots::Purpose,
    to_the_end,
};
use checkrein_core::{
    action::Category,
    approval::{Approval, State, Transition},
    decision::{Decision, Matched, Verdict},
    event::{Checked, Event},
    name::Name,
    policy::{Facts, Judgement, Mode, Rule, Windows},
    time::Timestamp,
};
use std::sync::Arc;

impl App {
    /// A policy wants a person to approve: use an approval that is there, join one that is pending, or ask
    /// for a new one. A grant takes the place of an approval that nobody has given yet.
    pub(super) async fn hold(
        self: &Arc<Self>,
        mut asked: Asked,
        undoable: Option<Undoable>,
    ) -> Result<Answer, Error> {
        let one_at_a_time = self.holding.lock().await;
        let open = self.store.open_approval(&asked.fingerprint).await?.filter(|a| asked.at < a.expires_at);
        // What has grown since somebody was asked is asked for anew, and so is what more people must approve now.
        let open = open.filter(|a| still_covers(a, &asked));
        let approved = open.as_ref().is_some_and(|a| a.state == State::Approved);
        // An execution has asked for a grant before it came here.
        if !approved && asked.execution.is_none() {
            match self.granted(&asked).await? {
                Granted::By(by) => {
                    drop(one_at_a_time);
                    let (settled, used) = by.uses(&asked.id);
                    let allowed =
                        self.allow(asked.clone(), Some(settled), Some(used), undoable.clone()).await;
                    return match allowed {
                        // Somebody else has used, revoked or outlived it meanwhile: look again.
                        Err(Error::Grant(_)) => Box::pin(self.hold(asked, undoable)).await,
                        other => other,
                    };
                }
                Granted::Not(notes) => asked.judgement.reason.push_str(&notes),
            }
        }
        match open {
            // What Checkrein runs itself needs more than an answer: it runs again, and uses the approval then.
            Some(approval) if approved && asked.execution.is_none() => {
                let reason = approved_reason(&approval);
                let used = Event::ApprovalChanged {
                    id: approval.id.clone(),
                    transition: Transition::Use {
                        check_id: asked.id.clone(),
                        fingerprint: asked.fingerprint.clone(),
                    },
                };
                let settled = Settled { verdict: Verdict::Allow, reason, approval_id: Some(approval.id) };
                // An approval is used once in any case, and a snapshot may take its time.
                drop(one_at_a_time);
                match self.allow(asked.clone(), Some(settled), Some(used), undoable.clone()).await {
                    // The same action, asked for at the same time, was faster: somebody must be asked again.
                    Err(Error::Approval(_)) => Box::pin(self.hold(asked, undoable)).await,
                    other => other,
                }
            }
            Some(pending) => {
                let settled = held(&asked, pending.id);
                self.record(asked, Some(settled), Vec::new()).await
            }
            None => {
                let approval = self.new_approval(&asked);
                let settled = held(&asked, approval.id.clone());
                self.record(asked, Some(settled), vec![Event::ApprovalRequested(Box::new(approval))]).await
            }
        }
    }

    fn new_approval(&self, asked: &Asked) -> Approval {
        Approval {
            id: new_id("apr"),
            check_id: asked.id.clone(),
            asked_by: asked.key_id.clone(),
            fingerprint: asked.fingerprint.clone(),
            check: asked.check.clone(),
            action: asked.action.clone(),
            blast_radius: asked.blast_radius.clone(),
            policies: holding(&asked.judgement),
            reason: asked.judgement.reason.clone(),
            approvals: asked.judgement.approvals.max(1),
            state: State::Pending,
            given: Vec::new(),
            requested_at: asked.at,
            expires_at: asked.at.plus_seconds(self.approval_life_seconds),
            decided_by: None,
            decided_at: None,
            comment: None,
            used_by: None,
            used_at: None,
            comments: Vec::new(),
        }
    }

    /// The verdict of a recorded check as it stands now.
    pub(super) async fn standing(
        self: &Arc<Self>,
        caller: &Caller,
        checked: &Checked,
    ) -> Result<(Verdict, String), Error> {
        let decision = &checked.decision;
        let recorded = || Ok((decision.verdict, decision.reason.clone()));
        let (Verdict::Hold, Some(approval_id)) = (decision.verdict, &decision.approval_id) else {
            return recorded();
        };
        let Some(approval) = self.store.approval(approval_id).await? else {
            return Ok((
                Verdict::Block,
                format!("Blocked: the approval {approval_id} is no longer on record."),
            ));
        };
        let now = self.clock.now();
        Ok(match self.settlement(&approval, decision, now) {
            Settlement::Waiting => (decision.verdict, waiting_reason(&approval, &decision.reason)),
            Settlement::Settled(verdict, reason) => (verdict, reason),
            Settlement::Approved if checked.execution.is_some() => (
                Verdict::Allow,
                format!("{} Send the execution again to run it.", approved_reason(&approval)),
            ),
            Settlement::Approved if caller.key_id() != checked.key_id => {
                (Verdict::Hold, format!("{} The agent has not used it yet.", approved_reason(&approval)))
            }
            Settlement::Approved => self.use_approval(checked, &approval, now).await?,
        })
    }

    pub(super) fn settlement(&self, approval: &Approval, decision: &Decision, now: Timestamp) -> Settlement {
        let late = now >= approval.expires_at;
        let block = |reason: String| Settlement::Settled(Verdict::Block, reason);
        match (approval.state, &approval.used_by) {
            (State::Approved, Some(user)) if *user == decision.id => {
                Settlement::Settled(Verdict::Allow, approved_reason(approval))
            }
            (State::Approved, Some(user)) => {
                block(format!("Blocked: the approval {} was already used by {user}; ask again.", approval.id))
            }
            (State::Denied, _) => block(denied_reason(approval)),
            (State::Withdrawn, _) => block(
                "Blocked: the agent gave up waiting and withdrew its request for approval; ask again."
                    .to_owned(),
            ),
            (State::Approved, None) if !late => Settlement::Approved,
            (State::Pending, _) if !late => Settlement::Waiting,
            (State::Approved, None) => block(format!(
                "Blocked: approved, but not used before it expired at {}; ask again.",
                approval.expires_at
            )),
            (State::Pending | State::Expired, _) => block(format!(
                "Blocked: nobody answered before the request expired at {}. Nobody said no; ask again.",
                approval.expires_at
            )),
        }
    }

    /// Looks at the action once more before an approval lets it through: policies may have changed since.
    async fn use_approval(
        self: &Arc<Self>,
        checked: &Checked,
        approval: &Approval,
        now: Timestamp,
    ) -> Result<(Verdict, String), Error> {
        let rules = self.rules();
        let agent: Name = checked.action.agent.clone();
        let understood = rules.catalogue.understand(&checked.check, agent)?;
        let Known { action, blast_radius, notes, undoable } =
            self.known(&rules, understood, &checked.check).await?;
        if blast_radius.exceeds(&approval.blast_radius) {
            let (then, now) = (approval.blast_radius.records, blast_radius.records);
            let reason = format!(
                "{} It no longer holds: it was approved for {then} records and now touches {now} \
                 records, or others than those; ask again.{notes}",
                approved_reason(approval)
            );
            return Ok((Verdict::Block, reason));
        }
        // As unusual as it was when somebody looked at it.
        let drift = Some(checked.decision.drift.as_ref().map_or(0.0, |drift| drift.score));
        let facts = Facts { drift, ..Facts::of(&action, checked.check.details(), now) };
        // Fresh windows: this action was counted when it was first asked for.
        let judgement = rules.policies.evaluate(&facts, &mut Windows::default());
        if judgement.verdict == Verdict::Block {
            let reason = format!("{} It no longer holds: {}", approved_reason(approval), judgement.reason);
            return Ok((Verdict::Block, reason));
        }
        let acting = self.acting(&checked.key_id, &action.agent).await?;
        let is_read = action.category == Category::Read;
        if let Some(reason) = self.drift.refuses(&rules.drift, &acting, (is_read, false), now) {
            return Ok((
                Verdict::Block,
                format!("{} It no longer holds: {reason}", approved_reason(approval)),
            ));
        }
        if judgement.approvals > approval.approvals {
            let reason = format!(
                "{} It no longer holds: {} people must approve it now; ask again. {}",
                approved_reason(approval),
                judgement.approvals,
                judgement.reason
            );
            return Ok((Verdict::Block, reason));
        }
        let transition = Transition::Use {
            check_id: checked.decision.id.clone(),
            fingerprint: checked.fingerprint.clone(),
        };
        let used = Event::ApprovalChanged { id: approval.id.clone(), transition };
        let purpose = Purpose::of_check(&checked.decision.id, &checked.key_id, &action);
        let app = Arc::clone(self);
        let using = to_the_end(async move {
            let taken = match app.automatic(undoable, purpose).await {
                Ok(taken) => taken,
                Err(reason) => return Ok(Some(reason)),
            };
            let id = taken.as_ref().map(|record| record.id.clone());
            let taken = taken.map(|record| Event::SnapshotTaken(Box::new(record)));
            let recorded = app.append(std::iter::once(used).chain(taken).collect()).await;
            if let (Some(id), false) = (id, matches!(recorded, Ok(()) | Err(Error::InDoubt(_)))) {
                app.shelf.remove(&id, 1);
            }
            recorded.map(|()| None)
        });
        match using.await {
            Ok(None) => Ok((Verdict::Allow, approved_reason(approval))),
            Ok(Some(no_snapshot)) => Ok((Verdict::Block, no_snapshot)),
            // Somebody was faster: this request, repeated, or the same action asked for anew.
            Err(Error::Approval(refused)) => {
                let now_stands = self.store.approval(&approval.id).await?;
                Ok(match now_stands.map(|a| self.settlement(&a, &checked.decision, now)) {
                    Some(Settlement::Settled(verdict, reason)) => (verdict, reason),
                    _ => (Verdict::Block, format!("Blocked: {refused}.")),
                })
            }
            Err(error) => Err(error),
        }
    }
}

pub(super) enum Settlement {
    Waiting,
    Approved,
    Settled(Verdict, String),
}

pub(super) fn approved_reason(approval: &Approval) -> String {
    let last = approval.decided_by.as_ref().map_or("somebody", |by| &by.name);
    let who = approval.given.iter().fold(String::new(), |who, given| who + &given.by.name + " and ");
    let comment = approval.comment.as_deref().map(|c| format!(": {c}")).unwrap_or_default();
    format!("Approved by {who}{last}{comment}.")
}

/// Why a hold still waits: what was said first, and who has approved since.
pub(super) fn waiting_reason(approval: &Approval, reason: &str) -> String {
    let Some(given) = approval.given.last() else { return reason.to_owned() };
    let who = approval
        .given
        .iter()
        .rev()
        .skip(1)
        .fold(given.by.name.clone(), |who, g| [g.by.name.as_str(), " and ", &who].concat());
    format!("{reason} Approved by {who}: {} of {} people.", approval.given.len(), approval.approvals)
}

/// Whether an approval that was asked for is still enough for what is asked now.
pub(super) fn still_covers(approval: &Approval, asked: &Asked) -> bool {
    !asked.blast_radius.exceeds(&approval.blast_radius) && asked.judgement.approvals <= approval.approvals
}

fn denied_reason(approval: &Approval) -> String {
    let who = approval.decided_by.as_ref().map_or("somebody", |by| &by.name);
    let comment = approval.comment.as_deref().map(|c| format!(": {c}")).unwrap_or_default();
    format!("Denied by {who}{comment}.")
}

fn held(asked: &Asked, approval_id: String) -> Settled {
    let reason = asked.judgement.reason.clone();
    Settled { verdict: Verdict::Hold, reason, approval_id: Some(approval_id) }
}

/// The policies that want a person to approve.
fn holding(judgement: &Judgement) -> Vec<String> {
    let holds =
        |m: &&Matched| m.rule == Rule::RequireApproval && m.mode == Mode::Enforce && m.exempted_by.is_none();
    judgement.matched.iter().filter(holds).map(|m| m.name.clone()).collect()
}
