//! Libraries that others wrote read what the sinks send: Slack's, that of Standard Webhooks, Microsoft's, Datadog's.

use crate::{
    common::{hostile, http, message, resolved, secret},
    samples::records,
};
use checkrein_core::signal::Notification;
use checkrein_signals::{
    Sink,
    sinks::{
        datadog::{Datadog, DatadogConfig},
        slack::{Slack, SlackConfig},
        teams::{Teams, TeamsConfig},
        webhook::{Webhook, WebhookConfig},
    },
};
use checkrein_testbed::receivers::{
    datadog,
    scripted::{Receiver, Reply, Request},
    slack, teams,
};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What a program prints about lines of JSON: a line each.
fn says(program: &str, arguments: &[&str], lines: &[Value]) -> Vec<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} cannot be started ({e}); run: scripts/setup test"));
    let mut stdin = child.stdin.take().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    // Beside the reading: what it prints could fill the pipe before all is written.
    let writing = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && writing.join().unwrap().is_ok(), "{program} {arguments:?} failed");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn python(script: &str, lines: &[Value]) -> Vec<String> {
    let script = format!("{}/tests/others/{script}", env!("CARGO_MANIFEST_DIR"));
    says(&format!("{ROOT}/.venv/bin/python"), &["-B", &script], lines)
}

async fn sent(sink: &dyn Sink, receiver: &Receiver) -> Vec<Request> {
    let held = {
        let mut held = message();
        held.signals[0].kind = "action.held".to_owned();
        held.signals[0].approval_id = Some("apr_1".to_owned());
        held
    };
    let plain = Notification { signals: Vec::new(), link: None, count: 0, ..message() };
    for message in [message(), resolved(), held, plain].into_iter().chain(hostile()) {
        sink.notify(&message).await.unwrap();
    }
    receiver.take()
}

#[tokio::test]
async fn slack_sdk_reads_every_message_as_it_was_meant() {
    let receiver = slack::start();
    let webhook_url = Some(secret(&format!("{}{}", receiver.url(), slack::WEBHOOK)));
    let config = SlackConfig { webhook_url, buttons: true, ..SlackConfig::default() };
    let sink = Slack::new(&config, http()).unwrap();
    let bodies: Vec<_> = sent(&sink, &receiver).await.iter().map(Request::json).collect();
    assert_eq!(python("slack.py", &bodies), vec!["good"; bodies.len()]);
}

#[tokio::test]
async fn the_library_of_standard_webhooks_verifies_what_is_sent_and_nothing_else() {
    let receiver = Receiver::start(|_| Reply::new(200, ""));
    let (new, old) = ("whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let config = WebhookConfig {
        url: secret(&receiver.url()),
        secret: secret(new),
        previous_secret: Some(secret(old)),
        headers: Vec::new(),
        batch: None,
    };
    let sink = Webhook::new(&config, http()).unwrap();
    sink.notify(&message()).await.unwrap();
    let request = receiver.take().remove(0);
    let headers: serde_json::Map<_, _> =
        request.headers.iter().map(|(n, v)| (n.clone(), v.as_str().into())).collect();
    let with = |secret: &str, body: &str| json!({ "secret": secret, "headers": headers, "body": body });
    let mut other_id = with(new, request.text());
    other_id["headers"]["webhook-id"] = "dlv_2".into();
    let mut old_time = with(new, request.text());
    old_time["headers"]["webhook-timestamp"] = "1700000000".into();
    let asked = [
        with(new, request.text()),
        with(old, request.text()),
        with("whsec_c29tZXRoaW5nIGVsc2UgYWx0b2dldGhlcg==", request.text()),
        with(new, &request.text().replace("delete", "update")),
        other_id,
        old_time,
    ];
    assert_eq!(python("standard_webhooks.py", &asked), ["good", "good", "bad", "bad", "bad", "bad"]);
}

#[tokio::test]
async fn microsofts_library_has_nothing_against_the_cards() {
    let receiver = teams::start();
    let webhook_url = secret(&format!("{}{}", receiver.url(), teams::PATH));
    let sink = Teams::new(&TeamsConfig { webhook_url }, http()).unwrap();
    let requests = sent(&sink, &receiver).await;
    let cards: Vec<_> = requests.iter().map(|r| r.json()["attachments"][0]["content"].clone()).collect();
    let script = format!("{}/tests/others/adaptive_card.cjs", env!("CARGO_MANIFEST_DIR"));
    let mut wrong = cards[0].clone();
    wrong["body"][0]["inlines"][0]["weight"] = "Heavy".into();
    let all: Vec<_> = cards.iter().cloned().chain([wrong]).collect();
    let mut said = says("node", &[&script, &format!("{ROOT}/.cache/signals")], &all);
    // It would have said so.
    assert_ne!(said.pop().unwrap(), "good");
    assert_eq!(said, vec!["good"; cards.len()]);
}

#[tokio::test]
async fn datadogs_client_knows_every_part_of_what_is_sent() {
    let receiver = datadog::start();
    let mut config = DatadogConfig::new(secret(datadog::API_KEY));
    (config.url, config.host, config.tags) =
        (Some(receiver.url()), Some("rein-1".to_owned()), vec!["env:prod".to_owned()]);
    let sink = Datadog::new(config, http()).unwrap();
    let mut requests = sent(&sink, &receiver).await;
    sink.feed(&records(50)).await.unwrap();
    requests.extend(receiver.take());
    let mut lines: Vec<_> = requests.iter().map(|r| json!({ "path": r.path, "body": r.json() })).collect();
    for path in ["/api/v2/events", "/api/v2/logs", "/api/v2/series"] {
        assert!(lines.iter().any(|line| line["path"] == path), "nothing was sent to {path}");
    }
    let event = lines[0].clone();
    let series = lines.iter().find(|line| line["path"] == "/api/v2/series").unwrap().clone();
    let good = lines.len();
    // It would have said so.
    for (place, value) in
        [("/body/data/attributes/attributes/status", "bad"), ("/body/data/attributes/category", "news")]
    {
        let mut wrong = event.clone();
        *wrong.pointer_mut(place).unwrap() = value.into();
        lines.push(wrong);
    }
    let mut wrong = series;
    wrong["body"]["series"][0]["type"] = 9.into();
    lines.push(wrong);
    let said = python("datadog.py", &lines);
    assert_eq!(said[..good], vec!["good"; good]);
    assert_eq!(said[good..].iter().filter(|line| *line != "good").count(), 3, "{:?}", &said[good..]);
}
