//! Approvals and grants on the wire.

use checkrein_core::{
    action::{Category, Environment},
    approval::{Actor, Answer, Comment, Given, State},
    check::Check,
    decision::BlastRadius,
    fingerprint::Fingerprint,
    grant,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalView {
    /// `apr_…`.
    pub id: String,
    /// The check that was held.
    pub check_id: String,
    /// Where it stands.
    pub state: State,
    /// How many people must approve.
    #[serde(default = "one")]
    #[schema(required = true)]
    pub approvals_required: u8,
    /// How many have.
    #[serde(default)]
    #[schema(required = true)]
    pub approvals_given: u8,
    /// Who wants to act.
    pub agent: String,
    /// What, as it was named.
    pub action: String,
    /// What it is done to.
    pub resource: String,
    /// What kind of action.
    pub category: Category,
    /// Where.
    pub environment: Environment,
    /// How much it affects.
    pub blast_radius: BlastRadius,
    /// The policies that ask for this approval.
    pub policies: Vec<String>,
    /// One sentence: why a person is asked.
    pub reason: String,
    /// The exact action, as it was sent.
    pub check: Check,
    /// What the approval is bound to.
    pub fingerprint: Fingerprint,
    /// Since when it waits.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    /// When it expires unless it was used.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Where several people must approve: those who have, before the one who settled it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(required = false)]
    pub given: Vec<Given>,
    /// Who settled it: the last one needed to approve, or the first to deny.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub decided_by: Option<Actor>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub decided_at: Option<Timestamp>,
    /// What they said about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub comment: Option<String>,
    /// What people said without answering, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(required = false)]
    pub comments: Vec<Comment>,
    /// The check that it let through.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub used_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub used_at: Option<Timestamp>,
}

const fn one() -> u8 {
    1
}

/// A page of approvals, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalPage {
    /// The approvals; where few pass the filter, possibly fewer than asked for, or none, with more to come.
    pub approvals: Vec<ApprovalView>,
    /// Ask again with `cursor` set to this for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub next_cursor: Option<String>,
}

/// Some of the records that a held action would touch, as they were when this was read. Kept nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SampleView {
    /// `apr_…`.
    pub approval_id: String,
    /// When they were read.
    #[schema(value_type = String, format = DateTime)]
    pub read_at: Timestamp,
    /// By resource: those that the action names first, then what follows from those that were looked at.
    pub resources: Vec<SampledResource>,
}

/// Some records of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SampledResource {
    /// `<target>.<path>`.
    pub resource: String,
    /// The first 30 columns, by name.
    pub columns: Vec<String>,
    /// At most 10 records, each a list in the order of the columns. Texts end with `…` after 200 characters;
    /// what is configured or known as a secret reads `[redacted]`.
    pub rows: Vec<Vec<Value>>,
}

/// A person's answer. Who gives it is told by the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDecision {
    /// Yes or no.
    pub decision: Answer,
    /// Why; at most 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comment: Option<String>,
}

/// Something said about an approval, without answering it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewComment {
    /// What; 1 byte to 4 KiB.
    pub text: String,
}

/// A link by which somebody can answer an approval, to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLink {
    /// For whom: the name that the answer goes on record under.
    #[serde(rename = "for")]
    pub person: String,
    /// How long it is good, e.g. `1h`; without it, and at most, as long as the approval waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lasting: Option<String>,
}

/// A link by which somebody can answer an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkView {
    /// The whole address, where the server knows its own (`server.public_url`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub url: Option<String>,
    /// The address without the server: `/approve/…`.
    pub path: String,
    /// For whom.
    #[serde(rename = "for")]
    pub person: String,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// A yes beforehand, to be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// The one agent that it is for.
    pub agent: String,
    /// What it may do; `*` stands for any run of characters.
    pub action: String,
    /// To what; `*` as above.
    pub resource: String,
    /// Records (recipients, where they are more) that all uses together affect at most; at least 1.
    #[schema(minimum = 1)]
    pub max_records: u64,
    /// How long it lasts: `30m`, `1h`, `7d` at most.
    #[serde(rename = "for")]
    pub lasting: String,
    /// How often it can be used; without it, until its records are spent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1)]
    pub max_uses: Option<u64>,
    /// A number that only the agent states is enough, where nobody can count.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub accept_declared: bool,
    /// Why; 1 byte to 4 KiB.
    pub reason: String,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GrantView {
    /// `grt_…`.
    pub id: String,
    /// Where it stands.
    pub state: grant::State,
    /// The one agent that it is for.
    pub agent: String,
    /// What it may do.
    pub action: String,
    /// To what.
    pub resource: String,
    /// Records that all uses together affect at most.
    pub max_records: u64,
    /// Records that its uses affected, together.
    pub records_used: u64,
    /// How often it can be used.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub max_uses: Option<u64>,
    /// How often it was used.
    pub uses: u64,
    /// A number that only the agent states is enough.
    pub accept_declared: bool,
    /// Why it was given.
    pub reason: String,
    /// Who gave it.
    pub given_by: Actor,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub given_at: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// The check that used it last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub last_used_by: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub last_used_at: Option<Timestamp>,
    /// Who took it back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub revoked_by: Option<Actor>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub revoked_at: Option<Timestamp>,
}

/// A page of grants, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GrantPage {
    /// The grants; where few pass the filter, possibly fewer than asked for, or none, with more to come.
    pub grants: Vec<GrantView>,
    /// Ask again with `cursor` set to this for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub next_cursor: Option<String>,
}
