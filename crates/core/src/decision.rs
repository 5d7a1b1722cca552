//! The answer to a check.

use crate::{
    action::{Category, Count, Environment},
    drift::{Channel, Severity, breaker},
    name::Name,
    policy::{Mode, Rule},
    time::Timestamp,
    touched::How,
};
use serde::{Deserialize, Serialize};

/// Whether the action may run. Ordered: the stricter is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may run.
    Allow,
    /// It waits for a person's approval and must not run until then.
    Hold,
    /// It must not run.
    Block,
}

impl Verdict {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Block => "block",
        }
    }
}

/// How the reason of a block begins when no snapshot could be taken of what the action changes.
pub const NO_SNAPSHOT: &str = "Blocked: no snapshot could be taken of what it changes";

/// A policy that matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Matched {
    /// The policy's name.
    pub name: String,
    /// What it asks for.
    pub rule: Rule,
    /// `shadow`: reported, without effect on the verdict.
    pub mode: Mode,
    /// Why it matched, for a person: `update on production.users touches 10000 records, over 25`.
    pub reason: String,
    /// The `allow` policy, named in this one's `except`, that took its effect away.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub exempted_by: Option<String>,
}

/// Where a count comes from. Ordered: the later knows better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// What the caller says.
    Declared,
    /// Counted in the target before the action.
    Counted,
    /// Measured by the target inside the transaction that did it.
    Measured,
}

/// How much an action affects. A `null` count is one that nobody can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BlastRadius {
    /// Records changed or removed, cascades included: the largest number that any basis gives.
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>))]
    pub records: Count,
    /// Targets and hosts touched.
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>))]
    pub systems: Count,
    /// Addressees of what is sent.
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>))]
    pub recipients: Count,
    /// The best that is known of it: `records` is the largest number that any basis gives.
    pub basis: Basis,
    /// The number that the caller stated, if it stated one.
    #[cfg_attr(feature = "schema", schema(required = true))]
    pub declared: Option<u64>,
    /// That number is less than half of what a target counted.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub understated: bool,
    /// One entry a resource and way, largest first.
    pub by_resource: Vec<ResourceCount>,
}

/// A resource's share of a blast radius.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ResourceCount {
    /// The resource.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub resource: Name,
    /// Records in it; `null` when nobody can know.
    #[cfg_attr(feature = "schema", schema(value_type = Option<u64>))]
    pub records: Count,
    /// How they are affected, where a target counted them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub how: Option<How>,
}

/// How far an action departs from what its agent normally does. Told from a score of 5 on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct DriftVerdict {
    /// How rare this is on an active day of this agent, in powers of ten, to one decimal: 5 to 12.
    pub score: f64,
    /// `notice` from 5, `warning` from 6, `critical` from 7.
    pub severity: Severity,
    /// In which way it departs.
    pub channel: Channel,
    /// One sentence for a person.
    pub reason: String,
    /// What is normal: a count, or a share for `mix` and `errors`.
    pub expected: f64,
    /// What was seen instead, in the same unit.
    pub seen: f64,
    /// Where it is seen of all agents of a key together: the pattern that the key stands for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agents: Option<String>,
}

/// The answer to a check, as it is recorded and sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Decision {
    /// `chk_…`; names the check from now on.
    pub id: String,
    /// Whether the action may run. Anything but `allow`: do not run it.
    pub verdict: Verdict,
    /// One sentence for a person: why, and what to do next.
    pub reason: String,
    /// Every policy that matched, those that decided first.
    pub policies: Vec<Matched>,
    /// What kind of action it was taken for.
    pub category: Category,
    /// Where it would have happened.
    pub environment: Environment,
    /// How much it affects.
    pub blast_radius: BlastRadius,
    /// The departure from what is normal, if it is one that somebody should know of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub drift: Option<Box<DriftVerdict>>,
    /// Where the breaker stands that concerns this agent; absent: `closed`.
    #[serde(skip_serializing_if = "is_closed", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub breaker: breaker::State,
    /// The approval that a hold waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub approval_id: Option<String>,
    /// The snapshot that was taken of what it touches.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub snapshot_id: Option<String>,
    /// When this was put on record.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub logged_at: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_closed(state: &breaker::State) -> bool {
    *state == breaker::State::Closed
}
