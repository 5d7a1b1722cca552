//! One function a kind of sink: reads its keys and makes it. Nothing is connected to.

use crate::config::{DAY, Env, SECOND, document::Section};
use checkrein_signals::{
    Sink,
    http::{Http, HttpConfig},
    sinks::{
        alertmanager::{Alertmanager, AlertmanagerConfig},
        datadog::{Datadog, DatadogConfig},
        otlp::{Otlp, OtlpConfig},
        pagerduty::{PagerDuty, PagerDutyConfig},
        slack::{Slack, SlackConfig},
        splunk::{Splunk, SplunkConfig},
        syslog::{Syslog, SyslogConfig, Transport},
        teams::{Teams, TeamsConfig},
        webhook::{Webhook, WebhookConfig},
    },
};
use std::{sync::Arc, time::Duration};

/// How a sink gets out.
pub(super) struct Way {
    pub(super) http: Http,
    pub(super) config: HttpConfig,
}

/// A sink, or what is wrong with its settings. None where a secret was not looked up, or a key is missing, which
/// was reported then.
type Made = Option<Result<Arc<dyn Sink>, String>>;

/// Reads the keys of one kind.
type Make = fn(&mut Section<'_>, Option<Env<'_>>, Way) -> Made;

/// Every kind that there is.
pub(super) const KINDS: &[(&str, Make)] = &[
    ("alertmanager", alertmanager),
    ("datadog", datadog),
    ("otlp", otlp),
    ("pagerduty", pagerduty),
    ("slack", slack),
    ("splunk", splunk),
    ("syslog", syslog),
    ("teams", teams),
    ("webhook", webhook),
];

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

fn alertmanager(section: &mut Section<'_>, env: Option<Env<'_>>, way: Way) -> Made {
    let url = text(section, "url");
    needed(section, "url", "\"http://alertmanager.internal:9093\"");
    let (labels, headers) = (section.pairs("labels"), section.secrets("headers", env));
    let keep_firing = section.duration("keep_firing", (60 * SECOND, 30 * DAY));
    let config = AlertmanagerConfig { url: url?, labels, headers, keep_firing };
    Some(Alertmanager::new(&config, way.http).map(shared))
}

fn datadog(section: &mut Section<'_>, env: Option<Env<'_>>, way: Way) -> Made {
    let api_key = section.secret("api_key", env);
    needed(section, "api_key", "{ env = \"DD_API_KEY\" }");
    let application_key = section.secret("application_key", env);
    let (site, url, service) = (text(section, "site"), text(section, "url"), text(section, "service"));
    let (host, tags) = (text(section, "host"), section.texts("tags"));
    let metrics = section.flag("metrics");
    let default = DatadogConfig::new(api_key?);
    let config = DatadogConfig {
        application_key,
        site: site.unwrap_or(default.site),
        url,
        service: service.unwrap_or(default.service),
        host,
        tags,
        metrics: metrics.unwrap_or(default.metrics),
        api_key: default.api_key,
    };
    Some(Datadog::new(config, way.http).map(shared))
}

fn otlp(section: &mut Section<'_>, env: Option<Env<'_>>, way: Way) -> Made {
    let url = text(section, "url");
    needed(section, "url", "\"https://otel.example:4318\"");
    let (headers, resource) = (section.secrets("headers", env), section.pairs("resource"));
    let service = text(section, "service");
    let (logs, traces, metrics) = (section.flag("logs"), section.flag("traces"), section.flag("metrics"));
    let mut config = OtlpConfig::new(url?);
    (config.headers, config.resource) = (headers, resource);
    config.service = service.unwrap_or(config.service);
    config.logs = logs.unwrap_or(config.logs);
    config.traces = traces.unwrap_or(config.traces);
    config.metrics = metrics.unwrap_or(config.metrics);
    Some(Otlp::new(&config, way.http).map(shared))
}

fn pagerduty(section: &mut Section<'_>, env: Option<Env<'_>>, way: Way) -> Made {
    let routing_key = section.secret("routing_key", env);
    needed(section, "routing_key", "{ env = \"PD_KEY\" }");
    let (url, source) = (text(section, "url"), text(section, "source"));
    let config = PagerDutyConfig { routing_key: routing_key?, url, source };
    Some(PagerDuty::new(&config, way.http).map(shared))
}

fn slack(section: &mut Section<'_>, env: Option<Env<'_>>, way: Way) -> Made {
    let config = SlackConfig {
        webhook_url: section.secret("webhook_url", env),
        token: section.secret("token", env),
        channel: text(section, "channel"),
        url: text(section, "url"),
        buttons: section.flag("buttons").unwrap_or_default(),
    };
    let said = section.line_of("webhook_url").is_some() || section.line_of("token").is_some();
    let found = config.webhook_url.is_some() || config.token.is_some();
    (found || !said).then(|| Slack::new(&config, way.http).map(shared))
}

fn splunk(section: &mut Section<'_>, env: Option<Env<'_>>, way: Way) -> Made {
    let (url, token) = (text(section, "url"), section.secret("token", env));
    needed(section, "url", "\"https://splunk.example:8088\"");
    needed(section, "token", "{ env = \"SPLUNK_TOKEN\" }");
    let (index, host, channel) = (text(section, "index"), text(section, "host"), text(section, "channel"));
    let acknowledge = section.flag("acknowledge");
    let acknowledge_timeout = section.duration("acknowledge_timeout", (SECOND, 100 * SECOND));
    let batch_bytes = section.size("batch_bytes", (400_000, 64 << 20));
    let mut config = SplunkConfig::new(url?, token?);
    (config.index, config.host, config.channel) = (index, host, channel);
    config.acknowledge = acknowledge.unwrap_or(config.acknowledge);
    config.acknowledge_timeout = acknowledge_timeout.unwrap_or(config.acknowledge_timeout);
    config.batch_bytes = batch_bytes.and_then(|n| usize::try_from(n).ok()).unwrap_or(config.batch_bytes);
    Some(Splunk::new(config, way.http).map(shared))
}

fn syslog(section: &mut Section<'_>, _: Option<Env<'_>>, way: Way) -> Made {
    let address = text(section, "address");
    needed(section, "address", "\"siem.example:6514\"");
    let transport = section.text("transport", |text| match text {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        "tls" => Ok(Transport::Tls),
        _ => Err("must be udp, tcp or tls".to_owned()),
    });
    let facility = section.number("facility", (0, 23)).and_then(|n| u8::try_from(n).ok());
    let hostname = text(section, "hostname");
    let max_bytes = section.size("max_bytes", (480, 1 << 20)).and_then(|n| usize::try_from(n).ok());
    let mut config = SyslogConfig::new(address?, transport.unwrap_or(Transport::Tls));
    config.hostname = hostname;
    config.facility = facility.unwrap_or(config.facility);
    config.max_bytes = max_bytes.unwrap_or(config.max_bytes);
    (config.allow_private, config.ca_file) = (way.config.allow_private, way.config.ca_file);
    config.timeout = Duration::max(way.config.timeout, SECOND);
    Some(Syslog::new(config).map(shared))
}

fn teams(section: &mut Section<'_>, env: Option<Env<'_>>, way: Way) -> Made {
    let webhook_url = section.secret("webhook_url", env);
    needed(section, "webhook_url", "{ env = \"TEAMS_WEBHOOK_URL\" }");
    Some(Teams::new(&TeamsConfig { webhook_url: webhook_url? }, way.http).map(shared))
}

fn webhook(section: &mut Section<'_>, env: Option<Env<'_>>, way: Way) -> Made {
    let (url, secret) = (section.secret("url", env), section.secret("secret", env));
    needed(section, "url", "{ env = \"HOOK_URL\" }");
    needed(section, "secret", "{ env = \"HOOK_SECRET\" }");
    let (previous_secret, headers) =
        (section.secret("previous_secret", env), section.secrets("headers", env));
    let batch = section.number("batch", (1, 1_000)).map(|n| n as usize);
    let config = WebhookConfig { url: url?, secret: secret?, previous_secret, headers, batch };
    Some(Webhook::new(&config, way.http).map(shared))
}
