//! An OTLP receiver over HTTP that takes the JSON encoding, strictly.

use super::scripted::{Receiver, Reply, Request};
use serde_json::{Value, json};

/// Starts one.
pub fn start() -> Receiver {
    Receiver::start(|request| match read(request) {
        Ok(()) => Reply::new(200, "{}").header("content-type", "application/json"),
        Err((status, message)) => Reply::new(status, json!({"code": 3, "message": message}).to_string()),
    })
}

type Refused = (u16, String);

type Check = fn(&Value) -> Result<(), Refused>;

fn refuse(what: &str) -> Refused {
    (400, what.to_owned())
}

fn read(request: &Request) -> Result<(), Refused> {
    if request.method != "POST" {
        return Err((405, "POST only".to_owned()));
    }
    if request.header("content-type") != Some("application/json") {
        return Err((415, "unsupported media type".to_owned()));
    }
    let body: Value = serde_json::from_slice(&request.body).map_err(|e| (400, e.to_string()))?;
    let (outer, inner, items, check): (_, _, _, Check) = match request.path.as_str() {
        "/v1/logs" => ("resourceLogs", "scopeLogs", "logRecords", log),
        "/v1/traces" => ("resourceSpans", "scopeSpans", "spans", span),
        "/v1/metrics" => ("resourceMetrics", "scopeMetrics", "metrics", metric),
        _ => return Err((404, "404 page not found".to_owned())),
    };
    let mut count = 0;
    for resource in list(&body, outer)? {
        attributes(resource.get("resource").ok_or_else(|| refuse("resource"))?)?;
        for scope in list(resource, inner)? {
            for item in list(scope, items)? {
                check(item)?;
                count += 1;
            }
        }
    }
    if count == 0 { Err(refuse("nothing in it")) } else { Ok(()) }
}

fn list<'v>(value: &'v Value, name: &str) -> Result<&'v Vec<Value>, Refused> {
    value.get(name).and_then(Value::as_array).ok_or_else(|| refuse(name))
}

fn attributes(value: &Value) -> Result<(), Refused> {
    let mut seen = std::collections::BTreeSet::new();
    for attribute in list(value, "attributes")? {
        let key = attribute.get("key").and_then(Value::as_str).ok_or_else(|| refuse("key"))?;
        if !seen.insert(key) {
            return Err(refuse(&format!("{key} twice")));
        }
        any(attribute.get("value").ok_or_else(|| refuse(key))?)?;
    }
    Ok(())
}

fn any(value: &Value) -> Result<(), Refused> {
    let mut members = value.as_object().into_iter().flatten();
    let (Some((kind, value)), None) = (members.next(), members.next()) else { return Err(refuse("value")) };
    match kind.as_str() {
        "stringValue" if value.is_string() => Ok(()),
        "boolValue" if value.is_boolean() => Ok(()),
        "doubleValue" if value.is_number() => Ok(()),
        "intValue" if value.as_str().is_some_and(|text| text.parse::<i64>().is_ok()) => Ok(()),
        "arrayValue" => list(value, "values")?.iter().try_for_each(any),
        _ => Err(refuse(kind)),
    }
}

fn nanos(item: &Value, name: &str) -> Result<u64, Refused> {
    let text = item.get(name).and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| refuse(name))
}

fn id(item: &Value, name: &str, digits: usize) -> Result<(), Refused> {
    let text = item.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_id = text.len() == digits
        && text.bytes().all(|b| b.is_ascii_hexdigit())
        && text.bytes().any(|b| b != b'0');
    if is_id { Ok(()) } else { Err(refuse(name)) }
}

fn log(log: &Value) -> Result<(), Refused> {
    nanos(log, "timeUnixNano")?;
    nanos(log, "observedTimeUnixNano")?;
    let number = log.get("severityNumber").and_then(Value::as_u64);
    number.filter(|n| (1..=24).contains(n)).ok_or_else(|| refuse("severityNumber"))?;
    any(log.get("body").ok_or_else(|| refuse("body"))?)?;
    if log.get("traceId").is_some() {
        id(log, "traceId", 32)?;
        id(log, "spanId", 16)?;
    }
    attributes(log)
}

fn span(span: &Value) -> Result<(), Refused> {
    id(span, "traceId", 32)?;
    id(span, "spanId", 16)?;
    if span.get("parentSpanId").is_some() {
        id(span, "parentSpanId", 16)?;
    }
    if nanos(span, "startTimeUnixNano")? > nanos(span, "endTimeUnixNano")? {
        return Err(refuse("it ends before it begins"));
    }
    if span.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(refuse("name"));
    }
    attributes(span)
}

fn metric(metric: &Value) -> Result<(), Refused> {
    let sum = metric.get("sum").ok_or_else(|| refuse("sum"))?;
    for point in list(sum, "dataPoints")? {
        if nanos(point, "startTimeUnixNano")? >= nanos(point, "timeUnixNano")? {
            return Err(refuse("a sum over no time"));
        }
        let value = point.get("asInt").and_then(Value::as_str);
        value.and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| refuse("asInt"))?;
        attributes(point)?;
    }
    Ok(())
}
