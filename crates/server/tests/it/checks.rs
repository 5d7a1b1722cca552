//! What callers of the API rely on: verdicts, idempotency, roles, approvals, the record.

use super::common::{ADMIN, Server};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn bulk(n: u64) -> Value {
    json!({"action": "update", "resource": "users.accounts", "payload": {"record_count": n}})
}

async fn with_article_policies() -> Server {
    // What tests do over and over would open the breaker.
    let server = Server::with("[drift]\nmode = 'alert'\n").await;
    for policy in [
        json!({"name": "blast_radius_limit", "rule": "block", "condition": {"action": "update", "record_count_exceeds": 25}}),
        json!({"name": "no_production_deletes", "rule": "block", "condition": {"action": "delete", "resource_pattern": "production.*"}}),
        json!({"name": "email_volume_alert", "rule": "alert", "condition": {"action": "send_email", "recipient_count_exceeds": 50}}),
    ] {
        server.policy(policy).await;
    }
    server
}

#[tokio::test]
async fn the_articles_policies_decide() {
    let server = with_article_policies().await;
    let small = server.check(bulk(25)).await;
    assert_eq!(
        (&small["verdict"], &small["category"], &small["environment"]),
        (&json!("allow"), &json!("write"), &json!("production"))
    );
    let large = server.check(bulk(26)).await;
    assert_eq!(large["verdict"], "block");
    assert_eq!(large["policies"][0]["name"], "blast_radius_limit");
    assert_eq!(large["blast_radius"]["records"], 26);
    assert!(large["reason"].as_str().unwrap().contains("26"), "{large}");
    let unknown = server.check(json!({"action": "update", "resource": "users.accounts"})).await;
    assert_eq!(unknown["verdict"], "block", "unknown is too many: {unknown}");
    let delete = server
        .check(
            json!({"action": "remove_user", "resource": "Production.Users", "payload": {"record_count": 1}}),
        )
        .await;
    assert_eq!(delete["verdict"], "block", "a synonym in another case is the same thing: {delete}");
    let to: Vec<_> = (0..60).map(|i| format!("u{i}@example.com")).collect();
    let mail = server.check(json!({"tool": "send_email", "arguments": {"to": to, "subject": "hi"}})).await;
    assert_eq!(
        (&mail["verdict"], &mail["policies"][0]["name"]),
        (&json!("allow"), &json!("email_volume_alert"))
    );
    assert_eq!(mail["blast_radius"]["recipients"], 60);
    let lie = server.check(json!({"action": "read", "resource": "production.users", "statement": "DELETE FROM users", "payload": {"record_count": 1}})).await;
    assert_eq!(lie["verdict"], "block", "the statement counts, not the word: {lie}");
}

#[tokio::test]
async fn the_same_idempotency_key_gets_the_same_answer_once() {
    let server = with_article_policies().await;
    let mut body = bulk(3);
    body["idempotency_key"] = json!("k-1");
    let first = server.check(body.clone()).await;
    let again = server.check(body.clone()).await;
    assert_eq!(first, again);
    let burst = futures_util::future::join_all((0..32).map(|_| {
        let mut body = bulk(4);
        body["idempotency_key"] = json!("k-2");
        server.check(body)
    }))
    .await;
    assert!(burst.iter().all(|d| *d == burst[0]), "one decision for all");
    body["payload"]["record_count"] = json!(4);
    let reused = server.post("/v1/checks", body).await;
    assert_eq!((reused.status, reused.problem().as_str()), (422, "idempotency-key-reused"));
    let list = server.get("/v1/checks").await.json();
    assert_eq!(list["checks"].as_array().unwrap().len(), 2, "recorded once each: {list}");
}

#[tokio::test]
async fn an_idempotency_key_survives_a_restart_and_belongs_to_its_key() {
    let server = Server::start().await;
    let mut body = bulk(3);
    body["idempotency_key"] = json!("k");
    let first = server.check(body.clone()).await;
    let server = Server::on(server.stop().await, "").await;
    assert_eq!(server.check(body.clone()).await, first);
    let other = server.key("operator", None).await;
    let theirs = server.send("POST", "/v1/checks", &other, &body.to_string()).await;
    assert_ne!(theirs.json()["id"], first["id"]);
}

#[tokio::test]
async fn an_agents_key_does_only_what_an_agent_may() {
    let server = Server::start().await;
    let billing = server.key("agent", Some("billing-bot")).await;
    let support = server.key("agent", Some("support-*")).await;
    let mine = server.send("POST", "/v1/checks", &billing, &bulk(1).to_string()).await;
    assert_eq!(mine.status, 200);
    let id = mine.json()["id"].as_str().unwrap().to_owned();
    let seen = server.send("GET", &format!("/v1/checks/{id}"), &billing, "").await;
    assert_eq!(seen.json()["agent"], "billing-bot");

    let mut posing = bulk(1);
    posing["agent"] = json!("support-1");
    for (key, method, path, body, status) in [
        (&billing, "POST", "/v1/checks", posing.to_string(), 403),
        (&support, "POST", "/v1/checks", bulk(1).to_string(), 400),
        (&support, "GET", &*format!("/v1/checks/{id}"), String::new(), 404),
        (&support, "POST", &*format!("/v1/checks/{id}/outcome"), json!({"status": "ok"}).to_string(), 404),
        (&support, "GET", "/v1/checks?agent=billing-bot", String::new(), 403),
        (&support, "GET", "/v1/checks?agent=*", String::new(), 403),
        (&billing, "GET", "/v1/policies", String::new(), 403),
        (
            &billing,
            "POST",
            "/v1/policies",
            json!({"name": "a", "rule": "allow", "condition": {}}).to_string(),
            403,
        ),
        (&billing, "PUT", "/v1/policies", json!({"policies": []}).to_string(), 403),
        (&billing, "DELETE", "/v1/policies/a", String::new(), 403),
        (&billing, "POST", "/v1/policies/replay", "{}".into(), 403),
        (&billing, "GET", "/v1/approvals", String::new(), 403),
        (&billing, "POST", "/v1/approvals/apr_1/decision", json!({"decision": "approve"}).to_string(), 403),
        (&billing, "GET", "/v1/keys", String::new(), 403),
        (&billing, "POST", "/v1/keys", json!({"role": "admin", "name": "x"}).to_string(), 403),
        (&billing, "GET", "/v1/stream", String::new(), 403),
    ] {
        let reply = server.send(method, path, key, &body).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        reply.problem();
    }
    assert_eq!(server.send("GET", "/v1/checks", &support, "").await.json()["checks"], json!([]));
    assert_eq!(
        server.send("GET", "/v1/checks", &billing, "").await.json()["checks"].as_array().unwrap().len(),
        1
    );

    let operator = server.key("operator", None).await;
    assert_eq!(server.send("GET", "/v1/policies", &operator, "").await.status, 200);
    assert_eq!(server.send("PUT", "/v1/policies", &operator, r#"{"policies":[]}"#).await.status, 403);
    assert_eq!(server.send("GET", "/v1/checks", "", "").await.problem(), "unauthenticated");
    assert_eq!(server.send("GET", "/v1/checks", "ck_admin_wrong", "").await.problem(), "unauthenticated");
}

#[tokio::test]
async fn a_revoked_key_stops_at_once_and_for_ever() {
    let server = Server::start().await;
    let made = server.post("/v1/keys", json!({"role": "operator", "name": "ann"})).await.json();
    let (id, key) = (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
    assert_eq!(server.send("GET", "/v1/checks", &key, "").await.status, 200);
    assert!(!server.get("/v1/keys").await.body.contains(&key));
    assert_eq!(server.send("DELETE", &format!("/v1/keys/{id}"), ADMIN, "").await.status, 204);
    assert_eq!(server.send("GET", "/v1/checks", &key, "").await.status, 401);
    let server = Server::on(server.stop().await, "").await;
    assert_eq!(server.send("GET", "/v1/checks", &key, "").await.status, 401);
    assert_eq!(server.send("DELETE", "/v1/keys/key_env", ADMIN, "").await.status, 409);
}

fn approval_policy() -> Value {
    json!({"name": "ask", "rule": "require_approval", "condition": {"action": "refund", "resource_pattern": "shop.*"}})
}

fn refund() -> Value {
    json!({"action": "refund", "resource": "shop.orders", "payload": {"record_count": 1, "order": 7}})
}

#[tokio::test]
async fn a_hold_waits_for_a_person_and_lets_one_check_through() {
    let server = Server::start().await;
    server.policy(approval_policy()).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let held = server.send("POST", "/v1/checks", &agent, &refund().to_string()).await.json();
    assert_eq!(held["verdict"], "hold", "{held}");
    let (check, approval) = (held["id"].as_str().unwrap(), held["approval_id"].as_str().unwrap());

    let again = server.send("POST", "/v1/checks", &agent, &refund().to_string()).await.json();
    assert_eq!(again["approval_id"], approval, "asking again joins the same request");

    let forged = server
        .send("POST", &format!("/v1/approvals/{approval}/decision"), &agent, r#"{"decision":"approve"}"#)
        .await;
    assert_eq!(forged.status, 403);
    let named = server
        .post(&format!("/v1/approvals/{approval}/decision"), json!({"decision": "approve", "by": "boss"}))
        .await;
    assert_eq!(named.status, 400, "who approves is told by the key only");

    let path = format!("/v1/checks/{check}?wait=20s");
    let started = Instant::now();
    let (waited, decided) = tokio::join!(server.send("GET", &path, &agent, ""), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server
            .post(
                &format!("/v1/approvals/{approval}/decision"),
                json!({"decision": "approve", "comment": "fine"}),
            )
            .await
    });
    assert_eq!(decided.json()["state"], "approved", "{decided:?}");
    let waited = waited.json();
    assert_eq!(waited["verdict"], "allow", "{waited}");
    assert!(waited["reason"].as_str().unwrap().contains("CHECKREIN_ADMIN_KEY: fine"), "{waited}");
    assert!(started.elapsed() < Duration::from_secs(10));
    let stays = server.send("GET", &path, &agent, "").await.json();
    assert_eq!(stays["verdict"], "allow", "the same check keeps its answer");

    let second = again["id"].as_str().unwrap();
    let used = server.send("GET", &format!("/v1/checks/{second}"), &agent, "").await.json();
    assert_eq!(used["verdict"], "block", "an approval lets one check through: {used}");
    let third = server.send("POST", "/v1/checks", &agent, &refund().to_string()).await.json();
    assert_eq!(third["verdict"], "hold");
    assert_ne!(third["approval_id"], approval);
    let twice = server.post(&format!("/v1/approvals/{approval}/decision"), json!({"decision": "deny"})).await;
    assert_eq!((twice.status, twice.problem().as_str()), (409, "approval-settled"));
}

#[tokio::test]
async fn an_approval_is_for_that_exact_action_and_can_be_used_by_asking_again() {
    let server = Server::start().await;
    server.policy(approval_policy()).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let ask = async |body: Value| server.send("POST", "/v1/checks", &agent, &body.to_string()).await.json();
    let held = ask(refund()).await;
    let approval = held["approval_id"].as_str().unwrap();
    let path = format!("/v1/approvals/{approval}/decision");
    assert_eq!(server.post(&path, json!({"decision": "approve"})).await.status, 200);

    let mut other = refund();
    other["payload"]["order"] = json!(8);
    assert_eq!(ask(other).await["verdict"], "hold", "another payload is another action");
    let stranger = server.check(refund()).await;
    assert_eq!(stranger["verdict"], "hold", "another agent is another action");
    let looked = server.get(&format!("/v1/checks/{}", held["id"].as_str().unwrap())).await.json();
    assert_eq!(looked["verdict"], "hold", "somebody else looking does not use it: {looked}");

    let let_through = ask(refund()).await;
    assert_eq!((&let_through["verdict"], &let_through["approval_id"]), (&json!("allow"), &json!(approval)));
    let shown = server.get(&format!("/v1/approvals/{approval}")).await.json();
    assert_eq!(shown["used_by"], let_through["id"]);
    assert_eq!(ask(refund()).await["verdict"], "hold");
}

#[tokio::test]
async fn denied_and_expired_are_told_apart() {
    let server = Server::with("[approvals]\nexpire_after = \"1s\"").await;
    server.policy(approval_policy()).await;
    let held = server.check(refund()).await;
    let deny = format!("/v1/approvals/{}/decision", held["approval_id"].as_str().unwrap());
    assert_eq!(
        server.post(&deny, json!({"decision": "deny", "comment": "no budget"})).await.json()["state"],
        "denied"
    );
    let path = format!("/v1/checks/{}", held["id"].as_str().unwrap());
    let denied = server.get(&path).await.json();
    assert_eq!(denied["verdict"], "block");
    assert!(
        denied["reason"].as_str().unwrap().contains("Denied by CHECKREIN_ADMIN_KEY: no budget"),
        "{denied}"
    );

    let held = server.check(refund()).await;
    let path = format!("/v1/checks/{}?wait=10s", held["id"].as_str().unwrap());
    let expired = server.get(&path).await.json();
    assert_eq!(expired["verdict"], "block");
    assert!(expired["reason"].as_str().unwrap().contains("Nobody said no"), "{expired}");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let approval = format!("/v1/approvals/{}", held["approval_id"].as_str().unwrap());
    assert_eq!(server.get(&approval).await.json()["state"], "expired");
    let late = server.post(&format!("{approval}/decision"), json!({"decision": "approve"})).await;
    assert_eq!(late.status, 409);
    let kinds = server.app.store().entries(0, 1000, Default::default()).await.unwrap();
    assert!(kinds.iter().any(|e| e.kind == "approval.changed" && e.body.contains("expire")), "on record");
}

#[tokio::test]
async fn an_approval_does_not_outlive_a_policy_that_now_blocks() {
    let server = Server::start().await;
    server.policy(approval_policy()).await;
    let held = server.check(refund()).await;
    let path = format!("/v1/approvals/{}/decision", held["approval_id"].as_str().unwrap());
    assert_eq!(server.post(&path, json!({"decision": "approve"})).await.status, 200);
    server
        .policy(json!({"name": "freeze", "rule": "block", "condition": {"resource_pattern": "shop.*"}}))
        .await;
    let stands = server.get(&format!("/v1/checks/{}", held["id"].as_str().unwrap())).await.json();
    assert_eq!(stands["verdict"], "block", "{stands}");
    assert!(stands["reason"].as_str().unwrap().contains("freeze"), "{stands}");
    assert_eq!(server.check(refund()).await["verdict"], "block");
}

#[tokio::test]
async fn fifty_people_decide_at_once_and_one_answer_counts() {
    let server = Server::start().await;
    server.policy(approval_policy()).await;
    let held = server.check(refund()).await;
    let path = format!("/v1/approvals/{}/decision", held["approval_id"].as_str().unwrap());
    let answers = futures_util::future::join_all((0..50).map(|i| {
        let decision = if i % 2 == 0 { "approve" } else { "deny" };
        server.post(&path, json!({"decision": decision}))
    }))
    .await;
    assert_eq!(answers.iter().filter(|r| r.status == 200).count(), 1);
    assert_eq!(answers.iter().filter(|r| r.status == 409).count(), 49);
}

#[tokio::test]
async fn holds_survive_a_restart() {
    let server = Server::start().await;
    server.policy(approval_policy()).await;
    let held = server.check(refund()).await;
    let server = Server::on(server.stop().await, "").await;
    assert_eq!(server.get("/v1/policies").await.json()["policies"][0]["name"], "ask");
    let path = format!("/v1/approvals/{}/decision", held["approval_id"].as_str().unwrap());
    assert_eq!(server.post(&path, json!({"decision": "approve"})).await.status, 200);
    let server = Server::on(server.stop().await, "").await;
    let stands = server.get(&format!("/v1/checks/{}", held["id"].as_str().unwrap())).await.json();
    assert_eq!(stands["verdict"], "allow", "{stands}");
}

#[tokio::test]
async fn outcomes_are_reported_once() {
    let server = Server::start().await;
    let id = server.check(bulk(2)).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/checks/{id}/outcome");
    assert_eq!(server.post(&path, json!({"status": "unknown"})).await.status, 200);
    let report = json!({"status": "error", "records": 1, "error": "x".repeat(10_000)});
    assert_eq!(server.post(&path, report.clone()).await.status, 200, "a better answer may follow `unknown`");
    assert_eq!(server.post(&path, report).await.status, 200, "the same again");
    assert_eq!(server.post(&path, json!({"status": "ok"})).await.status, 409);
    assert_eq!(server.post(&path, json!({"status": "maybe"})).await.status, 400);
    let outcome = server.get(&format!("/v1/checks/{id}")).await.json()["outcome"].clone();
    assert_eq!((&outcome["status"], outcome["error"].as_str().unwrap().len()), (&json!("error"), 4096));
    assert_eq!(server.post("/v1/checks/chk_none/outcome", json!({"status": "ok"})).await.status, 404);
}

#[tokio::test]
async fn rates_are_exact_and_survive_a_restart() {
    let server = Server::start().await;
    server.policy(json!({"name": "rate", "rule": "block", "condition": {"action": "update_ticket", "rate_exceeds": {"count": 3, "period": "1h"}}})).await;
    let ticket = |n: u64| json!({"tool": "update_ticket", "arguments": {"ticket_id": n}});
    for n in 0..3 {
        assert_eq!(server.check(ticket(n)).await["verdict"], "allow");
    }
    let server = Server::on(server.stop().await, "").await;
    let fourth = server.check(ticket(4)).await;
    assert_eq!(fourth["verdict"], "block", "{fourth}");
    assert_eq!(
        server.check(json!({"tool": "get_ticket", "arguments": {"ticket_id": 1}})).await["verdict"],
        "allow"
    );
}

#[tokio::test]
async fn checks_are_listed_with_filters_and_cursor() {
    let server = with_article_policies().await;
    for n in 0..25 {
        let mut body = bulk(n * 2);
        body["agent"] = json!(if n % 2 == 0 { "a-even" } else { "a-odd" });
        server.check(body).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/checks?limit=7{cursor}")).await.json();
        seen.extend(page["checks"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, each once");
    let count = async |query: &str| {
        let reply = server.get(&format!("/v1/checks?limit=500&{query}")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["checks"].as_array().unwrap().len()
    };
    assert_eq!(count("agent=a-odd").await, 12);
    assert_eq!(count("agent=a-*").await, 25);
    assert_eq!(count("verdict=block").await, 12);
    assert_eq!(count("category=read").await, 0);
    assert_eq!(count("action=UPDATE&resource=users.*").await, 25);
    assert_eq!(count("until=2020-01-01T00:00:00Z").await, 0);
    assert_eq!(count("since=2020-01-01T00:00:00Z").await, 25);
    for bad in ["cursor=x", "verdict=maybe", "colour=red", "since=yesterday", "agent=%E2%80%AE"] {
        assert_eq!(server.get(&format!("/v1/checks?{bad}")).await.problem(), "invalid-request", "{bad}");
    }
}

#[tokio::test]
async fn policies_are_created_replaced_and_replayed() {
    let server = with_article_policies().await;
    server.check(bulk(30)).await;
    server.check(bulk(10)).await;
    let same = json!({"condition": {"record_count_exceeds": 25, "action": "update"}, "rule": "block", "name": "blast_radius_limit"});
    assert_eq!(server.post("/v1/policies", same).await.status, 200, "the same content is no error");
    let other = json!({"name": "blast_radius_limit", "rule": "block", "condition": {"action": "update", "record_count_exceeds": 5}});
    assert_eq!(server.post("/v1/policies", other.clone()).await.problem(), "conflict");

    let replay = server.post("/v1/policies/replay", json!({"policies": [other]})).await.json();
    assert_eq!((&replay["checked"], &replay["changed"]), (&json!(2), &json!(1)), "{replay}");
    assert_eq!(server.check(bulk(10)).await["verdict"], "allow", "a replay changes nothing");

    assert_eq!(
        server.send("PUT", "/v1/policies/blast_radius_limit", ADMIN, &other.to_string()).await.status,
        200
    );
    assert_eq!(server.check(bulk(10)).await["verdict"], "block");
    assert_eq!(server.send("PUT", "/v1/policies/other_name", ADMIN, &other.to_string()).await.status, 400);

    let broken = json!({"name": "b", "rule": "block", "condition": {"resorce_pattern": "x"}});
    let reply = server.post("/v1/policies", broken.clone()).await;
    assert_eq!(reply.problem(), "policy-does-not-compile");
    assert!(reply.body.contains("resource_pattern"), "names the nearest key: {reply:?}");
    let bundle = json!({"policies": [other, broken]});
    assert_eq!(server.send("PUT", "/v1/policies", ADMIN, &bundle.to_string()).await.status, 422);
    assert_eq!(
        server.get("/v1/policies").await.json()["policies"].as_array().unwrap().len(),
        3,
        "all or nothing"
    );

    let bundle = json!({"policies": [{"name": "only", "rule": "alert", "condition": {"action": "x"}}]});
    let changes = server.send("PUT", "/v1/policies", ADMIN, &bundle.to_string()).await.json();
    assert_eq!((&changes["created"], changes["deleted"].as_array().unwrap().len()), (&json!(["only"]), 3));
    assert_eq!(server.send("DELETE", "/v1/policies/only", ADMIN, "").await.status, 204);
    assert_eq!(server.send("DELETE", "/v1/policies/only", ADMIN, "").await.status, 404);

    let log = server.app.store().entries(0, 1000, Default::default()).await.unwrap();
    let changes: Vec<_> =
        log.iter().filter(|e| e.kind.starts_with("policy.") && e.kind != "policy.loaded").collect();
    assert_eq!(changes.len(), 3 + 1 + 4 + 1, "every change is on record");
    assert!(changes.iter().all(|e| e.body.contains("CHECKREIN_ADMIN_KEY")), "with who");
}

#[tokio::test]
async fn policies_of_files_win_and_are_read_only() {
    let toml = "[[policies]]\nname = \"frozen\"\nrule = \"block\"\ncondition = { action = \"delete\" }\n[targets.lab]\nkind = \"other\"\nenvironment = \"sandbox\"";
    let server = Server::with(toml).await;
    let delete =
        |resource: &str| json!({"action": "delete", "resource": resource, "payload": {"record_count": 1}});
    let blocked = server.check(delete("lab.users")).await;
    assert_eq!((&blocked["verdict"], &blocked["environment"]), (&json!("block"), &json!("sandbox")));
    for (method, path, body) in [
        ("DELETE", "/v1/policies/frozen", String::new()),
        (
            "PUT",
            "/v1/policies/frozen",
            json!({"name": "frozen", "rule": "allow", "condition": {}}).to_string(),
        ),
        ("POST", "/v1/policies", json!({"name": "frozen", "rule": "allow", "condition": {}}).to_string()),
    ] {
        assert_eq!(server.send(method, path, ADMIN, &body).await.status, 409, "{method}");
    }
    let empty = server.send("PUT", "/v1/policies", ADMIN, r#"{"policies":[]}"#).await;
    assert_eq!(empty.status, 200);
    assert_eq!(
        server.check(delete("lab.users")).await["verdict"],
        "block",
        "an empty set does not remove it"
    );

    // A reload with a wrong file changes nothing; the compiler of configurations refuses it first.
    let next = super::common::config(
        server.dir.path(),
        "[[policies]]\nname = \"other\"\nrule = \"alert\"\ncondition = { action = \"delete\" }",
    );
    server.app.reload(&next).await.unwrap();
    assert_eq!(server.check(delete("lab.users")).await["verdict"], "allow");
    assert_eq!(
        server.get("/v1/policies").await.json()["sources"]["other"]
            .as_str()
            .map(|s| s.ends_with("checkrein.toml")),
        Some(true)
    );
}
