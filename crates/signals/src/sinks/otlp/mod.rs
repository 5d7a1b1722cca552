//! OpenTelemetry, by OTLP over HTTP: signals and actions as logs, checks as spans and as metrics.
//!
//! Contract: `POST <url>/v1/logs`, `/v1/traces`, `/v1/metrics` with OTLP's JSON encoding in gzip. JSON, because the
//! standard has every receiver take it (the Collector does) and it needs no other library; what takes protobuf only is
//! reached through a Collector. 429, 502, 503 and 504 are tried again, after `Retry-After` where it is there, and so
//! are 401, 403 and 408; every other status is final, as the standard has it. A `partialSuccess` that rejects
//! something is final too: what was taken is not sent again.
//!
//! A check is a span `execute_tool {tool}` below the caller's `traceparent`; without one it is a trace of its own. It
//! has no duration: its time is that of the decision. Where the caller does not record its trace there is no span.
//! Metrics are sums with delta temporality.
//!
//! Limits: a request stays below 4 MB before compression; what is refused as too large (413) is divided.

mod encode;
mod names;

use super::batch::{Batch, batches, gzip, now};
use crate::{
    http::{Answer, Endpoint, HeaderName, HeaderValue, Http, Rules, secret_value},
    sink::{Failure, Record, Retry, Sink},
};
use async_trait::async_trait;
use checkrein_core::signal::Notification;
use secrecy::SecretString;
use serde_json::Value;

/// Records of one [`Sink::feed`].
const FEED_BATCH: usize = 500;
/// Bytes of a request before compression.
const MAX_BYTES: usize = 4_000_000;

/// 500 is final by the standard, unlike elsewhere: see [`taken`].
const RULES: Rules = Rules { receiver: "The OTLP receiver", later: &[], advice };

/// Where and how.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// The receiver's address, e.g. `https://otel.example:4318`; the path of each kind is added.
    pub url: String,
    /// Headers of every request: names, and values that may be secrets.
    pub headers: Vec<(String, SecretString)>,
    /// Attributes of the resource besides `service.name` and `service.version`.
    pub resource: Vec<(String, String)>,
    /// `service.name`.
    pub service: String,
    /// Whether the feed is sent as logs.
    pub logs: bool,
    /// Whether checks are sent as spans.
    pub traces: bool,
    /// Whether checks and outcomes are counted.
    pub metrics: bool,
}

impl OtlpConfig {
    /// With everything else as it is by default: service `checkrein`, logs, spans and metrics.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: Vec::new(),
            resource: Vec::new(),
            service: "checkrein".to_owned(),
            logs: true,
            traces: true,
            metrics: true,
        }
    }
}

/// The sink.
#[derive(Debug)]
pub struct Otlp {
    http: Http,
    headers: Vec<(HeaderName, HeaderValue)>,
    logs: Kind,
    traces: Kind,
    metrics: Kind,
}

/// One of the three kinds, and what stands around its items.
#[derive(Debug)]
struct Kind {
    endpoint: Endpoint,
    wanted: bool,
    before: String,
    /// What a partial success calls the items that were refused.
    rejected: &'static str,
}

const AFTER: &str = "]}]}]}";

impl Otlp {
    /// A sink for `config`.
    ///
    /// # Errors
    /// When the address is none that may be connected to, a header is none, or nothing is to be sent.
    pub fn new(config: &OtlpConfig, http: Http) -> Result<Self, String> {
        let header = |(name, value): &(String, SecretString)| {
            let parsed =
                HeaderName::try_from(name.as_str()).map_err(|_| format!("`headers`: `{name}` is no name"))?;
            Ok((parsed, secret_value("", value).map_err(|e| format!("`headers`: `{name}`: {e}"))?))
        };
        let own = [
            (names::SERVICE_NAME, config.service.as_str()),
            (names::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        ];
        let more = config.resource.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let attributes: Vec<_> =
            own.into_iter().chain(more).map(|(name, value)| encode::attribute(name, &value.into())).collect();
        let resource = Value::Array(attributes);
        let scope = serde_json::json!({"name": names::SCOPE, "version": env!("CARGO_PKG_VERSION")});
        let kind = |path, wanted, (outer, inner, items), rejected| {
            Ok::<_, String>(Kind {
                endpoint: http.endpoint(&config.url, path)?,
                wanted,
                before: format!(
                    "{{\"{outer}\":[{{\"resource\":{{\"attributes\":{resource}}},\"{inner}\":[{{\"scope\":{scope},\"{items}\":["
                ),
                rejected,
            })
        };
        let sink = Self {
            headers: config.headers.iter().map(header).collect::<Result<_, String>>()?,
            logs: kind(
                "/v1/logs",
                config.logs,
                ("resourceLogs", "scopeLogs", "logRecords"),
                "rejectedLogRecords",
            )?,
            traces: kind(
                "/v1/traces",
                config.traces,
                ("resourceSpans", "scopeSpans", "spans"),
                "rejectedSpans",
            )?,
            metrics: kind(
                "/v1/metrics",
                config.metrics,
                ("resourceMetrics", "scopeMetrics", "metrics"),
                "rejectedDataPoints",
            )?,
            http,
        };
        if sink.feed_batch() == 0 {
            return Err("of `logs`, `traces` and `metrics` at least one must be sent".to_owned());
        }
        Ok(sink)
    }

    /// Sends all of them, dividing what is too large.
    async fn send(&self, kind: &Kind, items: Vec<Value>) -> Result<(), Failure> {
        let room = MAX_BYTES.saturating_sub(kind.before.len()).saturating_sub(AFTER.len());
        let mut open: Vec<Batch> = batches(items.iter().map(Value::to_string), FEED_BATCH, room);
        open.reverse();
        while let Some(batch) = open.pop() {
            let gzip = gzip(&batch.body(&kind.before, ",", AFTER))?;
            let mut request = self.http.post(&kind.endpoint).body("application/json", gzip);
            request =
                request.header(HeaderName::from_static("content-encoding"), HeaderValue::from_static("gzip"));
            for (name, value) in &self.headers {
                request = request.secret_header(name.clone(), value);
            }
            let answer = request.send().await?;
            if answer.status == 413
                && let Some((first, second)) = batch.halves()
            {
                open.extend([second, first]);
                continue;
            }
            taken(answer, kind)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for Otlp {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        self.send(&self.logs, vec![encode::alert(message, now())]).await
    }

    fn feed_batch(&self) -> usize {
        if self.logs.wanted || self.traces.wanted || self.metrics.wanted { FEED_BATCH } else { 0 }
    }

    async fn feed(&self, records: &[Record]) -> Result<(), Failure> {
        let now = now();
        // Spans can be told from their repeats; sums cannot, so they are sent once all else is taken.
        if self.traces.wanted {
            self.send(&self.traces, records.iter().filter_map(encode::span).collect()).await?;
        }
        if self.logs.wanted {
            self.send(&self.logs, records.iter().map(|record| encode::log(record, now)).collect()).await?;
        }
        if self.metrics.wanted {
            self.send(&self.metrics, encode::metrics(records)).await?;
        }
        Ok(())
    }
}

fn taken(answer: Answer, kind: &Kind) -> Result<(), Failure> {
    if matches!(answer.status, 500..=599) && !matches!(answer.status, 502..=504) {
        return Err(answer.failure(
            RULES.receiver,
            Retry::Never,
            "OTLP has nothing sent again after this status",
        ));
    }
    let answer = answer.taken(&RULES)?;
    // Protobuf's empty message is no bytes at all.
    let said = match answer.body.trim() {
        "" => return Ok(()),
        text => serde_json::from_str::<Value>(text).ok().filter(Value::is_object),
    };
    let Some(said) = said else {
        return Err(answer.failure(
            RULES.receiver,
            Retry::Later,
            "That is not OTLP's answer, so nothing is known to be delivered. Is the address that of the receiver?",
        ));
    };
    let partial = said.get("partialSuccess").unwrap_or(&Value::Null);
    let rejected = match partial.get(kind.rejected) {
        Some(Value::String(number)) => number.parse().unwrap_or(1),
        Some(other) => other.as_u64().unwrap_or(0),
        None => 0_u64,
    };
    if rejected == 0 {
        return Ok(());
    }
    Err(answer.failure(RULES.receiver, Retry::Never, "It rejects a part for good; the rest is delivered"))
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "Give this sink the `headers` that the receiver asks for; it is sent again",
        404 => "Set `url` to the receiver's address without `/v1/…`, and see that it takes all that is sent",
        415 => "It does not take OTLP's JSON: put an OpenTelemetry Collector in between",
        413 => "One item alone is too large for it",
        _ => "",
    }
}
