//! Time-boxed grants: what they let through, and what they never do.

use super::{
    approvals::{ask_for, refund, text},
    common::Server,
    shop,
};
use serde_json::{Value, json};

fn grant(max_records: u64) -> Value {
    json!({"agent": "shop-bot", "action": "refund", "resource": "shop.orders", "max_records": max_records,
        "for": "1h", "accept_declared": true, "reason": "faulty batch"})
}

impl Server {
    async fn grant(&self, key: &str, body: &Value) -> Value {
        let reply = self.send("POST", "/v1/grants", key, &body.to_string()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()
    }

    async fn granted(&self, id: &str) -> Value {
        self.get(&format!("/v1/grants/{id}")).await.json()
    }
}

fn refunds(n: u64, order: u64) -> Value {
    json!({"action": "refund", "resource": "shop.orders", "payload": {"record_count": n, "order": order}})
}

#[tokio::test]
async fn a_grant_answers_holds_until_its_records_are_spent() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-*")).await;
    let ann = server.operator("ann").await;
    let given = server.grant(&ann, &grant(50)).await;
    let id = text(&given["id"]);
    assert_eq!((&given["state"], &given["given_by"]["name"]), (&json!("open"), &json!("ann")));
    let ask = async |n, order| {
        let mut body = refunds(n, order);
        body["agent"] = json!("shop-bot");
        server.ask(&agent, &body).await
    };
    let first = ask(30, 1).await;
    assert_eq!(first["verdict"], "allow", "{first}");
    let reason = text(&first["reason"]);
    assert!(reason.contains(id) && reason.contains("ann") && reason.contains("faulty batch"), "{reason}");
    let over = ask(21, 2).await;
    assert_eq!(over["verdict"], "hold", "all uses together: {over}");
    assert!(text(&over["reason"]).contains("20 are left"), "{over}");
    let mut unknown = refunds(1, 3);
    unknown["payload"] = json!({"order": 3});
    unknown["agent"] = json!("shop-bot");
    let unknown = server.ask(&agent, &unknown).await;
    assert_eq!(unknown["verdict"], "hold", "unknown is too many");
    assert!(text(&unknown["reason"]).contains("nobody knows"), "{unknown}");
    for other in [
        json!({"action": "refund", "agent": "shop-bot2", "resource": "shop.orders", "payload": {"record_count": 1}}),
        json!({"action": "refund", "agent": "shop-bot", "resource": "shop.invoices", "payload": {"record_count": 1}}),
    ] {
        assert_eq!(server.ask(&agent, &other).await["verdict"], "hold", "{other}");
    }
    assert_eq!(ask(20, 4).await["verdict"], "allow");
    let shown = server.granted(id).await;
    assert_eq!(
        (&shown["state"], &shown["records_used"], &shown["uses"]),
        (&json!("used_up"), &json!(50), &json!(2))
    );
    assert_eq!(ask(1, 5).await["verdict"], "hold");
    let uses = server.logged("grant.changed").await;
    assert_eq!(uses.len(), 2);
    assert_eq!(
        (&uses[0]["id"], &uses[0]["check_id"], &uses[0]["records"]),
        (&json!(id), &first["id"], &json!(30))
    );
    server.stop_and_verify().await;
}

#[tokio::test]
async fn a_grant_never_outweighs_a_block_nor_a_second_person() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    server.grant(super::common::ADMIN, &grant(50)).await;
    assert_eq!(server.ask(&agent, &refund()).await["verdict"], "allow");
    server
        .policy(json!({"name": "two", "rule": "require_approval", "approvals": 2, "condition": {"action": "refund"}}))
        .await;
    let held = server.ask(&agent, &refund()).await;
    assert_eq!(held["verdict"], "hold", "{held}");
    assert!(text(&held["reason"]).contains("one person gave the grant"), "{held}");
    server.policy(json!({"name": "freeze", "rule": "block", "condition": {"action": "refund"}})).await;
    assert_eq!(server.ask(&agent, &refund()).await["verdict"], "block");
}

#[tokio::test]
async fn an_agents_own_number_is_not_enough_unless_the_grant_says_so() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    server
        .policy(json!({"name": "mail", "rule": "require_approval", "condition": {"action": "send_email"}}))
        .await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let mut strict = grant(50);
    strict["accept_declared"] = json!(false);
    server.grant(super::common::ADMIN, &strict).await;
    let held = server.ask(&agent, &refund()).await;
    assert_eq!(held["verdict"], "hold");
    assert!(text(&held["reason"]).contains("only what the agent says"), "{held}");

    // Recipients are counted where they stand.
    let mail = json!({"agent": "shop-bot", "action": "send_email", "resource": "*", "max_records": 3, "for": "1h",
        "reason": "newsletter"});
    server.grant(super::common::ADMIN, &mail).await;
    let send = |n: u64| {
        let to: Vec<_> = (0..n).map(|i| format!("u{i}@example.com")).collect();
        json!({"tool": "send_email", "arguments": {"to": to, "subject": "hi"}})
    };
    assert_eq!(server.ask(&agent, &send(4)).await["verdict"], "hold");
    assert_eq!(server.ask(&agent, &send(3)).await["verdict"], "allow");
    assert_eq!(server.ask(&agent, &send(1)).await["verdict"], "hold", "spent");
}

#[tokio::test]
async fn many_at_once_never_use_more_than_was_granted() {
    // Sixty at once are not normal, and no grant answers a hold for that.
    let server = Server::with("[drift]\nmode = \"off\"").await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let mut limited = grant(1000);
    limited["max_uses"] = json!(7);
    let by_uses = server.grant(super::common::ADMIN, &limited).await;
    let by_records = server.grant(super::common::ADMIN, &grant(10)).await;
    let asks = (0..60).map(|n| {
        let (server, agent) = (&server, &agent);
        async move { server.ask(agent, &refunds(1, n)).await }
    });
    let answers = futures_util::future::join_all(asks).await;
    assert_eq!(answers.iter().filter(|a| a["verdict"] == "allow").count(), 17);
    assert_eq!(answers.iter().filter(|a| a["verdict"] == "hold").count(), 43);
    assert_eq!(server.granted(text(&by_uses["id"])).await["uses"], 7);
    assert_eq!(server.granted(text(&by_records["id"])).await["records_used"], 10);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn a_grant_ends_by_time_by_revocation_and_not_by_a_restart() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let id = text(&server.grant(super::common::ADMIN, &grant(50)).await["id"]).to_owned();
    let mut short = grant(50);
    short["for"] = json!("1s");
    short["resource"] = json!("shop.invoices");
    let brief = text(&server.grant(super::common::ADMIN, &short).await["id"]).to_owned();
    let server = Server::on(server.stop().await, "").await;
    assert_eq!(server.ask(&agent, &refund()).await["verdict"], "allow");
    let revoked = server.send("DELETE", &format!("/v1/grants/{id}"), super::common::ADMIN, "").await.json();
    assert_eq!(
        (&revoked["state"], &revoked["revoked_by"]["name"]),
        (&json!("revoked"), &json!("CHECKREIN_ADMIN_KEY"))
    );
    assert_eq!(server.ask(&agent, &refund()).await["verdict"], "hold");
    let again = server.send("DELETE", &format!("/v1/grants/{id}"), super::common::ADMIN, "").await;
    assert_eq!((again.status, again.problem().as_str()), (409, "grant-over"));
    let mut state = Value::Null;
    for _ in 0..100 {
        let expired = server.logged("grant.changed").await;
        state = server.granted(&brief).await["state"].clone();
        if expired.iter().any(|e| e["transition"] == "expire" && e["id"] == brief) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(state, "expired", "by an entry of its own");
    let open = server.get("/v1/grants?open=true").await.json();
    assert_eq!(open["grants"], json!([]));
    assert_eq!(
        server.get("/v1/grants?agent=shop-*&limit=1").await.json()["grants"].as_array().unwrap().len(),
        1
    );
    server.stop_and_verify().await;
}

#[tokio::test]
async fn grants_are_for_operators_and_make_sense() {
    let server = Server::start().await;
    let agent = server.key("agent", Some("shop-bot")).await;
    for (method, path, body) in [
        ("POST", "/v1/grants", grant(5).to_string()),
        ("GET", "/v1/grants", String::new()),
        ("GET", "/v1/grants/grt_1", String::new()),
        ("DELETE", "/v1/grants/grt_1", String::new()),
    ] {
        assert_eq!(server.send(method, path, &agent, &body).await.status, 403, "{method} {path}");
        assert_eq!(server.send(method, path, "", &body).await.status, 401, "{method} {path}");
    }
    for (field, bad) in [
        ("agent", json!("shop-*")),
        ("agent", json!("")),
        ("agent", json!("a\u{200b}")),
        ("action", json!("")),
        ("resource", json!("x".repeat(600))),
        ("max_records", json!(0)),
        ("max_records", json!(-1)),
        ("max_records", json!("50")),
        ("max_records", json!(1.5)),
        ("max_uses", json!(0)),
        ("for", json!("8d")),
        ("for", json!("0s")),
        ("for", json!("500ms")),
        ("for", json!("soon")),
        ("for", json!("99999999999999999999h")),
        ("reason", json!(" ")),
        ("reason", json!("x".repeat(5000))),
        ("reason", json!("\u{202e}")),
        ("given_by", json!("boss")),
    ] {
        let mut body = grant(5);
        body[field] = bad.clone();
        let reply = server.post("/v1/grants", body).await;
        assert_eq!(reply.problem(), "invalid-request", "{field}: {bad:.60}");
    }
    for missing in ["agent", "action", "resource", "max_records", "for", "reason"] {
        let mut body = grant(5);
        body.as_object_mut().unwrap().remove(missing);
        assert_eq!(server.post("/v1/grants", body).await.status, 400, "{missing}");
    }
    for path in ["/v1/grants/grt_none", "/v1/grants/%00", "/v1/grants/%E2%80%AE"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
        assert_eq!(server.send("DELETE", path, super::common::ADMIN, "").await.status, 404, "{path}");
    }
    for query in ["open=maybe", "cursor=x", "limit=-1", "colour=red", "agent=%E2%80%AE"] {
        assert_eq!(server.get(&format!("/v1/grants?{query}")).await.problem(), "invalid-request", "{query}");
    }
    assert_eq!(server.logged("grant.given").await.len(), 0);
}

#[tokio::test]
async fn an_execution_is_granted_by_what_it_really_changes() {
    let server = shop::server("").await;
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "condition": {"action": "update", "record_count_exceeds": 5}}))
        .await;
    let body = json!({"agent": "default", "action": "update", "resource": "shop.*", "max_records": 50, "for": "1h", "reason": "clean-up"});
    let id = text(&server.grant(super::common::ADMIN, &body).await["id"]).to_owned();
    let ran = server.execute("UPDATE users SET plan = 'old' WHERE plan = 'trial'").await;
    assert_eq!((&ran["verdict"], &ran["affected"]), (&json!("allow"), &json!(40)), "{ran}");
    assert!(text(&ran["reason"]).contains(&id), "{ran}");
    let before = shop::dump(server.dir.path());
    let held = server.execute("UPDATE users SET plan = 'older' WHERE plan = 'old'").await;
    assert_eq!(held["verdict"], "hold", "10 are left: {held}");
    assert_eq!(shop::dump(server.dir.path()), before, "nothing ran");
    let few = server.execute("UPDATE users SET plan = 'older' WHERE id <= 10").await;
    assert_eq!(few["verdict"], "allow", "{few}");
    let counted = server
        .check(
            json!({"action": "update", "resource": "shop.users", "statement": "UPDATE users SET plan = 'x'"}),
        )
        .await;
    assert_eq!(counted["verdict"], "hold", "{counted}");
    assert_eq!(server.granted(&id).await["records_used"], 50);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn an_agent_that_says_none_each_time_spends_a_grant_all_the_same() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let ann = server.operator("ann").await;
    server.grant(&ann, &grant(2)).await;
    let mut verdicts = Vec::new();
    for order in 0..3 {
        verdicts.push(server.ask(&agent, &refunds(0, order)).await["verdict"].clone());
    }
    assert_eq!(verdicts, ["allow", "allow", "hold"]);
}
