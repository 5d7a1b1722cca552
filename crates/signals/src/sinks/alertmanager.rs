//! Alertmanager, through its API v2.
//!
//! Contract: `POST /api/v2/alerts` of a list of alerts, answered with 200. An alert is its labels: another set of labels is
//! another alert. One that has `endsAt` in the future fires until then, and is resolved by the same labels with
//! `endsAt` in the past. Without `endsAt` it would be over after Alertmanager's `resolve_timeout` (5 minutes), which is
//! made for a Prometheus that repeats it all the time.
//!
//! So an alert is sent with an end of its own ([`AlertmanagerConfig::keep_firing`]). Labels say what people route by, and
//! some of it changes while a condition lasts (its severity, the newest kind); so before each message Alertmanager is asked
//! for the alerts with this `dedup_key`, and those with other labels are ended.

use crate::{
    http::{Endpoint, HeaderName, HeaderValue, Http, Method, Request, Rules, headers},
    message::{self, newest},
    sink::{Failure, Retry, Sink},
    text::{Medium, Unit, fit_in},
};
use async_trait::async_trait;
use checkrein_core::{
    signal::{Notification, Status},
    time::Timestamp,
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

/// How Alertmanager is set up.
#[derive(Clone, Debug)]
pub struct AlertmanagerConfig {
    /// Where it is, e.g. `http://alertmanager.internal:9093`. Of several that form a cluster, each is a sink.
    pub url: String,
    /// Labels that each alert gets besides its own, e.g. `team`.
    pub labels: Vec<(String, String)>,
    /// Further headers, e.g. `Authorization`.
    pub headers: Vec<(String, SecretString)>,
    /// How long an alert fires when nothing more is heard about it: a minute to 30 days, and longer than the route's
    /// `repeat_interval`. Without it, a day.
    pub keep_firing: Option<Duration>,
}

/// Alertmanager.
pub struct Alertmanager {
    http: Http,
    alerts: Endpoint,
    base: String,
    labels: Labels,
    headers: Vec<(HeaderName, HeaderValue)>,
    keep_firing: Duration,
}

type Labels = BTreeMap<String, String>;

/// An alert as Alertmanager tells of it.
#[derive(Deserialize)]
struct Active {
    labels: Labels,
    #[serde(rename = "startsAt")]
    starts_at: Timestamp,
}

/// Of the value of a label, in characters.
const LABEL: usize = 255;
const ANNOTATION: usize = 1000;
const DAY: Duration = Duration::from_secs(86_400);

const RULES: Rules = Rules {
    receiver: "Alertmanager",
    later: &[],
    advice: |status| match status {
        401 | 403 => "Does it, or a proxy before it, want an `Authorization` in `headers`?",
        404 => "Is `url` the address of Alertmanager, with its path prefix if it has one?",
        _ => "See what its own log says",
    },
};

impl Alertmanager {
    /// Alertmanager as set up by `config`, connected to by `http`.
    ///
    /// # Errors
    /// Names the field that is wrong, and how it would be right.
    pub fn new(config: &AlertmanagerConfig, http: Http) -> Result<Self, String> {
        let alerts = http.endpoint(&config.url, "/api/v2/alerts").map_err(|e| format!("`url`: {e}"))?;
        let keep_firing = config.keep_firing.unwrap_or(DAY);
        if !(Duration::from_secs(60)..=30 * DAY).contains(&keep_firing) {
            return Err("`keep_firing` is a minute to 30 days".to_owned());
        }
        for (name, value) in &config.labels {
            let mut chars = name.chars();
            let good = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !good || value.is_empty() || OWN.contains(&name.as_str()) {
                let name = name.escape_debug();
                return Err(format!(
                    "`labels`: `{name}` must be a name of letters, digits and `_` that no label of ours has ({}), and \
                     have a value",
                    OWN.join(", ")
                ));
            }
        }
        Ok(Self {
            http,
            alerts,
            base: config.url.clone(),
            labels: config.labels.iter().cloned().collect(),
            headers: headers(&config.headers, &[])?,
            keep_firing,
        })
    }

    fn authorized(&self, request: Request) -> Request {
        self.headers.iter().fold(request, |request, (name, value)| request.secret_header(name.clone(), value))
    }

    /// The alerts that fire with this key, and Alertmanager's own time, by which they end: clocks need not agree.
    async fn active(&self, dedup_key: &str) -> Result<(Vec<Active>, Timestamp), Failure> {
        let to = self.http.endpoint(&self.base, &query(dedup_key));
        let to = to.map_err(|reason| Failure { retry: Retry::Never, reason })?;
        let answer = self.authorized(self.http.request(Method::GET, &to)).send().await?.taken(&RULES)?;
        let now = answer.date().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        match serde_json::from_str(&answer.body) {
            Ok(active) => Ok((active, now)),
            Err(_) => {
                let advice = "This is no list of alerts: is `url` right?";
                Err(answer.failure("Alertmanager", Retry::Later, advice))
            }
        }
    }

    fn labels(&self, message: &Notification) -> Labels {
        let mut labels = self.labels.clone();
        let mut add = |name: &str, value: &str| {
            let value = fit_in(value, Medium::Relayed, Unit::Chars, LABEL);
            if !value.is_empty() {
                labels.insert(name.to_owned(), value);
            }
        };
        add("alertname", "Checkrein");
        add("dedup_key", &message.dedup_key);
        add("severity", message.severity.as_str());
        if let Some(signal) = newest(message) {
            add("kind", &signal.kind);
            add("agent", signal.agent.as_deref().unwrap_or_default());
            add("environment", signal.environment.map(|e| e.as_str()).unwrap_or_default());
        }
        labels
    }
}

/// Labels that alerts have of their own.
const OWN: &[&str] = &["alertname", "dedup_key", "severity", "kind", "agent", "environment"];

#[async_trait]
impl Sink for Alertmanager {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        let labels = self.labels(message);
        let firing = message.status == Status::Firing;
        let (active, now) = self.active(labels.get("dedup_key").map_or("", String::as_str)).await?;
        let end = |alert: &Active| json!({ "labels": alert.labels, "startsAt": alert.starts_at, "endsAt": alert.starts_at.max(now.plus_seconds(-1)) });
        let over = active.iter().filter(|alert| !firing || alert.labels != labels);
        let mut alerts: Vec<Value> = over.map(end).collect();
        if firing {
            let seconds = i64::try_from(self.keep_firing.as_secs()).unwrap_or(i64::MAX);
            let mut alert = json!({
                "labels": labels,
                "annotations": annotations(message),
                "startsAt": message.first_at.min(now),
                "endsAt": now.plus_seconds(seconds),
            });
            if let (Some(link), Some(alert)) = (message::link(message), alert.as_object_mut()) {
                alert.insert("generatorURL".to_owned(), link.into());
            }
            alerts.push(alert);
        }
        if alerts.is_empty() {
            return Ok(());
        }
        let request = self.authorized(self.http.post(&self.alerts)).json(&alerts.into());
        let answer = request.send().await?.taken(&RULES)?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(answer.failure("Alertmanager", Retry::Later, "It takes alerts with 200: is `url` right?"))
    }
}

/// Which alerts are asked for.
fn query(dedup_key: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    // A value in quotes is a string of Go, in which these two are escaped.
    let value = dedup_key.replace('\\', "\\\\").replace('"', "\\\"");
    query.append_pair("filter", &format!("dedup_key=\"{value}\""));
    format!("/api/v2/alerts?{}", query.finish())
}

fn annotations(message: &Notification) -> BTreeMap<String, String> {
    let fit = |text: &str| fit_in(text, Medium::Relayed, Unit::Chars, ANNOTATION);
    let mut all = BTreeMap::from([
        ("title".to_owned(), fit(&message::title(message))),
        ("summary".to_owned(), fit(&message::summary(message))),
        ("count".to_owned(), message.count.to_string()),
        ("first_at".to_owned(), message.first_at.to_string()),
        ("last_at".to_owned(), message.last_at.to_string()),
    ]);
    for fact in message::facts(message) {
        all.insert(fact.label.to_lowercase().replace(' ', "_"), fit(&fact.value));
    }
    if let Some(signal) = newest(message) {
        let resources = message::by_resource(signal);
        if !resources.is_empty() {
            all.insert("blast_radius_by_resource".to_owned(), fit(&resources.join("; ")));
        }
        if let Some(next) = &signal.next {
            all.insert("next".to_owned(), fit(next));
        }
        for id in message::ids(signal) {
            all.insert(format!("{}_id", id.label), fit(&id.value));
        }
    }
    all
}
