//! Drift and breakers, as callers see them.

use super::common::Server;
use checkrein_store::Reader;
use serde_json::{Value, json};

fn call(agent: &str, action: &str, resource: &str) -> Value {
    json!({"agent": agent, "action": action, "resource": resource})
}

/// The same call until it is blocked: how often it ran, and the answer.
async fn repeat(server: &Server, agent: &str) -> (u32, Value) {
    for n in 0..40 {
        let answer = server.check(call(agent, "update", "tickets/1")).await;
        if answer["verdict"] == "block" {
            return (n, answer);
        }
    }
    panic!("the loop was never noticed");
}

async fn set(server: &Server, scope: &str, state: &str) -> Value {
    let body = json!({"state": state, "reason": "a test"}).to_string();
    let reply = server.send("PUT", &format!("/v1/breakers/{scope}"), super::common::ADMIN, &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

#[tokio::test]
async fn a_loop_opens_the_breaker_until_a_person_closes_it_restarts_or_not() {
    let server = Server::start().await;
    let calm = server.check(call("bot", "read", "tickets/9")).await;
    assert!(calm.get("drift").is_none() && calm.get("breaker").is_none(), "{calm}");

    let (ran, answer) = repeat(&server, "bot").await;
    assert!((3..=10).contains(&ran), "{ran}");
    assert_eq!((&answer["breaker"], &answer["drift"]["channel"]), (&json!("open"), &json!("loop")));
    assert!(answer["drift"]["score"].as_f64().unwrap() >= 5.0, "{answer}");
    let reason = answer["reason"].as_str().unwrap();
    for part in ["the breaker of bot is open", "times in a row", "checkrein breaker close --agent bot"] {
        assert!(reason.contains(part), "{reason}");
    }
    let other = server.check(call("bot", "write", "anything/else")).await;
    assert_eq!((&other["verdict"], &other["breaker"]), (&json!("block"), &json!("open")));
    assert_eq!(server.check(call("colleague", "read", "tickets/1")).await["verdict"], "allow");

    let server = Server::on(server.stop().await, "").await;
    let reply = server.check(call("bot", "read", "tickets/2")).await;
    assert_eq!(reply["verdict"], "block", "a restart lets nobody go");
    assert!(reply["reason"].as_str().unwrap().contains("times in a row"), "{reply}");
    let listed = server.get("/v1/breakers").await.json();
    assert_eq!(listed["breakers"][0]["scope"], "agent:bot", "{listed}");

    let body = json!({"state": "closed", "reason": "it was a test"}).to_string();
    let key = server.key("operator", None).await;
    let agent_key = server.key("agent", Some("bot")).await;
    let refused = server.send("PUT", "/v1/agents/bot/breaker", &agent_key, &body).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let closed = server.send("PUT", "/v1/agents/bot/breaker", &key, &body).await;
    assert_eq!((closed.status, &closed.json()["state"]), (200, &json!("closed")));
    assert_eq!(server.check(call("bot", "read", "tickets/1")).await["verdict"], "allow");

    let dir = server.stop().await;
    let reader = Reader::open(&dir.path().join("data")).unwrap();
    reader.verify(None, |_| {}).unwrap();
    let entries = reader.entries(0, 1000, &Default::default()).unwrap();
    let changes: Vec<Value> = entries
        .iter()
        .filter(|e| e.kind == "breaker.changed")
        .map(|e| serde_json::from_str(&e.body).unwrap())
        .collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!((&changes[0]["change"]["to"], &changes[0]["check_id"]), (&json!("open"), &answer["id"]));
    assert_eq!(
        (&changes[1]["change"]["to"], &changes[1]["by"]["name"]),
        (&json!("closed"), &json!("test operator"))
    );
}

#[tokio::test]
async fn people_stop_an_agent_a_group_or_everything() {
    let toml = "[drift.groups.support]\nagents = ['ticket-*']\nexempt_reads = true\n";
    let server = Server::with(toml).await;
    for (scope, agent, stranger) in
        [("agent:ticket-1", "ticket-1", "ticket-2"), ("group:support", "ticket-1", "x"), ("all", "x", "")]
    {
        let open = set(&server, scope, "open").await;
        assert_eq!((&open["state"], &open["cause"]["cause"]), (&json!("open"), &json!("person")));
        let stopped = server.check(call(agent, "update", "tickets")).await;
        assert_eq!((&stopped["verdict"], &stopped["breaker"]), (&json!("block"), &json!("open")), "{scope}");
        assert!(stopped["reason"].as_str().unwrap().contains("opened by"), "{stopped}");
        if agent == "ticket-1" {
            let read = server.check(call(agent, "read", "tickets")).await;
            assert_eq!(read["verdict"], "allow", "{scope}: its reads are exempted");
        }
        if !stranger.is_empty() {
            assert_eq!(
                server.check(call(stranger, "update", "tickets")).await["verdict"],
                "allow",
                "{scope}"
            );
        }
        assert_eq!(set(&server, scope, "closed").await["state"], "closed");
        assert_eq!(server.check(call(agent, "update", "tickets/2")).await["verdict"], "allow", "{scope}");
    }
    set(&server, "all", "open").await;
    let server = Server::on(server.stop().await, toml).await;
    assert_eq!(server.check(call("anybody", "delete", "x")).await["verdict"], "block");

    for (scope, status) in [("group:none", 404), ("nonsense", 400), ("agent:", 400)] {
        assert_eq!(server.get(&format!("/v1/breakers/{scope}")).await.status, status, "{scope}");
    }
    let body = json!({"state": "open", "reason": " "}).to_string();
    assert_eq!(server.send("PUT", "/v1/breakers/all", super::common::ADMIN, &body).await.status, 400);
    assert_eq!(server.send("PUT", "/v1/breakers/all", "ck_wrong", &body).await.status, 401);
}

#[tokio::test]
async fn blocks_failures_and_more_than_was_declared_open_it() {
    let server = Server::start().await;
    server.policy(json!({"name": "never", "rule": "block", "condition": {"action": "delete"}})).await;
    for n in 0..10 {
        let answer = server.check(call("blocked", "delete", &format!("t{n}/{n}"))).await;
        assert!(answer["reason"].as_str().unwrap().contains("never"), "{answer}");
    }
    let answer = server.check(call("blocked", "update", "t/1")).await;
    assert_eq!((&answer["verdict"], &answer["breaker"]), (&json!("block"), &json!("open")), "{answer}");

    let outcome = async |id: &Value, body: Value| {
        let reply = server.post(&format!("/v1/checks/{}/outcome", id.as_str().unwrap()), body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    let declared =
        json!({"agent": "liar", "action": "update", "resource": "t", "payload": {"record_count": 3}});
    let check = server.check(declared).await;
    outcome(&check["id"], json!({"status": "ok", "records": 4_000})).await;
    let answer = server.check(call("liar", "update", "u")).await;
    assert_eq!(answer["verdict"], "block");
    assert!(answer["reason"].as_str().unwrap().contains("4000 records where 3 were declared"), "{answer}");

    // Ids say how many there are, too, where nothing else was counted.
    let ids = json!({"agent": "namer", "action": "update", "resource": "t", "record_ids": [1, 2, 3]});
    let check = server.check(ids).await;
    outcome(&check["id"], json!({"status": "ok", "records": 4_000})).await;
    let answer = server.check(call("namer", "update", "u")).await;
    assert!(answer["reason"].as_str().unwrap().contains("4000 records where 3 were declared"), "{answer}");

    let words = ["read", "list", "find"];
    for n in 0..15 {
        let check = server.check(call("failing", words[n % 3], &format!("r{n}/x"))).await;
        assert_eq!(check["verdict"], "allow", "{n}: {check}");
        outcome(&check["id"], json!({"status": "error"})).await;
    }
    assert_eq!(server.check(call("failing", "read", "s")).await["verdict"], "block");
}

#[tokio::test]
async fn probes_close_it_again() {
    let server = Server::with("[drift]\ncool_down = '1s'\nprobes = 1\n").await;
    repeat(&server, "bot").await;
    let probe = loop {
        let answer = server.check(call("bot", "read", "other/thing")).await;
        if answer["verdict"] == "allow" {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(probe["breaker"], "half_open");
    let second = server.check(call("bot", "list", "other/thing")).await;
    assert_eq!(second["verdict"], "block", "one probe is out: {second}");
    // As another process would find it.
    let server = Server::on(server.stop().await, "[drift]\ncool_down = '1h'\nprobes = 1\n").await;
    assert_eq!(server.check(call("bot", "list", "other/thing")).await["verdict"], "block");
    let id = probe["id"].as_str().unwrap();
    let reply = server.post(&format!("/v1/checks/{id}/outcome"), json!({"status": "ok"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = server.check(call("bot", "find", "another/thing")).await;
    assert_eq!(answer["verdict"], "allow", "{answer}");
    assert!(answer.get("breaker").is_none(), "{answer}");
}

#[tokio::test]
async fn policies_read_drift_and_alert_mode_only_tells() {
    let server = Server::with("[drift]\nmode = 'alert'\n").await;
    server
        .policy(json!({"name": "odd", "rule": "require_approval", "condition": {"drift_at_least": 5}}))
        .await;
    let mut held = None;
    for _ in 0..40 {
        let answer = server.check(call("bot", "read", "tickets/1")).await;
        assert_ne!(answer["verdict"], "block", "{answer}");
        if answer["verdict"] == "hold" {
            held = Some(answer);
            break;
        }
        assert!(answer.get("drift").is_none(), "{answer}");
    }
    let held = held.expect("a policy that reads drift");
    assert_eq!(held["policies"][0]["name"], "odd");
    assert!(held["reason"].as_str().unwrap().contains("drift score of"), "{held}");
    assert!(held.get("breaker").is_none(), "{held}");
    // Judged again with the score on record, the policy objects no more than then.
    let id = held["approval_id"].as_str().unwrap();
    let reply = server.post(&format!("/v1/approvals/{id}/decision"), json!({"decision": "approve"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let check = server.get(&format!("/v1/checks/{}", held["id"].as_str().unwrap())).await.json();
    assert_eq!(check["verdict"], "allow", "{check}");
    let replay = server.post("/v1/policies/replay", json!({})).await.json();
    assert_eq!((&replay["changed"], &replay["by_policy"]["odd"]), (&json!(0), &json!(1)), "{replay}");
}

#[tokio::test]
async fn off_is_off_but_for_people() {
    let server = Server::with("[drift]\nmode = 'off'\n").await;
    for _ in 0..30 {
        let answer = server.check(call("bot", "read", "tickets/1")).await;
        assert_eq!(answer["verdict"], "allow");
        assert!(answer.get("drift").is_none());
    }
    set(&server, "agent:bot", "open").await;
    assert_eq!(server.check(call("bot", "read", "tickets/1")).await["verdict"], "block");
}

#[tokio::test]
async fn the_same_done_to_one_thing_after_the_other_is_no_loop() {
    let server = Server::start().await;
    let refund = |n: u64| {
        json!({"agent": "batch", "action": "refund", "resource": "shop.orders",
            "payload": {"record_count": 1, "order": n}})
    };
    for n in 0..60 {
        let answer = server.check(refund(n)).await;
        assert_eq!(answer["verdict"], "allow", "{n}: {answer}");
        assert!(answer.get("breaker").is_none(), "{n}: {answer}");
    }
    // One and the same is.
    let mut answers = Vec::new();
    for _ in 0..15 {
        answers.push(server.check(refund(7)).await);
    }
    assert!(answers.iter().any(|answer| answer["verdict"] == "block"), "{answers:?}");
}

#[tokio::test]
async fn approvals_in_stock_do_not_pass_beside_the_probes() {
    let server = Server::with("[drift]\ncool_down = '1s'\nprobes = 1\n").await;
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "condition": {"action": "refund"}}))
        .await;
    let mut held = Vec::new();
    for n in 0..3 {
        held.push(server.check(call("bot", "refund", &format!("orders{n}/x"))).await);
        let id = held[n]["approval_id"].as_str().unwrap();
        let path = format!("/v1/approvals/{id}/decision");
        assert_eq!(server.post(&path, json!({"decision": "approve"})).await.status, 200);
    }
    repeat(&server, "bot").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    for check in &held {
        let path = format!("/v1/checks/{}", check["id"].as_str().unwrap());
        let answer = server.get(&path).await.json();
        assert_eq!(answer["verdict"], "block", "{answer}");
        assert!(answer["reason"].as_str().unwrap().contains("ask again"), "{answer}");
    }
    // Asked for anew one runs as the probe, on the approval that was given.
    let probe = server.check(call("bot", "refund", "orders0/x")).await;
    assert_eq!((&probe["verdict"], &probe["breaker"]), (&json!("allow"), &json!("half_open")), "{probe}");
    assert_eq!(server.check(call("bot", "refund", "orders1/x")).await["verdict"], "block");
}

#[tokio::test]
async fn what_was_only_held_is_no_good_probe() {
    let server = Server::with("[drift]\ncool_down = '1s'\nprobes = 1\n").await;
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "condition": {"action": "refund"}}))
        .await;
    repeat(&server, "bot").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let held = server.check(call("bot", "refund", "orders/1")).await;
    assert_eq!((&held["verdict"], &held["breaker"]), (&json!("hold"), &json!("half_open")), "{held}");
    let path = format!("/v1/checks/{}/outcome", held["id"].as_str().unwrap());
    assert_eq!(server.post(&path, json!({"status": "ok"})).await.status, 200);
    let breaker = server.get("/v1/breakers/agent:bot").await.json();
    assert_eq!(breaker["state"], "half_open", "nothing ran: {breaker}");
}

#[tokio::test]
async fn a_loop_under_ever_new_names_stops_the_key_that_they_come_with() {
    let server = Server::with("[drift]\nfirst_week = 'enforce'\n").await;
    let key = server.key("agent", Some("worker-*")).await;
    let other = server.key("agent", Some("clerk-*")).await;
    let ask = async |server: &Server, key: &str, agent: &str| {
        let body = call(agent, "update", "tickets/1").to_string();
        server.send("POST", "/v1/checks", key, &body).await.json()
    };
    let mut stopped = None;
    for n in 0..40 {
        let answer = ask(&server, &key, &format!("worker-{n}")).await;
        if answer["verdict"] == "block" {
            stopped = Some((n, answer));
            break;
        }
    }
    let (ran, answer) = stopped.expect("each under a name of its own, and all the same");
    assert!((3..=12).contains(&ran), "{ran}");
    assert_eq!(
        (&answer["breaker"], &answer["drift"]["agents"]),
        (&json!("open"), &json!("worker-*")),
        "{answer}"
    );
    let reason = answer["reason"].as_str().unwrap();
    assert!(reason.contains("all agents of the key for worker-* together: the same call"), "{reason}");

    let server = Server::on(server.stop().await, "").await;
    assert_eq!(ask(&server, &key, "worker-new").await["verdict"], "block", "a restart lets nobody go");
    assert_eq!(ask(&server, &other, "clerk-1").await["verdict"], "allow");
    let listed = server.get("/v1/breakers").await.json();
    assert_eq!(listed["breakers"][0]["scope"], "agent:worker-*", "{listed}");
    let signals = server.get("/v1/signals?kind=drift.*").await;
    assert_eq!(signals.status, 200, "{signals:?}");

    assert_eq!(set(&server, "agent:worker-*", "closed").await["state"], "closed");
    assert_eq!(ask(&server, &key, "worker-new").await["verdict"], "allow");
    let view = server.get("/v1/agents/worker-*").await.json();
    assert_eq!(view["recent"][0]["agent"], "worker-new", "{view}");
    assert!(view["rate"]["seen"].as_u64().unwrap() > ran, "all of them: {view}");
}
