//! A person's answer to a hold: a pure state machine.
//!
//! ```text
//! pending ─► approved ─► (used once, by one check)
//!    │           └─────► expired   nobody used it in time
//!    ├─────► denied
//!    ├─────► expired               nobody answered in time: not a "no"
//!    └─────► withdrawn
//! ```
//! An approval is bound to the [`Fingerprint`] of one exact action and lets exactly one check through.

use crate::{
    action::Action, check::Check, decision::BlastRadius, fingerprint::Fingerprint, key::Role, time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody has answered.
    Pending,
    /// A person said yes.
    Approved,
    /// A person said no.
    Denied,
    /// Time ran out, before an answer or before its use. Not a person's "no".
    Expired,
    /// The agent gave up waiting.
    Withdrawn,
}

impl State {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A person's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// Who answered: from the key or session, never from a request's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Actor {
    /// The key's id.
    pub key_id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// A request for a person's answer, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// `apr_…`.
    pub id: String,
    /// The check that was held.
    pub check_id: String,
    /// The exact action that this is bound to.
    pub fingerprint: Fingerprint,
    /// What was asked, as it was sent.
    pub check: Check,
    /// What it was taken for.
    pub action: Action,
    /// What it would affect.
    pub blast_radius: BlastRadius,
    /// The policies that ask for this approval.
    pub policies: Vec<String>,
    /// One sentence: why a person is asked.
    pub reason: String,
    /// Where it stands.
    pub state: State,
    /// Since when it waits.
    pub requested_at: Timestamp,
    /// When it expires, answered or not, unless it has been used.
    pub expires_at: Timestamp,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_by: Option<Actor>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decided_at: Option<Timestamp>,
    /// What they said about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
    /// The check that it let through.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used_at: Option<Timestamp>,
}

/// Something that happens to an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "transition")]
pub enum Transition {
    /// A person answers.
    Decide {
        /// Yes or no.
        decision: Answer,
        /// Who.
        by: Actor,
        /// What they say about it.
        comment: Option<String>,
    },
    /// Its time is over.
    Expire,
    /// A check is let through by it.
    Use {
        /// Which check.
        check_id: String,
        /// What that check asks for.
        fingerprint: Fingerprint,
    },
    /// The agent no longer waits.
    Withdraw,
}

/// Why something cannot happen to an approval.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was answered, expired or withdrawn before.
    #[error("the approval is already {}", .0.as_str())]
    Settled(State),
    /// Its time is over, though nobody has said so yet.
    #[error("the approval expired at {0}")]
    Late(Timestamp),
    /// Its time is not over.
    #[error("the approval expires only at {0}")]
    Early(Timestamp),
    /// Agents do not approve.
    #[error("an agent's key cannot decide an approval; use an operator's key")]
    Agent,
    /// It let another check through.
    #[error("the approval was already used by {0}")]
    Used(String),
    /// The check asks for something else.
    #[error("the approval is for another action; the one that was approved has changed")]
    OtherAction,
    /// Nobody approved it.
    #[error("the approval is {}, not approved", .0.as_str())]
    NotApproved(State),
}

impl Approval {
    /// The approval after `transition` at `now`.
    ///
    /// # Errors
    /// When the transition is not permitted from where it stands. Nothing changes then.
    pub fn after(&self, transition: &Transition, now: Timestamp) -> Result<Self, Refused> {
        let mut next = self.clone();
        match transition {
            Transition::Decide { decision, by, comment } => {
                if by.role == Role::Agent {
                    return Err(Refused::Agent);
                }
                self.pending_at(now)?;
                next.state = match decision {
                    Answer::Approve => State::Approved,
                    Answer::Deny => State::Denied,
                };
                next.decided_by = Some(by.clone());
                next.decided_at = Some(now);
                next.comment.clone_from(comment);
            }
            Transition::Expire => {
                if !self.open() {
                    return Err(self.settled());
                }
                if now < self.expires_at {
                    return Err(Refused::Early(self.expires_at));
                }
                next.state = State::Expired;
            }
            Transition::Use { check_id, fingerprint } => {
                if let Some(user) = &self.used_by {
                    return Err(Refused::Used(user.clone()));
                }
                if self.state != State::Approved {
                    return Err(Refused::NotApproved(self.state));
                }
                if now >= self.expires_at {
                    return Err(Refused::Late(self.expires_at));
                }
                if *fingerprint != self.fingerprint {
                    return Err(Refused::OtherAction);
                }
                next.used_by = Some(check_id.clone());
                next.used_at = Some(now);
            }
            Transition::Withdraw => {
                self.pending_at(now)?;
                next.state = State::Withdrawn;
            }
        }
        Ok(next)
    }

    /// Whether something can still come of it: waiting for an answer, or approved and not yet used.
    pub fn open(&self) -> bool {
        match self.state {
            State::Pending => true,
            State::Approved => self.used_by.is_none(),
            State::Denied | State::Expired | State::Withdrawn => false,
        }
    }

    fn pending_at(&self, now: Timestamp) -> Result<(), Refused> {
        if self.state != State::Pending {
            return Err(self.settled());
        }
        if now >= self.expires_at {
            return Err(Refused::Late(self.expires_at));
        }
        Ok(())
    }

    fn settled(&self) -> Refused {
        self.used_by.clone().map_or(Refused::Settled(self.state), Refused::Used)
    }
}
