//! The breaker: stops an agent, a group or everything, and lets it try again with care.
//!
//! ```text
//!            trip                     cool-down over
//!  closed ──────────► open ────────────────────────► half-open
//!    ▲                 ▲  │ a person opened it: only     │  │
//!    │                 │  │ a person closes it           │  │ as many good probes as asked for
//!    │                 └──┼── a bad probe, or a trip ────┘  │
//!    └────────────────────┴─────────────────────────────────┘
//! ```
//!
//! Every trip doubles the cool-down, until the breaker has been closed for long. Pure: time is an argument,
//! and never runs backward in here. What stops an agent must survive a crash, so the whole state is
//! serialised, and any damage to it is to be read as open ([`Breaker::opened`]).

mod counts;
mod record;
mod rules;

pub use record::{BreakerChange, Scope};
pub use rules::Rules;

use super::Channel;
use crate::time::Timestamp;
use counts::Counts;
use serde::{Deserialize, Serialize};

/// The year 9000: what is later could not be written down.
const LATEST: Timestamp = Timestamp::from_micros(221_845_392_000_000_000);

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = BreakerState))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Normal.
    #[default]
    Closed,
    /// Only what the operator exempts runs.
    Open,
    /// A few probes run, to see.
    HalfOpen,
}

impl State {
    /// The name in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Why a breaker opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = BreakerCause))]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Cause {
    /// A departure from what is normal.
    Drift {
        /// In which way.
        channel: Channel,
        /// How unusual.
        score: f32,
    },
    /// Policies blocked too many of its actions.
    Blocks,
    /// Too many of its actions failed.
    Errors,
    /// An action touched far more than it had declared.
    Understated {
        /// The records it declared.
        declared: u64,
        /// The records it affected.
        actual: u64,
    },
    /// A person opened it.
    Person {
        /// Who.
        by: String,
        /// What the person says.
        reason: String,
    },
    /// What was known of it could not be read.
    Damaged,
}

/// A change of the state, to be recorded and signalled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// When.
    pub at: Timestamp,
    /// When probes will be let through, while open. `None`: when a person closes it.
    pub until: Option<Timestamp>,
    /// Why it is or was open.
    pub cause: Option<Cause>,
}

/// Whether an action may go on to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Run,
    /// It may, to see whether all is well again: its outcome must come back with this number to
    /// [`Breaker::ended`].
    Probe(u32),
    /// It may not, before this time at the earliest; `None`: before a person closes the breaker.
    Refused(Option<Timestamp>),
}

/// One breaker: of an agent, of a group, or of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    state: State,
    now: Timestamp,
    /// Why it opened last; `None` when it never did, or was closed by a person since.
    cause: Option<Cause>,
    /// When it came to its present state.
    since: Timestamp,
    /// When probes begin; `None`: a person decides.
    until: Option<Timestamp>,
    /// Trips in a row.
    trips: u8,
    /// Probes let through, and those that went well, since it became half-open.
    probes: u8,
    good: u8,
    /// How often it has become half-open, so that a late outcome is not taken for one of now.
    round: u32,
    counts: Counts,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Breaker {
    /// A closed one.
    pub fn new() -> Self {
        let start = Timestamp::from_micros(0);
        Self {
            state: State::Closed,
            now: start,
            cause: None,
            since: start,
            until: None,
            trips: 0,
            probes: 0,
            good: 0,
            round: 0,
            counts: Counts::default(),
        }
    }

    /// One that a person must close: for when the saved state cannot be read.
    pub fn opened(at: Timestamp) -> Self {
        Self { state: State::Open, now: at, since: at, cause: Some(Cause::Damaged), trips: 1, ..Self::new() }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it is open or half-open.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref().filter(|_| self.state != State::Closed)
    }

    /// Since when it has stood there.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// While open, when probes begin; `None` when only a person closes it.
    pub fn until(&self) -> Option<Timestamp> {
        self.until.filter(|_| self.state == State::Open)
    }

    /// The round that what was let through at `at` was a probe of, where that round is still going on: while it
    /// is, nothing else runs but exempted reads.
    pub fn round_of(&self, at: Timestamp) -> Option<u32> {
        (self.state == State::HalfOpen && at >= self.since).then_some(self.round)
    }

    /// The process started again. How many probes it had let through by the end is not known: all of them, then.
    pub fn restarted(&mut self) {
        if self.state == State::HalfOpen {
            self.probes = u8::MAX;
        }
    }

    fn clock(&mut self, at: Timestamp) -> Timestamp {
        self.now = self.now.max(at).min(LATEST);
        self.now
    }

    fn go(&mut self, to: State, at: Timestamp) -> Change {
        let from = std::mem::replace(&mut self.state, to);
        self.since = at;
        Change { from, to, at, until: self.until(), cause: self.cause.clone() }
    }

    /// What [`Breaker::admit`] would answer.
    pub fn would_admit(&self, at: Timestamp, is_read: bool, rules: &Rules) -> Admission {
        let now = self.now.max(at);
        if self.state == State::Closed || (is_read && rules.exempt_reads) {
            return Admission::Run;
        }
        // Probes of which nothing was heard: after as long as it was open, others may try.
        let again = self.since.plus_seconds(rules.cool_down(self.trips));
        match (self.state, self.until) {
            (State::Open, Some(until)) if now >= until => Admission::Probe(self.round.wrapping_add(1)),
            (State::Open, until) => Admission::Refused(until),
            (State::HalfOpen, _) if self.probes < rules.probes || now >= again => {
                Admission::Probe(self.round)
            }
            _ => Admission::Refused(Some(again)),
        }
    }

    /// An action comes: may it go on? Takes a probe when it is one.
    pub fn admit(&mut self, at: Timestamp, is_read: bool, rules: &Rules) -> (Admission, Option<Change>) {
        let now = self.clock(at);
        let admission = self.would_admit(now, is_read, rules);
        let Admission::Probe(round) = admission else {
            return (admission, None);
        };
        let change = if self.state == State::Open {
            (self.probes, self.good, self.round) = (0, 0, round);
            Some(self.go(State::HalfOpen, now))
        } else {
            if self.probes >= rules.probes {
                // The earlier ones are lost. What went well still counts.
                (self.probes, self.since) = (self.good, now);
            }
            None
        };
        self.probes = self.probes.saturating_add(1);
        (admission, change)
    }

    /// Opens it, or keeps it open for longer. While a person holds it open, nothing changes that.
    pub fn trip(&mut self, at: Timestamp, cause: Cause, rules: &Rules) -> Option<Change> {
        let now = self.clock(at);
        let held = self.state == State::Open && self.until.is_none();
        match cause {
            Cause::Person { .. } | Cause::Damaged => self.until = None,
            // It was let open by an action that ran before, or by a read: one trip is enough.
            _ if self.state == State::Open => return None,
            _ => {
                let calm =
                    self.state == State::Closed && now >= self.since.plus_seconds(rules.forget_after_seconds);
                self.trips = if calm { 1 } else { self.trips.saturating_add(1) };
                self.until = Some(now.plus_seconds(rules.cool_down(self.trips)).min(LATEST));
            }
        }
        self.cause = Some(cause);
        self.counts = Counts::default();
        (self.probes, self.good) = (0, 0);
        if held { None } else { Some(self.go(State::Open, now)) }
    }

    /// A person closes it. Trips before are forgiven.
    pub fn close(&mut self, at: Timestamp) -> Option<Change> {
        let now = self.clock(at);
        if self.state == State::Closed {
            return None;
        }
        let change = self.go(State::Closed, now);
        *self = Self { now, since: now, round: self.round, ..Self::new() };
        Some(change)
    }

    /// Drift was read on an action that has come to be judged.
    pub fn drifted(&mut self, at: Timestamp, channel: Channel, score: f32, rules: &Rules) -> Option<Change> {
        let least = if channel == Channel::Loop { rules.open_at_loop } else { rules.open_at_drift };
        // A score that is no number is no reason to go on.
        if score < least { None } else { self.trip(at, Cause::Drift { channel, score }, rules) }
    }

    /// A policy blocked an action.
    pub fn blocked(&mut self, at: Timestamp, rules: &Rules) -> Option<Change> {
        let now = self.clock(at);
        if self.counts.block(now, rules) { self.trip(now, Cause::Blocks, rules) } else { None }
    }

    /// An action ended. `probe`: the number with which it was let through as one.
    pub fn ended(
        &mut self,
        at: Timestamp,
        probe: Option<u32>,
        failed: bool,
        rules: &Rules,
    ) -> Option<Change> {
        let now = self.clock(at);
        if probe == Some(self.round) && self.state == State::HalfOpen {
            if failed {
                return self.trip(now, self.cause.clone().unwrap_or(Cause::Errors), rules);
            }
            self.good = self.good.saturating_add(1);
            if self.good >= rules.probes {
                let change = self.go(State::Closed, now);
                (self.until, self.counts) = (None, Counts::default());
                return Some(change);
            }
            return None;
        }
        if self.counts.end(failed, rules) { self.trip(now, Cause::Errors, rules) } else { None }
    }

    /// An action affected `actual` records where it had declared `declared`.
    pub fn measured(&mut self, at: Timestamp, declared: u64, actual: u64, rules: &Rules) -> Option<Change> {
        let far = actual > declared.saturating_mul(u64::from(rules.understated_times))
            && actual > rules.understated_least;
        if far { self.trip(at, Cause::Understated { declared, actual }, rules) } else { None }
    }
}

/// Whether an action may go on where several breakers matter: its agent's, its group's, the one for
/// everything. It may only if all admit it, and then each says how; no probe is taken from one when another
/// refuses.
///
/// # Errors
/// When one refuses: the time before which it does at the earliest, the latest of all; `None` when a person
/// has to close one.
pub fn admit_by_all(
    breakers: &mut [(&mut Breaker, &Rules)],
    at: Timestamp,
    is_read: bool,
) -> Result<Vec<(Admission, Option<Change>)>, Option<Timestamp>> {
    let mut latest: Option<Option<Timestamp>> = None;
    for (breaker, rules) in breakers.iter() {
        if let Admission::Refused(until) = breaker.would_admit(at, is_read, rules) {
            // No time at all is later than any time.
            latest = Some(match latest {
                None => until,
                Some(before) => before.zip(until).map(|(a, b)| a.max(b)),
            });
        }
    }
    match latest {
        Some(until) => Err(until),
        None => Ok(breakers.iter_mut().map(|(breaker, rules)| breaker.admit(at, is_read, rules)).collect()),
    }
}

#[cfg(test)]
mod tests;
