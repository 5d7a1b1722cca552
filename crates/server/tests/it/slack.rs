//! Clicks on Slack's buttons. The official signer signs them in `sdk/python/tests/test_slack.py`.

use super::{
    approvals::{ask_for, refund, text},
    common::{Reply, Server},
};
use axum::{Router, extract::State, routing::post};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// Where Slack takes what is said about a click.
struct Receiver {
    url: String,
    said: mpsc::UnboundedReceiver<Value>,
}

impl Receiver {
    async fn start() -> Self {
        let (to, said) = mpsc::unbounded_channel();
        let take = async |State(to): State<mpsc::UnboundedSender<Value>>,
                          axum::Json(body): axum::Json<Value>| {
            to.send(body).unwrap();
        };
        let router = Router::new().route("/actions/{id}", post(take)).with_state(to);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve::serve(listener, router).await });
        Self { url, said }
    }

    async fn said(&mut self) -> Value {
        tokio::time::timeout(Duration::from_secs(60), self.said.recv()).await.unwrap().unwrap()
    }
}

async fn server(receiver: &Receiver, people: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("slack"), SECRET).unwrap();
    let toml = format!(
        "[approvals.slack]\nsigning_secret = {{ file = \"slack\" }}\nworkspace = \"T1\"\nurl = \"{}\"\npeople = {{ {people} }}\n",
        receiver.url
    );
    Server::on(dir, &toml).await
}

fn payload(receiver: &Receiver, user: &str, decision: &str, approval: &str) -> Value {
    json!({
        "type": "block_actions",
        "user": {"id": user, "username": "someone", "team_id": "T1"},
        "team": {"id": "T1", "domain": "acme"},
        "api_app_id": "A1",
        "response_url": format!("{}/actions/1", receiver.url),
        "actions": [{"action_id": format!("checkrein_{decision}"), "block_id": "b", "value": approval, "type": "button"}],
        "message": {"type": "message", "blocks": [
            {"type": "section", "block_id": "what", "text": {"type": "plain_text", "text": "refund"}},
            {"type": "actions", "block_id": "b", "elements": [
                {"type": "button", "action_id": "checkrein_approve", "value": approval},
                {"type": "button", "action_id": "checkrein_deny", "value": approval},
            ]},
        ]},
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn sign(secret: &str, timestamp: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    let bytes = mac.finalize().into_bytes();
    bytes.iter().fold("v0=".to_owned(), |hex, b| hex + &format!("{b:02x}"))
}

fn form(payload: &Value) -> String {
    // Slack's requests differ; two of one second must, too.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut payload = payload.clone();
    payload["trigger_id"] = json!(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish()
}

impl Server {
    async fn click(&self, timestamp: &str, signature: &str, body: &str) -> Reply {
        let text = format!(
            "POST /v1/hooks/slack HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-slack-request-timestamp: {timestamp}\r\n\
             x-slack-signature: {signature}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.raw(text.as_bytes()).await
    }

    async fn signed(&self, payload: &Value) -> Reply {
        let (body, at) = (form(payload), now());
        self.click(&at.to_string(), &sign(SECRET, at, &body), &body).await
    }
}

#[tokio::test]
async fn a_click_answers_and_the_message_says_who() {
    let mut receiver = Receiver::start().await;
    let server = server(&receiver, "U1 = \"alice@example.com\", U2 = \"bob\"").await;
    ask_for(&server, 2).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let held = server.ask(&agent, &refund()).await;
    let id = text(&held["approval_id"]);

    let first = payload(&receiver, "U1", "approve", id);
    assert_eq!(server.signed(&first).await.status, 200);
    let said = receiver.said().await;
    let status =
        |said: &Value| said["blocks"].as_array().unwrap().last().unwrap()["elements"][0]["text"].clone();
    assert!(text(&status(&said)).contains("Approved by alice@example.com: 1 of 2"), "{said}");
    assert_eq!(
        (&said["replace_original"], &said["blocks"][1]["type"]),
        (&json!(true), &json!("actions")),
        "{said}"
    );

    assert_eq!(server.signed(&first).await.status, 200, "she clicks again");
    let said = receiver.said().await;
    assert_eq!(said["response_type"], "ephemeral", "{said}");
    assert!(text(&said["text"]).contains("approved it already"), "{said}");

    assert_eq!(server.signed(&payload(&receiver, "U2", "approve", id)).await.status, 200);
    let said = receiver.said().await;
    assert!(text(&status(&said)).contains("Approved by alice@example.com and bob at 20"), "{said}");
    assert!(said["blocks"].as_array().unwrap().iter().all(|b| b["type"] != "actions"), "{said}");
    let shown = server.approval(id).await;
    assert_eq!((&shown["state"], &shown["decided_by"]["via"]), (&json!("approved"), &json!("slack")));
    assert_eq!(
        (&shown["decided_by"]["key_id"], &shown["decided_by"]["name"]),
        (&json!("slack:T1/U2"), &json!("bob"))
    );

    server.signed(&payload(&receiver, "U1", "deny", id)).await;
    let late = receiver.said().await;
    assert!(text(&status(&late)).contains("Approved by"), "a late click shows how it stands: {late}");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn what_slack_did_not_sign_lately_and_once_is_refused() {
    let receiver = Receiver::start().await;
    let server = server(&receiver, "U1 = \"alice\"").await;
    ask_for(&server, 1).await;
    let held = server.check(refund()).await;
    let id = text(&held["approval_id"]);
    let click = payload(&receiver, "U1", "approve", id);
    let (body, at) = (form(&click), now());
    let good = sign(SECRET, at, &body);
    for (what, timestamp, signature, body) in [
        ("another secret", at.to_string(), sign("other", at, &body), body.clone()),
        ("another body", at.to_string(), good.clone(), form(&click)),
        ("another time", (at + 1).to_string(), good.clone(), body.clone()),
        ("too old", (at - 301).to_string(), sign(SECRET, at - 301, &body), body.clone()),
        ("from the future", (at + 400).to_string(), sign(SECRET, at + 400, &body), body.clone()),
        ("no signature", at.to_string(), String::new(), body.clone()),
        ("half a signature", at.to_string(), good.get(..40).unwrap().to_owned(), body.clone()),
        ("no hexadecimal", at.to_string(), format!("v0={}", "zz".repeat(32)), body.clone()),
        ("no time", String::new(), good.clone(), body.clone()),
        ("a time that is none", "soon".to_owned(), good.clone(), body.clone()),
    ] {
        let reply = server.click(&timestamp, &signature, &body).await;
        assert_eq!(reply.problem(), "unauthenticated", "{what}");
    }
    let changed = |pointer: &str, value: Value| {
        let mut other = click.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        other
    };
    for (what, payload, status) in [
        ("another workspace", changed("/team/id", json!("T2")), 403),
        ("a guest from another workspace", changed("/user/team_id", json!("T2")), 403),
        ("no workspace", changed("/team", json!(null)), 403),
        ("an answer to elsewhere", changed("/response_url", json!("https://evil.example/actions/1")), 400),
        ("an answer to nowhere", changed("/response_url", json!("file:///etc/passwd")), 400),
        ("no answer", changed("/response_url", json!(null)), 400),
        ("no approval", changed("/actions/0/value", json!("../../v1/keys")), 400),
        ("no interaction", json!([1]), 400),
        ("a link's button", changed("/actions/0/action_id", json!("open")), 200),
        ("another interaction", changed("/type", json!("view_submission")), 200),
    ] {
        let reply = if payload.is_array() {
            let body = "payload=%5B1%5D";
            server.click(&at.to_string(), &sign(SECRET, at, body), body).await
        } else {
            server.signed(&payload).await
        };
        assert_eq!(reply.status, status, "{what}: {reply:?}");
    }
    for body in ["", "payload=", "payload=%7B", "other=1", "\u{0}"] {
        assert_eq!(
            server.click(&at.to_string(), &sign(SECRET, at, body), body).await.status,
            400,
            "{body:?}"
        );
    }
    assert_eq!(server.approval(id).await["state"], "pending", "none of them was taken");
    assert_eq!(server.click(&at.to_string(), &good, &body).await.status, 200);
    let replayed = server.click(&at.to_string(), &good, &body).await;
    assert_eq!(replayed.problem(), "unauthenticated", "{replayed:?}");

    let without = Server::start().await;
    assert_eq!(without.click(&at.to_string(), &good, &body).await.problem(), "not-found");
}

#[tokio::test]
async fn somebody_unknown_changes_nothing_and_is_told_how() {
    let mut receiver = Receiver::start().await;
    let server = server(&receiver, "U1 = \"alice\"").await;
    ask_for(&server, 1).await;
    let held = server.check(refund()).await;
    let id = text(&held["approval_id"]);
    assert_eq!(server.signed(&payload(&receiver, "U9", "approve", id)).await.status, 200);
    let said = receiver.said().await;
    assert_eq!((&said["response_type"], &said["replace_original"]), (&json!("ephemeral"), &json!(false)));
    assert!(text(&said["text"]).contains("U9") && text(&said["text"]).contains("people"), "{said}");
    assert_eq!(server.signed(&payload(&receiver, "U1", "deny", "apr_none")).await.status, 200);
    assert!(text(&receiver.said().await["text"]).contains("not decided"));
    assert_eq!(server.approval(id).await["state"], "pending");
}

#[tokio::test]
async fn a_click_and_a_link_of_ones_own_key_are_one_person() {
    let mut receiver = Receiver::start().await;
    let server = server(&receiver, "U1 = \"ann\", U2 = \"dora\"").await;
    ask_for(&server, 2).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let ann = server.operator("Ann").await;
    for (order, click_first) in [(1, true), (2, false)] {
        let mut refund = refund();
        refund["payload"]["order"] = json!(order);
        let held = server.ask(&agent, &refund).await;
        let id = text(&held["approval_id"]);
        let path = server.link(&ann, id, json!({"for": "bob"})).await.json();
        let path = text(&path["path"]);
        if click_first {
            server.signed(&payload(&receiver, "U1", "approve", id)).await;
            assert!(receiver.said().await["blocks"].is_array());
            assert_eq!(server.fill_in(path, "decision=approve").await.status, 409);
        } else {
            assert_eq!(server.fill_in(path, "decision=approve").await.status, 303);
            server.signed(&payload(&receiver, "U1", "approve", id)).await;
            let said = receiver.said().await;
            assert!(text(&said["text"]).contains("bob approved it already"), "{said}");
        }
        let shown = server.approval(id).await;
        assert_eq!((&shown["state"], &shown["approvals_given"]), (&json!("pending"), &json!(1)), "{shown}");
        server.signed(&payload(&receiver, "U2", "approve", id)).await;
        receiver.said().await;
        assert_eq!(server.approval(id).await["state"], "approved");
    }
}

#[tokio::test]
async fn fifty_clicks_are_one_decision() {
    let mut receiver = Receiver::start().await;
    let people: Vec<_> = (0..50).map(|n| format!("U{n} = \"person {n}\"")).collect();
    let server = server(&receiver, &people.join(", ")).await;
    ask_for(&server, 1).await;
    let held = server.check(refund()).await;
    let id = text(&held["approval_id"]);
    let clicks = (0..50).map(|n| {
        let click = payload(&receiver, &format!("U{n}"), if n % 2 == 0 { "approve" } else { "deny" }, id);
        let server = &server;
        async move { server.signed(&click).await }
    });
    let clicks = futures_util::future::join_all(clicks).await;
    assert!(clicks.iter().all(|reply| reply.status == 200));
    let mut told = Vec::new();
    for _ in 0..50 {
        told.push(receiver.said().await["text"].clone());
    }
    assert!(told.iter().all(|said| *said == told[0]), "everybody sees the same answer: {told:?}");
    let decisions = server.logged("approval.changed").await;
    assert_eq!(decisions.iter().filter(|e| e["transition"] == "decide").count(), 1);
}

#[tokio::test]
async fn a_click_is_acknowledged_while_the_store_is_stuck() {
    let mut receiver = Receiver::start().await;
    let server = server(&receiver, "U1 = \"alice\"").await;
    ask_for(&server, 1).await;
    let held = server.check(refund()).await;
    let id = text(&held["approval_id"]).to_owned();
    // Nobody can write to the database as long as this transaction is open.
    let db = rusqlite::Connection::open(server.dir.path().join("data/checkrein.db")).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    server.approval(&id).await;
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reply = server.signed(&payload(&receiver, "U1", "approve", &id)).await;
    assert_eq!(reply.status, 200, "acknowledged before anything could be recorded");
    assert!(receiver.said.try_recv().is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    db.execute_batch("ROLLBACK").unwrap();
    let said = receiver.said().await;
    assert!(text(&said["text"]).contains("Approved by alice"), "{said}");
    assert_eq!(server.approval(&id).await["state"], "approved");
}
