//! Approvals: listing them and answering them. How a check uses one is in `holds`.

use super::{App, Caller, Error};
use checkrein_api::{ApprovalDecision, ApprovalPage, ApprovalView};
use checkrein_core::{
    approval::{Approval, Refused, State, Transition},
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
        if let Some(comment) = &answer.comment
            && (comment.len() > MAX_COMMENT
                || comment.chars().any(|c| c != '\n' && checkrein_core::name::is_invisible(c)))
        {
            return Err(Error::Invalid(format!(
                "comment: at most {MAX_COMMENT} bytes, without invisible characters"
            )));
        }
        let transition =
            Transition::Decide { decision: answer.decision, by: caller.actor(), comment: answer.comment };
        let event = Event::ApprovalChanged { id: id.to_owned(), transition };
        let missing = || Error::NotFound("approval", id.chars().take(64).collect());
        match self.store.append(vec![event], self.clock.now()).await {
            Ok(_) => self.approvals_changed.send_modify(|n| *n += 1),
            Err(AppendError::NotFound(_)) => return Err(missing()),
            Err(error) => return Err(error.into()),
        }
        self.metrics.approvals_decided.inc();
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

    fn approval_view(&self, approval: Approval) -> ApprovalView {
        // One that is due and not yet marked has expired all the same.
        let late = approval.open() && self.clock.now() >= approval.expires_at;
        ApprovalView {
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
