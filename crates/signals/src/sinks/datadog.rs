//! Datadog: signals as events, the stream of all actions as logs, counts of it as metrics.
//!
//! Contract: `POST https://event-management-intake.<site>/api/v2/events`,
//! `POST https://http-intake.logs.<site>/api/v2/logs`, `POST https://api.<site>/api/v2/series`, each with
//! `DD-API-KEY`, logs and series in gzip; 202 means taken. 408, 429 and 5xx are tried again, 429 after
//! `X-Ratelimit-Reset`.
//!
//! Limits: logs 1000 a request, 5 MB before compression, 1 MB each, not older than 18 hours (later ones go without
//! their time, so that Datadog shows them at the time of receipt; `checkrein.at` keeps it); an event's title 500
//! characters, message 4000, 100 tags, aggregation key 100; a metric's point not older than an hour, not more than
//! ten minutes ahead (others are left out). A tag has at most 200 characters.

use super::batch::{Batch, batches, bounded, gzip, now};
use crate::{
    http::{Answer, Endpoint, HeaderName, HeaderValue, Http, Rules, secret_value},
    message,
    sink::{Failure, Record, Retry, Sink},
    text::{Medium, fit},
};
use async_trait::async_trait;
use checkrein_core::{
    signal::{Notification, Severity, Status},
    time::Timestamp,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, time::Duration};

/// Logs a request.
const MAX_LOGS: usize = 1000;
/// Bytes of a request before compression: 5 MB, counted by the smaller unit.
const MAX_BYTES: usize = 5_000_000;
/// How old a log or an event may be, an hour short of 18: it travels, and clocks differ.
const MAX_AGE: Duration = Duration::from_secs(17 * 3600);
/// How old a point of a metric may be, five minutes short of an hour; and how far ahead, one short of ten.
const POINT_AGE: (Duration, Duration) = (Duration::from_secs(55 * 60), Duration::from_secs(9 * 60));
/// Characters of a tag.
const MAX_TAG: usize = 200;

const RULES: Rules = Rules { receiver: "Datadog", later: &[], advice };

/// Datadog's sites; data sent to another than the account's own is refused there.
pub const SITES: [&str; 9] = [
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "uk1.datadoghq.com",
    "datadoghq.eu",
    "ddog-gov.com",
    "us2.ddog-gov.com",
];

/// Where and how.
#[derive(Clone, Debug)]
pub struct DatadogConfig {
    /// The API key.
    pub api_key: SecretString,
    /// The application key; some organisations ask for it on events.
    pub application_key: Option<SecretString>,
    /// One of [`SITES`].
    pub site: String,
    /// An address that takes all three instead of the site's own, e.g. a relay's.
    pub url: Option<String>,
    /// `service` of everything that is sent.
    pub service: String,
    /// `hostname` of logs, `host` of events; absent: none.
    pub host: Option<String>,
    /// Tags of everything that is sent, `name:value`.
    pub tags: Vec<String>,
    /// Whether the feed also makes metrics. They cost by the number of agents.
    pub metrics: bool,
}

impl DatadogConfig {
    /// With everything else as it is by default: site `datadoghq.com`, service `checkrein`, metrics.
    pub fn new(api_key: SecretString) -> Self {
        Self {
            api_key,
            application_key: None,
            site: "datadoghq.com".to_owned(),
            url: None,
            service: "checkrein".to_owned(),
            host: None,
            tags: Vec::new(),
            metrics: true,
        }
    }
}

/// The sink.
#[derive(Debug)]
pub struct Datadog {
    http: Http,
    events: Endpoint,
    logs: Endpoint,
    series: Endpoint,
    api_key: HeaderValue,
    application_key: Option<HeaderValue>,
    service: String,
    host: Option<String>,
    tags: Vec<String>,
    metrics: bool,
}

impl Datadog {
    /// A sink for `config`.
    ///
    /// # Errors
    /// When the site is none of Datadog's, the address none that may be connected to, or a key no header's text.
    pub fn new(config: DatadogConfig, http: Http) -> Result<Self, String> {
        if !SITES.contains(&config.site.as_str()) {
            return Err(format!(
                "`site` is one of {}; it is in the address of your Datadog",
                SITES.join(", ")
            ));
        }
        let endpoint = |host: &str, path: &str| {
            let base = config.url.clone().unwrap_or_else(|| format!("https://{host}.{}", config.site));
            http.endpoint(&base, path)
        };
        let application_key = config.application_key.as_ref().map(|key| secret_value("", key));
        let tags: Vec<_> = config.tags.iter().map(|tag| clean(tag)).collect();
        if tags.len() > 90 {
            return Err("`tags`: at most 90; an event takes 100, with those that Checkrein adds".to_owned());
        }
        Ok(Self {
            events: endpoint("event-management-intake", "/api/v2/events")?,
            logs: endpoint("http-intake.logs", "/api/v2/logs")?,
            series: endpoint("api", "/api/v2/series")?,
            api_key: secret_value("", &config.api_key).map_err(|e| format!("`api_key`: {e}"))?,
            application_key: application_key.transpose().map_err(|e| format!("`application_key`: {e}"))?,
            service: clean(&config.service),
            host: config.host,
            tags,
            metrics: config.metrics,
            http,
        })
    }

    async fn post(&self, to: &Endpoint, body: Vec<u8>, compressed: bool) -> Result<Answer, Failure> {
        let mut request =
            self.http.post(to).secret_header(HeaderName::from_static("dd-api-key"), &self.api_key);
        if let Some(key) = &self.application_key {
            request = request.secret_header(HeaderName::from_static("dd-application-key"), key);
        }
        if compressed {
            let gzip = HeaderValue::from_static("gzip");
            request = request.header(HeaderName::from_static("content-encoding"), gzip);
        }
        request.body("application/json", body).send().await
    }

    /// Sends all of them, dividing what is too large.
    async fn send(
        &self,
        to: &Endpoint,
        items: Vec<String>,
        around: (&str, &str),
        (count, bytes): (usize, usize),
    ) -> Result<(), Failure> {
        let room = bytes.saturating_sub(around.0.len()).saturating_sub(around.1.len());
        let mut open: Vec<Batch> = batches(items, count, room);
        open.reverse();
        while let Some(batch) = open.pop() {
            let body = batch.body(around.0, ",", around.1);
            let answer = self.post(to, gzip(&body)?, true).await?;
            if answer.status == 413
                && let Some((first, second)) = batch.halves()
            {
                open.extend([second, first]);
                continue;
            }
            accepted(answer)?;
        }
        Ok(())
    }

    /// An event of the category `alert`.
    fn event(&self, message: &Notification, now: Timestamp) -> Value {
        let signal = message::newest(message);
        let mut tags = self.tags.clone();
        tags.push(tag("service", &self.service));
        tags.push(tag("severity", message.severity.as_str()));
        if let Some(signal) = signal {
            tags.push(tag("kind", &signal.kind));
            tags.extend(signal.agent.as_deref().map(|agent| tag("agent", agent)));
            tags.extend(signal.environment.map(|environment| tag("environment", environment.as_str())));
            tags.extend(signal.policies.iter().take(3).map(|policy| tag("policy", policy)));
        }
        let over = message.status == Status::Resolved;
        let status = match message.severity {
            _ if over => "ok",
            Severity::Critical | Severity::Warning => "error",
            Severity::Notice | Severity::Info => "warn",
        };
        let priority = match message.severity {
            Severity::Critical => "1",
            Severity::Warning => "2",
            Severity::Notice => "3",
            Severity::Info => "5",
        };
        let mut alert = json!({"status": status, "priority": priority, "custom": {
            "dedup_key": message.dedup_key,
            "delivery_id": message.delivery_id,
            "count": message.count,
            "first_at": message.first_at,
            "last_at": message.last_at,
            "signals": bounded(&message.signals),
        }});
        if let (Some(link), Some(alert)) = (message::link(message), alert.as_object_mut())
            && link.len() <= 2048
        {
            let links = json!([{"category": "dashboard", "url": link, "title": "Open in Checkrein"}]);
            alert.insert("links".to_owned(), links);
        }
        let title = format!("{}: {}", message::title(message), message::summary(message));
        let mut attributes = json!({
            "category": "alert",
            "title": plain(&title, 500),
            "message": fit_lines(&lines(message), 4000),
            "aggregation_key": shortened(&message.dedup_key, 100),
            "tags": tags,
            "attributes": alert,
        });
        if let Some(attributes) = attributes.as_object_mut() {
            if let Some(host) = &self.host {
                attributes.insert("host".to_owned(), fit(host, Medium::Plain, 255).into());
            }
            if recent(message.last_at, now, MAX_AGE) {
                attributes.insert("timestamp".to_owned(), message.last_at.to_string().into());
            }
        }
        json!({"data": {"type": "event", "attributes": attributes}})
    }

    fn log(&self, record: &Record, now: Timestamp) -> Value {
        let text = |name: &str| record.body.get(name).and_then(Value::as_str);
        let status = match (text("verdict"), text("outcome")) {
            (Some("block"), _) => "warning",
            (Some("hold"), _) => "notice",
            (_, Some("error")) => "error",
            (_, Some("unknown")) => "warning",
            _ => "info",
        };
        let mut tags = self.tags.clone();
        tags.push(tag("kind", record.kind));
        tags.extend(text("environment").map(|environment| tag("environment", environment)));
        let mut log = json!({
            "ddsource": "checkrein",
            "ddtags": tags.join(","),
            "service": self.service,
            "status": status,
            "message": text("summary").unwrap_or(record.kind),
            "checkrein": record.body,
        });
        if let Some(log) = log.as_object_mut() {
            if let Some(host) = &self.host {
                log.insert("hostname".to_owned(), host.as_str().into());
            }
            if recent(record.at, now, MAX_AGE) {
                log.insert("timestamp".to_owned(), (record.at.as_micros() / 1000).into());
            }
        }
        log
    }

    /// How many checks and outcomes, as points at the second of the newest record.
    fn counts(&self, records: &[Record], now: Timestamp) -> Vec<Value> {
        let Some(newest) = records.last().map(|record| record.at) else { return Vec::new() };
        let ahead = newest.as_micros() > now.as_micros().saturating_add(micros(POINT_AGE.1));
        if !self.metrics || ahead || !recent(newest, now, POINT_AGE.0) {
            return Vec::new();
        }
        let mut counted: BTreeMap<(&str, Vec<String>), u64> = BTreeMap::new();
        for record in records {
            let of = |name: &str| record.body.get(name).and_then(Value::as_str).map(|value| tag(name, value));
            let (metric, names): (_, &[&str]) = match record.kind {
                "check" => ("checkrein.checks", &["verdict", "category", "agent", "environment"]),
                "outcome" => ("checkrein.outcomes", &["outcome"]),
                _ => continue,
            };
            let tags = self.tags.iter().cloned().chain(names.iter().filter_map(|name| of(name)));
            *counted.entry((metric, tags.collect())).or_default() += 1;
        }
        let point = |value| json!([{"timestamp": newest.as_micros() / 1_000_000, "value": value}]);
        let series = counted.into_iter().map(|((metric, tags), count)| {
            let resources: Vec<_> =
                self.host.iter().map(|host| json!({"type": "host", "name": host})).collect();
            json!({"metric": metric, "type": 1, "interval": 1, "points": point(count), "tags": tags,
                   "resources": resources})
        });
        series.collect()
    }
}

#[async_trait]
impl Sink for Datadog {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        let event = self.event(message, now()).to_string().into_bytes();
        accepted(self.post(&self.events, event, false).await?)
    }

    fn feed_batch(&self) -> usize {
        MAX_LOGS
    }

    async fn feed(&self, records: &[Record]) -> Result<(), Failure> {
        let now = now();
        // Metrics first: the same points again replace themselves, where the same logs again would be seen twice.
        let counts = self.counts(records, now).iter().map(Value::to_string).collect();
        self.send(&self.series, counts, ("{\"series\":[", "]}"), (MAX_LOGS, 500_000)).await?;
        let logs = records.iter().map(|record| self.log(record, now).to_string()).collect();
        self.send(&self.logs, logs, ("[", "]"), (MAX_LOGS, MAX_BYTES)).await
    }
}

/// Only 202 says that Datadog has it; some proxies answer 200 to everything.
fn accepted(answer: Answer) -> Result<(), Failure> {
    let answer = answer.taken(&RULES)?;
    if answer.status == 202 {
        return Ok(());
    }
    Err(answer.failure(
        "Datadog",
        Retry::Later,
        "It says 202 for what it took, so nothing is known to be delivered. Is the address Datadog's?",
    ))
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "Give this sink an API key of the account at its `site`; it is sent again",
        413 => "One record alone is too large for it",
        _ => "",
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn recent(at: Timestamp, now: Timestamp, age: Duration) -> bool {
    now.as_micros().saturating_sub(at.as_micros()) <= micros(age)
}

fn tag(name: &str, value: &str) -> String {
    clean(&format!("{name}:{value}"))
}

/// As Datadog writes tags: lower case, and nothing that ends one.
fn clean(tag: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '.' | '/');
    let clean = tag.chars().map(|c| if kept(c) { c } else { '_' }).flat_map(char::to_lowercase);
    clean.take(MAX_TAG).collect()
}

/// A key of at most `max` bytes (at least 40): what is longer ends in a part of its hash.
fn shortened(key: &str, max: usize) -> String {
    if key.len() <= max {
        return key.to_owned();
    }
    let hash = checkrein_core::fingerprint::hex(&Sha256::digest(key));
    let kept = key.get(..key.floor_char_boundary(max.saturating_sub(33))).unwrap_or_default();
    format!("{kept}-{}", hash.get(..32).unwrap_or_default())
}

/// What is known, a line each. Datadog sends what follows an `@` in an event to that address, so there is none.
fn lines(message: &Notification) -> Vec<String> {
    let mut lines = vec![message::summary(message)];
    lines.extend(message::facts(message).into_iter().map(|fact| format!("{}: {}", fact.label, fact.value)));
    if let Some(signal) = message::newest(message) {
        lines.extend(message::by_resource(signal).into_iter().map(|line| format!("- {line}")));
        lines.extend(message::ids(signal).into_iter().map(|fact| format!("{} {}", fact.label, fact.value)));
        lines.extend(signal.next.iter().map(|next| format!("Next: {next}")));
    }
    lines.extend(message::examples(message).map(|signal| format!("{}: {}", signal.at, signal.summary)));
    lines.push(format!("{} times from {} to {}", message.count, message.first_at, message.last_at));
    lines.iter().map(|line| plain(line, 600)).collect()
}

/// Text that mentions nobody and begins no Markdown.
fn plain(text: &str, max: usize) -> String {
    fit(text, Medium::Plain, max).replace('@', "＠").replace("%%%", "%%")
}

/// As many whole lines as fit into `max` characters.
fn fit_lines(lines: &[String], max: usize) -> String {
    let mut text = String::new();
    let mut size = 0_usize;
    for line in lines {
        size = size.saturating_add(line.chars().count()).saturating_add(1);
        if size > max {
            break;
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tags_keep_their_limits() {
        let long = "k".repeat(255);
        assert_eq!(shortened(&long, 100).len(), 100);
        assert_ne!(shortened(&long, 100), shortened(&format!("{}x", "k".repeat(254)), 100));
        assert_eq!(shortened("short", 100), "short");
        assert_eq!(clean("Agent:a,b c\u{202e}@x"), "agent:a_b_c__x");
        assert_eq!(clean(&"x".repeat(500)).len(), MAX_TAG);
    }

    #[test]
    fn lines_are_cut_at_their_ends() {
        let lines = ["x".repeat(10), "y".repeat(10)];
        assert_eq!(fit_lines(&lines, 22).lines().count(), 2);
        assert_eq!(fit_lines(&lines, 21).lines().count(), 1);
    }
}
