//! What the action log holds. The log is the truth: every table beside it could be rebuilt from these.

use crate::{
    action::Action,
    approval::{Actor, Approval, Transition},
    check::Check,
    decision::Decision,
    drift::{Channel, breaker::BreakerChange},
    fingerprint::Fingerprint,
    grant::{self, Grant},
    key::KeyRecord,
    name::Name,
    signal::Silence,
    snapshot::{Execution, RollbackRecord, RollbackStatus, SnapshotRecord},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body")]
pub enum Event {
    /// A check was decided.
    #[serde(rename = "check")]
    Check(Box<Checked>),
    /// A caller reported what became of an action.
    #[serde(rename = "outcome")]
    Outcome(Outcome),
    /// A hold asks for an answer.
    #[serde(rename = "approval.requested")]
    ApprovalRequested(Box<Approval>),
    /// Something happened to an approval.
    #[serde(rename = "approval.changed")]
    ApprovalChanged {
        /// `apr_…`.
        id: String,
        /// What.
        #[serde(flatten)]
        transition: Transition,
    },
    /// A person was shown some of the records that a held action would touch. Their content is kept nowhere.
    #[serde(rename = "approval.sampled")]
    ApprovalSampled {
        /// `apr_…`.
        id: String,
        /// The target that they were read from.
        target: String,
        /// How many were shown.
        records: u64,
        /// Who looked.
        by: Actor,
    },
    /// An operator said yes beforehand.
    #[serde(rename = "grant.given")]
    GrantGiven(Box<Grant>),
    /// Something happened to a grant.
    #[serde(rename = "grant.changed")]
    GrantChanged {
        /// `grt_…`.
        id: String,
        /// What.
        #[serde(flatten)]
        transition: grant::Transition,
    },
    /// A snapshot was taken: its file is durably there.
    #[serde(rename = "snapshot.taken")]
    SnapshotTaken(Box<SnapshotRecord>),
    /// After-images were added to a snapshot, in a second file.
    #[serde(rename = "snapshot.sealed")]
    SnapshotSealed {
        /// `snp_…`.
        id: String,
        /// Size of the second file.
        bytes: u64,
        /// The key that asked for it; empty in logs from before it was recorded.
        #[serde(skip_serializing_if = "String::is_empty", default)]
        key_id: String,
    },
    /// A snapshot's files are about to be removed.
    #[serde(rename = "snapshot.removed")]
    SnapshotRemoved {
        /// `snp_…`.
        id: String,
        /// Why.
        reason: String,
    },
    /// A rollback is about to be committed.
    #[serde(rename = "rollback.started")]
    RollbackStarted(Box<RollbackRecord>),
    /// What became of it.
    #[serde(rename = "rollback.finished")]
    RollbackFinished {
        /// `rbk_…`.
        id: String,
        /// How it ended.
        status: RollbackStatus,
        /// Why, where there is more to say.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// A breaker opened, closed, or lets probes through.
    #[serde(rename = "breaker.changed")]
    BreakerChanged(Box<BreakerChange>),
    /// What an agent did is normal, a person says.
    #[serde(rename = "drift.accepted")]
    DriftAccepted {
        /// Whose normal it is from now on.
        agent: Name,
        /// From when on its actions are learnt as they came.
        since: Timestamp,
        /// Who says so.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Nothing unusual of this kind has been seen of the agent for long enough.
    #[serde(rename = "drift.ended")]
    DriftEnded {
        /// Whose incident.
        agent: Name,
        /// Of what kind; see [`Channel::incident`].
        channel: Channel,
    },
    /// A policy was created or replaced through the API.
    #[serde(rename = "policy.put")]
    PolicyPut {
        /// Its name.
        name: String,
        /// The whole policy.
        policy: Value,
        /// Who.
        by: Actor,
    },
    /// A policy was deleted through the API.
    #[serde(rename = "policy.deleted")]
    PolicyDeleted {
        /// Its name.
        name: String,
        /// Who.
        by: Actor,
    },
    /// Policies came into force from configuration or policy files, at start or reload.
    #[serde(rename = "policy.loaded")]
    PoliciesLoaded {
        /// All of them, whole.
        policies: Vec<Value>,
        /// The files that they came from.
        files: Vec<String>,
    },
    /// A key was created.
    #[serde(rename = "key.created")]
    KeyCreated {
        /// The key, without its secret.
        key: KeyRecord,
        /// Who; absent for the first one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        by: Option<Actor>,
    },
    /// A key was revoked.
    #[serde(rename = "key.revoked")]
    KeyRevoked {
        /// `key_…`.
        id: String,
        /// Who; absent when configuration did it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        by: Option<Actor>,
    },
    /// Somebody wants to hear nothing about some signals for a time.
    #[serde(rename = "silence.created")]
    SilenceCreated {
        /// Which, until when.
        silence: Box<Silence>,
        /// Who.
        by: Actor,
    },
    /// A silence ends before its time.
    #[serde(rename = "silence.ended")]
    SilenceEnded {
        /// `sil_…`.
        id: String,
        /// Who.
        by: Actor,
    },
    /// A sink takes messages no more, or again.
    #[serde(rename = "sink.changed")]
    SinkChanged {
        /// Its name.
        sink: String,
        /// How it is.
        health: SinkHealth,
        /// Why, in a few words; holds no secret.
        reason: String,
    },
    /// The server started.
    #[serde(rename = "server.started")]
    ServerStarted {
        /// Of Checkrein.
        version: String,
    },
    /// The server stopped in an orderly way.
    #[serde(rename = "server.stopped")]
    ServerStopped {},
    /// Older entries were removed by retention. The chain goes on from `hash`.
    #[serde(rename = "log.pruned")]
    LogPruned {
        /// The last entry removed.
        through: u64,
        /// That entry's hash, lower-case hexadecimal.
        hash: String,
        /// How many were removed this time.
        removed: u64,
    },
}

/// How a sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkHealth {
    /// Messages to it fail, or one was refused for good.
    Failing,
    /// It takes messages again.
    Recovered,
    /// So many messages wait for it that some were given up.
    Full,
    /// Retention removed entries of the log before they were sent to it.
    Gap,
}

/// A check with everything that its decision rests on. Its JSON, in [`crate::recorded`], says each thing once.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The key that asked.
    pub key_id: String,
    /// What was asked, as it was sent.
    pub check: Check,
    /// What it was taken for.
    pub action: Action,
    /// What it is bound to.
    pub fingerprint: Fingerprint,
    /// What was answered.
    pub decision: Decision,
    /// Where Checkrein runs it itself.
    pub execution: Option<Execution>,
    /// Where it is a probe of its agent's breaker: the number that its outcome comes back with.
    pub probe: Option<u32>,
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `chk_…`.
    pub check_id: String,
    /// How it ended.
    pub status: OutcomeStatus,
    /// Records really affected, as the caller says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub records: Option<u64>,
    /// What went wrong, in the caller's words; at most 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// The key that reported.
    pub key_id: String,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OutcomeStatus {
    /// It did what it should.
    Ok,
    /// It failed.
    Error,
    /// Nobody knows, e.g. after a time-out.
    Unknown,
}

impl Event {
    /// The kind, as in JSON: `check`, `approval.requested`, …
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Outcome(_) => "outcome",
            Self::ApprovalRequested(_) => "approval.requested",
            Self::ApprovalChanged { .. } => "approval.changed",
            Self::ApprovalSampled { .. } => "approval.sampled",
            Self::GrantGiven(_) => "grant.given",
            Self::GrantChanged { .. } => "grant.changed",
            Self::SnapshotTaken(_) => "snapshot.taken",
            Self::SnapshotSealed { .. } => "snapshot.sealed",
            Self::SnapshotRemoved { .. } => "snapshot.removed",
            Self::RollbackStarted(_) => "rollback.started",
            Self::RollbackFinished { .. } => "rollback.finished",
            Self::BreakerChanged(_) => "breaker.changed",
            Self::DriftAccepted { .. } => "drift.accepted",
            Self::DriftEnded { .. } => "drift.ended",
            Self::PolicyPut { .. } => "policy.put",
            Self::PolicyDeleted { .. } => "policy.deleted",
            Self::PoliciesLoaded { .. } => "policy.loaded",
            Self::KeyCreated { .. } => "key.created",
            Self::KeyRevoked { .. } => "key.revoked",
            Self::SilenceCreated { .. } => "silence.created",
            Self::SilenceEnded { .. } => "silence.ended",
            Self::SinkChanged { .. } => "sink.changed",
            Self::ServerStarted { .. } => "server.started",
            Self::ServerStopped {} => "server.stopped",
            Self::LogPruned { .. } => "log.pruned",
        }
    }

    /// What it is about: the id of the check, approval, grant, key, snapshot or rollback, the policy's name,
    /// the breaker's scope, or the agent. Empty for none.
    pub fn subject(&self) -> &str {
        match self {
            Self::Check(c) => &c.decision.id,
            Self::Outcome(o) => &o.check_id,
            Self::ApprovalRequested(a) => &a.id,
            Self::GrantGiven(g) => &g.id,
            Self::SnapshotTaken(s) => &s.id,
            Self::RollbackStarted(r) => &r.id,
            Self::BreakerChanged(b) => b.scope.as_str(),
            Self::DriftAccepted { agent, .. } | Self::DriftEnded { agent, .. } => agent,
            Self::ApprovalChanged { id, .. }
            | Self::ApprovalSampled { id, .. }
            | Self::GrantChanged { id, .. }
            | Self::KeyRevoked { id, .. }
            | Self::SilenceEnded { id, .. }
            | Self::SnapshotSealed { id, .. }
            | Self::SnapshotRemoved { id, .. }
            | Self::RollbackFinished { id, .. } => id,
            Self::PolicyPut { name, .. } | Self::PolicyDeleted { name, .. } => name,
            Self::KeyCreated { key, .. } => &key.id,
            Self::SilenceCreated { silence, .. } => &silence.id,
            Self::SinkChanged { sink, .. } => sink,
            Self::PoliciesLoaded { .. }
            | Self::ServerStarted { .. }
            | Self::ServerStopped {}
            | Self::LogPruned { .. } => "",
        }
    }

    /// Whose action it is about. Empty for none.
    pub fn agent(&self) -> &str {
        match self {
            Self::Check(c) => &c.action.agent,
            Self::ApprovalRequested(a) => &a.action.agent,
            Self::GrantGiven(g) => &g.agent,
            Self::SnapshotTaken(s) => &s.agent,
            Self::BreakerChanged(b) => b.scope.agent_name().unwrap_or_default(),
            Self::DriftAccepted { agent, .. } | Self::DriftEnded { agent, .. } => agent,
            _ => "",
        }
    }

    /// The body alone, as it is kept in the log: JSON without the kind.
    ///
    /// # Errors
    /// Never for events that came from JSON or from this code; a map with keys that are no strings would.
    pub fn body(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Check(c) => serde_json::to_string(c),
            Self::Outcome(o) => serde_json::to_string(o),
            Self::ApprovalRequested(a) => serde_json::to_string(a),
            other => match serde_json::to_value(other)? {
                Value::Object(mut map) => serde_json::to_string(&map.remove("body").unwrap_or_default()),
                other => serde_json::to_string(&other),
            },
        }
    }

    /// The event of an entry's `kind` and `body`.
    ///
    /// # Errors
    /// When the kind is unknown or the body does not fit it.
    pub fn from_parts(kind: &str, body: &str) -> Result<Self, serde_json::Error> {
        match kind {
            "check" => serde_json::from_str(body).map(Self::Check),
            "outcome" => serde_json::from_str(body).map(Self::Outcome),
            "approval.requested" => serde_json::from_str(body).map(Self::ApprovalRequested),
            _ => {
                let body: Value = serde_json::from_str(body)?;
                serde_json::from_value(serde_json::json!({"kind": kind, "body": body}))
            }
        }
    }
}

/// An entry of the action log, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 1, 2, 3, … without gaps.
    pub seq: u64,
    /// When it was decided; never before the entry before it.
    pub at: Timestamp,
    /// [`Event::kind`].
    pub kind: String,
    /// [`Event::subject`].
    pub subject: String,
    /// [`Event::agent`].
    pub agent: String,
    /// [`Event::body`].
    pub body: String,
    /// [`crate::chain::link`] over all of the above and the hash before.
    pub hash: crate::chain::Hash,
}
