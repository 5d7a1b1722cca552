//! Splunk, by its HTTP Event Collector (HEC).
//!
//! Contract: `POST <url>/services/collector/event`, `Authorization: Splunk <token>`, JSON objects one after another,
//! gzip. The answer is `{"text": …, "code": …}`; it is the code that counts, and an answer without one is none.
//! With `acknowledge`, delivered means indexed: the answer has an `ackId`, and `/services/collector/ack` is asked
//! until it says `true`. Without it, HTTP 200 means that Splunk has the event in memory.
//!
//! Limits: a request stays below [`SplunkConfig::batch_bytes`] before compression; what is refused as too large
//! (413) is divided. A record is below 256 KiB.

use super::batch::{batches, bounded, gzip};
use crate::{
    http::{Answer, Endpoint, HeaderName, HeaderValue, Http, Rules, secret_value},
    sink::{Failure, Record, Retry, Sink},
    text::{Medium, fit},
};
use async_trait::async_trait;
use checkrein_core::{
    signal::{Notification, Severity, Status},
    time::Timestamp,
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};

/// Records of one [`Sink::feed`].
const FEED_BATCH: usize = 1000;
/// How long is waited before asking for an acknowledgement again, at first and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A token that is wrong today can be right tomorrow, so nothing is given up for it.
const RULES: Rules = Rules { receiver: "Splunk", later: &[], advice };

/// Where and how.
#[derive(Clone, Debug)]
pub struct SplunkConfig {
    /// Address of the collector, e.g. `https://splunk.example:8088`; the path is added.
    pub url: String,
    /// The HEC token.
    pub token: SecretString,
    /// The index; absent: the token's default.
    pub index: Option<String>,
    /// `host` of every event; absent: Splunk's own idea of it.
    pub host: Option<String>,
    /// Whether delivered means indexed. The token must have indexer acknowledgement enabled.
    pub acknowledge: bool,
    /// How long an acknowledgement is waited for; then the batch is sent again.
    pub acknowledge_timeout: Duration,
    /// The channel, a UUID; absent: a new one for each start. Needed with `acknowledge` only, sent always.
    pub channel: Option<String>,
    /// Bytes of one request before compression, at most; `max_content_length` of Splunk's limits.conf must allow it.
    pub batch_bytes: usize,
}

impl SplunkConfig {
    /// With everything else as it is by default: no acknowledgement, 60 s for one, requests of at most 1 MB.
    pub fn new(url: impl Into<String>, token: SecretString) -> Self {
        Self {
            url: url.into(),
            token,
            index: None,
            host: None,
            acknowledge: false,
            acknowledge_timeout: Duration::from_secs(60),
            channel: None,
            batch_bytes: 1_000_000,
        }
    }
}

/// The sink.
#[derive(Debug)]
pub struct Splunk {
    config: SplunkConfig,
    http: Http,
    events: Endpoint,
    acks: Endpoint,
    authorization: HeaderValue,
    channel: HeaderValue,
}

/// What Splunk answers.
#[derive(Deserialize)]
struct Said {
    code: i64,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct Acknowledged {
    acks: BTreeMap<String, bool>,
}

impl Splunk {
    /// A sink for `config`.
    ///
    /// # Errors
    /// When the address is none that may be connected to, the token is no header's text, the channel is no UUID, or
    /// a limit cannot be kept.
    pub fn new(config: SplunkConfig, http: Http) -> Result<Self, String> {
        if config.batch_bytes < 400_000 {
            return Err("`batch_bytes`: a request must have room for one message: 400000 or more".to_owned());
        }
        let channel = match &config.channel {
            Some(text) => uuid::Uuid::try_parse(text)
                .map_err(|_| "`channel` is a UUID, e.g. 0c6d5be1-7c2a-4e50-8f7e-0d2f4e9b1a11".to_owned())?,
            None => uuid::Uuid::now_v7(),
        };
        let channel = HeaderValue::from_str(&channel.hyphenated().to_string()).map_err(|e| e.to_string())?;
        Ok(Self {
            events: http.endpoint(&config.url, "/services/collector/event")?,
            acks: http.endpoint(&config.url, "/services/collector/ack")?,
            authorization: secret_value("Splunk ", &config.token).map_err(|e| format!("`token`: {e}"))?,
            channel,
            config,
            http,
        })
    }

    async fn post(&self, to: &Endpoint, body: Vec<u8>, compressed: bool) -> Result<Answer, Failure> {
        let request = self
            .http
            .post(to)
            .secret_header(HeaderName::from_static("authorization"), &self.authorization)
            .header(HeaderName::from_static("x-splunk-request-channel"), self.channel.clone());
        let request = if compressed {
            request.header(HeaderName::from_static("content-encoding"), HeaderValue::from_static("gzip"))
        } else {
            request
        };
        request.body("application/json", body).send().await
    }

    /// Sends all of them; what is too large for Splunk is divided.
    async fn send(&self, events: impl Iterator<Item = Value>) -> Result<(), Failure> {
        let texts = events.map(|event| event.to_string());
        let mut open = batches(texts, FEED_BATCH, self.config.batch_bytes);
        open.reverse();
        while let Some(batch) = open.pop() {
            let answer = self.post(&self.events, gzip(&batch.body("", "\n", "\n"))?, true).await?;
            if answer.status == 413
                && let Some((first, second)) = batch.halves()
            {
                open.extend([second, first]);
                continue;
            }
            let said = taken(answer)?;
            if self.config.acknowledge {
                let id = said.ack_id.ok_or_else(|| Failure {
                    retry: Retry::Never,
                    reason:
                        "Splunk took the events without an `ackId`. Enable indexer acknowledgement for the \
                             token, or set `acknowledge = false`"
                            .to_owned(),
                })?;
                self.acknowledged(id).await?;
            }
        }
        Ok(())
    }

    /// Asks until the events are indexed.
    async fn acknowledged(&self, id: u64) -> Result<(), Failure> {
        let until = tokio::time::Instant::now() + self.config.acknowledge_timeout;
        let mut pause = ASK_AGAIN.0;
        loop {
            let body = json!({"acks": [id]}).to_string().into_bytes();
            let answer = self.post(&self.acks, body, false).await?;
            let status = serde_json::from_str::<Acknowledged>(&answer.body);
            match (answer.status, status) {
                (200, Ok(status)) if status.acks.get(&id.to_string()) == Some(&true) => return Ok(()),
                (200, Ok(_)) => {}
                // It has its codes for this as well.
                _ => {
                    taken(answer)?;
                }
            }
            let next = tokio::time::Instant::now() + pause;
            if next > until {
                let waited = self.config.acknowledge_timeout.as_secs();
                return Err(Failure {
                    retry: Retry::Later,
                    reason: format!(
                        "Splunk took the events and did not index them within {waited} s. They are sent again; \
                         look at its indexing queues"
                    ),
                });
            }
            tokio::time::sleep_until(next).await;
            pause = (pause * 2).min(ASK_AGAIN.1);
        }
    }

    fn envelope(&self, at: Timestamp, kind: &str, event: Map<String, Value>) -> Value {
        let mut whole = json!({
            "time": epoch(at),
            "source": "checkrein",
            "sourcetype": kind,
            "event": Value::Object(event),
        });
        for (name, value) in [("index", &self.config.index), ("host", &self.config.host)] {
            if let (Some(value), Some(whole)) = (value, whole.as_object_mut()) {
                whole.insert(name.to_owned(), value.as_str().into());
            }
        }
        whole
    }
}

#[async_trait]
impl Sink for Splunk {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        self.send(std::iter::once(self.envelope(message.last_at, "checkrein:signal", alert(message)))).await
    }

    fn feed_batch(&self) -> usize {
        FEED_BATCH
    }

    async fn feed(&self, records: &[Record]) -> Result<(), Failure> {
        self.send(records.iter().map(|record| self.envelope(record.at, "checkrein:action", change(record))))
            .await
    }
}

/// Seconds since 1970, to the microsecond.
#[expect(clippy::cast_precision_loss, reason = "exact to the microsecond until the year 2255")]
fn epoch(at: Timestamp) -> f64 {
    at.as_micros() as f64 / 1e6
}

/// Reads Splunk's code; without one, the status.
fn taken(answer: Answer) -> Result<Said, Failure> {
    let Ok(said) = serde_json::from_str::<Said>(&answer.body) else {
        let answer = answer.taken(&RULES)?;
        return Err(answer.failure(
            "Splunk",
            Retry::Later,
            "That is not HEC's answer, so nothing is known to be delivered. Is the address that of the collector?",
        ));
    };
    let (retry, advice) = match said.code {
        0 => return Ok(said),
        1..=4 | 21 | 22 => (Retry::Refused, "Give this sink a token that is enabled; it is sent again"),
        7 => (Retry::Refused, "Allow the index for this token, or set another `index`; it is sent again"),
        // Its queues are full, or it stops.
        8 | 9 | 18..=20 | 23..=27 => (answer.pause(), "It is sent again"),
        10 | 11 => (Retry::Never, "Set `channel` to a UUID, or leave it out"),
        14 => (Retry::Never, "Enable indexer acknowledgement for the token, or set `acknowledge = false`"),
        _ if answer.status >= 500 => (answer.pause(), "It is sent again"),
        _ => (Retry::Never, "Splunk does not take this message"),
    };
    Err(answer.failure("Splunk", retry, advice))
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "Give this sink a token that is enabled; it is sent again",
        404 => "Set `url` to the collector's address, without a path",
        413 => "One event alone is too large for it: raise `max_content_length` in its limits.conf",
        _ => "",
    }
}

/// A record by the fields of the data model Change of Splunk's Common Information Model. The verb as the agent
/// named it moves to `vendor_action`: `action` has prescribed values there.
fn change(record: &Record) -> Map<String, Value> {
    let mut event = record.body.as_object().cloned().unwrap_or_default();
    if let Some(verb) = event.remove("action") {
        event.insert("vendor_action".to_owned(), verb);
    }
    let text = |name: &str| record.body.get(name).and_then(Value::as_str);
    let action = match (record.kind, text("category")) {
        (_, Some("read")) => "read",
        (_, Some("write")) => "modified",
        (_, Some("delete")) => "deleted",
        (_, Some("execute")) | ("server.started", _) => "started",
        (_, Some("outbound")) | ("key.created" | "snapshot.taken", _) => "created",
        (_, Some("admin")) => "acl_modified",
        ("server.stopped", _) => "stopped",
        ("key.revoked" | "policy.deleted" | "snapshot.removed", _) => "deleted",
        ("log.pruned", _) => "cleared",
        _ => "modified",
    };
    let success = match record.kind {
        "check" => text("verdict") == Some("allow"),
        "outcome" => text("outcome") == Some("ok"),
        "rollback.finished" => text("status") == Some("done"),
        _ => true,
    };
    let object = ["resource", "policy", "subject_key_id", "approval_id", "snapshot_id", "check_id"];
    let object = object.into_iter().find_map(text).unwrap_or("checkrein");
    let dest = record.body.pointer("/domains/0").and_then(Value::as_str);
    let dest = dest.or_else(|| text("resource").and_then(|r| r.split('.').next())).unwrap_or("checkrein");
    let change_type = text("category").unwrap_or(record.kind);
    for (name, value) in [
        ("action", action),
        ("status", if success { "success" } else { "failure" }),
        ("change_type", change_type),
        ("object", object),
        ("object_category", "resource"),
        ("dest", dest),
        ("user", text("agent").or_else(|| text("by")).unwrap_or("unknown")),
        ("result", text("reason").or_else(|| text("summary")).unwrap_or_default()),
        ("vendor_product", "Checkrein"),
    ] {
        // How a rollback ended keeps its word, under the name that the model leaves free.
        if let Some(own) = event.insert(name.to_owned(), value.into())
            && name == "status"
        {
            event.insert("rollback_status".to_owned(), own);
        }
    }
    event
}

/// A message by the fields of the data model Alerts.
fn alert(message: &Notification) -> Map<String, Value> {
    let signal = message.signals.first();
    let text = |text: Option<&str>| fit(text.unwrap_or_default(), Medium::Plain, 2048);
    let severity = match message.severity {
        Severity::Critical => "critical",
        Severity::Warning => "high",
        Severity::Notice => "medium",
        Severity::Info => "informational",
    };
    let status = match message.status {
        Status::Firing => "firing",
        Status::Resolved => "resolved",
    };
    let whole = json!({
        "app": "checkrein",
        "vendor_product": "Checkrein",
        "type": "alert",
        "id": message.delivery_id,
        "dedup_key": message.dedup_key,
        "status": status,
        "severity": severity,
        "checkrein_severity": message.severity.as_str(),
        "signature": signal.map(|s| s.kind.as_str()).unwrap_or_default(),
        "signature_id": signal.map(|s| s.condition.as_str()).unwrap_or_default(),
        "subject": text(signal.map(|s| s.summary.as_str())),
        "user": text(signal.and_then(|s| s.agent.as_deref())),
        "dest": text(signal.and_then(|s| s.resource.as_deref())),
        "count": message.count,
        "first_at": message.first_at,
        "last_at": message.last_at,
        "link": message.link,
        "signals": bounded(&message.signals),
    });
    match whole {
        Value::Object(mut event) => {
            event.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
            event
        }
        _ => Map::new(),
    }
}
