//! `[sinks.NAME]`: where signals and the stream of all actions go. One function a kind.

use super::{DAY, Env, HOUR, SECOND, document::Section};
use checkrein_signals::{
    Pace, Sink,
    http::{Http, HttpConfig},
    sinks::{
        pagerduty::{PagerDuty, PagerDutyConfig},
        slack::{Slack, SlackConfig},
        webhook::{Webhook, WebhookConfig},
    },
};
use std::{sync::Arc, time::Duration};

/// A sink, ready to be used. Nothing was connected to.
#[derive(Clone)]
pub struct SinkSettings {
    /// What it is called.
    pub name: String,
    /// `slack`, `pagerduty`, …
    pub kind: &'static str,
    /// It takes signals.
    pub signals: bool,
    /// It takes the stream of all actions.
    pub actions: bool,
    /// How it is used.
    pub pace: Pace,
    /// The sink itself.
    pub sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for SinkSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkSettings")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Makes a sink of what its section says. None where a secret was not looked up, or is missing, which was
/// reported then.
type Make = fn(&mut Section<'_>, Option<Env<'_>>, Http) -> Option<Result<Arc<dyn Sink>, String>>;

/// Every kind that there is.
const KINDS: &[(&str, Make)] = &[("pagerduty", pagerduty), ("slack", slack), ("webhook", webhook)];

/// Every sink that is described well enough, and the names of all that are described at all.
pub(super) fn read(root: &mut Section<'_>, env: Option<Env<'_>>) -> (Vec<SinkSettings>, Vec<String>) {
    let sections = root.named("sinks");
    let names = sections.iter().map(|(name, _)| (*name).to_owned()).collect();
    (sections.into_iter().filter_map(|(name, section)| sink(name, section, env)).collect(), names)
}

fn sink(name: &str, mut section: Section<'_>, env: Option<Env<'_>>) -> Option<SinkSettings> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) {
        section.problem("", "the name of a sink is 1 to 64 of a-z, 0-9, - and _");
    }
    let kinds =
        || format!("write one of {}", KINDS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", "));
    let found = section.text("kind", |text| {
        let known = KINDS.iter().find(|(kind, _)| *kind == text);
        known.ok_or_else(|| format!("`{}` is no kind of sink; {}", text.escape_debug(), kinds()))
    });
    let Some((kind, make)) = found else {
        if section.line_of("kind").is_none() {
            section.problem("kind", format!("is missing; {}", kinds()));
        }
        return None;
    };
    let feed = section.text("feed", |text| match text {
        "signals" => Ok((true, false)),
        "actions" => Ok((false, true)),
        "both" => Ok((true, true)),
        _ => Err("must be signals, actions or both".to_owned()),
    });
    let (signals, actions) = feed.unwrap_or((true, false));
    let pace = pace(&mut section);
    let made = match Http::new(&http(&mut section, env)) {
        Ok(http) => make(&mut section, env, http),
        Err(e) => Some(Err(e)),
    };
    let sink = match made {
        Some(Ok(sink)) => Some(sink),
        Some(Err(e)) => {
            section.problem("", e);
            None
        }
        None => None,
    };
    if actions && sink.as_ref().is_some_and(|sink| sink.feed_batch() == 0) {
        section.problem(
            "feed",
            format!("a sink of the kind {kind} takes signals only; write feed = \"signals\""),
        );
    }
    section.finish();
    sink.map(|sink| SinkSettings { name: name.to_owned(), kind, signals, actions, pace, sink })
}

/// What all kinds have in common.
fn pace(section: &mut Section<'_>) -> Pace {
    let mut pace = Pace::default();
    if let Some(n) = section.number("concurrency", (1, 64)) {
        pace.concurrency = n as usize;
    }
    if let Some(n) = section.number("queue", (10, 100_000)) {
        pace.queue = n as usize;
    }
    for (key, place, range) in [
        ("first_pause", &mut pace.first_pause, (Duration::from_millis(10), HOUR)),
        ("longest_pause", &mut pace.longest_pause, (Duration::from_millis(10), HOUR)),
        ("give_up_after", &mut pace.give_up_after, (SECOND, 365 * DAY)),
    ] {
        if let Some(duration) = section.duration(key, range) {
            *place = duration;
        }
    }
    pace
}

fn http(section: &mut Section<'_>, env: Option<Env<'_>>) -> HttpConfig {
    let mut http = HttpConfig {
        allow_private: section.flag("allow_private").unwrap_or_default(),
        ca_file: section.path("ca_file"),
        proxy: section.secret("proxy", env),
        ..HttpConfig::default()
    };
    for (key, place) in [("connect_timeout", &mut http.connect_timeout), ("timeout", &mut http.timeout)] {
        if let Some(duration) = section.duration(key, (Duration::from_millis(100), 100 * SECOND)) {
            *place = duration;
        }
    }
    http
}

/// A key that must be there.
fn needed(section: &Section<'_>, key: &str, example: &str) {
    if section.line_of(key).is_none() {
        section.problem(key, format!("is missing; write {key} = {example}"));
    }
}

fn text(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    section.text(key, |text| Ok(text.to_owned()))
}

fn shared(sink: impl Sink + 'static) -> Arc<dyn Sink> {
    Arc::new(sink)
}

fn slack(
    section: &mut Section<'_>,
    env: Option<Env<'_>>,
    http: Http,
) -> Option<Result<Arc<dyn Sink>, String>> {
    let config = SlackConfig {
        webhook_url: section.secret("webhook_url", env),
        token: section.secret("token", env),
        channel: text(section, "channel"),
        url: text(section, "url"),
        buttons: section.flag("buttons").unwrap_or_default(),
    };
    let said = section.line_of("webhook_url").is_some() || section.line_of("token").is_some();
    let found = config.webhook_url.is_some() || config.token.is_some();
    (found || !said).then(|| Slack::new(&config, http).map(shared))
}

fn pagerduty(
    section: &mut Section<'_>,
    env: Option<Env<'_>>,
    http: Http,
) -> Option<Result<Arc<dyn Sink>, String>> {
    let routing_key = section.secret("routing_key", env);
    needed(section, "routing_key", "{ env = \"PD_KEY\" }");
    let (url, source) = (text(section, "url"), text(section, "source"));
    let config = PagerDutyConfig { routing_key: routing_key?, url, source };
    Some(PagerDuty::new(&config, http).map(shared))
}

fn webhook(
    section: &mut Section<'_>,
    env: Option<Env<'_>>,
    http: Http,
) -> Option<Result<Arc<dyn Sink>, String>> {
    let (url, secret) = (section.secret("url", env), section.secret("secret", env));
    needed(section, "url", "{ env = \"HOOK_URL\" }");
    needed(section, "secret", "{ env = \"HOOK_SECRET\" }");
    let (previous_secret, headers) =
        (section.secret("previous_secret", env), section.secrets("headers", env));
    let batch = section.number("batch", (1, 1_000)).map(|n| n as usize);
    let config = WebhookConfig { url: url?, secret: secret?, previous_secret, headers, batch };
    Some(Webhook::new(&config, http).map(shared))
}
