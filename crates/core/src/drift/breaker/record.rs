//! A breaker's change as it is put on record: whatever a restart needs to go on from it.

use super::{Breaker, Cause, Change};
use crate::{approval::Actor, name::Name};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which breaker: `agent:ticket-bot`, `group:support`, or `all`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(String);

impl Scope {
    /// The breaker of one agent.
    pub fn agent(name: &Name) -> Self {
        Self(format!("agent:{name}"))
    }

    /// The breaker of a group, by its name in the configuration.
    pub fn group(name: &str) -> Self {
        Self(format!("group:{name}"))
    }

    /// The breaker of everything.
    pub fn all() -> Self {
        Self("all".to_owned())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The agent, when it is an agent's.
    pub fn agent_name(&self) -> Option<&str> {
        self.0.strip_prefix("agent:")
    }

    /// The group, when it is a group's.
    pub fn group_name(&self) -> Option<&str> {
        self.0.strip_prefix("group:")
    }
}

impl fmt::Display for Scope {
    /// For a sentence: `ticket-bot`, `the group support`, `everything`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.agent_name(), self.group_name()) {
            (Some(agent), _) => f.write_str(agent),
            (_, Some(group)) => write!(f, "the group {group}"),
            _ => f.write_str("everything"),
        }
    }
}

/// A breaker came to another state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerChange {
    /// Whose.
    pub scope: Scope,
    /// Counts the changes of this breaker. Of two that are on record the higher one holds, in whatever order
    /// they came there.
    pub revision: u64,
    /// From where to where, when and why.
    pub change: Change,
    /// One sentence for a person: the drift that was seen, or what the person said.
    pub reason: String,
    /// Who, where a person did it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<Actor>,
    /// The check that brought it about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check_id: Option<String>,
    /// All of it, as it stands after the change.
    pub breaker: Breaker,
}

impl Cause {
    /// Why, in words that follow on "the breaker is open: ".
    pub fn sentence(&self) -> String {
        match self {
            Self::Drift { channel, score } => {
                format!("a departure from what is normal ({}, score {score:.1})", channel.as_str())
            }
            Self::Blocks => "too many of its actions were blocked within a short time".to_owned(),
            Self::Errors => "too many of its last actions failed".to_owned(),
            Self::Understated { declared, actual } => {
                format!("an action affected {actual} records where {declared} were declared")
            }
            Self::Person { by, reason } => format!("opened by {by}: {reason}"),
            Self::Damaged => "what was known of it could not be read".to_owned(),
        }
    }
}
