//! PagerDuty's Events API v2, as strict as its documentation, with the incidents that follow from events.

#![expect(clippy::indexing_slicing, reason = "what JSON does not have is null")]

use super::{
    length,
    scripted::{Receiver, Reply},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The integration key that exists.
pub const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

/// What became of events, by their key.
pub type Incidents = Arc<Mutex<BTreeMap<String, Vec<&'static str>>>>;

/// Starts one.
pub fn start() -> (Receiver, Incidents) {
    let incidents = Incidents::default();
    let kept = Arc::clone(&incidents);
    let receiver = Receiver::start(move |request| {
        if (request.method.as_str(), request.path.as_str()) != ("POST", "/v2/enqueue") {
            return Reply::new(404, "");
        }
        match event(&request.body) {
            Ok((action, key)) => {
                let mut incidents = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let open = incidents.get(&key).is_some_and(|history| history.last() != Some(&"resolve"));
                // What it does not know is dropped, and the answer is the same.
                if action == "trigger" || open {
                    incidents.entry(key.clone()).or_default().push(action);
                }
                let said = json!({ "status": "success", "message": "Event processed", "dedup_key": key });
                Reply::new(202, said.to_string())
            }
            Err(why) => {
                let said = json!({ "status": "invalid event", "message": "Event object is invalid", "errors": [why] });
                Reply::new(400, said.to_string())
            }
        }
    });
    (receiver, incidents)
}

fn event(body: &[u8]) -> Result<(&'static str, String), String> {
    if body.len() > 512 * 1024 {
        return Err("the event is larger than 512 KB".to_owned());
    }
    let event: Value = serde_json::from_slice(body).map_err(|e| format!("no JSON: {e}"))?;
    if event["routing_key"] != ROUTING_KEY {
        return Err("'routing_key' is invalid".to_owned());
    }
    let key = event["dedup_key"].as_str().filter(|key| !key.is_empty()).ok_or("'dedup_key' is missing")?;
    short(&event["dedup_key"], 255)?;
    let action = match event["event_action"].as_str() {
        Some("acknowledge") => "acknowledge",
        Some("resolve") => "resolve",
        Some("trigger") => "trigger",
        other => return Err(format!("'event_action' is {other:?}")),
    };
    if action == "trigger" {
        trigger(&event)?;
    }
    Ok((action, key.to_owned()))
}

fn trigger(event: &Value) -> Result<(), String> {
    let payload = &event["payload"];
    for (field, max) in [("summary", 1024), ("source", 255)] {
        if payload[field].as_str().is_none_or(str::is_empty) {
            return Err(format!("'payload.{field}' is missing or blank"));
        }
        short(&payload[field], max)?;
    }
    if !["critical", "error", "warning", "info"].iter().any(|severity| payload["severity"] == *severity) {
        return Err(
            "'payload.severity' is invalid (must be one of the following: critical, warning, error, info)"
                .into(),
        );
    }
    if payload["timestamp"].as_str().is_none_or(|time| !time.ends_with('Z')) {
        return Err("'payload.timestamp' is invalid".to_owned());
    }
    for field in ["component", "group", "class"] {
        if !payload[field].is_null() {
            short(&payload[field], 255)?;
        }
    }
    if !payload["custom_details"].is_object() {
        return Err("'payload.custom_details' is no object".to_owned());
    }
    for link in event["links"].as_array().into_iter().flatten() {
        if !link["href"].as_str().is_some_and(|href| href.starts_with("http")) || !link["text"].is_string() {
            return Err("'links' is invalid".to_owned());
        }
    }
    Ok(())
}

fn short(text: &Value, max: usize) -> Result<(), String> {
    match length(text) {
        Some(length) if length <= max => Ok(()),
        _ => Err(format!("longer than {max} characters, or no text")),
    }
}
