//! A time-boxed grant: a person's yes beforehand, to what one agent may do for a while.
//!
//! ```text
//! open ─► used_up   its records or uses are spent
//!   ├───► revoked
//!   └───► expired
//! ```
//! A grant answers a hold as an approval does. It never outweighs a block, never covers another agent, and all
//! that is done on the strength of it stays, taken together, within its records: counted ones, unless whoever
//! gave it said that what the agent states is enough. An unknown number is too many.

use crate::{
    action::Count,
    approval::Actor,
    decision::{Basis, BlastRadius},
    key::Role,
    name::{Name, Pattern},
    policy::{Facts, within},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// The longest that a grant lasts, in seconds: 7 days.
pub const MAX_SECONDS: i64 = 7 * 86_400;

/// Where a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = GrantState))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It can be used.
    Open,
    /// Its records or uses are spent.
    UsedUp,
    /// An operator took it back.
    Revoked,
    /// Its time is over.
    Expired,
}

impl State {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::UsedUp => "used_up",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// What a person said yes to beforehand, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// `grt_…`.
    pub id: String,
    /// The one agent that it is for.
    pub agent: Name,
    /// What the agent may do.
    pub action: Pattern,
    /// To what.
    pub resource: Pattern,
    /// Records (or, where they are more, recipients) that all uses together affect at most; at least 1.
    pub max_records: u64,
    /// How often it can be used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_uses: Option<u64>,
    /// A number that only the agent states is enough.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub accept_declared: bool,
    /// Why it was given.
    pub reason: String,
    /// Who gave it.
    pub given_by: Actor,
    /// When.
    pub given_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// How often it was used.
    pub uses: u64,
    /// What its uses affected, together.
    pub records: u64,
    /// The check that used it last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_used_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_used_at: Option<Timestamp>,
    /// Who took it back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_by: Option<Actor>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
}

/// Something that happens to a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "transition")]
pub enum Transition {
    /// A check is let through by it.
    Use {
        /// Which check.
        check_id: String,
        /// What counts against it.
        records: u64,
    },
    /// An operator takes it back.
    Revoke {
        /// Who.
        by: Actor,
    },
    /// Its time is over.
    Expire,
}

/// Why something cannot happen to a grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is over.
    #[error("the grant is already {}", .0.as_str().replace('_', " "))]
    Over(State),
    /// Its time is over, though nobody has said so yet.
    #[error("the grant expired at {0}")]
    Late(Timestamp),
    /// Its time is not over.
    #[error("the grant expires only at {0}")]
    Early(Timestamp),
    /// Agents grant nothing.
    #[error("an agent's key cannot give or revoke a grant; use an operator's key")]
    Agent,
    /// It is for fewer records.
    #[error("the grant has {left} of its records left, and this affects {wanted}")]
    TooMany {
        /// What is left of it.
        left: u64,
        /// What was asked for.
        wanted: u64,
    },
}

/// Whether a grant answers a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cover {
    /// It does; so many records count against it.
    Yes(u64),
    /// It is for such an action, but not for this one: why, as the end of a sentence.
    No(String),
    /// It is for something else.
    Other,
}

impl Grant {
    /// The grant after `transition` at `now`.
    ///
    /// # Errors
    /// When the transition is not permitted from where it stands. Nothing changes then.
    pub fn after(&self, transition: &Transition, now: Timestamp) -> Result<Self, Refused> {
        if self.state != State::Open {
            return Err(Refused::Over(self.state));
        }
        let late = now >= self.expires_at;
        let mut next = self.clone();
        match transition {
            Transition::Use { check_id, records } => {
                if late {
                    return Err(Refused::Late(self.expires_at));
                }
                let left = self.left();
                if *records > left {
                    return Err(Refused::TooMany { left, wanted: *records });
                }
                next.uses += 1;
                next.records += records;
                if next.left() == 0 || next.max_uses.is_some_and(|most| next.uses >= most) {
                    next.state = State::UsedUp;
                }
                next.last_used_by = Some(check_id.clone());
                next.last_used_at = Some(now);
            }
            Transition::Revoke { by } => {
                if by.role == Role::Agent {
                    return Err(Refused::Agent);
                }
                next.state = State::Revoked;
                next.revoked_by = Some(by.clone());
                next.revoked_at = Some(now);
            }
            Transition::Expire if late => next.state = State::Expired,
            Transition::Expire => return Err(Refused::Early(self.expires_at)),
        }
        Ok(next)
    }

    /// Whether this answers a hold of the action of `facts`, for which `approvals` people are asked.
    pub fn covers(&self, facts: &Facts<'_>, affects: &BlastRadius, approvals: u8) -> Cover {
        if self.state != State::Open || facts.now >= self.expires_at {
            return Cover::Other;
        }
        if !within(&self.agent, &self.action, &self.resource, facts) {
            return Cover::Other;
        }
        if approvals > 1 {
            return Cover::No(format!("{approvals} people must approve this, and one person gave the grant"));
        }
        if self.claimed(affects) {
            return Cover::No(
                "how many records it touches is only what the agent says, and the grant is for counted ones"
                    .to_owned(),
            );
        }
        match affects.records.max(affects.recipients) {
            // An agent whose word counts could say "none" each time, and would never be done.
            Count::Known(0) if affects.declared.is_some() && affects.basis == Basis::Declared => {
                Cover::Yes(1)
            }
            Count::Known(wanted) if wanted <= self.left() => Cover::Yes(wanted),
            Count::Known(wanted) => {
                Cover::No(format!("it affects {wanted}, and {} are left of the grant", self.left()))
            }
            Count::Unknown => Cover::No("nobody knows how many records it affects".to_owned()),
        }
    }

    /// Records that are left of it.
    pub const fn left(&self) -> u64 {
        self.max_records.saturating_sub(self.records)
    }

    /// Whether the number is no more than the agent's word. An action that touches no records by its nature,
    /// such as a message, needs no count of them; its recipients are counted where they stand.
    fn claimed(&self, affects: &BlastRadius) -> bool {
        let said = affects.declared.is_some() || affects.records != Count::Known(0);
        !self.accept_declared && affects.basis == Basis::Declared && said
    }
}
