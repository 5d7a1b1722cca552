//! Alertmanager itself, asked with its own tool.

use crate::common::{fails_well, hostile, http, is_documented, message, resolved, secret};
use checkrein_core::signal::{Notification, Severity};
use checkrein_signals::{
    Retry, Sink as _,
    sinks::alertmanager::{Alertmanager, AlertmanagerConfig},
};
use checkrein_testbed::{
    receivers::scripted::{Receiver, Reply},
    servers::alertmanager::Alertmanager as Server,
};
use serde_json::{Value, json};
use std::time::Duration;

fn config(url: String) -> AlertmanagerConfig {
    AlertmanagerConfig {
        url,
        labels: vec![("team".to_owned(), "payments".to_owned())],
        headers: vec![("Authorization".to_owned(), secret("Bearer tok-0123456789"))],
        keep_firing: None,
    }
}

fn firing(server: &Server) -> Vec<Value> {
    let listed = server.amtool(&["--output=json", "alert", "query"]).unwrap();
    serde_json::from_str::<Vec<Value>>(&listed).unwrap()
}

#[tokio::test]
async fn alerts_fire_change_and_are_resolved() {
    let server = Server::start().unwrap();
    let sink = Alertmanager::new(&config(server.url()), http()).unwrap();
    sink.notify(&message()).await.unwrap();
    sink.notify(&message()).await.unwrap();
    let alerts = firing(&server);
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    let labels = json!({
        "alertname": "Checkrein", "dedup_key": "grp_blocked:billing-bot", "severity": "critical",
        "kind": "action.blocked", "agent": "billing-bot", "environment": "production", "team": "payments",
    });
    assert_eq!(alerts[0]["labels"], labels);
    assert_eq!(
        alerts[0]["annotations"]["blast_radius"],
        "62,310 records in 1 system (counted; the agent declared only 12)"
    );
    assert_eq!(alerts[0]["generatorURL"], message().link.unwrap());
    let time =
        |field: &str| checkrein_core::time::Timestamp::parse(alerts[0][field].as_str().unwrap()).unwrap();
    let lasts = (time("endsAt").as_micros() - time("updatedAt").as_micros()) / 1_000_000;
    assert!((86_300..=86_400).contains(&lasts), "without another word it fires for {lasts} s");
    // It gets better: one alert still, with other labels.
    sink.notify(&Notification { severity: Severity::Warning, ..message() }).await.unwrap();
    let alerts = firing(&server);
    assert_eq!((alerts.len(), &alerts[0]["labels"]["severity"]), (1, &"warning".into()));
    // Another condition is another alert, and is not ended with this one.
    let other = Notification { dedup_key: "other \"key\" \\ é".to_owned(), ..message() };
    sink.notify(&other).await.unwrap();
    sink.notify(&resolved()).await.unwrap();
    sink.notify(&resolved()).await.unwrap();
    let alerts = firing(&server);
    assert_eq!((alerts.len(), &alerts[0]["labels"]["dedup_key"]), (1, &other.dedup_key.as_str().into()));
    sink.notify(&Notification { dedup_key: other.dedup_key.clone(), ..resolved() }).await.unwrap();
    assert_eq!(firing(&server).len(), 0);
    // Whatever agents say, it is taken, with nothing in it that another medium would read.
    for (at, message) in hostile().into_iter().enumerate() {
        sink.notify(&Notification { dedup_key: format!("hostile-{at}"), ..message }).await.unwrap();
    }
    let alerts = firing(&server);
    assert_eq!(alerts.len(), hostile().len());
    let texts = Value::from(alerts).to_string();
    assert!(!texts.contains(['<', '>', '`', '\u{202e}']) && !texts.contains("\\u001b"), "{texts}");
}

/// A contract by script: no alert fires, and every alert is taken.
fn scripted() -> Receiver {
    Receiver::start(|request| Reply::new(200, if request.method == "GET" { "[]" } else { "" }))
}

#[tokio::test]
async fn what_is_posted_is_what_the_documentation_shows() {
    let receiver = scripted();
    let sink = Alertmanager::new(&config(receiver.url()), http()).unwrap();
    let earlier = "Sun, 22 Nov 2026 09:11:40 GMT";
    receiver.answers([Reply::new(200, "[]").header("date", earlier)]);
    sink.notify(&message()).await.unwrap();
    let requests = receiver.take();
    assert_eq!(requests[0].path, "/api/v2/alerts?filter=dedup_key%3D%22grp_blocked%3Abilling-bot%22");
    assert!(requests.iter().all(|r| r.header("authorization") == Some("Bearer tok-0123456789")));
    is_documented("alertmanager", &requests[1].json());
}

#[tokio::test]
async fn times_are_by_alertmanagers_own_clock() {
    let receiver = scripted();
    let sink = Alertmanager::new(&config(receiver.url()), http()).unwrap();
    let active =
        json!([{ "labels": { "dedup_key": "k" }, "startsAt": "2020-01-01T00:00:00.000Z" }]).to_string();
    // Years behind ours.
    receiver.answers([Reply::new(200, active).header("date", "Wed, 01 Jan 2020 00:01:00 GMT")]);
    sink.notify(&resolved()).await.unwrap();
    assert_eq!(receiver.take()[1].json()[0]["endsAt"], "2020-01-01T00:00:59.000000Z");
    receiver.answers([Reply::new(200, "[]").header("date", "Wed, 01 Jan 2020 00:01:00 GMT")]);
    sink.notify(&message()).await.unwrap();
    let alert = receiver.take()[1].json()[0].clone();
    assert_eq!(
        (&alert["startsAt"], &alert["endsAt"]),
        (&"2020-01-01T00:01:00.000000Z".into(), &"2020-01-02T00:01:00.000000Z".into(),)
    );
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_or_not_and_no_secret_is_shown() {
    let receiver = scripted();
    let sink = Alertmanager::new(&config(receiver.url()), http()).unwrap();
    fails_well(&sink, &receiver, &["tok-0123456789"]).await;
    for rubbish in ["<html>", "{}", "[{}]", ""] {
        receiver.answers([Reply::new(200, rubbish)]);
        assert_eq!(sink.notify(&message()).await.unwrap_err().retry, Retry::Later, "{rubbish}");
    }
    receiver.answers([Reply::new(200, "[]"), Reply::new(400, "bad labels")]);
    assert_eq!(sink.notify(&message()).await.unwrap_err().retry, Retry::Never);
    receiver.answers([Reply::new(200, "[]"), Reply::new(202, "")]);
    assert_eq!(sink.notify(&message()).await.unwrap_err().retry, Retry::Later);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_field() {
    let config = || config("http://127.0.0.1:9093".to_owned());
    let labels = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for (config, field) in [
        (AlertmanagerConfig { url: "alertmanager:9093".to_owned(), ..config() }, "url"),
        (AlertmanagerConfig { labels: labels("a-b", "x"), ..config() }, "labels"),
        (AlertmanagerConfig { labels: labels("severity", "x"), ..config() }, "labels"),
        (AlertmanagerConfig { labels: labels("team", ""), ..config() }, "labels"),
        (AlertmanagerConfig { headers: vec![("host".to_owned(), secret("x"))], ..config() }, "headers"),
        (AlertmanagerConfig { keep_firing: Some(Duration::from_secs(59)), ..config() }, "keep_firing"),
    ] {
        let error = Alertmanager::new(&config, http()).err().unwrap();
        assert!(error.contains(&format!("`{field}`")), "{error}");
    }
}
