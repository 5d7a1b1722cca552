//! PagerDuty, through its Events API v2.
//!
//! Contract: `POST /v2/enqueue`, answered with 202 once the event is taken. `dedup_key` at most 255 characters,
//! `summary` at most 1,024, an event at most 512 KB. 429 and 5xx are tried again, 400 never. An event with the
//! key of an open incident joins it, so a repeat wakes nobody; `resolve` closes it.
//!
//! A message that is firing is a `trigger`. When it is one of several of its group and a person did the newest
//! (the first of two approvals, a breaker that somebody half-closed), the incident is then acknowledged: somebody is
//! at it.

use crate::{
    http::{Endpoint, Http, Rules},
    message::{self, newest},
    sink::{Failure, Retry, Sink},
    text::{Medium, Unit, fit, fit_in},
};
use async_trait::async_trait;
use checkrein_core::signal::{Notification, Severity, Signal, Status};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

/// How PagerDuty is set up.
#[derive(Clone, Debug)]
pub struct PagerDutyConfig {
    /// The integration key of a service's integration "Events API V2": 32 characters.
    pub routing_key: SecretString,
    /// Without it, <https://events.pagerduty.com>; in the EU, <https://events.eu.pagerduty.com>.
    pub url: Option<String>,
    /// What the alert names as its source. Without it, `checkrein`.
    pub source: Option<String>,
}

/// PagerDuty.
pub struct PagerDuty {
    http: Http,
    to: Endpoint,
    routing_key: SecretString,
    source: String,
}

const SUMMARY: usize = 1024;
/// Of one value in the details: many of them stay far below the limit of an event.
const DETAIL: usize = 1000;

const RULES: Rules = Rules {
    receiver: "PagerDuty",
    later: &[],
    advice: |status| match status {
        400 => "Is `routing_key` the integration key of an integration \"Events API V2\", and still in use?",
        403 | 404 => "Is `url` right? It is https://events.pagerduty.com, or https://events.eu.pagerduty.com",
        _ => "See https://status.pagerduty.com",
    },
};

impl PagerDuty {
    /// PagerDuty as set up by `config`, connected to by `http`.
    ///
    /// # Errors
    /// Names the field that is wrong, and how it would be right.
    pub fn new(config: &PagerDutyConfig, http: Http) -> Result<Self, String> {
        let key = config.routing_key.expose_secret().trim();
        if key.len() != 32 || !key.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err("`routing_key`: an integration key has 32 letters and digits; it is shown on the page of the \
                        service's integration \"Events API V2\""
                .to_owned());
        }
        let base = config.url.as_deref().unwrap_or("https://events.pagerduty.com");
        let to = http.endpoint(base, "/v2/enqueue").map_err(|e| format!("`url`: {e}"))?;
        let source = fit(config.source.as_deref().unwrap_or("checkrein").trim(), Medium::Plain, 255);
        if source.is_empty() {
            return Err("`source` is empty: name what alerts come from, or leave it out".to_owned());
        }
        Ok(Self { http, to, routing_key: SecretString::from(key), source })
    }

    async fn enqueue(&self, event_action: &str, message: &Notification) -> Result<(), Failure> {
        let mut event = json!({
            "routing_key": self.routing_key.expose_secret(),
            "event_action": event_action,
            "dedup_key": fit_in(&message.dedup_key, Medium::Plain, Unit::Utf16, 255),
        });
        if let (Some(event), "trigger") = (event.as_object_mut(), event_action) {
            self.describe(message, event);
        }
        let request = self.http.post(&self.to).secret(&self.routing_key).json(&event);
        let answer = request.send().await?.taken(&RULES)?;
        if answer.status != 202 {
            let advice = "It takes events with 202: is `url` the address of PagerDuty, or a relay that answers as it does?";
            return Err(answer.failure("PagerDuty", Retry::Later, advice));
        }
        Ok(())
    }

    fn describe(&self, message: &Notification, event: &mut Map<String, Value>) {
        let title = message::title(message);
        let summary = format!("{title}: {}", clipped(&message::summary(message)));
        let signal = newest(message);
        let text = |text: &str, max| fit_in(text, Medium::Plain, Unit::Utf16, max);
        let mut payload = json!({
            "summary": text(&summary, SUMMARY),
            "source": self.source,
            "severity": severity(message.severity),
            "timestamp": message.last_at,
            "custom_details": details(message),
        });
        if let (Some(signal), Some(payload)) = (signal, payload.as_object_mut()) {
            payload.insert("class".to_owned(), text(&signal.kind, 255).into());
            for (field, value) in [("component", &signal.resource), ("group", &signal.agent)] {
                if let Some(value) = value {
                    payload.insert(field.to_owned(), text(value, 255).into());
                }
            }
        }
        event.insert("client".to_owned(), "Checkrein".into());
        if let Some(link) = message::link(message) {
            event.insert("client_url".to_owned(), link.clone().into());
            event.insert("links".to_owned(), json!([{ "href": link, "text": "Open in Checkrein" }]));
        }
        event.insert("payload".to_owned(), payload);
    }
}

#[async_trait]
impl Sink for PagerDuty {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        if message.status == Status::Resolved {
            return self.enqueue("resolve", message).await;
        }
        // PagerDuty drops an acknowledgement of what it does not know, so the trigger comes first, always.
        self.enqueue("trigger", message).await?;
        let somebody = newest(message).is_some_and(|signal| signal.by.is_some());
        if somebody && message.count > 1 { self.enqueue("acknowledge", message).await } else { Ok(()) }
    }
}

/// PagerDuty pages at high urgency for `critical` and `error`, so what can wait until today is a `warning`.
const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Notice | Severity::Info => "info",
    }
}

fn details(message: &Notification) -> Value {
    let text = |text: &str| Value::from(fit_in(text, Medium::Plain, Unit::Utf16, DETAIL));
    let mut details = Map::new();
    for fact in message::facts(message) {
        details.insert(fact.label.to_lowercase().replace(' ', "_"), text(&fact.value));
    }
    details.insert("count".to_owned(), message.count.into());
    details.insert("first_at".to_owned(), json!(message.first_at));
    details.insert("last_at".to_owned(), json!(message.last_at));
    if let Some(signal) = newest(message) {
        let resources: Vec<_> = message::by_resource(signal).iter().map(|line| text(line)).collect();
        if !resources.is_empty() {
            details.insert("blast_radius_by_resource".to_owned(), resources.into());
        }
        if let Some(next) = &signal.next {
            details.insert("next".to_owned(), text(next));
        }
        for id in message::ids(signal) {
            details.insert(format!("{}_id", id.label), text(&id.value));
        }
    }
    let example = |signal: &Signal| json!({ "at": signal.at, "summary": text(&signal.summary) });
    let examples: Vec<_> = message::examples(message).map(example).collect();
    if !examples.is_empty() {
        details.insert("before".to_owned(), examples.into());
    }
    details.into()
}

/// The start of a text of any length: what is cut anyway need not be copied.
fn clipped(text: &str) -> String {
    text.chars().take(2 * SUMMARY).collect()
}
