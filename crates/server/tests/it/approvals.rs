//! Several people, comments, withdrawal, what no longer holds, and a restart in the middle.

use super::common::{ADMIN, Reply, Server};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) fn refund() -> Value {
    json!({"action": "refund", "resource": "shop.orders", "payload": {"record_count": 1, "order": 7}})
}

/// Refunds need `approvals` people.
pub(crate) async fn ask_for(server: &Server, approvals: u8) {
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "approvals": approvals,
            "condition": {"action": "refund", "resource_pattern": "shop.*"}}))
        .await;
}

impl Server {
    /// A key of an operator of that name.
    pub(crate) async fn operator(&self, name: &str) -> String {
        let reply = self.post("/v1/keys", json!({"role": "operator", "name": name})).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["key"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn decide(&self, approval: &str, key: &str, decision: &str) -> Reply {
        let body = json!({"decision": decision}).to_string();
        self.send("POST", &format!("/v1/approvals/{approval}/decision"), key, &body).await
    }

    pub(crate) async fn ask(&self, key: &str, body: &Value) -> Value {
        let reply = self.send("POST", "/v1/checks", key, &body.to_string()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// The approval as it stands.
    pub(crate) async fn approval(&self, id: &str) -> Value {
        self.get(&format!("/v1/approvals/{id}")).await.json()
    }

    /// The bodies of all entries of a kind.
    pub(crate) async fn logged(&self, kind: &str) -> Vec<Value> {
        let entries = self.app.store().entries(0, 10_000, Default::default()).await.unwrap();
        let of_kind = entries.iter().filter(|e| e.kind == kind);
        of_kind.map(|e| serde_json::from_str(&e.body).unwrap()).collect()
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

#[tokio::test]
async fn two_people_must_approve_and_one_can_deny() {
    let server = Server::start().await;
    ask_for(&server, 2).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let (ann, bob) = (server.operator("Ann").await, server.operator("Bob").await);
    let held = server.ask(&agent, &refund()).await;
    assert_eq!(held["verdict"], "hold");
    assert!(text(&held["reason"]).contains("2 people must approve it"), "{held}");
    let (id, check) = (text(&held["approval_id"]), format!("/v1/checks/{}", text(&held["id"])));

    let first = server.decide(id, &ann, "approve").await.json();
    let progress =
        |a: &Value| (a["state"].clone(), a["approvals_given"].clone(), a["approvals_required"].clone());
    assert_eq!(progress(&first), (json!("pending"), json!(1), json!(2)), "{first}");
    let waits = server.send("GET", &check, &agent, "").await.json();
    assert_eq!(waits["verdict"], "hold");
    assert!(text(&waits["reason"]).contains("Approved by Ann: 1 of 2 people."), "{waits}");
    assert_eq!(server.ask(&agent, &refund()).await["approval_id"], id, "asking again changes nothing");

    let again = server.decide(id, &ann, "approve").await;
    assert_eq!((again.status, again.problem().as_str()), (409, "approval-settled"));
    let other_key = server.operator("ann").await;
    assert_eq!(
        server.decide(id, &other_key, "approve").await.status,
        409,
        "Ann with another key is still Ann"
    );

    let second = server.decide(id, &bob, "approve").await.json();
    assert_eq!(progress(&second), (json!("approved"), json!(2), json!(2)), "{second}");
    assert_eq!(
        (&second["given"][0]["by"]["name"], &second["decided_by"]["name"]),
        (&json!("Ann"), &json!("Bob"))
    );
    let runs = server.send("GET", &check, &agent, "").await.json();
    assert_eq!(runs["verdict"], "allow");
    assert!(text(&runs["reason"]).contains("Approved by Ann and Bob."), "{runs}");
    let changes = server.logged("approval.changed").await;
    let who: Vec<_> =
        changes.iter().filter(|c| c["transition"] == "decide").map(|c| text(&c["by"]["name"])).collect();
    assert_eq!(who, ["Ann", "Bob"], "both are on record");

    let held = server.ask(&agent, &refund()).await;
    let id = text(&held["approval_id"]);
    assert_eq!(server.decide(id, &ann, "approve").await.json()["state"], "pending");
    let denied = server.decide(id, &ann, "deny").await.json();
    assert_eq!(denied["state"], "denied", "one no settles it, also from somebody who said yes before");
    assert_eq!(server.decide(id, &bob, "approve").await.status, 409);
}

#[tokio::test]
async fn whoever_asked_is_none_of_the_two() {
    let server = Server::start().await;
    ask_for(&server, 2).await;
    let (ann, bob, cid) =
        (server.operator("ann").await, server.operator("bob").await, server.operator("cid").await);
    let held = server.ask(&ann, &refund()).await;
    let id = text(&held["approval_id"]);
    let own = server.decide(id, &ann, "approve").await;
    assert_eq!(own.status, 409, "{own:?}");
    assert!(own.body.contains("asked for this action"), "{own:?}");
    assert_eq!(server.decide(id, &bob, "approve").await.json()["approvals_given"], 1);
    assert_eq!(server.decide(id, &cid, "approve").await.json()["state"], "approved");
}

#[tokio::test]
async fn fifty_people_at_once_are_two_approvals() {
    let server = Server::start().await;
    ask_for(&server, 2).await;
    let mut keys = Vec::new();
    for n in 0..25 {
        keys.push(server.operator(&format!("person {n}")).await);
    }
    let held = server.check(refund()).await;
    let id = text(&held["approval_id"]);
    // Everybody clicks twice.
    let clicks = keys.iter().chain(&keys).map(|key| server.decide(id, key, "approve"));
    let answers = futures_util::future::join_all(clicks).await;
    assert_eq!(answers.iter().filter(|r| r.status == 200).count(), 2);
    assert_eq!(answers.iter().filter(|r| r.status == 409).count(), 48);
    let shown = server.approval(id).await;
    assert_eq!((&shown["state"], &shown["approvals_given"]), (&json!("approved"), &json!(2)));
    assert_ne!(shown["given"][0]["by"]["name"], shown["decided_by"]["name"]);
}

#[tokio::test]
async fn a_comment_answers_nothing() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let ann = server.operator("ann").await;
    let held = server.ask(&agent, &refund()).await;
    let path = format!("/v1/approvals/{}/comments", text(&held["approval_id"]));
    let said = server.send("POST", &path, &ann, r#"{"text":"waiting for finance"}"#).await.json();
    assert_eq!(said["state"], "pending");
    assert_eq!(
        (&said["comments"][0]["text"], &said["comments"][0]["by"]["name"]),
        (&json!("waiting for finance"), &json!("ann"))
    );
    for (key, body, status) in [
        (&agent, r#"{"text":"please"}"#.to_owned(), 403),
        (&ann, r#"{"text":" "}"#.to_owned(), 400),
        (&ann, json!({"text": "x".repeat(4097)}).to_string(), 400),
        (&ann, json!({"text": "a\u{202e}b"}).to_string(), 400),
        (&ann, r#"{"text":"x","by":"boss"}"#.to_owned(), 400),
        (&ann, r#"{"text":7}"#.to_owned(), 400),
        (&ann, "{".to_owned(), 400),
    ] {
        assert_eq!(server.send("POST", &path, key, &body).await.status, status, "{body:.40}");
    }
    let nowhere = server.send("POST", "/v1/approvals/apr_none/comments", &ann, r#"{"text":"x"}"#).await;
    assert_eq!(nowhere.problem(), "not-found");
    for n in 1..100 {
        let more = server.send("POST", &path, &ann, &json!({"text": format!("{n}")}).to_string()).await;
        assert_eq!(more.status, 200);
    }
    let full = server.send("POST", &path, &ann, r#"{"text":"one more"}"#).await;
    assert_eq!((full.status, full.problem().as_str()), (409, "approval-settled"));
}

#[tokio::test]
async fn an_agent_that_gives_up_withdraws() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let (agent, other) =
        (server.key("agent", Some("shop-bot")).await, server.key("agent", Some("shop-*")).await);
    let ann = server.operator("ann").await;
    let held = server.ask(&agent, &refund()).await;
    let (check, approval) = (text(&held["id"]), text(&held["approval_id"]));
    let withdraw = format!("/v1/checks/{check}/withdraw");
    assert_eq!(server.send("POST", &withdraw, &other, "").await.status, 403, "another key of the same agent");
    assert_eq!(server.send("POST", &withdraw, &ann, "").await.status, 403, "an operator denies instead");
    assert_eq!(server.send("POST", &withdraw, "", "").await.status, 401);

    let wait = format!("/v1/checks/{check}?wait=20s");
    let (waited, withdrawn) = tokio::join!(server.send("GET", &wait, &agent, ""), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.send("POST", &withdraw, &agent, "").await
    });
    assert_eq!(withdrawn.json()["verdict"], "block", "{withdrawn:?}");
    assert!(text(&waited.json()["reason"]).contains("withdrew"), "{waited:?}");
    assert_eq!(server.send("POST", &withdraw, &agent, "").await.status, 200, "again changes nothing");
    assert_eq!(server.decide(approval, &ann, "approve").await.status, 409);
    assert_eq!(server.approval(approval).await["state"], "withdrawn");

    // Approved while it gave up: the answer lets nothing through later.
    let held = server.ask(&agent, &refund()).await;
    assert_ne!(held["approval_id"], approval);
    assert_eq!(server.decide(text(&held["approval_id"]), &ann, "approve").await.status, 200);
    let gave_up =
        server.send("POST", &format!("/v1/checks/{}/withdraw", text(&held["id"])), &agent, "").await;
    assert_eq!(gave_up.json()["verdict"], "block");
    assert_eq!(server.ask(&agent, &refund()).await["verdict"], "hold");

    // Let through already: then it runs, and the agent must know.
    let held = server.ask(&agent, &refund()).await;
    server.decide(text(&held["approval_id"]), &ann, "approve").await;
    let id = text(&held["id"]);
    assert_eq!(server.send("GET", &format!("/v1/checks/{id}"), &agent, "").await.json()["verdict"], "allow");
    let late = server.send("POST", &format!("/v1/checks/{id}/withdraw"), &agent, "").await;
    assert_eq!((late.status, late.problem().as_str()), (409, "approval-settled"));
    let free = server.ask(&agent, &json!({"action": "read", "resource": "shop.orders"})).await;
    let free = server.send("POST", &format!("/v1/checks/{}/withdraw", text(&free["id"])), &agent, "").await;
    assert_eq!(free.problem(), "conflict");
    assert_eq!(server.send("POST", "/v1/checks/chk_none/withdraw", &agent, "").await.problem(), "not-found");
}

#[tokio::test]
async fn one_persons_yes_is_not_enough_once_two_must_approve() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let ann = server.operator("ann").await;
    let held = server.ask(&agent, &refund()).await;
    server.decide(text(&held["approval_id"]), &ann, "approve").await;
    server
        .policy(json!({"name": "two", "rule": "require_approval", "approvals": 2, "condition": {"action": "refund"}}))
        .await;
    let stands = server.send("GET", &format!("/v1/checks/{}", text(&held["id"])), &agent, "").await.json();
    assert_eq!(stands["verdict"], "block", "{stands}");
    assert!(text(&stands["reason"]).contains("2 people must approve it now"), "{stands}");
    let anew = server.ask(&agent, &refund()).await;
    assert_eq!(anew["verdict"], "hold");
    assert_ne!(anew["approval_id"], held["approval_id"]);
}

#[tokio::test]
async fn a_restart_between_two_people_loses_and_repeats_nothing() {
    let server = Server::start().await;
    ask_for(&server, 2).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let (ann, bob) = (server.operator("ann").await, server.operator("bob").await);
    let held = server.ask(&agent, &refund()).await;
    let id = text(&held["approval_id"]);
    server.decide(id, &ann, "approve").await;
    let server = Server::on(server.stop().await, "").await;
    assert_eq!(server.decide(id, &ann, "approve").await.status, 409, "her yes was not forgotten");
    assert_eq!(server.decide(id, &bob, "approve").await.json()["state"], "approved");
    let server = Server::on(server.stop().await, "").await;
    let same = refund();
    let asks = (0..20).map(|_| server.ask(&agent, &same));
    let answers = futures_util::future::join_all(asks).await;
    assert_eq!(answers.iter().filter(|a| a["verdict"] == "allow").count(), 1, "used once");
    let first = server.send("GET", &format!("/v1/checks/{}", text(&held["id"])), &agent, "").await.json();
    assert_eq!(first["verdict"], "block");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn whoever_asks_is_none_of_two_people_by_another_key_either() {
    let server = Server::start().await;
    ask_for(&server, 2).await;
    let (asks, other) = (server.operator("Ann").await, server.operator("ann").await);
    let (bob, cleo) = (server.operator("Bob").await, server.operator("Cleo").await);
    let held = server.ask(&asks, &refund()).await;
    let id = text(&held["approval_id"]);
    for key in [&asks, &other] {
        let refused = server.decide(id, key, "approve").await;
        assert_eq!(refused.status, 409, "{refused:?}");
        assert!(refused.body.contains("asked for this action"), "{refused:?}");
    }
    assert_eq!(server.approval(id).await["approvals_given"], 0);
    assert_eq!(server.decide(id, &bob, "approve").await.status, 200);
    assert_eq!(server.decide(id, &cleo, "approve").await.json()["state"], "approved");
}

#[tokio::test]
async fn a_key_that_is_revoked_while_it_waits_hears_no_yes() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let made =
        server.post("/v1/keys", json!({"role": "agent", "name": "k", "agent": "shop-bot"})).await.json();
    let (id, agent) = (text(&made["id"]), text(&made["key"]));
    let ann = server.operator("Ann").await;
    let held = server.ask(agent, &refund()).await;
    let waits = format!("/v1/checks/{}?wait=60s", text(&held["id"]));
    let decides = async {
        // The key is refused from the moment that it is revoked; a request that it began before waits all the while.
        let revoked = server.send("DELETE", &format!("/v1/keys/{id}"), ADMIN, "").await;
        assert_eq!(revoked.status, 204, "{revoked:?}");
        let decided = server.decide(text(&held["approval_id"]), &ann, "approve").await;
        assert_eq!(decided.status, 200, "{decided:?}");
    };
    let (waited, ()) = tokio::join!(biased; server.send("GET", &waits, agent, ""), decides);
    assert_eq!(waited.status, 401, "{waited:?}");
    assert_eq!(server.approval(text(&held["approval_id"])).await["used_by"], Value::Null);
}
