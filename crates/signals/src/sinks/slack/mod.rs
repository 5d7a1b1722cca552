//! Slack: an incoming webhook, or a bot's token and a channel.
//!
//! Contract: a webhook takes `POST` of a message and answers 200 `ok`; with a token, `chat.postMessage` answers 200
//! and `{"ok":true,"channel":…,"ts":…}`, or `{"ok":false,"error":…}`. About one message a second and channel;
//! 429 says in `Retry-After` when to go on. The limits of a message are in [`blocks`].
//!
//! With a token, a message that is over changes the one that said so (`chat.update`), as long as this process
//! remembers it: the last 1,000 groups, until the next start. Otherwise, and with a webhook, which cannot change what
//! it posted, `Resolved: …` is a message of its own. Slack has no key by which it would drop a repeat: after an
//! answer that got lost, a message can appear twice.

mod blocks;
mod bot;

use crate::{
    http::{Endpoint, Http, Rules},
    sink::{Failure, Retry, Sink},
};
use async_trait::async_trait;
use bot::Bot;
use checkrein_core::signal::Notification;
use secrecy::{ExposeSecret, SecretString};

/// How Slack is set up: `webhook_url`, or `token` and `channel`.
#[derive(Clone, Debug, Default)]
pub struct SlackConfig {
    /// The address of an incoming webhook, `https://hooks.slack.com/services/…`. It is a secret.
    pub webhook_url: Option<SecretString>,
    /// The token of a bot with the scope `chat:write`: `xoxb-…`.
    pub token: Option<SecretString>,
    /// With a token: the channel's id (`C0123456789`) or name (`#oncall`). The bot must be in it.
    pub channel: Option<String>,
    /// With a token: where Slack's API is. Without it, <https://slack.com>.
    pub url: Option<String>,
    /// Whether `action.held` comes with buttons to approve and deny (`checkrein_approve` and `checkrein_deny`, with the
    /// approval's id as value). They work once the Slack app's interactivity points to this server.
    pub buttons: bool,
}

/// Slack.
pub struct Slack {
    http: Http,
    way: Way,
    buttons: bool,
}

enum Way {
    Webhook(Box<Endpoint>),
    Bot(Box<Bot>),
}

const RULES: Rules = Rules {
    receiver: "Slack",
    // Its channel is archived.
    later: &[410],
    advice: |status| match status {
        400 => "Slack did not understand the message: please report this",
        403 => "The workspace does not let this webhook post: ask its administrators, or make a new webhook",
        404 => "The webhook or its channel is gone: make a new webhook and set `webhook_url`",
        410 => "The channel is archived: make a webhook for another one and set `webhook_url`",
        _ => "See https://slack-status.com",
    },
};

impl Slack {
    /// Slack as set up by `config`, connected to by `http`.
    ///
    /// # Errors
    /// Names the field that is wrong, and how it would be right.
    pub fn new(config: &SlackConfig, http: Http) -> Result<Self, String> {
        let way = match (&config.webhook_url, &config.token, &config.channel) {
            (Some(url), None, None) if config.url.is_none() => {
                let to = http.endpoint(url.expose_secret().trim(), "");
                Way::Webhook(Box::new(to.map_err(|e| format!("`webhook_url`: {e}"))?))
            }
            (None, Some(token), Some(channel)) => {
                let base = config.url.as_deref().unwrap_or("https://slack.com");
                Way::Bot(Box::new(Bot::new(&http, base, token, channel)?))
            }
            _ => {
                let both = "set either `webhook_url`, or `token` and `channel` (and `url`, if Slack's API is elsewhere)";
                return Err(both.to_owned());
            }
        };
        Ok(Self { http, way, buttons: config.buttons })
    }
}

#[async_trait]
impl Sink for Slack {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        let body = blocks::message(message, self.buttons);
        match &self.way {
            Way::Bot(bot) => bot.say(&self.http, message, body).await,
            Way::Webhook(to) => {
                let answer = self.http.post(to).json(&body).send().await?.taken(&RULES)?;
                if answer.body.trim() == "ok" {
                    return Ok(());
                }
                let advice = "A webhook of Slack answers `ok`: is `webhook_url` one?";
                Err(answer.failure("Slack", Retry::Later, advice))
            }
        }
    }
}
