//! Agents, what they normally do, and breakers.

use checkrein_core::{
    drift::breaker::{Cause, State},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// What a person wants of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerWanted {
    /// Nothing runs any more, until a person closes it.
    Open,
    /// Normal again. Earlier trips are forgiven.
    Closed,
}

/// Opens or closes a breaker. Who does it is told by the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerRequest {
    /// Where it should stand.
    pub state: BreakerWanted,
    /// Why; goes on record. 1 to 1,024 bytes.
    pub reason: String,
}

/// How a breaker stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BreakerView {
    /// Whose: `agent:NAME`, `group:NAME` or `all`.
    pub scope: String,
    /// Where it stands.
    pub state: State,
    /// Since when, unless it is closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub since: Option<Timestamp>,
    /// While it is open, from when on a few actions may try; absent when only a person closes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub until: Option<Timestamp>,
    /// Why, for a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub reason: Option<String>,
    /// Why, for a program.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub cause: Option<Cause>,
    /// The command that closes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub next: Option<String>,
}

/// Breakers that are not closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BreakerList {
    /// Those that are open or half-open: that of everything first, then groups, then agents, by name.
    pub breakers: Vec<BreakerView>,
}
