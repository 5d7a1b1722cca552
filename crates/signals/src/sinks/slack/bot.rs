//! Slack's API with a bot's token.

use super::RULES;
use crate::{
    http::{Endpoint, HeaderValue, Http, secret_value},
    sink::{Failure, Retry},
};
use checkrein_core::signal::{Notification, Status};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// The most messages that are remembered.
const REMEMBERED: usize = 1000;

pub(super) struct Bot {
    post: Endpoint,
    update: Endpoint,
    authorization: HeaderValue,
    channel: String,
    /// What may have to be changed, the newest first.
    sent: Mutex<VecDeque<Sent>>,
}

#[derive(Clone)]
struct Sent {
    dedup_key: String,
    channel: String,
    ts: String,
}

/// What Slack's API answers.
#[derive(Default, Deserialize)]
struct Said {
    ok: Option<bool>,
    error: Option<String>,
    channel: Option<String>,
    ts: Option<String>,
}

impl Bot {
    pub(super) fn new(http: &Http, base: &str, token: &SecretString, channel: &str) -> Result<Self, String> {
        if token.expose_secret().trim().is_empty() {
            return Err("`token` is empty: it is the bot's token, xoxb-…".to_owned());
        }
        let channel = channel.trim().to_owned();
        if channel.is_empty() || channel.len() > 80 || channel.contains(char::is_whitespace) {
            return Err("`channel` is the id of a channel (C0123456789) or its name (#oncall)".to_owned());
        }
        let at = |path| http.endpoint(base, path).map_err(|e| format!("`url`: {e}"));
        Ok(Self {
            post: at("/api/chat.postMessage")?,
            update: at("/api/chat.update")?,
            authorization: secret_value("Bearer ", token).map_err(|e| format!("`token`: {e}"))?,
            channel,
            sent: Mutex::default(),
        })
    }

    pub(super) async fn say(&self, http: &Http, message: &Notification, body: Value) -> Result<(), Failure> {
        if message.status == Status::Resolved
            && let Some(before) = self.find(&message.dedup_key)
        {
            let changed = addressed(body.clone(), &before.channel, Some(&before.ts));
            match self.call(http, &self.update, changed, true).await {
                Ok(_) => return Ok(()),
                // It was deleted, or is too old to be changed: say it anew.
                Err(failure) if failure.retry == Retry::Never => {}
                Err(failure) => return Err(failure),
            }
        }
        let said = self.call(http, &self.post, addressed(body, &self.channel, None), false).await?;
        if let (Status::Firing, Some(channel), Some(ts)) = (message.status, said.channel, said.ts) {
            self.remember(Sent { dedup_key: message.dedup_key.clone(), channel, ts });
        }
        Ok(())
    }

    /// Calls a method of Slack's API, which answers 200 and says in the body whether it was taken. What cannot be
    /// changed can be said anew, so an error of `changing` is no reason to wait for a setting.
    async fn call(&self, http: &Http, to: &Endpoint, body: Value, changing: bool) -> Result<Said, Failure> {
        let request = http.post(to).secret_header(reqwest::header::AUTHORIZATION, &self.authorization);
        let answer = request.json(&body).send().await?.taken(&RULES)?;
        let said: Said = serde_json::from_str(&answer.body).unwrap_or_default();
        match (said.ok, &said.error) {
            (Some(true), _) => Ok(said),
            (Some(false), Some(error)) => {
                let advice = explain(error);
                let retry = match error {
                    passing if is_passing(passing) => answer.pause(),
                    setting if is_setting(setting) && !changing => Retry::Refused,
                    _ => Retry::Never,
                };
                Err(answer.failure("Slack", retry, advice))
            }
            _ => {
                let advice = "This is no answer of Slack's API: is `url` right?";
                Err(answer.failure("Slack", Retry::Later, advice))
            }
        }
    }

    fn find(&self, dedup_key: &str) -> Option<Sent> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().find(|sent| sent.dedup_key == dedup_key).cloned()
    }

    fn remember(&self, message: Sent) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.retain(|sent| sent.dedup_key != message.dedup_key);
        sent.push_front(message);
        sent.truncate(REMEMBERED);
    }
}

/// Errors that are not about the message.
fn is_passing(error: &str) -> bool {
    let errors = ["ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"];
    errors.contains(&error) || ["request_timeout", "team_added_to_org"].contains(&error)
}

/// Errors that a setting mends, here or in Slack.
fn is_setting(error: &str) -> bool {
    let of_channel = ["channel_not_found", "not_in_channel", "is_archived"];
    let of_scope = ["missing_scope", "no_permission", "not_allowed_token_type"];
    let of_token = ["invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"];
    of_channel.contains(&error) || of_scope.contains(&error) || of_token.contains(&error)
}

/// What to do about an error of Slack's API.
fn explain(error: &str) -> &'static str {
    match error {
        passing if is_passing(passing) => "It is sent again",
        "channel_not_found" | "not_in_channel" => {
            "Invite the bot to the channel (/invite), and set `channel` to the channel's id"
        }
        "is_archived" => "The channel is archived: set another `channel`",
        "missing_scope" | "no_permission" | "not_allowed_token_type" => {
            "Give the bot the scope chat:write and install the app again"
        }
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => {
            "Set `token` to a token that is in force"
        }
        _ => "See https://docs.slack.dev/reference/methods/chat.postMessage for this error",
    }
}

/// The message for a channel, or in place of another one.
fn addressed(mut body: Value, channel: &str, ts: Option<&str>) -> Value {
    if let Some(body) = body.as_object_mut() {
        body.insert("channel".to_owned(), channel.into());
        if let Some(ts) = ts {
            body.insert("ts".to_owned(), ts.into());
        }
    }
    body
}
