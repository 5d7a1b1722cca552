//! When an agent no longer waits.

use super::{App, Caller, Error};
use checkrein_api::CheckView;
use checkrein_core::{
    approval::{Refused, Transition},
    decision::Verdict,
    event::Event,
};
use std::{sync::Arc, time::Duration};

impl App {
    /// Takes a held check back: nobody need answer it any more, and an answer that was given lets nothing
    /// through. Only with the key that made the check. Doing it again changes nothing.
    ///
    /// # Errors
    /// When there is no such check, another key made it, it was not held, or it was let through already.
    pub async fn withdraw_check(self: &Arc<Self>, caller: &Caller, id: &str) -> Result<CheckView, Error> {
        caller.within_limit()?;
        let checked = self.visible_check(caller, id).await?.checked;
        if checked.key_id != caller.key_id() {
            return Err(Error::Forbidden(format!(
                "another key made {id}, and only that one can withdraw it; an operator can deny its approval"
            )));
        }
        let (Verdict::Hold, Some(approval_id)) = (checked.decision.verdict, checked.decision.approval_id)
        else {
            return Err(Error::Conflict(format!("{id} was not held, so there is nothing to withdraw")));
        };
        let transition = Transition::Withdraw { by: caller.actor() };
        match self.append(vec![Event::ApprovalChanged { id: approval_id, transition }]).await {
            // Over already, or another check took it: this one is not let through either way.
            Ok(()) | Err(Error::Approval(Refused::Settled(_))) => {}
            Err(Error::Approval(Refused::Used(by))) if by != id => {}
            Err(error) => return Err(error),
        }
        self.view_check(caller, id, Duration::ZERO).await
    }
}
