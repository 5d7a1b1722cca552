//! PagerDuty, against a receiver as strict as its documentation.

use crate::common::{fails_well, hostile, http, is_documented, message, resolved, saying, secret};
use checkrein_core::signal::{Notification, Severity};
use checkrein_signals::{
    Retry, Sink as _,
    sinks::pagerduty::{PagerDuty, PagerDutyConfig},
};
use checkrein_testbed::receivers::{
    pagerduty::{self, ROUTING_KEY},
    scripted::{Receiver, Reply},
};

fn config(url: Option<String>) -> PagerDutyConfig {
    PagerDutyConfig { routing_key: secret(ROUTING_KEY), url, source: None }
}

fn sink(receiver: &Receiver) -> PagerDuty {
    PagerDuty::new(&config(Some(receiver.url())), http()).unwrap()
}

#[tokio::test]
async fn an_event_is_what_the_documentation_shows() {
    let (receiver, _) = pagerduty::start();
    sink(&receiver).notify(&message()).await.unwrap();
    is_documented("pagerduty", &receiver.take()[0].json());
}

#[tokio::test]
async fn an_incident_is_opened_once_acknowledged_and_resolved() {
    let (receiver, incidents) = pagerduty::start();
    let sink = sink(&receiver);
    sink.notify(&message()).await.unwrap();
    sink.notify(&message()).await.unwrap();
    let mut seen = message();
    seen.signals[0].by = Some("alice".to_owned());
    sink.notify(&seen).await.unwrap();
    sink.notify(&resolved()).await.unwrap();
    // A person did the only signal of it: nobody is told that somebody is at it.
    let by_hand = Notification { count: 1, dedup_key: "other".to_owned(), ..seen.clone() };
    sink.notify(&by_hand).await.unwrap();
    // The first message of a group holds both: the acknowledgement finds an incident.
    sink.notify(&Notification { dedup_key: "third".to_owned(), ..seen }).await.unwrap();
    let incidents = incidents.lock().unwrap();
    let history = ["trigger", "trigger", "trigger", "acknowledge", "resolve"];
    assert_eq!(incidents[&message().dedup_key], history);
    assert_eq!(incidents["other"], ["trigger"]);
    assert_eq!(incidents["third"], ["trigger", "acknowledge"]);
}

#[tokio::test]
async fn severities_are_theirs() {
    let (receiver, _) = pagerduty::start();
    let sink = sink(&receiver);
    for (ours, theirs) in [
        (Severity::Info, "info"),
        (Severity::Notice, "info"),
        (Severity::Warning, "warning"),
        (Severity::Critical, "critical"),
    ] {
        sink.notify(&Notification { severity: ours, ..message() }).await.unwrap();
        assert_eq!(receiver.take()[0].json()["payload"]["severity"], theirs);
    }
}

#[tokio::test]
async fn whatever_agents_say_stays_within_the_limits() {
    let (receiver, incidents) = pagerduty::start();
    let sink = sink(&receiver);
    for message in hostile() {
        sink.notify(&message).await.unwrap();
        let body = receiver.take()[0].text().to_owned();
        assert!(!body.contains(['\u{202e}', '\u{200b}', '\u{9b}']) && !body.contains("\\u001b"), "{body}");
    }
    sink.notify(&Notification { signals: Vec::new(), ..message() }).await.unwrap();
    sink.notify(&Notification { dedup_key: "k".repeat(255), ..saying("x") }).await.unwrap();
    assert!(incidents.lock().unwrap().contains_key(&"k".repeat(255)));
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_or_not_and_no_secret_is_shown() {
    let (receiver, _) = pagerduty::start();
    let sink = sink(&receiver);
    fails_well(&sink, &receiver, &[ROUTING_KEY]).await;
    // Something that takes everything is not PagerDuty.
    receiver.answers([Reply::new(200, "<html>")]);
    assert_eq!(sink.notify(&message()).await.unwrap_err().retry, Retry::Later);
    let other = PagerDutyConfig { routing_key: secret(&"f".repeat(32)), ..config(Some(receiver.url())) };
    let failure = PagerDuty::new(&other, http()).unwrap().notify(&message()).await.unwrap_err();
    assert!(failure.retry == Retry::Never && failure.reason.contains("`routing_key`"), "{failure}");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_field() {
    for (config, field) in [
        (PagerDutyConfig { routing_key: secret("short"), ..config(None) }, "routing_key"),
        (config(Some("events.pagerduty.com".to_owned())), "url"),
        (PagerDutyConfig { source: Some(" ".to_owned()), ..config(None) }, "source"),
    ] {
        let error = PagerDuty::new(&config, http()).err().unwrap();
        assert!(error.contains(&format!("`{field}`")) && !error.contains("short"), "{error}");
    }
    PagerDuty::new(&config(None), http()).unwrap();
}
