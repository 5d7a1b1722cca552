//! Agents, what they normally do, and breakers.

use crate::CheckView;
use checkrein_core::{
    drift::{
        Channel,
        breaker::{Cause, State},
    },
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

/// An agent that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentSummary {
    /// Its name.
    pub agent: String,
    /// When it acted last.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Timestamp,
    /// Where its own breaker stands.
    pub breaker: State,
    /// The group of the configuration that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub group: Option<String>,
}

/// A page of agents, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentPage {
    /// The agents.
    pub agents: Vec<AgentSummary>,
    /// Ask again with `cursor` set to this for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub next_cursor: Option<String>,
}

/// The actions of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentRate {
    /// Expected in it.
    pub expected: f32,
    /// The most that raises no doubt.
    pub high: f32,
    /// Seen in it, so far.
    pub seen: u64,
}

/// An hour of an agent, with what the baseline of now expects of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentHour {
    /// Its beginning.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Expected and seen.
    #[serde(flatten)]
    pub rate: AgentRate,
}

/// A kind of action, among an agent's last 500.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MixShare {
    /// The action.
    pub action: String,
    /// The tool, in the raw form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub tool: Option<String>,
    /// 0 to 1.
    pub share: f64,
}

/// What is known of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentView {
    /// Its name.
    pub agent: String,
    /// The group of the configuration that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub group: Option<String>,
    /// What Checkrein does about its drift: `enforce`, `alert` or `off`.
    pub mode: String,
    /// It is in its first week.
    pub learning: bool,
    /// When it acted first, and last; absent while it has not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub first_seen: Option<Timestamp>,
    /// When it acted last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub last_seen: Option<Timestamp>,
    /// Its own breaker.
    pub breaker: BreakerView,
    /// What is unusual of it now.
    pub incidents: Vec<Channel>,
    /// This hour; `seen` at least where `hours` is empty.
    pub rate: AgentRate,
    /// The hours that were asked for, oldest first; this one is the last. Only those that lie wholly within the newest
    /// 100,000 entries of the log, of all agents.
    pub hours: Vec<AgentHour>,
    /// Actions expected of each hour of the week, from Monday 00:00 UTC on: 168 figures.
    pub expected_by_hour_of_week: Vec<f32>,
    /// What its last 500 actions were, the most frequent first; at most 20 kinds.
    pub mix: Vec<MixShare>,
    /// Its last 10 checks, newest first.
    pub recent: Vec<CheckView>,
}

/// Takes what an agent did for normal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// Why; goes on record. 1 to 1,024 bytes.
    pub reason: String,
}

/// Learns from the action log anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RebuildRequest {
    /// What this agent normally does; absent: what all do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
}

/// What was learnt anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RebuildReport {
    /// Agents.
    pub agents: u64,
    /// Actions of theirs in the log.
    pub actions: u64,
}
