//! `[[routes]]` and `[[silences]]`: which signals go where, and when they do not.

use super::{DAY, SECOND, document::Section};
use checkrein_core::{
    action::Environment,
    name::Pattern,
    signal::{Matcher, Mute, OutboxLimits, Route, Routing, Severity, Silence, Timing, WEEKDAYS},
    time::Timestamp,
};
use std::time::Duration;

const SEVERITIES: [Severity; 4] = [Severity::Info, Severity::Notice, Severity::Warning, Severity::Critical];

/// Routes, silences and mute windows. Without a route, what is a warning or worse goes to every sink.
pub(super) fn read(root: &mut Section<'_>, sinks: &[String]) -> Routing {
    let mut routes: Vec<Route> =
        root.list("routes").into_iter().map(|section| route(section, sinks)).collect();
    if routes.is_empty() {
        let matcher = Matcher { severity_at_least: Some(Severity::Warning), ..Matcher::default() };
        routes.push(Route { matcher, sinks: sinks.to_vec(), timing: Timing::default() });
    }
    let (mut silences, mut mutes) = (Vec::new(), Vec::new());
    for (n, section) in (1..).zip(root.list("silences")) {
        silence(section, n, &mut silences, &mut mutes);
    }
    Routing { routes, silences, mutes, sinks: Vec::new() }
}

/// `[outbox]`: how much is kept of what is done with.
pub(super) fn limits(mut section: Section<'_>) -> OutboxLimits {
    let mut limits = KEPT;
    for (key, place) in [
        ("keep_signals", &mut limits.signals),
        ("keep_delivered", &mut limits.delivered),
        ("keep_dead", &mut limits.dead),
    ] {
        if let Some(n) = section.number(key, (100, 10_000_000)) {
            *place = n;
        }
    }
    section.finish();
    limits
}

/// What is kept where nothing else is said: at a few KiB each, below 100 MB.
pub(super) const KEPT: OutboxLimits = OutboxLimits { signals: 50_000, delivered: 10_000, dead: 10_000 };

fn route(mut section: Section<'_>, known: &[String]) -> Route {
    let matcher = matcher(&mut section);
    let sinks = section.texts("sinks");
    if sinks.is_empty() {
        section.problem("sinks", "is missing; name the sinks that this route leads to");
    }
    for sink in sinks.iter().filter(|sink| !known.contains(sink)) {
        section.problem("sinks", format!("there is no [sinks.{}]", sink.escape_debug()));
    }
    let mut timing = Timing::default();
    for (key, place) in [("interval", &mut timing.interval), ("repeat_interval", &mut timing.repeat)] {
        if let Some(duration) = section.duration(key, (SECOND, 30 * DAY)) {
            *place = seconds(duration);
        }
    }
    timing.resolve_after = section.duration("resolve_after", (SECOND, 30 * DAY)).map(seconds);
    if let Some(n) = section.number("burst", (1, 1_000)) {
        timing.burst = n;
    }
    section.finish();
    Route { matcher, sinks, timing }
}

fn matcher(section: &mut Section<'_>) -> Matcher {
    let mut kinds = Vec::new();
    for text in section.texts("kinds") {
        match Pattern::new(&text) {
            Ok(pattern) => kinds.push(pattern),
            Err(e) => section.problem("kinds", e.to_string()),
        }
    }
    let pattern = |text: &str| Pattern::new(text).map_err(|e| e.to_string());
    let severity = |text: &str| {
        let found = SEVERITIES.into_iter().find(|severity| severity.as_str() == text);
        found.ok_or_else(|| "must be info, notice, warning or critical".to_owned())
    };
    Matcher {
        kinds,
        severity_at_least: section.text("severity_at_least", severity),
        severity_at_most: section.text("severity_at_most", severity),
        agent: section.text("agent", pattern),
        environment: section.text("environment", |text| match text {
            "production" => Ok(Environment::Production),
            "staging" => Ok(Environment::Staging),
            "sandbox" => Ok(Environment::Sandbox),
            _ => Err("must be production, staging or sandbox".to_owned()),
        }),
        policy: section.text("policy", pattern),
    }
}

/// One with an end, or one of every week.
fn silence(mut section: Section<'_>, n: usize, silences: &mut Vec<Silence>, mutes: &mut Vec<Mute>) {
    let matcher = matcher(&mut section);
    let owner = section.text("owner", |text| Ok(text.to_owned()));
    if owner.is_none() && section.line_of("owner").is_none() {
        section.problem("owner", "is missing; say who wants it, so that others can ask");
    }
    let comment = section.text("comment", |text| Ok(text.to_owned())).unwrap_or_default();
    if section.line_of("until").is_some() {
        let from = section.text("from", Timestamp::parse).unwrap_or_default();
        let until = section.text("until", Timestamp::parse);
        if let (Some(owner), Some(until)) = (owner, until) {
            silences.push(Silence { id: format!("sil_config_{n}"), matcher, owner, comment, from, until });
        }
    } else {
        let (from, to) = (section.text("from", time), section.text("to", time));
        let days = days(&mut section);
        if (from.is_none() && section.line_of("from").is_none())
            || (to.is_none() && section.line_of("to").is_none())
        {
            section.problem("until", "is missing; write when it ends, or every week: days, from and to");
        }
        let offset = section.text("utc_offset", offset).unwrap_or_default();
        if let (Some(from), Some(to)) = (from, to) {
            mutes.push(Mute { matcher, days, from, to, offset });
        }
    }
    section.finish();
}

fn days(section: &mut Section<'_>) -> [bool; 7] {
    let named = section.texts("days");
    if named.is_empty() {
        return [true; 7];
    }
    for day in named.iter().filter(|day| !WEEKDAYS.contains(&day.as_str())) {
        section.problem("days", format!("`{}` is no day; write {}", day.escape_debug(), WEEKDAYS.join(", ")));
    }
    WEEKDAYS.map(|day| named.iter().any(|named| named == day))
}

/// The second of the day of `22:00`.
fn time(text: &str) -> Result<i64, String> {
    let parsed = text.split_once(':').and_then(|(hour, minute)| {
        let (hour, minute): (i64, i64) = (digits(hour)?, digits(minute)?);
        (hour < 24 && minute < 60).then_some(hour * 3600 + minute * 60)
    });
    parsed.ok_or_else(|| format!("`{}` is no time of day; write e.g. 22:00", text.escape_debug()))
}

/// Seconds of `+02:00`.
fn offset(text: &str) -> Result<i64, String> {
    let parsed = match text.split_at_checked(1) {
        Some(("+", rest)) => time(rest).ok(),
        Some(("-", rest)) => time(rest).ok().map(|seconds| -seconds),
        _ => None,
    };
    parsed.filter(|s| s.abs() <= 15 * 3600).ok_or_else(|| {
        format!(
            "`{}` is no distance from UTC; write e.g. +01:00 (it knows no summer time)",
            text.escape_debug()
        )
    })
}

fn digits(text: &str) -> Option<i64> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
