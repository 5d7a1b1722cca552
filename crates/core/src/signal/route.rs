//! Which signals go where, and when they do not.

use super::{Severity, Signal, Status};
use crate::{action::Environment, name::Pattern, time::Timestamp};
use serde::{Deserialize, Serialize};

/// Which signals: all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// Of one of these kinds; `*` matches any run of characters. Of any, when empty.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>, required = false))]
    pub kinds: Vec<Pattern>,
    /// At least this bad.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub severity_at_least: Option<Severity>,
    /// At most this bad.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub severity_at_most: Option<Severity>,
    /// About this agent. One that is about none does not match.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub agent: Option<Pattern>,
    /// About something there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub environment: Option<Environment>,
    /// With such a policy behind it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub policy: Option<Pattern>,
}

impl Matcher {
    /// Whether `signal` is one of them.
    pub fn matches(&self, signal: &Signal) -> bool {
        (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.matches(&signal.kind)))
            && self.severity_at_least.is_none_or(|least| signal.severity >= least)
            && self.severity_at_most.is_none_or(|most| signal.severity <= most)
            && self.agent.as_ref().is_none_or(|p| signal.agent.as_deref().is_some_and(|a| p.matches(a)))
            && self.environment.is_none_or(|e| signal.environment == Some(e))
            && self
                .policy
                .as_ref()
                .is_none_or(|p| signal.policies.iter().any(|name| p.matches(&name.to_lowercase())))
    }
}

/// When messages of one group are sent. In seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Between two messages of a group, at least.
    pub interval: i64,
    /// A condition that still holds is said again after this; a group of which nothing came for so long is
    /// closed.
    pub repeat: i64,
    /// A condition that nothing ends counts as over, and that is said, when nothing came for so long.
    pub resolve_after: Option<i64>,
    /// Groups that one agent may open at a sink within an interval; what comes beyond is one group together.
    /// All agents together may open ten times as many.
    pub burst: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self { interval: 300, repeat: 4 * 3600, resolve_after: None, burst: 5 }
    }
}

/// Which signals go to which sinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Which.
    pub matcher: Matcher,
    /// Where to, by name.
    pub sinks: Vec<String>,
    /// When.
    pub timing: Timing,
}

/// For a time, messages are not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// `sil_…`.
    pub id: String,
    /// About what.
    pub matcher: Matcher,
    /// Who wants it: the name of their key.
    pub owner: String,
    /// Why.
    pub comment: String,
    /// From then on.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
}

/// The days of a week, as they are written; Monday is the first.
pub const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const DAY: i64 = 86_400;

/// Hours of a week in which messages are not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mute {
    /// About what.
    pub matcher: Matcher,
    /// On these days, Monday first. A window over midnight belongs to the day on which it begins.
    pub days: [bool; 7],
    /// Second of the day on which it begins.
    pub from: i64,
    /// Second of the day on which it ends; where that is not after `from`, on the next day.
    pub to: i64,
    /// Of local time from UTC, in seconds.
    pub offset: i64,
}

impl Mute {
    /// When the window that is open at `now` ends; none when none is.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let seconds = now.as_micros().div_euclid(1_000_000);
        let local = seconds + self.offset;
        let (day, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        // 1970-01-01 was a Thursday.
        let on = |day: i64| {
            usize::try_from((day + 3).rem_euclid(7)).is_ok_and(|d| self.days.get(d).copied().unwrap_or(false))
        };
        let midnight = seconds - second;
        let at = |seconds: i64| Some(Timestamp::from_micros(seconds.saturating_mul(1_000_000)));
        if self.from < self.to {
            return if on(day) && (self.from..self.to).contains(&second) {
                at(midnight + self.to)
            } else {
                None
            };
        }
        if on(day) && second >= self.from {
            return at(midnight + DAY + self.to);
        }
        if on(day - 1) && second < self.to { at(midnight + self.to) } else { None }
    }
}

/// Everything that says where signals go.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// In order: of the routes that name a sink, the first that matches decides.
    pub routes: Vec<Route>,
    /// For a time.
    pub silences: Vec<Silence>,
    /// Every week.
    pub mutes: Vec<Mute>,
    /// Every sink that takes signals. One that is not here gets none.
    pub sinks: Vec<String>,
}

impl Routing {
    /// The sinks that `signal` goes to, each once, with the timing of the route that says so.
    ///
    /// A signal about a sink never goes to that sink, and goes to all others where no route takes it: somebody
    /// must hear of it.
    pub fn to<'a>(&'a self, signal: &Signal) -> Vec<(&'a str, Timing)> {
        let about = signal.condition.strip_prefix("sink/");
        let mut found: Vec<(&str, Timing)> = Vec::new();
        let mut add = |sink: &'a str, timing| {
            let known = self.sinks.iter().any(|known| known == sink);
            if known && about != Some(sink) && found.iter().all(|(there, _)| *there != sink) {
                found.push((sink, timing));
            }
        };
        for route in self.routes.iter().filter(|route| route.matcher.matches(signal)) {
            for sink in &route.sinks {
                add(sink, route.timing);
            }
        }
        if found.is_empty() && about.is_some() && signal.status == Status::Firing {
            let timing = self.routes.first().map(|route| route.timing).unwrap_or_default();
            found.extend(
                self.sinks.iter().filter(|s| about != Some(s.as_str())).map(|s| (s.as_str(), timing)),
            );
        }
        found
    }

    /// Until when nothing is sent about `signal`; none when something may be.
    pub fn silent_until(&self, signal: &Signal, now: Timestamp) -> Option<Timestamp> {
        let silences = self.silences.iter().filter(|s| s.from <= now && now < s.until);
        let silences = silences.filter(|s| s.matcher.matches(signal)).map(|s| s.until);
        let mutes = self.mutes.iter().filter(|m| m.matcher.matches(signal)).filter_map(|m| m.until(now));
        silences.chain(mutes).max()
    }
}
