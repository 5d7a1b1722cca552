//! Signals: what a team must know, as it is kept, grouped and sent.
//!
//! A [`Signal`] derives from one entry of the action log, by a pure function, so that the same log gives the
//! same signals. What a sink is given is a [`Notification`]: one or many signals of the same condition.

use crate::{
    action::{Category, Environment},
    decision::BlastRadius,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// How bad it is. Ordered: the later is the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// Worth a look when there is time.
    Notice,
    /// Somebody should look today.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Whether what a signal is about still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It does.
    Firing,
    /// It is over.
    Resolved,
}

/// Something that a team must know.
///
/// Its texts come from agents where they name an action, a resource or a tool: each sink escapes them for its
/// medium. They were redacted before they came here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Signal {
    /// `sig_<entry>` or, where one entry causes several, `sig_<entry>_<n>`: the same again from the same log.
    pub id: String,
    /// `action.blocked`, `breaker.opened`, …: DESIGN's kinds, dotted.
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it still holds.
    pub status: Status,
    /// What condition it is about; the same for every signal of that condition and for the one that resolves it.
    /// At most 200 bytes of ASCII without spaces.
    pub condition: String,
    /// When it happened.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// One sentence for a person.
    pub summary: String,
    /// Whose action it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// Its session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<String>,
    /// What it wanted to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action: Option<String>,
    /// What kind of action that is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub category: Option<Category>,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub environment: Option<Environment>,
    /// To what.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
    /// With which tool.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<String>,
    /// How much it affects.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub blast_radius: Option<BlastRadius>,
    /// The policies behind it, those that decided first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub policies: Vec<String>,
    /// The check.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub check_id: Option<String>,
    /// The approval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub approval_id: Option<String>,
    /// The snapshot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snapshot_id: Option<String>,
    /// The rollback.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rollback_id: Option<String>,
    /// Who did it, where a person did: their name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<String>,
    /// The command that a person would type next, e.g. `checkrein approvals show apr_…`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// What is sent to a sink: the signals of one condition since the last message about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Stays the same however often this message is delivered: receivers may drop repeats by it.
    /// At most 255 bytes of ASCII.
    pub delivery_id: String,
    /// Stays the same from the first message of a group to the one that resolves it. At most 255 bytes of ASCII.
    pub dedup_key: String,
    /// Whether it still holds.
    pub status: Status,
    /// The worst of its signals.
    pub severity: Severity,
    /// How many signals it stands for, since the group opened.
    pub count: u64,
    /// When the first of them happened.
    pub first_at: Timestamp,
    /// When the last of them happened.
    pub last_at: Timestamp,
    /// Examples: the newest first, at least one, at most five.
    pub signals: Vec<Signal>,
    /// Where a person sees more, when the operator set the server's public address: an `https://` URL.
    pub link: Option<String>,
}
