//! Slack's incoming webhooks and `chat.postMessage`/`chat.update`, as strict as Block Kit's documentation.

#![expect(clippy::indexing_slicing, reason = "what JSON does not have is null")]

use super::{
    length,
    scripted::{Receiver, Reply, Request},
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// The path of the webhook that exists.
pub const WEBHOOK: &str = "/services/T000/B000/XXXXXXXXXXXXXXXXXXXXXXXX";
/// The token that is in force.
pub const TOKEN: &str = "xoxb-0000-test-token";

/// Starts one that takes both.
pub fn start() -> Receiver {
    let clock = AtomicU64::new(1);
    Receiver::start(move |request| match request.path.as_str() {
        WEBHOOK => match message(&request.body) {
            Ok(_) => Reply::new(200, "ok"),
            Err(why) => Reply::new(400, format!("invalid_blocks: {why}")),
        },
        "/api/chat.postMessage" | "/api/chat.update" => api(request, &clock),
        _ => Reply::new(404, "no_service"),
    })
}

fn api(request: &Request, clock: &AtomicU64) -> Reply {
    let say = |body: Value| Reply::new(200, body.to_string());
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return say(json!({ "ok": false, "error": "invalid_auth" }));
    }
    match message(&request.body) {
        Err(why) => say(json!({ "ok": false, "error": "invalid_blocks", "errors": [why] })),
        Ok(message) if !message["channel"].is_string() => {
            say(json!({ "ok": false, "error": "channel_not_found" }))
        }
        Ok(message) => {
            let new = format!("1700000000.{:06}", clock.fetch_add(1, Ordering::SeqCst));
            let ts = message["ts"].as_str().map_or(new, str::to_owned);
            say(json!({ "ok": true, "channel": "C024BE91L", "ts": ts }))
        }
    }
}

/// The message, if Slack would take it.
fn message(body: &[u8]) -> Result<Value, String> {
    let message: Value = serde_json::from_slice(body).map_err(|e| format!("invalid_payload: {e}"))?;
    between(&message["text"], 1, 3000).ok_or("text")?;
    let blocks = message["blocks"].as_array().ok_or("no blocks")?;
    if blocks.is_empty() || blocks.len() > 50 {
        return Err(format!("{} blocks", blocks.len()));
    }
    for (at, one) in blocks.iter().enumerate() {
        block(one).map_err(|what| format!("block {at}: {what}"))?;
    }
    Ok(message)
}

fn block(block: &Value) -> Result<(), String> {
    match block["type"].as_str() {
        Some("header") => text(&block["text"], &["plain_text"], 150),
        Some("section") => {
            let fields = block["fields"].as_array();
            if block["text"].is_null() && fields.is_none_or(Vec::is_empty) {
                return Err("a section without text and fields".to_owned());
            }
            if !block["text"].is_null() {
                text(&block["text"], &["plain_text", "mrkdwn"], 3000)?;
            }
            let fields = fields.map(Vec::as_slice).unwrap_or_default();
            if fields.len() > 10 {
                return Err("more than 10 fields".to_owned());
            }
            fields.iter().try_for_each(|field| text(field, &["plain_text", "mrkdwn"], 2000))
        }
        Some("context") => {
            let elements = block["elements"].as_array().ok_or("no elements")?;
            if elements.is_empty() || elements.len() > 10 {
                return Err("a context has 1 to 10 elements".to_owned());
            }
            elements.iter().try_for_each(|element| text(element, &["plain_text", "mrkdwn"], 2000))
        }
        Some("actions") => {
            let elements = block["elements"].as_array().ok_or("no elements")?;
            if elements.is_empty() || elements.len() > 25 {
                return Err("actions has 1 to 25 elements".to_owned());
            }
            elements.iter().try_for_each(|button| {
                text(&button["text"], &["plain_text"], 75)?;
                between(&button["action_id"], 1, 255).ok_or("action_id")?;
                between(&button["value"], 1, 2000).ok_or("value")?;
                Ok(())
            })
        }
        other => Err(format!("type {other:?}")),
    }
}

fn text(object: &Value, kinds: &[&str], max: usize) -> Result<(), String> {
    let kind = object["type"].as_str().unwrap_or_default();
    if !kinds.contains(&kind) {
        return Err(format!("a text of type {kind:?}"));
    }
    if kind == "mrkdwn" && !object["emoji"].is_null() || kind == "plain_text" && !object["verbatim"].is_null()
    {
        return Err(format!("{kind} with a member of the other kind"));
    }
    between(&object["text"], 1, max).ok_or_else(|| format!("a text of {kind} is not 1 to {max} long"))
}

fn between(text: &Value, min: usize, max: usize) -> Option<()> {
    length(text).filter(|length| (min..=max).contains(length)).map(drop)
}
