//! Signals: what a team must know, as it is kept, grouped and sent.
//!
//! A [`Signal`] derives from one entry of the action log, by a pure function, so that the same log gives the
//! same signals. What a sink is given is a [`Notification`]: one or many signals of the same condition.
//!
//! ```text
//! Event ─ derive ─► Signal ─ route ─► (sink) ─ group ─► Notification ─► Delivery, kept until it has arrived
//! ```

mod derive;
mod group;
mod outbox;
mod route;
#[cfg(test)]
mod tests;

pub use derive::{About, derive};
pub use group::{Group, Groups, Outgoing, speak_for};
pub use outbox::{Outbox, OutboxChanges, OutboxLimits};
pub use route::{Matcher, Mute, Route, Routing, Silence, Timing, WEEKDAYS};

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

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It waits for its sink.
    Queued,
    /// Its sink has taken it.
    Delivered,
    /// Nobody tries any more: the sink refused it, it became too old, or there was no room for it.
    Dead,
}

impl Standing {
    /// The word for it, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// A message on its way to one sink, as the outbox keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its place in the queue: 1, 2, 3, …
    pub no: u64,
    /// The sink's name.
    pub sink: String,
    /// Where it stands.
    pub standing: Standing,
    /// The group that it speaks for: its condition, or that of a flood.
    pub condition: String,
    /// The entries of the log that its signals come from: the first since the group opened, and the last.
    pub entries: (u64, u64),
    /// When it was put into the queue.
    pub queued_at: Timestamp,
    /// Attempts that were answered, or whose time was over.
    pub attempts: u32,
    /// Not before this.
    pub next_at: Timestamp,
    /// When it was delivered or given up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub settled_at: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// What is sent.
    pub notification: Notification,
}

/// A signal's place: the entry of the log that caused it, and its number among those of that entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The entry.
    pub seq: u64,
    /// 0, 1, …
    pub n: u32,
}

impl Place {
    /// The id of the signal there.
    pub fn id(self) -> String {
        if self.n == 0 { format!("sig_{}", self.seq) } else { format!("sig_{}_{}", self.seq, self.n) }
    }

    /// The place of the signal `id`.
    pub fn of(id: &str) -> Option<Self> {
        let rest = id.strip_prefix("sig_")?;
        let (seq, n) = rest.split_once('_').unwrap_or((rest, "0"));
        let place = Self { seq: seq.parse().ok()?, n: n.parse().ok()? };
        (place.id() == id).then_some(place)
    }
}
