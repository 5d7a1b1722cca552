//! Datadog's intakes of logs, events and series, as strict as their documentation: what Datadog would cut or drop
//! in silence is refused here.

use super::scripted::{Receiver, Reply, Request};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// The key that it takes.
pub const API_KEY: &str = "0123456789abcdef0123456789abcdef";

/// Starts one that takes all three.
pub fn start() -> Receiver {
    Receiver::start(|request| match answer(request) {
        Ok(()) => Reply::new(202, "{\"errors\":[]}"),
        Err((status, why)) => Reply::new(status, serde_json::json!({"errors": [why]}).to_string()),
    })
}

type Refused = (u16, String);

fn answer(request: &Request) -> Result<(), Refused> {
    if request.header("dd-api-key") != Some(API_KEY) {
        return Err((403, "Forbidden".to_owned()));
    }
    if request.header("content-type") != Some("application/json") {
        return Err((400, "content type".to_owned()));
    }
    let body: Value = serde_json::from_slice(&request.body).map_err(|e| (400, format!("no JSON: {e}")))?;
    let size = request.body.len();
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/api/v2/logs") => logs(&body, size),
        ("POST", "/api/v2/events") => event(&body),
        ("POST", "/api/v2/series") => series(&body, size),
        _ => Err((404, "not found".to_owned())),
    }
}

fn require(holds: bool, what: &str) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err((400, what.to_owned())) }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn logs(body: &Value, size: usize) -> Result<(), Refused> {
    if size > 5_000_000 {
        return Err((413, "batch is above 5MB uncompressed".to_owned()));
    }
    let logs = body.as_array().ok_or((400, "no array".to_owned()))?;
    if logs.len() > 1000 {
        return Err((413, "more than 1000 logs".to_owned()));
    }
    for log in logs {
        require(log.to_string().len() <= 1_000_000, "a log above 1MB would be cut")?;
        for member in ["ddsource", "ddtags", "service", "message", "status"] {
            require(log.get(member).is_some_and(Value::is_string), member)?;
        }
        let levels = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug", "ok"];
        require(
            levels.iter().any(|level| log.get("status").is_some_and(|s| s == level)),
            "no status of theirs",
        )?;
        tags(log.get("ddtags").and_then(Value::as_str).unwrap_or_default().split(','))?;
        if let Some(at) = log.get("timestamp") {
            let at = at.as_i64().ok_or((400, "timestamp is no number".to_owned()))? / 1000;
            require(now() - at <= 18 * 3600, "older than 18 hours would be dropped")?;
        }
    }
    Ok(())
}

fn tags<'a>(tags: impl Iterator<Item = &'a str>) -> Result<(), Refused> {
    for tag in tags {
        require(tag.chars().count() <= 200, "a tag above 200 characters would be cut")?;
        let kept = |c: char| c.is_alphanumeric() || "_-:./".contains(c);
        require(tag.chars().all(|c| kept(c) && !c.is_uppercase()), "a tag would be rewritten")?;
    }
    Ok(())
}

fn event(body: &Value) -> Result<(), Refused> {
    require(body.pointer("/data/type").is_some_and(|t| t == "event"), "type")?;
    let event = body.pointer("/data/attributes").ok_or((400, "attributes".to_owned()))?;
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    for (name, max, needed) in [
        ("title", 500, true),
        ("message", 4000, false),
        ("aggregation_key", 100, false),
        ("host", 255, false),
    ] {
        let length = text(name).map(|text| text.chars().count());
        require(length.map_or(!needed, |n| n >= 1 && n <= max), name)?;
    }
    require(text("category") == Some("alert"), "category")?;
    let listed: Vec<_> = event.get("tags").and_then(Value::as_array).into_iter().flatten().collect();
    require(!listed.is_empty() && listed.len() <= 100, "tags")?;
    tags(listed.into_iter().filter_map(Value::as_str))?;
    let alert = event.get("attributes").ok_or((400, "attributes".to_owned()))?;
    let word = |name: &str| alert.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    require(["warn", "error", "ok"].contains(&word("status").as_str()), "status")?;
    require(["1", "2", "3", "4", "5"].contains(&word("priority").as_str()), "priority")?;
    let custom = alert.get("custom").and_then(Value::as_object);
    require(custom.is_none_or(|custom| custom.len() <= 100), "custom")?;
    require(depth(alert.get("custom").unwrap_or(&Value::Null)) <= 10, "custom is nested too deep")
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn series(body: &Value, size: usize) -> Result<(), Refused> {
    if size > 512_000 {
        return Err((413, "Payload too large".to_owned()));
    }
    for series in body.get("series").and_then(Value::as_array).ok_or((400, "series".to_owned()))? {
        require(series.get("metric").and_then(Value::as_str).is_some_and(|m| m.len() <= 200), "metric")?;
        require(series.get("type").and_then(Value::as_i64).is_some_and(|t| (0..=3).contains(&t)), "type")?;
        for point in series.get("points").and_then(Value::as_array).ok_or((400, "points".to_owned()))? {
            let at = point.get("timestamp").and_then(Value::as_i64).ok_or((400, "timestamp".to_owned()))?;
            require(point.get("value").is_some_and(Value::is_number), "value")?;
            require(at <= now() + 600 && at >= now() - 3600, "a point out of its time would be dropped")?;
        }
        tags(series.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str))?;
    }
    Ok(())
}
