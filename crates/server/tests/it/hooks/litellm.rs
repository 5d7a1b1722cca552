//! LiteLLM's Generic Guardrail API.

use super::{answer, approval, checks, server};
use crate::common::Server;
use serde_json::{Value, json};
use std::time::Duration;

const GUARDRAIL: &str = "/beta/litellm_basic_guardrail_api";

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

/// As LiteLLM 1.106 sends it.
fn response(calls: &[Value]) -> Value {
    json!({
        "input_type": "response", "litellm_call_id": "c-1", "litellm_trace_id": "t-1", "texts": null,
        "structured_messages": null, "images": null, "tools": null, "tool_calls": calls, "model": "m",
        "request_data": {"user_api_key_hash": "x"}, "request_headers": {"host": "[present]"},
        "litellm_version": "1.106.2", "additional_provider_specific_params": {},
    })
}

/// A request that offers tools.
fn tools(tools: &Value) -> Value {
    let mut request = response(&[]);
    request["input_type"] = json!("request");
    request["tools"] = tools.clone();
    request
}

/// Why it is blocked, if it is.
async fn ask(server: &Server, key: &str, body: &Value) -> Option<String> {
    let reply = server.send("POST", GUARDRAIL, key, &body.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let told = reply.json();
    if told == json!({"action": "NONE"}) {
        return None;
    }
    assert_eq!(told["action"], "BLOCKED", "{told}");
    let reason = told["blocked_reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("NOT RUN: "), "{reason}");
    Some(reason)
}

#[tokio::test]
async fn tool_calls_are_checked_and_texts_pass() {
    let server = server().await;
    let key = server.key("agent", Some("desk")).await;
    let words = json!({"input_type": "response", "texts": ["DELETE FROM users"], "request_data": {}});
    assert_eq!(ask(&server, &key, &words).await, None);
    assert_eq!(ask(&server, &key, &response(&[])).await, None);
    assert!(checks(&server).await.is_empty(), "nothing was done");

    assert_eq!(ask(&server, &key, &response(&[call("1", "get_user", r#"{"id": 7}"#)])).await, None);
    assert_eq!(ask(&server, &key, &response(&[call("2", "ping", "")])).await, None);
    let check = &checks(&server).await[1];
    assert_eq!((&check["agent"], &check["session"]), (&json!("desk"), &json!("t-1")), "{check}");
    assert_eq!(check["check"]["arguments"], json!({"id": 7}));

    let reason = ask(&server, &key, &response(&[call("3", "delete_users", r#"{"ids":[1]}"#)])).await.unwrap();
    assert!(reason.contains("no_deletes"), "{reason}");
    let custom = json!({"id": "4", "type": "custom", "custom": {"name": "purge_cache", "input": "all"}});
    assert!(ask(&server, &key, &response(&[custom])).await.unwrap().contains("no_deletes"));
}

#[tokio::test]
async fn arguments_that_are_no_text_are_judged_too() {
    let server = server().await;
    let key = server.key("agent", Some("desk")).await;
    let sql = json!({"sql": "DELETE FROM users"});
    for call in [
        json!({"id": "1", "function": {"name": "get_data", "arguments": sql}}),
        json!({"id": "2", "type": "custom", "custom": {"name": "get_data", "input": sql}}),
    ] {
        let reason = ask(&server, &key, &response(std::slice::from_ref(&call))).await;
        assert!(reason.as_deref().is_some_and(|r| r.contains("no_deletes")), "{call}: {reason:?}");
    }
    let empty = json!({"id": "3", "function": {"name": "ping", "arguments": null}, "custom": null});
    assert_eq!(ask(&server, &key, &response(&[empty])).await, None);
    assert_eq!(
        ask(&server, &key, &tools(&json!([{"type": "function"}, {"type": "web_search"}]))).await,
        None
    );
}

#[tokio::test]
async fn a_key_that_may_approve_asks_for_nothing() {
    let server = server().await;
    let key = server.key("operator", None).await;
    assert!(ask(&server, &key, &response(&[call("1", "ping", "")])).await.unwrap().contains("agent's key"));
    assert!(checks(&server).await.is_empty());
}

#[tokio::test]
async fn one_call_that_may_not_run_stops_those_beside_it() {
    let server = server().await;
    let key = server.key("agent", Some("desk")).await;
    let calls = [call("1", "get_user", "{}"), call("2", "delete_users", "{}"), call("3", "run_script", "{}")];
    let reason = ask(&server, &key, &response(&calls)).await.unwrap();
    assert!(reason.contains("no_deletes") && reason.contains("ask_first"), "{reason}");
    let on_record = checks(&server).await;
    let outcome = |tool: &str| {
        let check = on_record.iter().find(|c| c["tool"] == tool).unwrap_or_else(|| panic!("{on_record:?}"));
        check["outcome"].clone()
    };
    assert_eq!(outcome("get_user")["status"], "error");
    assert!(outcome("get_user")["error"].as_str().unwrap().contains("did not run"));
    assert!(outcome("delete_users").is_null());
}

#[tokio::test]
async fn what_did_not_run_is_no_failure_of_the_agent() {
    let server = server().await;
    let key = server.key("agent", Some("desk")).await;
    for n in 0..20 {
        let arguments = format!(r#"{{"name":"{n}"}}"#);
        let calls = [call("1", "get_user", &arguments), call("2", "run_script", &arguments)];
        let reason = ask(&server, &key, &response(&calls)).await.unwrap();
        assert!(reason.contains("ask_first"), "{n}: {reason}");
    }
    assert_eq!(ask(&server, &key, &response(&[call("3", "get_user", "{}")])).await, None);
}

#[tokio::test]
async fn a_hold_lets_the_same_call_through_once_after_its_approval() {
    let server = server().await;
    let key = server.key("agent", Some("desk")).await;
    let run = |id: &str| response(&[call(id, "run_script", r#"{"name":"a"}"#)]);
    let asked = approval(&ask(&server, &key, &run("1")).await.unwrap());
    answer(&server, &asked, "approve").await;
    assert_eq!(ask(&server, &key, &run("2")).await, None);
    // Models reuse the names of calls.
    assert_ne!(approval(&ask(&server, &key, &run("2")).await.unwrap()), asked);
}

#[tokio::test]
async fn a_hold_is_waited_for_as_long_as_the_configuration_says() {
    let server = server().await;
    let key = server.key("agent", Some("desk")).await;
    let mut run = response(&[call("1", "run_script", "{}")]);
    run["additional_provider_specific_params"] = json!({"wait": "20s"});
    let answering = async {
        loop {
            let open = server.get("/v1/approvals?state=pending").await.json();
            if let Some(id) = open["approvals"][0]["id"].as_str() {
                break answer(&server, id, "approve").await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (told, ()) = tokio::join!(ask(&server, &key, &run), answering);
    assert_eq!(told, None);
}

#[tokio::test]
async fn a_call_that_has_its_result_is_not_checked_again() {
    let server = server().await;
    let key = server.key("agent", Some("desk")).await;
    let calls = [call("1", "run_script", "{}"), call("2", "delete_users", "{}")];
    let mut request = response(&calls);
    request["input_type"] = json!("request");
    request["structured_messages"] = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": null, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
    ]);
    let reason = ask(&server, &key, &request).await.unwrap();
    assert!(reason.contains("no_deletes") && !reason.contains("ask_first"), "{reason}");
    assert_eq!(checks(&server).await.len(), 1);
    // In a response there is no result that could be believed.
    request["input_type"] = json!("response");
    assert!(ask(&server, &key, &request).await.unwrap().contains("ask_first"));
}

#[tokio::test]
async fn what_makes_no_sense_is_blocked() {
    let server = Server::with("[limits]\nbody = \"16KiB\"").await;
    let key = server.key("agent", Some("desk")).await;
    let many: Vec<_> = (0..129).map(|n| call(&n.to_string(), "ping", "")).collect();
    let mut impatient = response(&[call("1", "ping", "")]);
    impatient["additional_provider_specific_params"] = json!({"wait": "soon"});
    for body in [
        json!([]),
        json!(null),
        json!({"input_type": "response", "tool_calls": {"0": 1}}),
        response(&many),
        impatient,
        response(&[call("1", "ping", "{")]),
        response(&[call("1", "ping", "[1]")]),
        response(&[call("1", "ping", r#"{"id":1,"id":2}"#)]),
        response(&[call("1", "ping", r#"{"n":1e300}"#)]),
        response(&[call("1", "pi\u{200b}ng", "{}")]),
        response(&[call("1", "", "{}")]),
        response(&[json!({"id": "1", "type": "function", "function": {"arguments": "{}"}})]),
        response(&[json!({"function": {"name": "a"}, "custom": {"name": "b"}})]),
        response(&[json!(7)]),
        response(&[json!({"function": {"name": "a"}, "custom": {"name": 7}})]),
        response(&[json!({"function": {"name": "ping", "arguments": [1]}})]),
        response(&[json!({"function": {"name": "ping", "arguments": 7}})]),
        response(&[json!({"custom": {"name": "ping", "input": ["rm"]}})]),
        tools(&json!([{"type": "function"}, {"type": "custom", "custom": {"name": "x"}}])),
        tools(&json!([{"type": "local_shell"}])),
        response(&[call("1", &"x".repeat(20_000), "{}")]),
    ] {
        let reason = ask(&server, &key, &body).await.unwrap_or_else(|| panic!("{body}"));
        assert!(reason.contains("could not be checked"), "{body}: {reason}");
    }
    assert!(checks(&server).await.is_empty());
}

#[tokio::test]
async fn the_key_comes_as_litellm_sends_it() {
    let server = server().await;
    let key = server.key("agent", Some("desk")).await;
    let body = response(&[call("1", "ping", "")]).to_string();
    let send = async |headers: String| {
        let length = body.len();
        let request = format!(
            "POST {GUARDRAIL} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        server.raw(request.as_bytes()).await.status
    };
    assert_eq!(send(format!("x-api-key: {key}\r\n")).await, 200);
    assert_eq!(send(format!("authorization: Bearer os.environ/KEY\r\nx-api-key: {key}\r\n")).await, 200);
    assert_eq!(send(format!("authorization: Bearer {key}\r\n")).await, 200);
    assert_eq!(send(format!("authorization: Bearer {key}\r\nx-api-key: wrong\r\n")).await, 401);
    assert_eq!(send(String::new()).await, 401);
    assert_eq!(checks(&server).await.len(), 3);
}
