//! The wire types of Checkrein's HTTP API and, with the feature `client`, a typed client.
//!
//! Requests and answers that are vocabulary themselves ([`Check`], [`Decision`]) come from `checkrein-core`;
//! what only exists on the wire is defined here.

pub use checkrein_core::{
    action::{Category, Environment},
    approval::{Actor, Answer, Comment, Given, State, Via},
    check::Check,
    decision::{BlastRadius, Decision, DriftVerdict, Verdict},
    drift::breaker::{Cause as BreakerCause, State as BreakerState},
    event::OutcomeStatus,
    fingerprint::Fingerprint,
    grant::State as GrantState,
    key::Role,
    rollback::{ConflictKind, OnConflict},
    signal::{Matcher, Severity, Signal, Standing},
    snapshot::{Held, Origin, Seal, Steps},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

mod approval;
#[cfg(feature = "client")]
mod client;
mod drift;
mod signal;
mod target;
mod undo;
pub use approval::{
    ApprovalDecision, ApprovalPage, ApprovalView, GrantPage, GrantView, LinkView, NewComment, NewGrant,
    NewLink, SampleView, SampledResource,
};
#[cfg(feature = "client")]
pub use client::{Client, ClientError, SnapshotExport};
pub use drift::{
    AcceptRequest, AgentHour, AgentPage, AgentRate, AgentSummary, AgentView, BreakerList, BreakerRequest,
    BreakerView, BreakerWanted, MixShare, RebuildReport, RebuildRequest,
};
pub use signal::{
    DeliveryView, NewSilence, SignalPage, SignalReplay, SignalReplayed, SignalView, SilenceList, SilenceView,
    SinkExample, SinkList, SinkReport, SinkView,
};
pub use target::{TargetList, TargetPrivilege, TargetReport, TargetView};
pub use undo::{
    EXPORT_MEDIA_TYPE, ExecutionRequest, ExecutionView, Foreseen, RollbackConflict, RollbackOutcome,
    RollbackPlan, RollbackProgress, RollbackRequest, RollbackStanding, RollbackView, SnapshotPage,
    SnapshotRequest, SnapshotStanding, SnapshotView, StatementRequest, StatementResult,
};

/// The media type of every error.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// An error, as RFC 9457 describes it. `type` is stable; match on it, not on the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `https://checkrein.dev/problems/<word>`; the word never changes its meaning.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request, and what to do next.
    pub detail: String,
    /// Several mistakes, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(required = false)]
    pub errors: Vec<ProblemItem>,
    /// Of `statement-failed`: the database's own code, such as a SQLSTATE.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub code: Option<String>,
    /// The check that put the attempt on record, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub check_id: Option<String>,
    /// Of `rollback-conflicts`: what somebody changed since; the first 200.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(required = false)]
    pub conflicts: Vec<RollbackConflict>,
    /// Of `rollback-conflicts`: how many there are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub conflict_count: Option<u64>,
    /// Of `rollback-conflicts`: what the rollback would do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub plan: Option<RollbackPlan>,
    /// The same as in the header `x-request-id`.
    pub request_id: String,
}

/// One mistake of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProblemItem {
    /// Where: a policy's name, or a field.
    pub subject: String,
    /// Where in it, e.g. `condition.any_of[1].resource_pattern`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// A check as it stands now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckView {
    /// The decision. For a hold that was settled, `verdict` and `reason` say how.
    #[serde(flatten)]
    pub decision: Decision,
    /// Who.
    pub agent: String,
    /// The run or conversation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub session: Option<String>,
    /// What, as it was named.
    pub action: String,
    /// The tool, in the raw form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub tool: Option<String>,
    /// What it is done to.
    pub resource: String,
    /// What was asked, as it was sent.
    pub check: Check,
    /// What an approval of it is bound to.
    pub fingerprint: Fingerprint,
    /// The entry of the action log that holds it.
    pub seq: u64,
    /// What became of it, once reported.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub outcome: Option<OutcomeReport>,
    /// For a hold that was approved: the other check that used the approval. That one was let through, so this
    /// one must not run any more, and its `verdict` is `block`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub used_by: Option<String>,
}

/// A page of checks, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckPage {
    /// The checks.
    pub checks: Vec<CheckView>,
    /// Ask again with `cursor` set to this for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub next_cursor: Option<String>,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeReport {
    /// How it ended.
    pub status: OutcomeStatus,
    /// Records really affected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub records: Option<u64>,
    /// What went wrong; cut at 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// The policies in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PolicyList {
    /// Each one whole, as `POST /v1/policies` takes it.
    #[schema(value_type = Vec<Object>)]
    pub policies: Vec<Value>,
    /// Where each comes from: `api`, or the path of a file. Those from files cannot be changed here.
    #[serde(default)]
    pub sources: BTreeMap<String, String>,
}

/// A set of policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyBundle {
    /// Each one whole.
    #[schema(value_type = Vec<Object>)]
    pub policies: Vec<Value>,
}

/// What applying a set changed, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PolicyChanges {
    /// New ones.
    pub created: Vec<String>,
    /// Those with other content than before.
    pub replaced: Vec<String>,
    /// Those that were not in the set.
    pub deleted: Vec<String>,
    /// Those that stayed.
    pub unchanged: Vec<String>,
}

/// A candidate set to replay on the recorded past. Without `policies`: the set in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The candidate set, whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Vec<Object>>)]
    pub policies: Option<Vec<Value>>,
    /// Only checks at or after this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Only checks before this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it may do.
    pub role: Role,
    /// What people call it, 1 to 128 bytes.
    pub name: String,
    /// For role `agent`, required: the agent that it speaks for, or a pattern (`billing-*`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
}

/// A key that was made. `key` is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedKey {
    /// `key_…`.
    pub id: String,
    /// The key itself. It is not kept and cannot be shown again.
    pub key: String,
    /// What it may do.
    pub role: Role,
    /// What people call it.
    pub name: String,
    /// The agents that it speaks for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub agent: Option<String>,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyView {
    /// `key_…`.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// What people call it.
    pub name: String,
    /// The agents that it speaks for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub agent: Option<String>,
}

/// All keys that are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<KeyView>,
}

/// Whether the server can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`, or what is wrong.
    pub status: String,
    /// Of Checkrein.
    pub version: String,
}
