//! Messages and records as OTLP's JSON: logs, spans, metrics.

use super::names;
use crate::{message, sink::Record, sinks::batch::bounded};
use checkrein_core::{
    fingerprint::hex,
    signal::{Notification, Severity, Status},
    time::Timestamp,
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// An attribute's value.
fn any(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!({"boolValue": flag}),
        Value::Number(number) => match number.as_i64() {
            // 64 bits are a text in OTLP's JSON.
            Some(whole) => json!({"intValue": whole.to_string()}),
            None => json!({"doubleValue": number}),
        },
        Value::String(text) => json!({"stringValue": text}),
        Value::Array(items) => json!({"arrayValue": {"values": items.iter().map(any).collect::<Vec<_>>()}}),
        other => json!({"stringValue": other.to_string()}),
    }
}

pub(super) fn attribute(name: &str, value: &Value) -> Value {
    json!({"key": name, "value": any(value)})
}

fn text(name: &str, value: &str) -> Value {
    attribute(name, &value.into())
}

fn nanos(at: Timestamp) -> String {
    (i128::from(at.as_micros()) * 1000).max(0).to_string()
}

fn member<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    record.body.get(name).and_then(Value::as_str)
}

/// The attributes that GenAI's conventions have for a call of a tool.
fn genai(record: &Record) -> Vec<Value> {
    let mut all = vec![text(names::OPERATION, names::EXECUTE_TOOL)];
    let of = [
        (names::TOOL, member(record, "tool").or_else(|| member(record, "action"))),
        (names::AGENT, member(record, "agent")),
        (names::CONVERSATION, member(record, "session")),
        (names::ENVIRONMENT, member(record, "environment")),
    ];
    all.extend(of.into_iter().filter_map(|(name, value)| Some(text(name, value?))));
    all
}

fn own(record: &Record) -> Vec<Value> {
    let members = record.body.as_object().into_iter().flatten();
    members.map(|(name, value)| attribute(&format!("{}{name}", names::PREFIX), value)).collect()
}

/// The trace and span of a check: below the caller's span, or a trace of its own. The same again for the same check,
/// so that a backend knows a repeat.
pub(super) struct Place {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    parent: Option<String>,
    sampled: bool,
}

impl Place {
    pub(super) fn of(record: &Record) -> Option<Self> {
        let id = member(record, "check_id").filter(|_| record.kind == "check")?;
        let derived = |what: &str, bytes: usize| {
            let hash = Sha256::digest(format!("checkrein {what} {id}"));
            hex(hash.get(..bytes).unwrap_or_default())
        };
        let given = member(record, "trace_id").zip(member(record, "parent_span_id"));
        let span_id = derived("span", 8);
        Some(match given {
            Some((trace_id, parent)) => Self {
                trace_id: trace_id.to_owned(),
                span_id,
                parent: Some(parent.to_owned()),
                sampled: record.body.get("trace_sampled") == Some(&Value::Bool(true)),
            },
            None => Self { trace_id: derived("trace", 16), span_id, parent: None, sampled: true },
        })
    }
}

/// A check as a span; none for what is no check, and none in a trace that the caller does not record: it would hang
/// in the air.
pub(super) fn span(record: &Record) -> Option<Value> {
    let place = Place::of(record).filter(|place| place.sampled)?;
    let tool = member(record, "tool").or_else(|| member(record, "action")).unwrap_or("unknown");
    let mut attributes = genai(record);
    attributes.extend(own(record));
    let blocked = member(record, "verdict") == Some("block");
    if blocked {
        attributes.push(text(names::ERROR_TYPE, names::BLOCKED));
    }
    let mut span = json!({
        "traceId": place.trace_id,
        "spanId": place.span_id,
        "name": format!("{} {tool}", names::EXECUTE_TOOL),
        "kind": 1,
        "startTimeUnixNano": nanos(record.at),
        "endTimeUnixNano": nanos(record.at),
        "attributes": attributes,
        "status": if blocked { json!({"code": 2, "message": member(record, "reason")}) } else { json!({}) },
    });
    if let (Some(parent), Some(span)) = (place.parent, span.as_object_mut()) {
        span.insert("parentSpanId".to_owned(), parent.into());
        // The parent is recorded, and in another process.
        span.insert("flags".to_owned(), 0x301.into());
    }
    Some(span)
}

/// A record as a log.
pub(super) fn log(record: &Record, now: Timestamp) -> Value {
    let (number, word) = match (member(record, "verdict"), member(record, "outcome")) {
        (Some("block"), _) | (_, Some("unknown")) => (13, "WARN"),
        (_, Some("error")) => (17, "ERROR"),
        (Some("hold"), _) => (10, "INFO2"),
        _ => (9, "INFO"),
    };
    let mut attributes = own(record);
    if record.kind == "check" {
        attributes.extend(genai(record));
    }
    let mut log = json!({
        "timeUnixNano": nanos(record.at),
        "observedTimeUnixNano": nanos(now),
        "severityNumber": number,
        "severityText": word,
        "eventName": format!("{}{}", names::PREFIX, record.kind),
        "body": {"stringValue": member(record, "summary").unwrap_or(record.kind)},
        "attributes": attributes,
    });
    if let (Some(place), Some(log)) = (Place::of(record), log.as_object_mut()) {
        log.insert("traceId".to_owned(), place.trace_id.into());
        log.insert("spanId".to_owned(), place.span_id.into());
        log.insert("flags".to_owned(), u8::from(place.sampled).into());
    }
    log
}

/// A message as a log.
pub(super) fn alert(message: &Notification, now: Timestamp) -> Value {
    let (number, word) = match (message.status, message.severity) {
        (Status::Resolved, _) | (_, Severity::Info) => (9, "INFO"),
        (_, Severity::Notice) => (10, "INFO2"),
        (_, Severity::Warning) => (13, "WARN"),
        (_, Severity::Critical) => (17, "ERROR"),
    };
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            all.insert(format!("{}{name}", names::SIGNAL), value);
        }
    };
    let status = if message.status == Status::Resolved { "resolved" } else { "firing" };
    put("delivery_id", message.delivery_id.as_str().into());
    put("dedup_key", message.dedup_key.as_str().into());
    put("status", status.into());
    put("severity", message.severity.as_str().into());
    put("count", message.count.into());
    put("first_at", message.first_at.to_string().into());
    put("last_at", message.last_at.to_string().into());
    put("link", message::link(message).into());
    let newest = bounded(message.signals.get(..1).unwrap_or_default());
    for (name, value) in newest.get(0).and_then(Value::as_object).into_iter().flatten() {
        if !["status", "severity", "blast_radius"].contains(&name.as_str()) {
            put(name, value.clone());
        }
    }
    let records = newest.pointer("/0/blast_radius/records").cloned().unwrap_or_default();
    put("records", records);
    let kind = message::newest(message).map_or("signal", |signal| signal.kind.as_str());
    let body = crate::text::fit(
        &format!("{}: {}", message::title(message), message::summary(message)),
        crate::text::Medium::Plain,
        2048,
    );
    json!({
        "timeUnixNano": nanos(message.last_at),
        "observedTimeUnixNano": nanos(now),
        "severityNumber": number,
        "severityText": word,
        "eventName": format!("{}{kind}", names::SIGNAL),
        "body": {"stringValue": body},
        "attributes": all.iter().map(|(name, value)| attribute(name, value)).collect::<Vec<_>>(),
    })
}

/// Counts by their labels.
type Points<'a> = BTreeMap<Vec<(&'a str, &'a str)>, u64>;

/// How many checks and outcomes these records are, as sums over the time from the first to the last.
pub(super) fn metrics(records: &[Record]) -> Vec<Value> {
    let times = || records.iter().map(|record| record.at);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Vec::new() };
    let mut counted: BTreeMap<&str, Points<'_>> = BTreeMap::new();
    for record in records {
        let (metric, labels): (_, &[(&str, &str)]) = match record.kind {
            "check" => (
                names::CHECKS,
                &[
                    ("verdict", "checkrein.verdict"),
                    ("category", "checkrein.category"),
                    ("agent", names::AGENT),
                    ("environment", names::ENVIRONMENT),
                ],
            ),
            "outcome" => (names::OUTCOMES, &[("outcome", "checkrein.outcome")]),
            _ => continue,
        };
        let labels = labels.iter().filter_map(|(from, to)| Some((*to, member(record, from)?))).collect();
        *counted.entry(metric).or_default().entry(labels).or_default() += 1;
    }
    let point = |(labels, count): (&Vec<(&str, &str)>, &u64)| {
        json!({
            "attributes": labels.iter().map(|(name, value)| text(name, value)).collect::<Vec<_>>(),
            "startTimeUnixNano": nanos(first),
            "timeUnixNano": nanos(last.plus_micros(1)),
            "asInt": count.to_string(),
        })
    };
    let metric = |(name, points): (&&str, &Points<'_>)| {
        json!({"name": name, "unit": "1", "sum": {
            "aggregationTemporality": 1,
            "isMonotonic": true,
            "dataPoints": points.iter().map(point).collect::<Vec<_>>(),
        }})
    };
    counted.iter().map(metric).collect()
}
