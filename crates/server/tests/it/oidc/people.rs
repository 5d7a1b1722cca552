//! Whoever signs in counts once where two people must approve, whatever else they hold.

use super::provider::{Provider, session, submit};
use crate::{
    approvals::{ask_for, refund, text},
    common::{Reply, Server},
};
use serde_json::{Value, json};

/// Whoever has this session approves, on the console's page.
async fn approves(server: &Server, cookie: &str, id: &str) -> Reply {
    let page = format!("/approvals/{id}");
    submit(server, &page, &page, cookie, "&decision=approve").await
}

/// A refund that waits, different from every other one.
async fn held(server: &Server, agent: &str, order: u32) -> String {
    let mut refund = refund();
    refund["payload"]["order"] = json!(order);
    text(&server.ask(agent, &refund).await["approval_id"]).to_owned()
}

/// The page of a link that `key` makes for `person`.
async fn link(server: &Server, key: &str, id: &str, person: &str) -> String {
    text(&server.link(key, id, json!({"for": person})).await.json()["path"]).to_owned()
}

#[tokio::test]
async fn a_sign_in_and_a_link_of_ones_own_key_are_one_person() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    ask_for(&server, 2).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let (ann, dora) = (server.operator("ann").await, server.operator("dora").await);
    let cookie = session(&provider.sign_in(&server, |_| ()).await).unwrap();

    let id = held(&server, &agent, 1).await;
    assert_eq!(approves(&server, &cookie, &id).await.status, 303);
    let path = link(&server, &ann, &id, "bob").await;
    let second = server.fill_in(&path, "decision=approve").await;
    assert_eq!(second.status, 409, "ann signed in, and could open the link that she made: {second:?}");
    assert_eq!(server.approval(&id).await["state"], "pending");
    let path = link(&server, &dora, &id, "bob").await;
    assert_eq!(server.fill_in(&path, "decision=approve").await.status, 303, "dora's link is somebody else's");
    let shown = server.approval(&id).await;
    assert_eq!((&shown["state"], &shown["decided_by"]["made_by"]), (&json!("approved"), &json!("dora")));

    let id = held(&server, &agent, 2).await;
    let path = link(&server, &ann, &id, "bob").await;
    assert_eq!(server.fill_in(&path, "decision=approve").await.status, 303);
    let second = approves(&server, &cookie, &id).await;
    assert!(second.status == 409 && second.body.contains("approved it already"), "{second:?}");
    let shown = server.approval(&id).await;
    assert_eq!((&shown["state"], shown["given"].as_array().map(Vec::len)), (&json!("pending"), Some(1)));
    assert_eq!(shown["given"][0]["by"]["made_by"], "ann");
    assert_eq!(server.decide(&id, &dora, "approve").await.status, 200);
    assert_eq!(server.approval(&id).await["state"], "approved");
    let made_by = |entry: &Value| entry["by"]["made_by"].clone();
    let answers = server.logged("approval.changed").await;
    let answers: Vec<_> =
        answers.iter().filter(|entry| entry["transition"] == "decide").map(made_by).collect();
    assert_eq!(answers, [Value::Null, json!("dora"), json!("ann"), Value::Null]);
    server.stop_and_verify().await;
}
