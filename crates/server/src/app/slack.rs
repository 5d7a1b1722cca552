//! Slack's buttons: whose click it is, and what comes of it.
//!
//! Slack wants an answer within 3 seconds, which a slow disk may not leave. So a click is checked and
//! acknowledged at once, decided on a task of its own, and the message is changed afterwards.

use super::{App, Error, to_the_end};
use crate::config;
use checkrein_api::{Answer, ApprovalDecision, ApprovalView, State};
use checkrein_core::{
    approval::{Actor, Refused, Via},
    key::Role,
};
use checkrein_signals::{
    http::{Endpoint, Http, HttpConfig, Rules},
    sink::Retry,
    text::{Medium, fit},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How far Slack's clock and ours may be apart, in seconds; what is older may be a replay.
const MAX_AGE: u64 = 300;
/// Clicks that are remembered, so that each is taken once.
const MAX_SEEN: usize = 100_000;
/// How often a decision is tried while the store does not answer, and a message is changed.
const ATTEMPTS: u32 = 5;
/// The block that says where an approval stands.
const STATUS_BLOCK: &str = "checkrein_status";

/// What is known of Slack.
pub(super) struct Slack {
    config: config::Slack,
    http: Http,
    /// Signatures of the last minutes, and when each was made.
    seen: Mutex<HashMap<Vec<u8>, u64>>,
}

/// A click, as far as it is read.
#[derive(Debug, Deserialize)]
struct Interaction {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    team: Option<Team>,
    #[serde(default)]
    actions: Vec<Action>,
    response_url: Option<String>,
    #[serde(default)]
    message: Message,
}

#[derive(Debug, Deserialize)]
struct User {
    id: String,
    team_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Team {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Action {
    action_id: String,
    value: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Message {
    #[serde(default)]
    blocks: Vec<Value>,
}

/// A click on one of our buttons.
struct Click {
    approval: String,
    decision: Answer,
    user: String,
    reply: Endpoint,
    blocks: Vec<Value>,
}

impl Slack {
    /// # Errors
    /// When no client can be made.
    pub(super) fn new(config: config::Slack) -> Result<Self, Error> {
        // Whatever is not Slack itself was put there by the operator, on the own network for one.
        let allow_private = config.url != "https://hooks.slack.com";
        let http = Http::new(&HttpConfig { allow_private, ..HttpConfig::default() });
        let http = http.map_err(|e| Error::Invalid(format!("approvals.slack: {e}")))?;
        Ok(Self { config, http, seen: Mutex::default() })
    }

    /// Whether Slack signed `body`, lately, and it comes for the first time.
    fn verify(&self, timestamp: &str, signature: &str, body: &[u8]) -> Result<(), Error> {
        let refused = |why| Err(Error::Unauthenticated(why));
        let Ok(made) = timestamp.parse::<u64>() else {
            return refused("the request does not say when it was signed");
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        if made.abs_diff(now) > MAX_AGE {
            return refused("the request was signed more than five minutes ago; are both clocks right?");
        }
        let forged = "the request is not signed with this app's secret; is it the right signing secret?";
        let Some(signature) = signature.strip_prefix("v0=").and_then(from_hex) else {
            return refused(forged);
        };
        let secret = self.config.signing_secret.expose_secret();
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return refused(forged) };
        mac.update(b"v0:");
        mac.update(timestamp.as_bytes());
        mac.update(b":");
        mac.update(body);
        // In constant time.
        if mac.verify_slice(&signature).is_err() {
            return refused(forged);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_SEEN {
            seen.retain(|_, made| made.abs_diff(now) <= MAX_AGE);
        }
        if seen.len() >= MAX_SEEN {
            return refused("too many clicks at once; click again in a few minutes");
        }
        if seen.insert(signature, made).is_some() {
            return refused("the request was sent before; each click counts once");
        }
        Ok(())
    }

    /// The click on one of our buttons that `payload` tells of; `None` for anything else.
    fn click(&self, payload: &str) -> Result<Option<Click>, Error> {
        let invalid = |what: &str| Error::Invalid(format!("payload: {what}"));
        let told: Interaction = serde_json::from_str(payload)
            .map_err(|e| invalid(&format!("it is no interaction of Slack: {e}")))?;
        let home = &self.config.workspace;
        let theirs = told.user.team_id.as_ref().is_some_and(|team| team != home);
        if told.team.is_none_or(|team| team.id != *home) || theirs {
            return Err(Error::Forbidden(
                "the click comes from another workspace than the one in [approvals.slack]".to_owned(),
            ));
        }
        if told.kind != "block_actions" {
            return Ok(None);
        }
        let ours = told.actions.into_iter().find_map(|action| {
            let decision = match action.action_id.as_str() {
                "checkrein_approve" => Answer::Approve,
                "checkrein_deny" => Answer::Deny,
                _ => return None,
            };
            Some((decision, action.value.unwrap_or_default()))
        });
        let Some((decision, approval)) = ours else { return Ok(None) };
        let fits = approval.len() <= 64
            && approval.starts_with("apr_")
            && approval.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !fits {
            return Err(invalid("the button names no approval"));
        }
        let to = told.response_url.ok_or_else(|| invalid("it has no response_url"))?;
        let reply = self.http.endpoint(&to, "").map_err(|e| invalid(&format!("response_url: {e}")))?;
        if reply.origin() != self.config.url {
            return Err(invalid("response_url: it does not lead to Slack"));
        }
        Ok(Some(Click { approval, decision, user: told.user.id, reply, blocks: told.message.blocks }))
    }
}

impl App {
    /// Takes a request of Slack's: the form `body`, with its two headers. What it asks for is decided after
    /// this returns, and shown in the message.
    ///
    /// # Errors
    /// When Slack did not sign it, lately and for the first time, or it makes no sense.
    pub(crate) fn slack(
        self: &Arc<Self>,
        timestamp: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<(), Error> {
        let Some(slack) = &self.slack else {
            return Err(Error::NotFound("address", "/v1/hooks/slack: set [approvals.slack]".to_owned()));
        };
        slack.verify(timestamp, signature, body)?;
        let payload = url::form_urlencoded::parse(body).find(|(key, _)| key == "payload");
        let Some((_, payload)) = payload else {
            return Err(Error::Invalid("the form has no `payload`".to_owned()));
        };
        if let Some(click) = slack.click(&payload)? {
            let app = Arc::clone(self);
            tokio::spawn(async move { app.clicked(click).await });
        }
        Ok(())
    }

    async fn clicked(self: Arc<Self>, click: Click) {
        let Some(slack) = &self.slack else { return };
        let said = match slack.config.people.get(&click.user) {
            None => only_to_you(&unknown_person(&click)),
            Some(name) => {
                let by = Actor {
                    key_id: format!("slack:{}/{}", slack.config.workspace, click.user),
                    name: name.clone(),
                    role: Role::Operator,
                    via: Via::Slack,
                    made_by: None,
                };
                match self.decide_patiently(&by, &click).await {
                    Ok(approval) => update(&approval, click.blocks),
                    Err(Error::Approval(refused)) => self.refused(&click, &refused).await,
                    Err(error) => only_to_you(&format!(
                        "This is not decided: {error}. Click again, or use: checkrein approvals show {}",
                        click.approval
                    )),
                }
            }
        };
        for attempt in 0..ATTEMPTS {
            let sent = slack.http.post(&click.reply).json(&said).send().await;
            match sent.and_then(|answer| answer.taken(&RULES)) {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(reason = %error.reason, approval = %click.approval, "a message in Slack could not be changed");
                    if error.retry == Retry::Never {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
                }
            }
        }
    }

    /// Decides, however long the store takes, within reason.
    async fn decide_patiently(self: &Arc<Self>, by: &Actor, click: &Click) -> Result<ApprovalView, Error> {
        let mut in_doubt = false;
        let mut attempt = 0;
        loop {
            let (app, actor, id) = (Arc::clone(self), by.clone(), click.approval.clone());
            let answer = ApprovalDecision { decision: click.decision, comment: None };
            let decided = to_the_end(async move { app.answer_approval(actor, &id, answer).await }).await;
            attempt += 1;
            match decided {
                Err(Error::InDoubt(_) | Error::NotRecorded(_) | Error::Store(_)) if attempt < ATTEMPTS => {
                    in_doubt = true;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                // The attempt before may have been recorded after all.
                Err(Error::Approval(refused)) if in_doubt => {
                    let stands = self.store.approval(&click.approval).await?;
                    let stands = stands.map(|approval| self.approval_view(approval));
                    let is_mine = |a: &ApprovalView| {
                        a.decided_by.as_ref() == Some(by) || a.given.iter().any(|g| g.by == *by)
                    };
                    return stands.filter(is_mine).ok_or(Error::Approval(refused));
                }
                other => return other,
            }
        }
    }

    /// What is said when an approval cannot be answered: the message shows how it stands, if it is over.
    async fn refused(&self, click: &Click, refused: &Refused) -> Value {
        let stands = self.store.approval(&click.approval).await;
        match stands.map(|found| found.map(|approval| self.approval_view(approval))) {
            Ok(Some(approval)) if approval.state != State::Pending => update(&approval, click.blocks.clone()),
            _ => only_to_you(&format!("Nothing has changed: {refused}.")),
        }
    }
}

/// How Slack's answers to a changed message are read.
const RULES: Rules = Rules { receiver: "Slack", later: &[], advice: |_| "" };

fn unknown_person(click: &Click) -> String {
    let fits = click.user.len() <= 32 && click.user.bytes().all(|b| b.is_ascii_alphanumeric());
    let user = if fits { click.user.as_str() } else { "your id" };
    format!(
        "Checkrein does not know you as somebody who may answer, so nothing has changed. An admin can add {user} \
         under `people` of [approvals.slack] in checkrein.toml and restart the server. Whoever has an operator's key \
         can use: checkrein approvals show {}",
        click.approval
    )
}

/// A message that only the one who clicked sees.
fn only_to_you(text: &str) -> Value {
    json!({
        "response_type": "ephemeral", "replace_original": false, "text": fit(text, Medium::Slack, 2000),
    })
}

/// The message, with how the approval stands in the place of the buttons.
fn update(approval: &ApprovalView, blocks: Vec<Value>) -> Value {
    let status = standing(approval);
    let waits = approval.state == State::Pending;
    let mut blocks: Vec<Value> = blocks
        .into_iter()
        .filter(|block| block["block_id"] != STATUS_BLOCK && (waits || !has_our_buttons(block)))
        .take(48)
        .collect();
    blocks.push(json!({
        "type": "context", "block_id": STATUS_BLOCK,
        "elements": [{ "type": "plain_text", "text": fit(&status, Medium::Plain, 2000), "emoji": false }],
    }));
    json!({ "replace_original": true, "text": fit(&status, Medium::Slack, 2000), "blocks": blocks })
}

fn has_our_buttons(block: &Value) -> bool {
    let ours = |e: &Value| e["action_id"].as_str().is_some_and(|id| id.starts_with("checkrein_"));
    block["type"] == "actions" && block["elements"].as_array().is_some_and(|list| list.iter().any(ours))
}

/// `Approved by ann at …`.
pub(crate) fn standing(approval: &ApprovalView) -> String {
    let at = approval.decided_at.map(|at| format!(" at {at}")).unwrap_or_default();
    let last = approval.decided_by.as_ref().map_or("somebody", |by| by.name.as_str());
    let people = approval.given.iter().map(|given| given.by.name.as_str());
    match approval.state {
        State::Pending => {
            let so_far: Vec<_> = people.collect();
            format!(
                "Approved by {}: {} of {} people. It still waits.",
                so_far.join(" and "),
                approval.approvals_given,
                approval.approvals_required
            )
        }
        State::Approved => {
            let all: Vec<_> = people.chain([last]).collect();
            format!("Approved by {}{at}.", all.join(" and "))
        }
        State::Denied => format!("Denied by {last}{at}."),
        State::Expired => "Nobody answered in time: it has expired.".to_owned(),
        State::Withdrawn => "The agent gave up waiting and withdrew it.".to_owned(),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}
