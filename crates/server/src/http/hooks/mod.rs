//! Enforcement points that others built, each in its own protocol.
//!
//! All of them take some error of ours for leave to go on: Claude Code without `onFailure`, LiteLLM with
//! `fail_open`. So once the key is known, whatever goes wrong is answered as a refusal in their own form.

pub(super) mod claude_code;
pub(super) mod litellm;
pub(super) mod slack;

use crate::app::{Caller, Error};
use checkrein_api::{Decision, Verdict};
use std::fmt;

/// Refuses a key that could approve what it asks for.
fn only_an_agents(caller: &Caller, where_it_is: &str) -> Result<(), Error> {
    if caller.may_approve() {
        return Err(Error::Forbidden(format!(
            "this key may approve what it asks for, and {where_it_is}; make an agent's key with `checkrein keys \
             create --role agent --name NAME --agent NAME`"
        )));
    }
    Ok(())
}

/// A refusal in words that a model, and the person beside it, can act on: why, and what to do next.
fn refusal(decision: &Decision) -> String {
    let reason = &decision.reason;
    match (decision.verdict, &decision.approval_id) {
        (Verdict::Hold, Some(id)) => format!(
            "NOT RUN: {reason} Nobody has approved it yet. Somebody who may can do so with `checkrein approvals \
             approve {id}`. Nothing was changed. Once it is approved, make exactly the same call again: it then \
             runs once. Any other call is a new question."
        ),
        _ => format!(
            "NOT RUN: {reason} Nothing was changed. Do not try to reach the same effect in another way."
        ),
    }
}

/// The same for a call that could not be checked.
fn unchecked(why: impl fmt::Display) -> String {
    format!(
        "NOT RUN: this call could not be checked, and nothing runs unchecked: {why}. Nothing was changed. Do not \
         try to reach the same effect in another way; say that it could not be done now, and why."
    )
}
