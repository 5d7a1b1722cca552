//! What a message says, in words that are the same in every tool. Nothing here is escaped: a sink fits each text
//! into its medium ([`crate::text::fit`]).

use checkrein_core::{
    action::Count,
    decision::{BlastRadius, ResourceCount},
    signal::{Notification, Signal, Status},
};
use std::fmt::Write as _;

/// The most resources of a blast radius that a message lists.
const RESOURCES: usize = 8;
/// The most policies that a message names.
const POLICIES: usize = 10;

/// One thing that a message says about its newest signal: `Agent`, `billing-bot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// A word for it.
    pub label: &'static str,
    /// As it is: not escaped.
    pub value: String,
}

/// The signal that a message is about: the newest of its examples.
pub fn newest(message: &Notification) -> Option<&Signal> {
    message.signals.first()
}

/// What kind of message it is, in a few words of ours: `Critical: action.blocked (38 times)`.
pub fn title(message: &Notification) -> String {
    let kind = newest(message).map_or("signal", |signal| signal.kind.as_str());
    let state = match message.status {
        Status::Resolved => "Resolved".to_owned(),
        Status::Firing => {
            let word = message.severity.as_str();
            word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect()
        }
    };
    match message.count {
        0 | 1 => format!("{state}: {kind}"),
        count => format!("{state}: {kind} ({} times)", thousands(count)),
    }
}

/// The sentence of the newest signal, with the agent's name before it if it is not in it.
pub fn summary(message: &Notification) -> String {
    let Some(signal) = newest(message) else { return String::new() };
    match &signal.agent {
        // Looked for near the start only: a summary of any length is read once.
        Some(agent) if !signal.summary.chars().take(1000).collect::<String>().contains(agent.as_str()) => {
            format!("{agent}: {}", signal.summary)
        }
        _ => signal.summary.clone(),
    }
}

/// What is known of the newest signal, in the order in which a person asks.
pub fn facts(message: &Notification) -> Vec<Fact> {
    let Some(signal) = newest(message) else { return Vec::new() };
    let mut facts = Vec::new();
    let mut add = |label, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push(Fact { label, value });
        }
    };
    add("Agent", signal.agent.clone());
    add("Action", signal.action.clone().or_else(|| signal.category.map(|c| c.as_str().to_owned())));
    add("Resource", signal.resource.clone());
    add("Environment", signal.environment.map(|environment| environment.as_str().to_owned()));
    add("Tool", signal.tool.clone());
    add("Blast radius", signal.blast_radius.as_ref().map(blast_radius));
    add("Policies", Some(policies(signal)));
    add("By", signal.by.clone());
    add("Session", signal.session.clone());
    facts
}

/// `10,000 records in 1 system (counted; the agent declared 12)`.
fn blast_radius(blast: &BlastRadius) -> String {
    let mut text = many(blast.records, "record");
    if blast.systems != Count::Known(0) {
        let _infallible = write!(text, " in {}", many(blast.systems, "system"));
    }
    if blast.recipients != Count::Known(0) {
        let _infallible = write!(text, ", {}", many(blast.recipients, "recipient"));
    }
    let declared = match blast.declared {
        Some(ids) if blast.declared_ids && Count::Known(ids) != blast.records => {
            format!("; the agent named {}", thousands(ids))
        }
        Some(declared) if blast.understated => format!("; the agent declared only {}", thousands(declared)),
        Some(declared) if Count::Known(declared) != blast.records => {
            format!("; the agent declared {}", thousands(declared))
        }
        _ => String::new(),
    };
    let basis = match blast.basis {
        checkrein_core::decision::Basis::Declared => "declared",
        checkrein_core::decision::Basis::Counted => "counted",
        checkrein_core::decision::Basis::Measured => "measured",
    };
    let _infallible = write!(text, " ({basis}{declared})");
    text
}

/// The blast radius a resource: `production.orders: 52,310 records (cascade)`. The last line says how many are
/// left out. None where there is but one.
pub fn by_resource(signal: &Signal) -> Vec<String> {
    let Some(blast) = signal.blast_radius.as_ref().filter(|blast| blast.by_resource.len() > 1) else {
        return Vec::new();
    };
    let line = |share: &ResourceCount| {
        let how = share.how.map(|how| format!(" ({})", how.as_str())).unwrap_or_default();
        format!("{}: {}{how}", share.resource, many(share.records, "record"))
    };
    let mut lines: Vec<_> = blast.by_resource.iter().take(RESOURCES).map(line).collect();
    if blast.by_resource.len() > RESOURCES {
        lines.push(format!("and {} more", blast.by_resource.len() - RESOURCES));
    }
    lines
}

fn policies(signal: &Signal) -> String {
    let mut text = signal.policies.iter().take(POLICIES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if signal.policies.len() > POLICIES {
        let _infallible = write!(text, " and {} more", signal.policies.len() - POLICIES);
    }
    text
}

/// The ids by which a person finds it again: `check chk_…`.
pub fn ids(signal: &Signal) -> Vec<Fact> {
    [
        ("check", &signal.check_id),
        ("approval", &signal.approval_id),
        ("snapshot", &signal.snapshot_id),
        ("rollback", &signal.rollback_id),
    ]
    .into_iter()
    .filter_map(|(label, id)| Some(Fact { label, value: id.clone()? }))
    .chain([Fact { label: "signal", value: signal.id.clone() }])
    .collect()
}

/// The examples besides the newest, one line each.
pub fn examples(message: &Notification) -> impl Iterator<Item = &Signal> {
    message.signals.iter().skip(1).take(4)
}

/// `3 records`, `1 record`, `an unknown number of records`.
fn many(count: Count, what: &str) -> String {
    match count {
        Count::Known(1) => format!("1 {what}"),
        Count::Known(n) => format!("{} {what}s", thousands(n)),
        Count::Unknown => format!("an unknown number of {what}s"),
    }
}

/// `10,000`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Where a person sees more, if it is an address over HTTP; written as browsers write it.
pub fn link(message: &Notification) -> Option<String> {
    let url = url::Url::parse(message.link.as_deref()?).ok()?;
    matches!(url.scheme(), "https" | "http").then(|| url.into())
}
