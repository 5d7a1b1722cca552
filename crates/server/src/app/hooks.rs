//! What enforcement points need that speak another protocol than ours: an answer in one request, and outcomes
//! by the name that they have for a call.

use super::{App, Caller, Error};
use checkrein_api::{Check, Decision, OutcomeReport, Role, Verdict};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

impl Caller {
    /// Whether this key could approve what it asks for itself.
    pub(crate) fn may_approve(&self) -> bool {
        self.require(Role::Operator).is_ok()
    }
}

impl App {
    /// Asks as [`App::check`] does, and waits up to `wait` for a person's answer to a hold. The decision is
    /// as it then stands.
    ///
    /// # Errors
    /// As [`App::check`]. The action must not run then.
    pub(crate) async fn check_and_wait(
        self: &Arc<Self>,
        caller: &Caller,
        check: Check,
        wait: Duration,
    ) -> Result<Decision, Error> {
        let decision = Box::pin(self.check(caller, check)).await?.decision;
        if decision.verdict != Verdict::Hold {
            return Ok(decision);
        }
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let now = Box::pin(self.view_check(caller, &decision.id, left)).await?.decision;
            if now.verdict != Verdict::Hold || left.is_zero() || *self.stopping().borrow() {
                return Ok(now);
            }
        }
    }

    /// Puts on record what became of the action that this caller asked for under `idempotency_key`.
    ///
    /// # Errors
    /// When it never asked under that name, or another outcome is on record.
    pub(crate) async fn report_outcome_of(
        &self,
        caller: &Caller,
        idempotency_key: &str,
        report: OutcomeReport,
    ) -> Result<(), Error> {
        let asked = self.store.by_idempotency_key(caller.key_id(), idempotency_key).await?;
        let asked = asked.ok_or_else(|| {
            Error::NotFound("check of the call", idempotency_key.chars().take(128).collect())
        })?;
        self.report_outcome(caller, &asked.decision.id, report).await.map(|_| ())
    }
}
