//! Some of the records that a held action would touch, for the person who is asked.

use super::{console, shop};
use serde_json::json;
use std::time::{Duration, Instant};

fn rows_of(resource: &serde_json::Value) -> usize {
    resource["rows"].as_array().unwrap().len()
}

#[tokio::test]
async fn records_that_would_be_touched_are_shown_to_operators_only() {
    let server = shop::server("[redact]\nfields = [\"users.plan\", \"ssn\"]\n").await;
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "condition": {"action": "delete"}}))
        .await;
    let held = server.execute("DELETE FROM users WHERE id IN (3, 4)").await;
    let id = held["approval_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/approvals/{id}/sample");
    let head = server.app.store().head();
    let sample = server.get(&path).await;
    assert_eq!(sample.status, 200, "{sample:?}");
    let sample = sample.json();
    assert_eq!(sample["resources"][0]["resource"], "shop.users", "{sample}");
    assert_eq!(sample["resources"][0]["columns"], json!(["id", "name", "plan"]));
    let rows = sample["resources"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0][0], &rows[0][2]), (&json!(3), &json!("[redacted]")), "{sample}");
    assert_eq!(sample["resources"][1]["resource"], "shop.orders", "what would go with them: {sample}");
    let entry = server.app.store().entry(head.seq + 1).await.unwrap().unwrap();
    assert_eq!((entry.kind.as_str(), entry.subject.as_str()), ("approval.sampled", id.as_str()));
    let told: serde_json::Value = serde_json::from_str(&entry.body).unwrap();
    let shown: usize = sample["resources"].as_array().unwrap().iter().map(rows_of).sum();
    assert_eq!((&told["target"], &told["records"]), (&json!("shop"), &json!(shown)), "{told}");
    assert_eq!((&told["by"]["role"], told.as_object().unwrap().len()), (&json!("admin"), 4), "{told}");
    assert_eq!(server.app.store().head().seq, head.seq + 1, "the look, and nothing that was seen");
    // As they stand now, whatever they were when it was asked for.
    shop::meddle(server.dir.path(), "UPDATE users SET name = 'renamed' WHERE id = 3");
    assert_eq!(server.get(&path).await.json()["resources"][0]["rows"][0][1], "renamed");
    shop::meddle(
        server.dir.path(),
        r#"UPDATE users SET name = '{"ssn": "078-05-1120", "n": 1}' WHERE id = 3"#,
    );
    let json = server.get(&path).await.json();
    assert_eq!(json["resources"][0]["rows"][0][1], r#"{"n":1,"ssn":"[redacted]"}"#, "{json}");

    let agent = server.key("agent", Some("billing-bot")).await;
    assert_eq!(server.send("GET", &path, &agent, "").await.status, 403);
    assert_eq!(server.get("/v1/approvals/apr_none/sample").await.status, 404);
    let by_ids = server.check(json!({"action": "delete", "resource": "shop.users", "record_ids": [5]})).await;
    let by_ids = format!("/v1/approvals/{}/sample", by_ids["approval_id"].as_str().unwrap());
    assert_eq!(server.get(&by_ids).await.json()["resources"][0]["rows"][0][0], 5);
    let elsewhere = server.check(json!({"action": "delete", "resource": "mail.inbox"})).await;
    let elsewhere = format!("/v1/approvals/{}/sample", elsewhere["approval_id"].as_str().unwrap());
    assert_eq!(server.get(&elsewhere).await.status, 422);
    server.post(&format!("/v1/approvals/{id}/decision"), json!({"decision": "deny"})).await;
    assert_eq!(server.get(&path).await.status, 409, "nobody is asked any more");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn an_operator_can_have_no_records_shown() {
    let server = shop::server("sample = false").await;
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "condition": {"action": "delete"}}))
        .await;
    let held = server.execute("DELETE FROM users WHERE id = 3").await;
    let id = held["approval_id"].as_str().unwrap();
    let refused = server.get(&format!("/v1/approvals/{id}/sample")).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.json()["detail"].as_str().unwrap().contains("sample = false"), "{refused:?}");
}

#[tokio::test]
async fn what_cannot_go_on_record_is_not_shown() {
    let server = shop::server("").await;
    let cookie = console::enter(&server).await;
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "condition": {"action": "delete"}}))
        .await;
    let held = server.execute("DELETE FROM users WHERE id = 3").await;
    let page = format!("/approvals/{}", held["approval_id"].as_str().unwrap_or_else(|| panic!("{held}")));
    let sample = format!("/v1{page}/sample");
    let looked =
        async || (server.get(&sample).await, console::send(&server, "GET", &page, &cookie, "").await);
    let (answer, shown) = looked().await;
    assert!(answer.status == 200 && answer.body.contains("user 3"), "{answer:?}");
    assert!(shown.status == 200 && shown.body.contains("user 3"), "{shown:?}");

    // Nobody can write to the log as long as this transaction is open; reading it goes on.
    let log = rusqlite::Connection::open(server.dir.path().join("data/checkrein.db")).unwrap();
    log.busy_timeout(Duration::from_secs(60)).unwrap();
    log.execute_batch("BEGIN IMMEDIATE").unwrap();
    let head = server.app.store().head();
    let (answer, shown) = looked().await;
    assert!(answer.status == 503 && !answer.body.contains("user 3"), "not on record, and shown: {answer:?}");
    assert!(shown.status == 200 && shown.body.contains("They cannot be shown"), "{shown:?}");
    assert!(!shown.body.contains("user 3"), "not on record, and shown: {shown:?}");
    assert_eq!(server.app.store().head(), head, "nothing of it is on record");

    log.execute_batch("ROLLBACK").unwrap();
    drop(log);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (answer, shown) = looked().await;
        if answer.body.contains("user 3") && shown.body.contains("user 3") {
            break;
        }
        assert!(Instant::now() < deadline, "60 s for a log that can be written again: {answer:?} {shown:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.stop_and_verify().await;
}
