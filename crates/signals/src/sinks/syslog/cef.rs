//! Messages and records as ArcSight's Common Event Format (CEF), version 0, below a limit of bytes.
//!
//! What comes from agents passes [`crate::text`] first, so that it has no line break and nothing invisible; then
//! what ends a field or a value is escaped. A value that no longer fits is left out whole.

use crate::{
    message,
    sink::Record,
    text::{Medium, fit},
};
use checkrein_core::signal::{Notification, Severity, Status};
use serde_json::Value;

/// Characters of one value.
const MAX_VALUE: usize = 512;

/// A line of CEF that grows.
pub(super) struct Line {
    text: String,
    max: usize,
}

impl Line {
    /// With its header: `severity` from 0 to 10.
    pub(super) fn new(id: &str, name: &str, severity: u8, max: usize) -> Self {
        let field = |text: &str| fit(text, Medium::Plain, 128).replace('\\', "\\\\").replace('|', "\\|");
        let version = env!("CARGO_PKG_VERSION");
        let text = format!("CEF:0|Checkrein|Checkrein|{version}|{}|{}|{severity}|", field(id), field(name));
        Self { text, max }
    }

    /// Adds a value, if there is one and it fits.
    pub(super) fn put(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return };
        let value = fit(value, Medium::Plain, MAX_VALUE).replace('\\', "\\\\").replace('=', "\\=");
        let space = if self.text.ends_with('|') { "" } else { " " };
        let added = format!("{space}{key}={value}");
        if self.text.len().saturating_add(added.len()) <= self.max {
            self.text.push_str(&added);
        }
    }

    /// Adds one of the keys that have a label, with it or not at all.
    fn labelled(&mut self, key: &str, label: &str, value: Option<&str>) {
        let before = self.text.len();
        self.put(key, value);
        let between = self.text.len();
        self.put(&format!("{key}Label"), (between > before).then_some(label));
        if self.text.len() == between {
            self.text.truncate(before);
        }
    }

    pub(super) fn done(self) -> String {
        self.text
    }
}

/// Severity as syslog counts it, and as CEF does.
pub(super) fn severities(severity: Severity) -> (u8, u8) {
    match severity {
        Severity::Critical => (2, 10),
        Severity::Warning => (4, 7),
        Severity::Notice => (5, 5),
        Severity::Info => (6, 2),
    }
}

pub(super) fn severity_of(record: &Record) -> Severity {
    let word = |name: &str| record.body.get(name).and_then(Value::as_str);
    match (word("verdict"), word("outcome")) {
        (Some("block"), _) | (_, Some("error" | "unknown")) => Severity::Warning,
        (Some("hold"), _) => Severity::Notice,
        _ => Severity::Info,
    }
}

/// A record of the stream of all actions.
pub(super) fn record(record: &Record, max: usize) -> String {
    let body = |name: &str| match record.body.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(items)) => {
            Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
        }
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    };
    let mut line = Line::new(record.kind, record.kind, severities(severity_of(record)).1, max);
    let put = |line: &mut Line, key: &str, value: Option<String>| line.put(key, value.as_deref());
    line.put("rt", Some(&(record.at.as_micros() / 1000).to_string()));
    put(
        &mut line,
        "externalId",
        ["check_id", "approval_id", "snapshot_id", "rollback_id"].into_iter().find_map(body),
    );
    put(&mut line, "act", body("verdict").or_else(|| body("outcome")).or_else(|| body("approval_state")));
    put(&mut line, "suser", body("agent").or_else(|| body("by")));
    put(&mut line, "cat", body("category"));
    for (key, label, member) in [
        ("cs1", "resource", "resource"),
        ("cs2", "action", "action"),
        ("cs3", "policies", "policies"),
        ("cs4", "environment", "environment"),
        ("cs5", "session", "session"),
        ("cs6", "tool", "tool"),
        ("cn1", "records", "records"),
        ("cn2", "systems", "systems"),
        ("cn3", "recipients", "recipients"),
    ] {
        line.labelled(key, label, body(member).as_deref());
    }
    put(&mut line, "destinationDnsDomain", body("domains"));
    put(&mut line, "reason", body("reason"));
    put(&mut line, "msg", body("summary"));
    line.done()
}

/// A message.
pub(super) fn alert(message: &Notification, max: usize) -> String {
    let Some(signal) = message::newest(message) else { return String::new() };
    let mut line = Line::new(&signal.kind, &message::title(message), severities(message.severity).1, max);
    let over = message.status == Status::Resolved;
    line.put("rt", Some(&(message.last_at.as_micros() / 1000).to_string()));
    line.put("externalId", Some(&message.delivery_id));
    line.put("deviceExternalId", Some(&message.dedup_key));
    line.put("act", Some(if over { "resolved" } else { "firing" }));
    line.put("cnt", Some(&message.count.to_string()));
    line.put("start", Some(&(message.first_at.as_micros() / 1000).to_string()));
    line.put("end", Some(&(message.last_at.as_micros() / 1000).to_string()));
    line.put("suser", signal.agent.as_deref());
    line.put("cat", signal.category.map(checkrein_core::action::Category::as_str));
    let policies = signal.policies.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
    let id = [&signal.check_id, &signal.approval_id, &signal.snapshot_id, &signal.rollback_id];
    let id = id.into_iter().find_map(Option::as_deref);
    let environment = signal.environment.map(checkrein_core::action::Environment::as_str);
    line.labelled("cs1", "resource", signal.resource.as_deref());
    line.labelled("cs2", "action", signal.action.as_deref());
    line.labelled("cs3", "policies", Some(&policies));
    line.labelled("cs4", "environment", environment);
    line.labelled("cs5", "id", id);
    line.labelled("cs6", "tool", signal.tool.as_deref());
    let records = signal.blast_radius.as_ref().and_then(|blast| blast.records.known());
    line.labelled("cn1", "records", records.map(|n| n.to_string()).as_deref());
    line.put("request", message::link(message).as_deref());
    line.put("msg", Some(&message::summary(message)));
    line.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_ends_early_or_begins_another() {
        let mut line = Line::new("a|b\\c", "x\ny", 7, 1000);
        line.put("msg", Some("one=two act=allow|\\ \r\nCEF:0|"));
        line.put("empty", Some(""));
        let text = line.done();
        assert!(text.contains("|a\\|b\\\\c|x⏎y|7|msg=one\\=two act\\=allow|\\\\ ⏎CEF:0|"), "{text}");
        assert!(!text.contains("empty"));
    }

    #[test]
    fn what_does_not_fit_is_left_out_whole() {
        for max in 60..200 {
            let mut line = Line::new("id", "name", 1, max);
            line.labelled("cs1", "resource", Some(&"r=".repeat(20)));
            line.put("msg", Some("short"));
            let text = line.done();
            assert!(text.len() <= max.max(50), "{max}: {text}");
            assert_eq!(text.contains("cs1="), text.contains("cs1Label=resource"), "{max}: {text}");
        }
    }
}
