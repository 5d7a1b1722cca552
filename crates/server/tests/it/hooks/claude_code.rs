//! The hooks of Claude Code.

use super::{answer, approval, checks, server};
use crate::common::{ADMIN, Reply, Server};
use serde_json::{Value, json};
use std::time::Duration;

const HOOK: &str = "/v1/hooks/claude-code";

fn call(id: &str, tool: &str, arguments: impl Into<Value>) -> Value {
    json!({
        "hook_event_name": "PreToolUse", "session_id": "s-1", "cwd": "/work", "permission_mode": "default",
        "tool_name": tool, "tool_input": arguments.into(), "tool_use_id": id, "a_field_of_a_later_version": [1],
    })
}

fn shell(id: &str) -> Value {
    call(id, "Bash", json!({"command": "make deploy", "description": "Deploy"}))
}

/// The reason of a denial; `None` where nothing is against the call.
fn denied(reply: &Reply) -> Option<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let told = reply.json();
    if told == json!({}) {
        return None;
    }
    let output = &told["hookSpecificOutput"];
    assert_eq!(
        (&output["hookEventName"], &output["permissionDecision"]),
        (&json!("PreToolUse"), &json!("deny"))
    );
    let reason = output["permissionDecisionReason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("NOT RUN: "), "{reason}");
    Some(reason)
}

async fn ask(server: &Server, key: &str, body: Value) -> Option<String> {
    denied(&server.send("POST", HOOK, key, &body.to_string()).await)
}

#[tokio::test]
async fn a_call_is_checked_and_its_outcome_reported() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    let mut write = call("toolu_1", "Write", json!({"file_path": "/work/a.txt", "content": "x"}));
    write["agent"] = json!("somebody-else");
    assert_eq!(ask(&server, &key, write.clone()).await, None);
    let on_record = checks(&server).await;
    let check = &on_record[0];
    for (field, value) in [
        ("agent", "coder"),
        ("session", "s-1"),
        ("tool", "write"),
        ("resource", "/work/a.txt"),
        ("category", "write"),
    ] {
        assert_eq!(check[field], value, "{check}");
    }
    assert_eq!(check["blast_radius"]["records"], 1);
    assert!(check["outcome"].is_null());

    write["hook_event_name"] = json!("PostToolUse");
    write["tool_response"] = json!({"type": "create"});
    for _ in 0..2 {
        assert_eq!(server.send("POST", HOOK, &key, &write.to_string()).await.json(), json!({}));
    }
    assert_eq!(checks(&server).await[0]["outcome"]["status"], "ok");

    for (id, more, status) in [
        ("toolu_2", json!({"error": "Exit code 3"}), "error"),
        ("toolu_3", json!({"error": "Command timed out after 2m"}), "unknown"),
        ("toolu_4", json!({"error": "", "is_interrupt": true}), "unknown"),
    ] {
        let mut read = call(id, "Read", json!({"file_path": "/work/a.txt"}));
        assert_eq!(ask(&server, &key, read.clone()).await, None);
        read["hook_event_name"] = json!("PostToolUseFailure");
        read.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(server.send("POST", HOOK, &key, &read.to_string()).await.status, 200);
        assert_eq!(checks(&server).await[0]["outcome"]["status"], status);
    }
}

#[tokio::test]
async fn an_outcome_belongs_to_a_call_of_the_same_key() {
    let server = server().await;
    let (key, other) = (server.key("agent", Some("a")).await, server.key("agent", Some("b")).await);
    let mut read = call("toolu_1", "Read", json!({"file_path": "/x"}));
    assert_eq!(ask(&server, &key, read.clone()).await, None);
    read["hook_event_name"] = json!("PostToolUse");
    let reply = server.send("POST", HOOK, &other, &read.to_string()).await;
    assert_eq!((reply.status, reply.problem().as_str()), (404, "not-found"));
    // A subagent may have a call of the same name.
    read["agent_id"] = json!("sub-1");
    assert_eq!(server.send("POST", HOOK, &key, &read.to_string()).await.status, 404);
    assert!(checks(&server).await[0]["outcome"].is_null());
}

#[tokio::test]
async fn a_block_is_a_denial_with_its_reason() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    let reason = ask(&server, &key, call("toolu_1", "mcp__crm__purge_contacts", json!({}))).await.unwrap();
    assert!(reason.contains("no_deletes") && reason.contains("Nothing was changed"), "{reason}");
    assert_eq!(checks(&server).await[0]["verdict"], "block");
}

#[tokio::test]
async fn a_hold_lets_the_same_call_through_once_after_its_approval() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    let reason = ask(&server, &key, shell("toolu_1")).await.unwrap();
    assert!(reason.contains("ask_first") && reason.contains("exactly the same call"), "{reason}");
    let asked = approval(&reason);
    let reason = ask(&server, &key, shell("toolu_2")).await.unwrap();
    assert_eq!(approval(&reason), asked, "nobody is asked twice for the same thing");

    answer(&server, &asked, "approve").await;
    let mut elsewhere = shell("toolu_3");
    elsewhere["cwd"] = json!("/prod");
    let reason = ask(&server, &key, elsewhere).await.unwrap();
    assert_ne!(approval(&reason), asked, "the same command in another folder is another action");
    assert_eq!(ask(&server, &key, shell("toolu_4")).await, None);
    let reason = ask(&server, &key, shell("toolu_5")).await.unwrap();
    assert_ne!(approval(&reason), asked, "an approval is used once");
}

#[tokio::test]
async fn a_hold_is_waited_for_as_long_as_the_address_says() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    for (id, said) in [("toolu_1", "approve"), ("toolu_2", "deny")] {
        let path = format!("{HOOK}?wait=20s");
        let (body, waiting) = (shell(id).to_string(), Duration::from_millis(50));
        let asking = server.send("POST", &path, &key, &body);
        let answering = async {
            loop {
                let open = server.get("/v1/approvals?state=pending").await.json();
                if let Some(id) = open["approvals"][0]["id"].as_str() {
                    break answer(&server, id, said).await;
                }
                tokio::time::sleep(waiting).await;
            }
        };
        let (reply, ()) = tokio::join!(asking, answering);
        match (said, denied(&reply)) {
            ("approve", None) => {}
            ("deny", Some(reason)) => assert!(reason.contains("Denied by") && reason.contains("because")),
            (_, told) => panic!("{said}: {told:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_waits_no_longer() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    let (path, body) = (format!("{HOOK}?wait=300s"), shell("toolu_1").to_string());
    let asking = server.send("POST", &path, &key, &body);
    let stopping = async {
        while checks(&server).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.app.stop_waiting();
    };
    let (reply, ()) = tokio::join!(asking, stopping);
    assert!(denied(&reply).is_some());
}

#[tokio::test]
async fn the_same_call_asked_again_is_the_same_check() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    let read = |path: &str| call("toolu_1", "Read", json!({"file_path": path}));
    let both = [ask(&server, &key, read("/a")), ask(&server, &key, read("/a"))];
    assert_eq!(futures_util::future::join_all(both).await, [None, None]);
    assert_eq!(checks(&server).await.len(), 1);
    let reason = ask(&server, &key, read("/b")).await.unwrap();
    assert!(reason.contains("used for another action"), "{reason}");
}

#[tokio::test]
async fn a_name_that_is_used_again_lets_nothing_run_twice() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    // A model that names all its calls alike; one approval.
    let asked = approval(&ask(&server, &key, shell("call_0")).await.unwrap());
    answer(&server, &asked, "approve").await;
    assert_eq!(ask(&server, &key, shell("call_0")).await, None);
    let mut ran = shell("call_0");
    ran["hook_event_name"] = json!("PostToolUse");
    assert_eq!(server.send("POST", HOOK, &key, &ran.to_string()).await.status, 200);
    for _ in 0..3 {
        let reason = ask(&server, &key, shell("call_0")).await.unwrap();
        assert!(reason.contains("another tool_use_id"), "{reason}");
    }

    // Without an outcome: not later than two settings would ask.
    let read = call("call_1", "Read", json!({"file_path": "/a"}));
    assert_eq!(ask(&server, &key, read.clone()).await, None);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert!(ask(&server, &key, read).await.unwrap().contains("another tool_use_id"));
}

#[tokio::test]
async fn where_claude_code_stands_is_where_it_looks() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    for (id, tool, arguments, resource) in [
        ("1", "Grep", json!({"pattern": "x"}), "/work"),
        ("2", "Glob", json!({"pattern": "*", "path": "../home/me/.ssh"}), "/home/me/.ssh"),
        ("3", "Read", json!({"file_path": ".env"}), "/work/.env"),
        ("4", "Read", json!({"file_path": "~/.env"}), "~/.env"),
    ] {
        assert_eq!(ask(&server, &key, call(id, tool, arguments)).await, None);
        assert_eq!(checks(&server).await[0]["resource"], resource, "{tool}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_denied() {
    let server = Server::with("[limits]\nbody = \"16KiB\"").await;
    let key = server.key("agent", Some("coder")).await;
    let good = call("toolu_1", "Read", json!({"file_path": "/a"}));
    let without = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        body.to_string()
    };
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    let bodies = [
        String::new(),
        "[]".into(),
        "null".into(),
        "{".into(),
        r#"["PreToolUse","s","/w","Read",{},"toolu_1"]"#.into(),
        good.to_string().replace("\"/a\"", r#""/a","file_path":"/b""#),
        good.to_string().replace("\"/a\"", r#""\ud800""#),
        good.to_string().replace("\"/a\"", "1e300"),
        with("tool_input", json!({"file_path": "x".repeat(20_000)})),
        with("tool_input", json!({"file_path": "/a\u{200b}b", "content": ""})).replace("Read", "Write"),
        with("tool_input", json!([1])),
        with("tool_input", json!("ls")),
        with("tool_name", json!("")),
        with("tool_name", json!("Re\u{202e}ad")),
        with("tool_name", json!(7)),
        with("session_id", json!("s".repeat(300))),
        with("tool_use_id", json!("t".repeat(300))),
        with("hook_event_name", json!(1)),
        without("tool_name"),
        without("tool_input"),
        without("tool_use_id"),
        without("session_id"),
        without("hook_event_name"),
    ];
    for body in bodies {
        let reply = server.send("POST", HOOK, &key, &body).await;
        let reason = denied(&reply).unwrap_or_else(|| panic!("{body}"));
        assert!(reason.contains("could not be checked"), "{body}: {reason}");
    }
    assert!(checks(&server).await.is_empty());
}

#[tokio::test]
async fn a_check_that_fails_is_a_denial() {
    let server = Server::with("[limits]\nagent_checks_per_second = 1").await;
    let key = server.key("agent", Some("coder")).await;
    let mut denials = Vec::new();
    for n in 0..5 {
        let read = call(&format!("toolu_{n}"), "Read", json!({"file_path": "/a"}));
        denials.extend(ask(&server, &key, read).await);
    }
    assert!(denials[0].contains("limit of 1 requests a second"), "{denials:?}");

    let several = server.key("agent", Some("team-*")).await;
    let reason = ask(&server, &several, shell("toolu_1")).await.unwrap();
    assert!(reason.contains("say which agent"), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_a_denial() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    // Not the whole server: that would stop listening.
    server.app.store().close().await;
    let reason = ask(&server, &key, call("toolu_1", "Read", json!({"file_path": "/a"}))).await.unwrap();
    assert!(reason.contains("store is closed"), "{reason}");
}

#[tokio::test]
async fn what_is_no_call_is_an_error() {
    let server = server().await;
    let key = server.key("agent", Some("coder")).await;
    let prompt =
        json!({"hook_event_name": "UserPromptSubmit", "session_id": "s", "prompt": "hi"}).to_string();
    let reply = server.send("POST", HOOK, &key, &prompt).await;
    assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid-request"));
    let body = shell("toolu_1").to_string();
    for path in ["?wait=soon", "?wiat=1s"] {
        let reply = server.send("POST", &format!("{HOOK}{path}"), &key, &body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid-request"));
    }
    for key in ["", "ck_agent_nobody"] {
        assert_eq!(server.send("POST", HOOK, key, &body).await.status, 401);
    }
    assert_eq!(server.send("GET", HOOK, &key, "").await.status, 405);
    assert!(checks(&server).await.is_empty());
}

#[tokio::test]
async fn a_key_that_may_approve_asks_for_nothing() {
    let server = server().await;
    let operator = server.key("operator", None).await;
    for key in [ADMIN, &operator] {
        let reason = ask(&server, key, shell("toolu_1")).await.unwrap();
        assert!(reason.contains("agent's key") && reason.contains("checkrein keys create"), "{reason}");
    }
    assert!(checks(&server).await.is_empty());
}
