//! Microsoft Teams, through a webhook of Workflows ("Post to a channel when a webhook request is received").
//!
//! Contract: `POST` of a message with one Adaptive Card, at most 28 KB, answered with 202 (or 200) before Teams shows it:
//! whether it does, the answer does not say. About four messages a second; 429 above that.
//!
//! What comes from agents stands in text runs, which Teams does not interpret (other than the Markdown of its text
//! blocks): no mention, link or format comes of it. A message cannot be changed, so `Resolved: …` is one of its own.

use crate::{
    http::{Endpoint, Http, Rules},
    message::{self, newest},
    sink::{Failure, Retry, Sink},
    text::{Medium, Unit, fit_in},
};
use async_trait::async_trait;
use checkrein_core::signal::{Notification, Severity, Status};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// How Teams is set up.
#[derive(Clone, Debug)]
pub struct TeamsConfig {
    /// The address of the workflow's webhook. It is a secret.
    pub webhook_url: SecretString,
}

/// Microsoft Teams.
pub struct Teams {
    http: Http,
    to: Endpoint,
}

/// The most that a message may have, in bytes.
const MAX_MESSAGE: usize = 28 * 1024;
/// The longest sentence and the longest value, in bytes, before they are made smaller to fit.
const SUMMARY: usize = 4000;
const VALUE: usize = 600;
const LINK: usize = 1500;

const RULES: Rules = Rules {
    receiver: "Teams",
    // Its workflow is gone or switched off.
    later: &[410],
    advice: |status| match status {
        400 => "Is the workflow one that posts a card when a webhook request is received?",
        401 | 403 => {
            "The address is not, or no longer, good: copy it from the workflow again and set `webhook_url`"
        }
        404 | 410 => "The workflow is gone or switched off: make it anew and set `webhook_url`",
        _ => "See the workflow's run history in Power Automate",
    },
};

impl Teams {
    /// Teams as set up by `config`, connected to by `http`.
    ///
    /// # Errors
    /// Names the field that is wrong, and how it would be right.
    pub fn new(config: &TeamsConfig, http: Http) -> Result<Self, String> {
        let to = http.endpoint(config.webhook_url.expose_secret().trim(), "");
        Ok(Self { to: to.map_err(|e| format!("`webhook_url`: {e}"))?, http })
    }
}

#[async_trait]
impl Sink for Teams {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        let body = fitted(message);
        let answer = self.http.post(&self.to).json(&body).send().await?.taken(&RULES)?;
        // The connectors before Workflows answered 200 also to what they did not deliver.
        if answer.body.contains("delivery failed") {
            let advice = "Teams did not take it from its own connector: make a webhook of Workflows instead";
            return Err(answer.failure("Teams", Retry::Later, advice));
        }
        Ok(())
    }
}

/// The message, with texts as long as its size allows: how many bytes a text takes in JSON is known afterwards.
fn fitted(message: &Notification) -> Value {
    let mut body = Value::Null;
    for smaller in [1, 2, 4, 8] {
        body = card(message, smaller);
        if body.to_string().len() <= MAX_MESSAGE {
            break;
        }
    }
    body
}

fn card(message: &Notification, smaller: usize) -> Value {
    let title = message::title(message);
    let mut body = vec![
        rich(&[run(&title, 300)
            .with("weight", "Bolder")
            .with("size", "Large")
            .with("color", color(message))]),
        rich(&[run(&or_dash(&message::summary(message)), SUMMARY / smaller)]),
    ];
    let fact = |label: &str, value: &str| {
        rich(&[
            run(&format!("{label}: "), 100).with("weight", "Bolder"),
            run(&or_dash(value), VALUE / smaller),
        ])
    };
    body.extend(message::facts(message).iter().map(|known| fact(known.label, &known.value)));
    if let Some(signal) = newest(message) {
        body.extend(
            message::by_resource(signal)
                .iter()
                .map(|line| rich(&[run(&format!("• {line}"), VALUE / 2 / smaller)])),
        );
    }
    if message.count > 1 {
        let times = format!("{} times", message::thousands(message.count));
        body.push(fact(&times, &format!("first {}, last {}", message.first_at, message.last_at)));
        let before = message::examples(message);
        body.extend(before.map(|signal| {
            rich(&[run(&or_dash(&signal.summary), VALUE / 2 / smaller).with("isSubtle", true)])
        }));
    } else {
        body.push(fact("At", &message.last_at.to_string()));
    }
    if let Some(signal) = newest(message) {
        if let Some(next) = &signal.next {
            body.push(rich(&[
                run("Next: ", 100).with("weight", "Bolder"),
                run(&or_dash(next), VALUE / smaller).with("fontType", "Monospace"),
            ]));
        }
        let ids: Vec<_> =
            message::ids(signal).iter().map(|id| format!("{} {}", id.label, id.value)).collect();
        body.push(rich(&[run(&ids.join("  ·  "), VALUE / smaller)
            .with("isSubtle", true)
            .with("size", "Small")]));
    }
    let link = message::link(message).filter(|link| link.len() <= LINK);
    let actions: Vec<_> = link
        .iter()
        .map(|link| json!({ "type": "Action.OpenUrl", "title": "Open in Checkrein", "url": link }))
        .collect();
    json!({
        "type": "message",
        "summary": fit_in(&title, Medium::Plain, Unit::Bytes, 300),
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "msteams": { "width": "Full" },
                "body": body,
                "actions": actions,
            },
        }],
    })
}

/// A piece of text that nobody interprets.
struct Run(Value);

fn run(text: &str, max: usize) -> Run {
    Run(json!({ "type": "TextRun", "text": fit_in(text, Medium::Plain, Unit::Bytes, max) }))
}

impl Run {
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if let Some(run) = self.0.as_object_mut() {
            run.insert(name.to_owned(), value.into());
        }
        self
    }
}

fn rich(runs: &[Run]) -> Value {
    let inlines: Vec<_> = runs.iter().map(|run| &run.0).collect();
    json!({ "type": "RichTextBlock", "inlines": inlines })
}

/// A run without text is no run.
fn or_dash(text: &str) -> String {
    if text.trim().is_empty() { "-".to_owned() } else { text.to_owned() }
}

const fn color(message: &Notification) -> &'static str {
    match (message.status, message.severity) {
        (Status::Resolved, _) => "Good",
        (Status::Firing, Severity::Critical) => "Attention",
        (Status::Firing, Severity::Warning | Severity::Notice) => "Warning",
        (Status::Firing, Severity::Info) => "Default",
    }
}
