//! What leaves a real server, by each kind of sink that can be had here: no secret is in it, and nothing is missing.

use crate::{common::Server, signals::within};
use checkrein_testbed::{
    receivers::{
        datadog, otlp, pagerduty,
        scripted::{Receiver, Reply},
        slack,
        splunk::{self, Hec},
        teams,
    },
    servers::rsyslog::Rsyslog,
};
use serde_json::{Value, json};
use std::path::Path;

const RULES: &str = r#"
[redact]
fields = ["shoe_size", "patient.diagnosis"]
emails = true
[[policies]]
name = "no_deletes"
rule = "block"
condition = { action = "delete" }
[[policies]]
name = "told"
rule = "alert"
condition = { action = "update" }
"#;

/// What must not be found anywhere, and where an agent may put it.
const SECRETS: [&str; 7] = [
    "sk_live_51Habcdefghijklmnopqrstuv",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "4111 1111 1111 1111",
    "jane.roe@example.com",
    "size-forty-three",
    "a-rare-disease",
];

fn leaky(agent: &str, action: &str) -> Value {
    let [stripe, aws, github, card, email, shoe, diagnosis] = SECRETS;
    json!({
        "agent": agent,
        "action": action,
        "resource": format!("shop.users/{stripe}"),
        "session": format!("run-{github}"),
        "payload": {
            "note": format!("pay with {card}, mail {email}, key {aws}"),
            "shoe_size": shoe,
            "patient": {"diagnosis": diagnosis, "name": "kept"},
            "nested": [{"Authorization": format!("Bearer {github}")}],
            stripe: "as a name",
        },
    })
}

/// A sink with its secrets in files of `dir`.
fn sink(dir: &Path, name: &str, body: &str, secrets: &[(&str, &str)]) -> String {
    let mut text = format!("[sinks.{name}]\nkind = \"{name}\"\nfirst_pause = \"20ms\"\n{body}\n");
    for (field, secret) in secrets {
        std::fs::write(dir.join(format!("{name}.{field}")), secret).unwrap();
        text += &format!("{field} = {{ file = \"{name}.{field}\" }}\n");
    }
    if name != "syslog" {
        text += "allow_private = true\n";
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_by_any_sink() {
    let dir = tempfile::tempdir().unwrap();
    let webhook = Receiver::start(|_| Reply::new(204, ""));
    let (slack, teams, otlp, datadog) = (slack::start(), teams::start(), otlp::start(), datadog::start());
    let (pagerduty, _) = pagerduty::start();
    let hec = Hec::start(splunk::Setup { acknowledges_after: None, max_content_length: 1_000_000 });
    let rsyslog = Rsyslog::start(None).unwrap();
    let at = |receiver: &Receiver, path: &str| format!("{}{path}", receiver.url());
    let url = |receiver: &Receiver| format!("url = \"{}\"", receiver.url());
    let both = |more: String| format!("feed = \"both\"\n{more}");
    let (hook, chat, card) = (at(&webhook, "/hook"), at(&slack, slack::WEBHOOK), at(&teams, teams::PATH));
    let signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let syslog =
        format!("address = \"127.0.0.1:{}\"\ntransport = \"tcp\"\nallow_private = true", rsyslog.port());
    let sinks = [
        sink(dir.path(), "webhook", &both(String::new()), &[("url", &hook), ("secret", signing)]),
        sink(dir.path(), "slack", "", &[("webhook_url", &chat)]),
        sink(dir.path(), "teams", "", &[("webhook_url", &card)]),
        sink(dir.path(), "pagerduty", &url(&pagerduty), &[("routing_key", pagerduty::ROUTING_KEY)]),
        sink(dir.path(), "otlp", &both(url(&otlp)), &[]),
        sink(dir.path(), "datadog", &both(url(&datadog)), &[("api_key", datadog::API_KEY)]),
        sink(dir.path(), "splunk", &both(url(&hec.receiver)), &[("token", splunk::TOKEN)]),
        sink(dir.path(), "syslog", &both(syslog), &[]),
    ];
    let server = Server::on(dir, &format!("{RULES}{}", sinks.concat())).await;
    let blocked = server.check(leaky("leaky-bot", "delete")).await;
    assert_eq!(blocked["verdict"], "block");
    let allowed = server.check(leaky("other-bot", "update")).await;
    let outcome = json!({"status": "error", "error": format!("refused for {}", SECRETS[0])});
    let path = format!("/v1/checks/{}/outcome", allowed["id"].as_str().unwrap());
    assert_eq!(server.post(&path, outcome).await.status, 200);

    let requests = [
        ("webhook", &webhook, true),
        ("slack", &slack, false),
        ("teams", &teams, false),
        ("pagerduty", &pagerduty, false),
        ("otlp", &otlp, true),
        ("datadog", &datadog, true),
        ("splunk", &hec.receiver, true),
    ];
    let ids = [blocked["id"].as_str().unwrap(), allowed["id"].as_str().unwrap()];
    for (name, receiver, feeds) in requests {
        let mut all = String::new();
        let mut bytes = Vec::new();
        for _ in 0..600 {
            for request in receiver.take() {
                let headers: String = request.headers.iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
                all += &format!("{}\n{headers}{}\n", request.path, request.text());
                bytes.extend(request.body);
            }
            // Both signals; and where the stream goes, all three of its records.
            let told = ["leaky-bot", "other-bot"].iter().all(|agent| all.contains(agent));
            let fed = !feeds || (ids.iter().all(|id| all.contains(id)) && all.contains("outcome"));
            if told && fed {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(["leaky-bot", "other-bot"].iter().all(|agent| all.contains(agent)), "{name}: {all}");
        assert!(!feeds || ids.iter().all(|id| all.contains(id)), "{name} lacks records: {all}");
        assert!(all.contains("redacted"), "{name}: {all}");
        for secret in SECRETS {
            assert!(!all.contains(secret), "{name} was told {secret}: {all}");
        }
    }
    // Two messages, and three records and what else is on record.
    let received = within("rsyslog", || async {
        let received = rsyslog.received(5);
        let text = received.iter().map(ToString::to_string).collect::<String>();
        (ids.iter().all(|id| text.contains(id)) && text.contains("outcome")).then_some(text)
    })
    .await;
    for secret in SECRETS {
        assert!(!received.contains(secret), "syslog was told {secret}: {received}");
    }
    let sinks = server.get("/v1/sinks").await.json();
    for sink in sinks["sinks"].as_array().unwrap() {
        assert_eq!((&sink["failed"], &sink["records_lost"]), (&json!(0), &json!(0)), "{sink}");
    }
    server.stop().await;
}
