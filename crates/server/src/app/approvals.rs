//! Approvals: listing them and answering them. How a check uses one is in `holds`.

use super::{App, Caller, Error};
use checkrein_api::{Answer, ApprovalDecision, ApprovalPage, ApprovalView};
use checkrein_core::{
    approval::{Actor, Approval, Refused, State, Transition},
    event::Event,
    key::Role,
};
use checkrein_store::{AppendError, ApprovalFilter};

/// Approvals a page.
const MAX_PAGE: usize = 500;
/// Longest comment, in bytes.
const MAX_COMMENT: usize = 4096;

/// What `GET /v1/approvals` selects.
#[derive(Clone, Debug, Default)]
pub struct ApprovalQuery {
    /// What to select.
    pub filter: ApprovalFilter,
    /// Where the page before ended.
    pub cursor: Option<u64>,
    /// How many; 50 when absent, at most 500.
    pub limit: Option<usize>,
}

impl App {
    /// A page of approvals, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_approvals(&self, query: ApprovalQuery) -> Result<ApprovalPage, Error> {
        let limit = query.limit.unwrap_or(50).clamp(1, MAX_PAGE);
        let page = self.store.approvals(query.filter, query.cursor, limit).await?;
        Ok(ApprovalPage {
            approvals: page.rows.into_iter().map(|a| self.approval_view(a)).collect(),
            next_cursor: page.next.map(|seq| seq.to_string()),
        })
    }

    /// An approval. An agent's key sees its own agent's.
    ///
    /// # Errors
    /// When there is none that the caller may see.
    pub async fn view_approval(&self, caller: &Caller, id: &str) -> Result<ApprovalView, Error> {
        let approval = self.store.approval(id).await?;
        approval
            .filter(|a| caller.may_see(&a.action.agent))
            .map(|a| self.approval_view(a))
            .ok_or_else(|| Error::NotFound("approval", id.chars().take(64).collect()))
    }

    /// Records a person's answer. Who it is comes from the key.
    ///
    /// # Errors
    /// When the caller is an agent, or the approval is no longer pending.
    pub async fn decide_approval(
        &self,
        caller: &Caller,
        id: &str,
        answer: ApprovalDecision,
    ) -> Result<ApprovalView, Error> {
        caller.require(Role::Operator)?;
        self.answer_approval(caller.actor(), id, answer).await
    }

    /// The same by a person who was recognised otherwise than by a key.
    ///
    /// # Errors
    /// When the approval is no longer pending, or this person cannot answer it.
    pub(crate) async fn answer_approval(
        &self,
        by: Actor,
        id: &str,
        answer: ApprovalDecision,
    ) -> Result<ApprovalView, Error> {
        if let Some(comment) = &answer.comment {
            said("comment", comment)?;
        }
        if answer.decision == Answer::Approve
            && let Some(approval) = self.store.approval(id).await?.filter(|approval| approval.approvals > 1)
            && self.operator(&approval.asked_by).is_some_and(|asker| asker.may_be(&by))
        {
            // Also by Slack, a link or another key of theirs.
            return Err(Error::Approval(Refused::Asker(by.name)));
        }
        let transition = Transition::Decide { decision: answer.decision, by, comment: answer.comment };
        let view = self.change_approval(id, transition).await?;
        if view.decided_by.is_some() {
            self.metrics.approvals_decided.inc();
        }
        Ok(view)
    }

    /// Adds a comment, which answers nothing.
    ///
    /// # Errors
    /// When the caller is an agent, the text is empty, too long or not readable, or there are too many.
    pub async fn comment_approval(
        &self,
        caller: &Caller,
        id: &str,
        text: String,
    ) -> Result<ApprovalView, Error> {
        caller.require(Role::Operator)?;
        if text.trim().is_empty() {
            return Err(Error::Invalid("text: a comment says something; it is empty".to_owned()));
        }
        said("text", &text)?;
        self.change_approval(id, Transition::Comment { by: caller.actor(), text }).await
    }

    /// Puts a change on record, and gives the approval as it stands then.
    pub(super) async fn change_approval(
        &self,
        id: &str,
        transition: Transition,
    ) -> Result<ApprovalView, Error> {
        let event = Event::ApprovalChanged { id: id.to_owned(), transition };
        let missing = || Error::NotFound("approval", id.chars().take(64).collect());
        match self.store.append(vec![event], self.clock.now()).await {
            Ok(_) => self.approvals_changed.send_modify(|n| *n += 1),
            Err(AppendError::NotFound(_)) => return Err(missing()),
            Err(error) => return Err(error.into()),
        }
        self.store.approval(id).await?.map(|a| self.approval_view(a)).ok_or_else(missing)
    }

    /// Puts on record what has expired. Returns how many.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(super) async fn expire_approvals(&self) -> Result<usize, Error> {
        let due = self.store.due_approvals(self.clock.now(), 1000).await?;
        for approval in &due {
            let event = Event::ApprovalChanged { id: approval.id.clone(), transition: Transition::Expire };
            match self.append(vec![event]).await {
                // Answered or used in the meantime: then it did not expire.
                Ok(()) | Err(Error::Approval(Refused::Settled(_) | Refused::Used(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(due.len())
    }

    pub(super) fn approval_view(&self, approval: Approval) -> ApprovalView {
        // One that is due and not yet marked has expired all the same.
        let late = approval.open() && self.clock.now() >= approval.expires_at;
        ApprovalView {
            approvals_required: approval.approvals,
            approvals_given: u8::try_from(approval.approved_by_people()).unwrap_or(u8::MAX),
            given: approval.given,
            comments: approval.comments,
            state: if late { State::Expired } else { approval.state },
            id: approval.id,
            check_id: approval.check_id,
            agent: approval.action.agent.to_string(),
            action: approval.action.action.to_string(),
            resource: approval.action.resource.to_string(),
            category: approval.action.category,
            environment: approval.action.environment,
            blast_radius: approval.blast_radius,
            policies: approval.policies,
            reason: approval.reason,
            check: approval.check,
            fingerprint: approval.fingerprint,
            requested_at: approval.requested_at,
            expires_at: approval.expires_at,
            decided_by: approval.decided_by,
            decided_at: approval.decided_at,
            comment: approval.comment,
            used_by: approval.used_by,
            used_at: approval.used_at,
        }
    }
}

/// Whether people can read what somebody wrote, and it is not too much.
pub(super) fn said(field: &str, text: &str) -> Result<(), Error> {
    let unreadable = |c: char| c != '\n' && checkrein_core::name::is_invisible(c);
    if text.len() > MAX_COMMENT || text.chars().any(unreadable) {
        return Err(Error::Invalid(format!(
            "{field}: at most {MAX_COMMENT} bytes, without invisible characters"
        )));
    }
    Ok(())
}
