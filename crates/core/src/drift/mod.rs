//! Drift: what an agent normally does, and scored departures from it.
//!
//! A [`Baseline`] is what is known of one agent, in at most 4 KiB. [`Baseline::observe`] takes one action and
//! answers with a [`Reading`]: for each [`Channel`], how rare such a thing is on an active day of this agent,
//! in decades (5: once in 100,000 days). [`Baseline::explain`] puts it into one sentence. Time is an
//! argument and never runs backward in here; an earlier time is taken for the latest one seen.
//!
//! How it works: each channel is a statistic that is cheap to keep up to date (`burst`, `repeat`, `mix`, …),
//! made comparable by a calibration against the agent's own highest values per active hour and day
//! (`gauge`). Sums of log-likelihood ratios that restart at 0 do most of the work: for a sudden change there
//! is no quicker test at a given number of false alarms.

mod baseline;
pub mod breaker;
mod burst;
mod codec;
mod errors;
mod finding;
mod gauge;
mod gauges;
mod group;
mod hash;
mod incident;
mod many;
mod math;
mod mix;
mod novelty;
mod rate;
mod records;
mod repeat;
mod saved;
mod season;
mod sequence;
pub mod series;
mod spells;
mod symbols;

pub use baseline::Baseline;
pub use finding::Finding;
pub use group::Group;
pub use incident::Incidents;
pub use saved::RestoreError;

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One way of departing from what is normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = DriftChannel))]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// More actions over hours than this hour of the week normally has, or growth beyond the limit.
    Rate,
    /// Many more actions within minutes.
    Burst,
    /// The same call, or the same few, again and again.
    Loop,
    /// An action, tool or resource never used before.
    Novelty,
    /// Actions in an order that they do not come in.
    Sequence,
    /// One kind of action takes a much larger share, or of several agents of a key those do that are new.
    Mix,
    /// More records at a time.
    Records,
    /// More failures.
    Errors,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Rate,
        Self::Burst,
        Self::Loop,
        Self::Novelty,
        Self::Sequence,
        Self::Mix,
        Self::Records,
        Self::Errors,
    ];

    /// The channel that tells of the same incidents: a burst is a high rate too.
    #[must_use]
    pub const fn incident(self) -> Self {
        match self {
            Self::Burst => Self::Rate,
            other => other,
        }
    }

    /// The name in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Burst => "burst",
            Self::Loop => "loop",
            Self::Novelty => "novelty",
            Self::Sequence => "sequence",
            Self::Mix => "mix",
            Self::Records => "records",
            Self::Errors => "errors",
        }
    }
}

/// How grave a score is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = DriftSeverity))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A score of 5 or more: somebody should know.
    Notice,
    /// 6 or more: hold writes, what is new, and bulk.
    Warning,
    /// 7 or more: stop.
    Critical,
}

impl Severity {
    /// The severity of a score; `None` below 5.
    pub fn of(score: f32) -> Option<Self> {
        match score {
            s if s >= 7.0 => Some(Self::Critical),
            s if s >= 6.0 => Some(Self::Warning),
            s if s >= 5.0 => Some(Self::Notice),
            _ => None,
        }
    }

    /// The name in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One action, as drift sees it.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// When.
    pub at: Timestamp,
    /// The verb.
    pub action: &'a str,
    /// What it is on; empty when not stated.
    pub resource: &'a str,
    /// The tool; empty when not stated.
    pub tool: &'a str,
    /// What tells calls of the same verb, resource and tool apart: a digest of all that was asked; empty when not
    /// stated. Only calls that are equal in this too repeat each other.
    pub exact: &'a str,
    /// Records that it affects, where that is known.
    pub records: Option<u64>,
    /// The size of its payload, which stands in for the records where those are not known.
    pub payload_bytes: Option<u64>,
}

/// How unusual an action was, channel by channel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    scores: [f32; 8],
}

impl Reading {
    /// The score of one channel: 0 to 12.
    pub fn score(&self, channel: Channel) -> f32 {
        self.scores.get(channel as usize).copied().unwrap_or(0.0)
    }

    /// The channel with the highest score.
    pub fn worst(&self) -> (Channel, f32) {
        let mut worst = (Channel::Rate, 0.0);
        for (channel, score) in Channel::ALL.into_iter().zip(self.scores) {
            if score > worst.1 {
                worst = (channel, score);
            }
        }
        worst
    }

    /// Takes the higher score of each channel.
    pub fn merge(&mut self, other: &Self) {
        for channel in Channel::ALL {
            self.raise(channel, other.score(channel));
        }
    }

    /// Lets the score of a channel count for so many times as much.
    pub(super) fn weigh(&mut self, channel: Channel, weight: f32) {
        if let Some(own) = self.scores.get_mut(channel as usize) {
            *own *= weight;
        }
    }

    /// Says nothing of a channel.
    pub(super) fn clear(&mut self, channel: Channel) {
        if let Some(own) = self.scores.get_mut(channel as usize) {
            *own = 0.0;
        }
    }

    /// Takes `score` where it is the higher one.
    pub fn raise(&mut self, channel: Channel, score: f32) {
        if let Some(own) = self.scores.get_mut(channel as usize) {
            *own = own.max(score);
        }
    }
}
