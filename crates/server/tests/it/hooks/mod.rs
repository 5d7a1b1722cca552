//! Endpoints in the protocols of others.

mod claude_code;
mod litellm;

use super::common::Server;
use serde_json::{Value, json};

/// With deletes blocked and shell commands held.
async fn server() -> Server {
    let server = Server::start().await;
    server.policy(json!({"name": "no_deletes", "rule": "block", "condition": {"category": "delete"}})).await;
    server
        .policy(
            json!({"name": "ask_first", "rule": "require_approval", "condition": {"category": "execute"}}),
        )
        .await;
    server
}

async fn answer(server: &Server, approval: &str, answer: &str) {
    let path = format!("/v1/approvals/{approval}/decision");
    let reply = server.post(&path, json!({"decision": answer, "comment": "because"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// The approval that a refusal names.
fn approval(reason: &str) -> String {
    let named = reason.split(['`', ' ']).find(|word| word.starts_with("apr_"));
    named.unwrap_or_else(|| panic!("{reason}")).to_owned()
}

/// Every check on record, newest first.
async fn checks(server: &Server) -> Vec<Value> {
    server.get("/v1/checks").await.json()["checks"].as_array().unwrap().clone()
}
