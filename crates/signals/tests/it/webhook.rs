//! The generic webhook. That its signature is one of Standard Webhooks is shown with their own library, in
//! `others`.

use crate::common::{at, fails_well, hostile, http, is_documented, message, secret};
use checkrein_core::signal::Notification;
use checkrein_signals::{
    Retry, Sink as _,
    sink::Record,
    sinks::webhook::{Webhook, WebhookConfig},
};
use checkrein_testbed::receivers::scripted::{Receiver, Reply};
use serde_json::json;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PATH: &str = "/hooks/0123456789abcdef";

fn config(receiver: &Receiver) -> WebhookConfig {
    WebhookConfig {
        url: secret(&format!("{}{PATH}", receiver.url())),
        secret: secret(SECRET),
        previous_secret: None,
        headers: vec![("Authorization".to_owned(), secret("Bearer tok-0123456789"))],
        batch: None,
    }
}

fn start() -> Receiver {
    Receiver::start(|_| Reply::new(204, ""))
}

#[tokio::test]
async fn a_message_is_what_the_documentation_shows() {
    let receiver = start();
    Webhook::new(&config(&receiver), http()).unwrap().notify(&message()).await.unwrap();
    let request = receiver.take().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", PATH));
    assert_eq!(request.header("webhook-id"), Some("dlv_1"));
    assert_eq!(request.header("authorization"), Some("Bearer tok-0123456789"));
    is_documented("webhook", &request.json());
    let data: Notification = serde_json::from_value(request.json()["data"].clone()).unwrap();
    assert_eq!(data, message());
}

#[tokio::test]
async fn a_repeat_has_the_same_id_and_both_secrets_sign_while_one_is_changed() {
    let receiver = start();
    let changing = WebhookConfig { previous_secret: Some(secret(SECRET)), ..config(&receiver) };
    let sink = Webhook::new(
        &WebhookConfig { secret: secret("whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="), ..changing },
        http(),
    )
    .unwrap();
    sink.notify(&message()).await.unwrap();
    sink.notify(&message()).await.unwrap();
    for request in receiver.take() {
        assert_eq!(request.header("webhook-id"), Some("dlv_1"));
        let signatures: Vec<_> = request.header("webhook-signature").unwrap().split(' ').collect();
        assert_eq!(signatures.len(), 2);
        assert!(signatures[0] != signatures[1] && signatures.iter().all(|s| s.starts_with("v1,")));
    }
}

#[tokio::test]
async fn the_stream_of_all_actions_goes_the_same_way() {
    let receiver = start();
    let sink = Webhook::new(&WebhookConfig { batch: Some(3), ..config(&receiver) }, http()).unwrap();
    assert_eq!(sink.feed_batch(), 3);
    let record = |seq| Record { seq, at: at(0), kind: "check", body: json!({ "verdict": "allow" }) };
    sink.feed(&[record(7), record(9)]).await.unwrap();
    sink.feed(&[]).await.unwrap();
    let requests = receiver.take();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("webhook-id"), Some("actions_7_9"));
    let body = requests[0].json();
    assert_eq!(body["type"], "actions");
    assert_eq!(
        body["data"]["records"][1],
        json!({ "seq": 9, "at": at(0), "kind": "check", "body": { "verdict": "allow" } })
    );
    for (status, retry) in [
        (401, Retry::Refused),
        (403, Retry::Refused),
        (404, Retry::Refused),
        (400, Retry::Never),
        // It wants no more, as Standard Webhooks has it.
        (410, Retry::Never),
        (413, Retry::Never),
    ] {
        receiver.answers([Reply::new(status, "no")]);
        assert_eq!(sink.feed(&[record(10)]).await.unwrap_err().retry, retry, "{status}");
        receiver.answers([Reply::new(status, "no")]);
        assert_eq!(sink.notify(&message()).await.unwrap_err().retry, retry, "{status}");
    }
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_or_not_and_no_secret_is_shown() {
    let receiver = start();
    let sink = Webhook::new(&config(&receiver), http()).unwrap();
    fails_well(&sink, &receiver, &["tok-0123456789", PATH.trim_start_matches('/'), SECRET]).await;
    for message in hostile() {
        sink.notify(&message).await.unwrap();
        let request = receiver.take().remove(0);
        assert!(request.body.len() < 4_000_000, "{}", request.body.len());
        let data: Notification = serde_json::from_value(request.json()["data"].clone()).unwrap();
        assert_eq!(data.dedup_key, message.dedup_key);
        // JSON says everything exactly; whoever shows it escapes it.
        if message.signals[0].summary.len() < 1000 {
            assert_eq!(data.signals[0].summary, message.signals[0].summary);
        }
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_field() {
    let receiver = start();
    let config = || config(&receiver);
    let header = |name: &str, value: &str| vec![(name.to_owned(), secret(value))];
    for (config, field) in [
        (WebhookConfig { url: secret("nowhere"), ..config() }, "url"),
        (WebhookConfig { secret: secret("whsec_not base64!"), ..config() }, "secret"),
        (WebhookConfig { secret: secret("whsec_c2hvcnQ="), ..config() }, "secret"),
        (WebhookConfig { previous_secret: Some(secret("x")), ..config() }, "previous_secret"),
        (WebhookConfig { headers: header("bad name", "x"), ..config() }, "headers"),
        (WebhookConfig { headers: header("Webhook-Signature", "x"), ..config() }, "headers"),
        (WebhookConfig { headers: header("x-token", "a\r\nb: c"), ..config() }, "headers"),
        (WebhookConfig { batch: Some(0), ..config() }, "batch"),
        (WebhookConfig { batch: Some(1001), ..config() }, "batch"),
    ] {
        let error = Webhook::new(&config, http()).err().unwrap();
        assert!(error.contains(&format!("`{field}`")), "{error}");
    }
}
