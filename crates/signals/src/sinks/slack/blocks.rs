//! A message in Slack's Block Kit.
//!
//! Limits: 50 blocks; a header 150 characters; a section 3,000, or 10 fields of 2,000 each; a context 10 elements; the
//! value of a button 2,000. A message stays far below them, and is cut where an agent's names would exceed them.
//!
//! What comes from agents is either plain text, which Slack does not interpret, or stands between backticks, escaped:
//! it can neither mention anybody nor make a link, nor look like a word of ours.

use crate::{
    message::{self, Fact, newest},
    text::{Medium, Unit, fit_in},
};
use checkrein_core::{
    signal::{Notification, Severity, Status},
    time::Timestamp,
};
use serde_json::{Value, json};

/// Of the sentence that a message is about.
const SUMMARY: usize = 2000;
/// Of one value.
const VALUE: usize = 400;
/// Of one line that is an example.
const EXAMPLE: usize = 200;
/// A longer address of a person's next look is left out: it would have to be cut, and lead nowhere.
const LINK: usize = 1000;

/// The message, for a webhook or `chat.postMessage`.
pub(super) fn message(message: &Notification, buttons: bool) -> Value {
    let title = format!("{} {}", sign(message), message::title(message));
    let mut blocks = vec![
        json!({ "type": "header", "text": plain(&title, 150) }),
        json!({ "type": "section", "text": plain(&or_dash(message::summary(message)), SUMMARY) }),
    ];
    let fields: Vec<_> = message::facts(message).iter().take(10).map(field).collect();
    if !fields.is_empty() {
        blocks.push(json!({ "type": "section", "fields": fields }));
    }
    if let Some(signal) = newest(message) {
        let lines: Vec<_> =
            message::by_resource(signal).iter().map(|line| format!("• {}", code(line, 200))).collect();
        if !lines.is_empty() {
            blocks.push(section(&format!("*Blast radius by resource*\n{}", lines.join("\n"))));
        }
    }
    if message.count > 1 {
        let (count, first, last) =
            (message::thousands(message.count), date(message.first_at), date(message.last_at));
        blocks.push(section(&format!("*{count} times*, first {first}, last {last}")));
        let before: Vec<_> = message::examples(message)
            .map(|signal| plain(&or_dash(signal.summary.clone()), EXAMPLE))
            .collect();
        if !before.is_empty() {
            blocks.push(json!({ "type": "context", "elements": before }));
        }
    }
    let link = message::link(message).filter(|link| link.len() <= LINK);
    let link = link.map(|link| format!("<{}|Open in Checkrein>", address(&link)));
    let next = newest(message)
        .and_then(|signal| signal.next.as_deref())
        .map(|next| format!("Next: {}", code(next, VALUE)));
    let next: Vec<_> = [next, link].into_iter().flatten().collect();
    if !next.is_empty() {
        blocks.push(section(&next.join("  ·  ")));
    }
    blocks.extend(actions(message, buttons));
    blocks.push(context(message));
    let fallback = format!("{title}: {}", message::summary(message));
    json!({
        "text": fit_in(&fallback, Medium::Slack, Unit::Utf16, 500),
        "blocks": blocks,
        "parse": "none",
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// The buttons of an approval that waits.
fn actions(message: &Notification, buttons: bool) -> Option<Value> {
    let signal = newest(message).filter(|signal| signal.kind == "action.held")?;
    let approval = signal.approval_id.as_deref().filter(|id| id.len() <= 255)?;
    if !buttons || message.status != Status::Firing {
        return None;
    }
    let button = |text, style, action| {
        json!({
            "type": "button", "style": style, "action_id": action, "value": approval,
            "text": { "type": "plain_text", "text": text },
        })
    };
    Some(json!({
        "type": "actions",
        "elements": [button("Approve", "primary", "checkrein_approve"), button("Deny", "danger", "checkrein_deny")],
    }))
}

fn context(message: &Notification) -> Value {
    let ids = newest(message).map(message::ids).unwrap_or_default();
    let ids: Vec<_> = ids.iter().map(|id| format!("{} {}", id.label, code(&id.value, 100))).collect();
    let text = format!("{}  ·  {}", date(message.last_at), ids.join("  ·  "));
    json!({ "type": "context", "elements": [mrkdwn(&text)] })
}

fn field(fact: &Fact) -> Value {
    mrkdwn(&format!("*{}*\n{}", fact.label, code(&fact.value, VALUE)))
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": mrkdwn(text) })
}

/// `verbatim`: Slack looks for no addresses, channels or names in it by itself.
fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

fn plain(text: &str, max: usize) -> Value {
    json!({ "type": "plain_text", "text": fit_in(text, Medium::Plain, Unit::Utf16, max), "emoji": false })
}

fn code(text: &str, max: usize) -> String {
    format!("`{}`", fit_in(&or_dash(text.to_owned()), Medium::SlackCode, Unit::Utf16, max))
}

/// Slack refuses an empty text.
fn or_dash(text: String) -> String {
    if text.trim().is_empty() { "-".to_owned() } else { text }
}

/// In the reader's own time zone.
fn date(at: Timestamp) -> String {
    format!("<!date^{}^{{date_short_pretty}} {{time_secs}}|{at}>", at.as_micros().div_euclid(1_000_000))
}

/// An address for `<…|…>`: what would end it is percent-encoded.
fn address(link: &str) -> String {
    link.replace('|', "%7C").replace('>', "%3E").replace('<', "%3C").replace('&', "&amp;")
}

const fn sign(message: &Notification) -> &'static str {
    match (message.status, message.severity) {
        (Status::Resolved, _) => "✅",
        (Status::Firing, Severity::Critical) => "🔴",
        (Status::Firing, Severity::Warning) => "🟠",
        (Status::Firing, Severity::Notice) => "🟡",
        (Status::Firing, Severity::Info) => "⚪",
    }
}
