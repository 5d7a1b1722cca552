//! Signals, sinks and silences, on the wire.

use checkrein_core::{
    signal::{Matcher, Signal, Standing},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// A signal and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignalView {
    /// The signal.
    #[serde(flatten)]
    pub signal: Signal,
    /// The messages that speak for it, oldest first. None: no route took it, or it was silenced.
    pub deliveries: Vec<DeliveryView>,
}

/// A message to a sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryView {
    /// Receivers may drop repeats by it.
    pub id: String,
    /// The sink.
    pub sink: String,
    /// Where it stands.
    pub status: Standing,
    /// How many signals it stands for.
    pub count: u64,
    /// When it was put into the queue.
    #[schema(value_type = String, format = DateTime)]
    pub queued_at: Timestamp,
    /// Attempts that were answered, or whose time was over.
    pub attempts: u32,
    /// When it was delivered or given up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub settled_at: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub error: Option<String>,
}

/// A page of signals, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignalPage {
    /// The signals.
    pub signals: Vec<SignalView>,
    /// Ask again with `cursor` set to this for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub next_cursor: Option<String>,
}

/// Where a signal is to be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalReplay {
    /// To this sink. Without it: its messages that were given up are tried again, or, where there is none, it goes
    /// to where the routes lead now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sink: Option<String>,
}

/// What is sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SignalReplayed {
    /// Messages that were given up and wait again.
    pub tried_again: u64,
    /// Sinks that it is sent to anew.
    pub sent_to: Vec<String>,
}

/// The sinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SinkList {
    /// By name.
    pub sinks: Vec<SinkView>,
}

/// A sink, and how it is. Numbers count since the server started, where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// `slack`, `pagerduty`, …
    pub kind: String,
    /// Whether it takes signals.
    pub signals: bool,
    /// Whether it takes the stream of all actions.
    pub actions: bool,
    /// Whether it counts as failing.
    pub failing: bool,
    /// `closed`: it is used; `open`: it is left alone after failures; `probing`: it is tried with one message.
    pub circuit: String,
    /// Messages that wait now.
    pub queued: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages given up.
    pub dead: u64,
    /// Records of the stream of all actions that were sent.
    pub records: u64,
    /// Records that were refused for good, or removed from the log before they could be sent.
    pub records_lost: u64,
    /// How many entries of the log are still to be sent, where it takes the stream of all actions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub records_behind: Option<u64>,
    /// When a message or a batch was last delivered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub last_delivered_at: Option<Timestamp>,
    /// When an attempt last failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime, required = false)]
    pub last_error_at: Option<Timestamp>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub last_error: Option<String>,
}

/// What a test of a sink found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SinkReport {
    /// Whether all arrived.
    pub ok: bool,
    /// Each example that was sent.
    pub examples: Vec<SinkExample>,
}

/// An example that was sent to a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SinkExample {
    /// The kind of the signal, or `record` for one of the stream of all actions.
    pub kind: String,
    /// Whether it arrived.
    pub ok: bool,
    /// Why not, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(required = false)]
    pub error: Option<String>,
}

/// A silence to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// About what. Empty: about everything.
    #[serde(default)]
    pub matcher: Matcher,
    /// When it ends; at most 30 days from now.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// Why, 1 to 1,024 bytes.
    pub comment: String,
}

/// A silence that is in force, or will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SilenceView {
    /// `sil_…`.
    pub id: String,
    /// About what.
    pub matcher: Matcher,
    /// Who wants it.
    pub owner: String,
    /// Why.
    pub comment: String,
    /// From then on.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Until then.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
}

/// The silences. Windows of every week are in the configuration only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SilenceList {
    /// Those that end first come first.
    pub silences: Vec<SilenceView>,
}
