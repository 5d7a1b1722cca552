//! Guarded execution, snapshots and rollback on the wire.

use checkrein_core::{
    decision::Decision,
    json,
    rollback::{ConflictKind, OnConflict},
    snapshot::{Held, Origin, Seal, Steps},
    time::Timestamp,
    trace::{self, Traceparent},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The media type of an exported snapshot: one JSON object a line.
pub const EXPORT_MEDIA_TYPE: &str = "application/x-ndjson";

/// Something to run on a target, guarded. Exactly one of `statement` and `statements`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecutionRequest {
    /// The target's name, as configured.
    pub target: String,
    /// One SQL statement.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub statement: Option<String>,
    /// For its placeholders, in order.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "list")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub params: Option<Vec<Value>>,
    /// Several statements, run in one transaction; at most 100.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "statements")]
    pub statements: Option<Vec<StatementRequest>>,
    /// Who acts; as in a check.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// The run or conversation that this belongs to; at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
    /// How many records the caller thinks that it changes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub record_count: Option<u64>,
    /// The same key from the same caller: the same answer, run once. At most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idempotency_key: Option<String>,
    /// When the caller says that it acts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub timestamp: Option<Timestamp>,
    /// Where the caller stands in its own trace (W3C Trace Context); the header `traceparent` says the same. What is
    /// malformed is ignored.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "trace::lenient")]
    #[schema(value_type = Option<String>)]
    pub traceparent: Option<Traceparent>,
}

/// One statement of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementRequest {
    /// One SQL statement.
    pub statement: String,
    /// For its placeholders, in order.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "list")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub params: Option<Vec<Value>>,
}

/// What became of an execution: the decision, and what the statements gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExecutionView {
    /// The decision, as for a check. Anything but `allow`: nothing was changed.
    #[serde(flatten)]
    pub decision: Decision,
    /// Whether it took place: it was read, or committed.
    pub executed: bool,
    /// Records that it changed, as measured, cascades and triggers included; 0 when it did not take place.
    pub affected: u64,
    /// The rows of the last statement that returned any, by column. `null` when it did not take place, and
    /// for a repeated idempotency key: rows are not kept.
    #[schema(value_type = Option<Vec<Object>>, required = true)]
    pub rows: Option<Vec<Map<String, Value>>>,
    /// The columns of `rows`, in order. A name that is there twice gets a number: `count`, `count_2`.
    pub columns: Vec<String>,
    /// What each statement gave, where several were sent.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(required = false)]
    pub results: Vec<StatementResult>,
}

/// What one statement of several gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatementResult {
    /// In order; empty when it returns no rows.
    pub columns: Vec<String>,
    /// By column.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<Map<String, Value>>,
    /// Rows that the statement itself says it changed or returned.
    pub affected: u64,
}

/// What an action will do to the records of a requested snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Foreseen {
    /// Change them: the records themselves are kept.
    #[default]
    Update,
    /// Remove them: what a cascade would remove or change is kept, too.
    Delete,
}

/// A snapshot to be taken. Exactly one of `record_ids`, `where` and `statement`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// Of what: `<target>.<path>`; the target alone for a `statement`.
    pub resource: String,
    /// The records with these primary keys; at most 100,000.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "list")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub record_ids: Option<Vec<Value>>,
    /// The records of which every named column has this value, or one of a list. Empty: all.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none", default, deserialize_with = "object")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<Map<String, Value>>,
    /// The records that this statement would change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub statement: Option<String>,
    /// For its placeholders.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "list")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub params: Option<Vec<Value>>,
    /// What will be done to them.
    #[serde(default)]
    pub action: Foreseen,
    /// Whose action it is for; as in a check.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// The run or conversation; at most 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
    /// The check that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check_id: Option<String>,
}

/// Where a snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotStanding {
    /// It can be used.
    Live,
    /// Its files are gone.
    Removed,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SnapshotView {
    /// `snp_…`.
    pub id: String,
    /// The target's name.
    pub target: String,
    /// What it is of.
    pub resource: String,
    /// Whose action it belongs to.
    pub agent: String,
    /// The run or conversation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub session: Option<String>,
    /// The check that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub check_id: Option<String>,
    /// Why it was taken.
    pub origin: Origin,
    /// Whether it holds what the action left, too. Without that a rollback cannot tell the action's work
    /// from somebody else's.
    pub sealed: bool,
    /// When it was sealed and with which key, where that was later than it was taken: what others changed in
    /// between looks like the action's own work. Absent for what was sealed from the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub seal: Option<Seal>,
    /// Until when it can be sealed. After that it stays unsealed. Absent once it is sealed or gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false, value_type = Option<String>, format = DateTime)]
    pub seal_until: Option<Timestamp>,
    /// Whether it can be used.
    pub state: SnapshotStanding,
    /// Why it is gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub removed_because: Option<String>,
    /// Records in it, those that did not exist before included.
    pub records: u64,
    /// The same by resource, largest first.
    pub by_resource: Vec<Held>,
    /// Size of its files.
    pub bytes: u64,
    /// When it was taken.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Its last rollback.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub rollback: Option<RollbackStanding>,
}

/// How far the last rollback of a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RollbackStanding {
    /// `rbk_…`.
    pub id: String,
    /// Where it stands.
    pub state: RollbackProgress,
    /// Records handled.
    pub done: u64,
    /// Records to handle; 0 while that is unknown.
    pub total: u64,
}

/// Where a rollback stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RollbackProgress {
    /// Under way, or planned right now.
    Running,
    /// It took place.
    Done,
    /// It did not; nothing was changed.
    NotDone,
    /// It cannot be told.
    Unknown,
}

/// A page of snapshots, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SnapshotPage {
    /// The snapshots; where few pass the filter, possibly fewer than asked for, or none, with more to come.
    pub snapshots: Vec<SnapshotView>,
    /// Ask again with `cursor` set to this for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub next_cursor: Option<String>,
}

/// A rollback to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// What to do about records that somebody changed since.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// The `digest` of the plan that a person has looked at. If what stands against the rollback is something
    /// else by now, nothing is changed, and the answer is 409 with the plan as it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_digest: Option<String>,
}

/// How a rollback went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RollbackOutcome {
    /// It took place.
    Done,
    /// Everything already is as it was.
    Nothing,
    /// Nothing was changed: this was a dry run.
    Planned,
}

/// What became of a rollback, or would.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RollbackView {
    /// `rbk_…`; absent where nothing was done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub id: Option<String>,
    /// What it rolls back.
    pub snapshot_id: String,
    /// How it went.
    pub status: RollbackOutcome,
    /// Whether it was only planned.
    pub dry_run: bool,
    /// Records put back, changed back or removed; those that would be, in a dry run.
    pub restored: u64,
    /// The same by resource, with what stands against it.
    pub plan: RollbackPlan,
    /// The snapshot that undoes this rollback.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub undo_snapshot_id: Option<String>,
}

/// What a rollback changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RollbackPlan {
    /// One entry a resource.
    pub by_resource: Vec<Steps>,
    /// Records that somebody worked on since; the first 200.
    pub conflicts: Vec<RollbackConflict>,
    /// All of them.
    pub conflict_count: u64,
    /// Names all conflicts as they are here, shown or not, for `plan_digest` of the rollback itself.
    #[serde(default)]
    pub digest: String,
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// A record that somebody worked on since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RollbackConflict {
    /// `<target>.<path>`.
    pub resource: String,
    /// Its key, by column.
    #[schema(value_type = Object)]
    pub key: Map<String, Value>,
    /// Why it is one.
    pub kind: ConflictKind,
    /// The record before the action; `null` when it did not exist.
    #[schema(value_type = Option<Object>, required = true)]
    pub before: Option<Map<String, Value>>,
    /// As the action left it; `null` when it removed it, or that is not known.
    #[schema(value_type = Option<Object>, required = true)]
    pub after: Option<Map<String, Value>>,
    /// As it is now; `null` when it is gone.
    #[schema(value_type = Option<Object>, required = true)]
    pub now: Option<Map<String, Value>>,
}

fn list<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<Value>>, D::Error> {
    match json::strict(d)? {
        Value::Null => Ok(None),
        Value::Array(items) => Ok(Some(items)),
        _ => Err(serde::de::Error::custom("must be a list")),
    }
}

fn statements<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<StatementRequest>>, D::Error> {
    let Some(items) = list(d)? else { return Ok(None) };
    // Serde would take a list of the fields in order for one of them, too.
    let one = |item: Value| match item {
        Value::Object(_) => StatementRequest::deserialize(item).map_err(serde::de::Error::custom),
        _ => Err(serde::de::Error::custom("statements: each is an object with `statement` and `params`")),
    };
    items.into_iter().map(one).collect::<Result<_, _>>().map(Some)
}

fn object<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Map<String, Value>>, D::Error> {
    match json::strict(d)? {
        Value::Null => Ok(None),
        Value::Object(map) => Ok(Some(map)),
        _ => Err(serde::de::Error::custom("must be an object of columns and values")),
    }
}
