//! Snapshots and rollback through the API, on a real SQLite file.

use super::{common::Server, databases_undo, shop};
use serde_json::{Value, json};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

async fn taken(server: &Server, body: Value) -> Value {
    let reply = server.post("/v1/snapshots", body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

#[tokio::test]
async fn records_that_are_named_can_be_put_back() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    let by_ids = taken(&server, json!({"resource": "shop.users", "record_ids": [1, 2, 3]})).await;
    assert_eq!(by_ids["records"], 3, "{by_ids}");
    assert_eq!(by_ids["by_resource"][0]["records"], 3);
    assert_eq!((&by_ids["sealed"], &by_ids["state"]), (&json!(false), &json!("live")));
    shop::meddle(server.dir.path(), "UPDATE users SET plan = 'gone' WHERE id <= 2");

    let id = text(&by_ids["id"]);
    let refused = server.rollback(id, json!({})).await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "rollback-conflicts"), "{refused:?}");
    let doc = refused.json();
    assert_eq!(
        (&doc["conflict_count"], &doc["conflicts"][0]["kind"]),
        (&json!(2), &json!("unsealed")),
        "{doc}"
    );
    assert_eq!(doc["conflicts"][0]["now"]["plan"], "gone");
    assert_eq!(doc["conflicts"][0]["before"]["plan"], "trial");
    assert!(text(&doc["conflicts"][0]["resource"]).starts_with("shop."));
    assert_eq!(doc["plan"]["by_resource"][0]["conflicts"], 2);

    let sealed = server.post(&format!("/v1/snapshots/{id}/seal"), json!({})).await.json();
    assert_eq!(sealed["sealed"], true, "{sealed}");
    let again = server.post(&format!("/v1/snapshots/{id}/seal"), json!({})).await;
    assert_eq!((again.status, again.json()["bytes"].clone()), (200, sealed["bytes"].clone()));
    let done = server.rollback(id, json!({})).await.json();
    assert_eq!((&done["status"], &done["restored"]), (&json!("done"), &json!(2)), "{done}");
    assert_eq!(shop::dump(server.dir.path()), before);
    let shown = server.get(&format!("/v1/snapshots/{id}")).await.json();
    assert_eq!(shown["rollback"], json!({"id": done["id"], "state": "done", "done": 2, "total": 2}));
    server.stop_and_verify().await;
}

/// Whoever takes a snapshot by hand may go on to remove the records: that is no surprise, as it would be after a check of
/// an UPDATE.
#[tokio::test]
async fn records_that_are_named_and_removed_come_back() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    let by_ids = taken(&server, json!({"resource": "shop.invoices", "record_ids": [91, 92, 93]})).await;
    let update = json!({"action": "update", "resource": "shop.invoices", "record_ids": [91, 92, 93]});
    let checked = server.check(update).await;
    shop::meddle(server.dir.path(), "DELETE FROM invoices WHERE id IN (91, 92)");
    for id in [&by_ids["id"], &checked["snapshot_id"]] {
        let sealed = server.post(&format!("/v1/snapshots/{}/seal", text(id)), json!({})).await;
        assert_eq!(sealed.status, 200, "{sealed:?}");
    }
    let refused = server.rollback(text(&checked["snapshot_id"]), json!({})).await;
    let doc = refused.json();
    assert_eq!((refused.status, &doc["conflicts"][0]["kind"]), (409, &json!("removed")), "{doc}");
    let done = server.rollback(text(&by_ids["id"]), json!({})).await.json();
    assert_eq!((&done["status"], &done["restored"]), (&json!("done"), &json!(2)), "{done}");
    assert_eq!(shop::dump(server.dir.path()), before);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn later_work_of_others_is_shown_and_kept() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    let run = server.execute("UPDATE users SET plan = 'gone' WHERE id <= 4").await;
    let id = text(&run["snapshot_id"]);
    shop::meddle(
        server.dir.path(),
        "UPDATE users SET name = 'theirs' WHERE id = 2; DELETE FROM users WHERE id = 3",
    );
    let meddled = shop::dump(server.dir.path());
    let refused = server.rollback(id, json!({})).await.json();
    assert_eq!(refused["conflict_count"], 2, "{refused}");
    let planned = server.rollback(id, json!({"dry_run": true})).await.json();
    assert_eq!(planned["plan"]["conflict_count"], 2, "{planned}");
    assert_eq!(shop::dump(server.dir.path()), meddled);
    let skipped = server.rollback(id, json!({"on_conflict": "skip"})).await.json();
    assert_eq!((&skipped["status"], &skipped["restored"]), (&json!("done"), &json!(2)), "{skipped}");
    assert!(shop::dump(server.dir.path()).contains("theirs"));
    let forced = server.rollback(id, json!({"on_conflict": "force"})).await.json();
    assert_eq!(forced["status"], "done", "{forced}");
    // The orders that went with the user are another action's.
    let users =
        |dump: String| dump.lines().filter(|l| l.contains("\"u\"")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(users(shop::dump(server.dir.path())), users(before));
    server.stop_and_verify().await;
}

#[tokio::test]
async fn what_is_forced_is_what_a_person_has_looked_at() {
    let server = shop::server("").await;
    let run = server.execute("UPDATE users SET plan = 'gone' WHERE id <= 4").await;
    let id = text(&run["snapshot_id"]);
    shop::meddle(server.dir.path(), "UPDATE users SET plan = 'theirs' WHERE id = 2");
    let seen = server.rollback(id, json!({})).await.json()["plan"]["digest"].clone();
    let planned = server.rollback(id, json!({"dry_run": true})).await.json();
    assert_eq!(planned["plan"]["digest"], seen, "the same plan has the same digest");
    for (on_conflict, later) in [
        ("force", "UPDATE users SET plan = 'other' WHERE id = 2"),
        ("skip", "UPDATE users SET plan = 'more' WHERE id = 4"),
        ("force", "DELETE FROM users WHERE id = 2"),
    ] {
        let before = server.rollback(id, json!({"dry_run": true})).await.json()["plan"]["digest"].clone();
        shop::meddle(server.dir.path(), later);
        let meddled = shop::dump(server.dir.path());
        let body = json!({"on_conflict": on_conflict, "plan_digest": before});
        let refused = server.rollback(id, body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (409, "rollback-conflicts"), "{refused:?}");
        let doc = refused.json();
        assert!(text(&doc["detail"]).contains("the plan changed since you looked"), "{doc}");
        assert_ne!(doc["plan"]["digest"], before, "{doc}");
        assert_eq!(shop::dump(server.dir.path()), meddled, "{later}: nothing was rolled back");
    }
    assert_eq!(shop::snapshot_files(server.dir.path()).len(), 1, "nothing is left of what was refused");
    let now = server.rollback(id, json!({"dry_run": true})).await.json()["plan"]["digest"].clone();
    let done = server.rollback(id, json!({"on_conflict": "force", "plan_digest": now})).await.json();
    assert_eq!(done["status"], "done", "{done}");
    assert!(!shop::dump(server.dir.path()).contains("more"));
    server.stop_and_verify().await;
}

#[tokio::test]
async fn what_is_forced_is_also_what_nobody_was_shown() {
    let server = shop::server("").await;
    databases_undo::conflicts_beyond_those_shown(&server, "name", ", 'trial'").await;
    server.stop_and_verify().await;
}

#[tokio::test]
async fn an_allowed_check_leaves_a_snapshot_that_its_outcome_seals() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    let delete =
        json!({"action": "delete", "resource": "shop.users", "record_ids": [1, 2], "idempotency_key": "k"});
    let decision = server.check(delete.clone()).await;
    assert_eq!(decision["verdict"], "allow", "{decision}");
    let id = text(&decision["snapshot_id"]).to_owned();
    assert_eq!(server.check(delete).await["snapshot_id"], *id, "taken once");
    assert_eq!(shop::snapshot_files(server.dir.path()).len(), 1);
    let shown = server.get(&format!("/v1/snapshots/{id}")).await.json();
    assert_eq!((&shown["origin"], &shown["sealed"]), (&json!("automatic"), &json!(false)), "{shown}");
    assert_eq!(shown["records"], 6, "with their orders: {shown}");
    shop::meddle(server.dir.path(), "PRAGMA foreign_keys = ON; DELETE FROM users WHERE id IN (1, 2)");
    let check = text(&decision["id"]);
    let report =
        server.post(&format!("/v1/checks/{check}/outcome"), json!({"status": "ok", "records": 2})).await;
    assert_eq!(report.status, 200, "{report:?}");
    assert_eq!(server.get(&format!("/v1/snapshots/{id}")).await.json()["sealed"], true);
    let done = server.rollback(&id, json!({})).await.json();
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(shop::dump(server.dir.path()), before);

    // One record leaves none, and neither does what only reads or is blocked.
    let one = json!({"action": "update", "resource": "shop.users", "record_ids": [1]});
    assert!(server.check(one).await.get("snapshot_id").is_none());
    let read = json!({"action": "read", "resource": "shop.users", "record_ids": [1, 2]});
    assert!(server.check(read).await.get("snapshot_id").is_none());
    server.policy(json!({"name": "no", "rule": "block", "condition": {"action": "delete"}})).await;
    let blocked =
        server.check(json!({"action": "delete", "resource": "shop.users", "record_ids": [1, 2]})).await;
    assert_eq!((&blocked["verdict"], blocked.get("snapshot_id")), (&json!("block"), None));
    server.stop_and_verify().await;
}

#[tokio::test]
async fn a_check_without_its_snapshot_is_blocked() {
    let server = shop::server("").await;
    let folder = server.dir.path().join("data/snapshots");
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let update = json!({"action": "update", "resource": "shop.users", "record_ids": [1, 2]});
    let decision = server.check(update).await;
    assert_eq!(decision["verdict"], "block", "{decision}");
    assert!(text(&decision["reason"]).contains("no snapshot could be taken"), "{decision}");
}

#[tokio::test]
async fn an_approved_check_leaves_its_snapshot_when_the_approval_is_used() {
    let server = shop::server("").await;
    let condition = json!({"resource_pattern": "shop.*", "record_count_exceeds": 1});
    server.policy(json!({"name": "ask", "rule": "require_approval", "condition": condition})).await;
    let update = json!({"action": "update", "resource": "shop.users", "record_ids": [1, 2]});
    let held = server.check(update.clone()).await;
    assert_eq!((&held["verdict"], held.get("snapshot_id")), (&json!("hold"), None), "{held}");
    let approval = format!("/v1/approvals/{}/decision", text(&held["approval_id"]));
    server.post(&approval, json!({"decision": "approve"})).await;
    let id = text(&held["id"]);
    let allowed = server.get(&format!("/v1/checks/{id}?wait=5")).await.json();
    assert_eq!(allowed["verdict"], "allow", "{allowed}");
    let snapshot = text(&allowed["snapshot_id"]).to_owned();
    assert_eq!(server.get(&format!("/v1/checks/{id}")).await.json()["snapshot_id"], *snapshot);
    assert_eq!(server.get(&format!("/v1/snapshots/{snapshot}")).await.json()["check_id"], *id);

    let again = server.check(update.clone()).await;
    assert_eq!(again["verdict"], "hold", "used once: {again}");
    let approval = format!("/v1/approvals/{}/decision", text(&again["approval_id"]));
    server.post(&approval, json!({"decision": "approve"})).await;
    let sent_again = server.check(update).await;
    assert_eq!((&sent_again["verdict"], sent_again["snapshot_id"].is_string()), (&json!("allow"), true));
    server.stop_and_verify().await;
}

#[tokio::test]
async fn a_statement_says_what_a_snapshot_is_of() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    let sql = "DELETE FROM users WHERE id BETWEEN ? AND ?";
    let snapshot = taken(&server, json!({"resource": "shop", "statement": sql, "params": [10, 12]})).await;
    assert_eq!(snapshot["records"], 9, "three users, six orders: {snapshot}");
    let whole = taken(&server, json!({"resource": "shop.users", "where": {"plan": "paid"}})).await;
    assert_eq!(whole["records"], 60);
    let with_orders =
        taken(&server, json!({"resource": "shop.users", "record_ids": [10], "action": "delete"})).await;
    assert_eq!(with_orders["records"], 3, "{with_orders}");
    assert_eq!(shop::dump(server.dir.path()), before, "looking changes nothing");

    let export = server.get(&format!("/v1/snapshots/{}/export", text(&with_orders["id"]))).await;
    assert!(export.headers.contains("application/x-ndjson"), "{export:?}");
    let lines: Vec<Value> = export.body.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{export:?}");
    assert!(lines.iter().all(|l| l["side"] == "before" && text(&l["resource"]).starts_with("shop.")));
    assert!(lines.iter().any(|l| l["record"]["name"] == "user 10"), "{lines:?}");
    for (body, status) in [
        (json!({"resource": "shop.users"}), 400),
        (json!({"resource": "shop.users", "record_ids": [1], "where": {}}), 400),
        (json!({"resource": "shop", "record_ids": [1]}), 400),
        (json!({"resource": "shop.users", "statement": "DELETE FROM users"}), 400),
        (json!({"resource": "elsewhere.users", "record_ids": [1]}), 400),
        (json!({"resource": "shop.nowhere", "record_ids": [1]}), 400),
        (json!({"resource": "shop.users", "where": {"nothing": 1}}), 400),
        (json!({"resource": "shop.users", "where": [1]}), 400),
        (json!({"resource": "shop.users", "record_ids": [1], "params": [1]}), 400),
        (json!({"resource": "shop.users", "record_ids": [1], "check_id": "chk_none"}), 404),
        (json!({"resource": "shop.users", "record_ids": vec![1; 100_001]}), 400),
    ] {
        let reply = server.post("/v1/snapshots", body.clone()).await;
        let shown: String = body.to_string().chars().take(100).collect();
        assert!(reply.status == status || reply.status == 422, "{shown}: {reply:?}");
    }
    assert_eq!(shop::snapshot_files(server.dir.path()).len(), 3, "what failed left nothing");
    let list = server.get("/v1/snapshots?limit=2&target=SHOP&state=live").await.json();
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2);
    let rest =
        server.get(&format!("/v1/snapshots?limit=2&cursor={}", text(&list["next_cursor"]))).await.json();
    assert_eq!((rest["snapshots"].as_array().unwrap().len(), rest.get("next_cursor")), (1, None));
    server.stop_and_verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rollbacks_at_once_are_one() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    let run = server.execute("UPDATE orders SET total = total + 1").await;
    let id = text(&run["snapshot_id"]);
    let both = futures_util::future::join_all((0..4).map(|_| server.rollback(id, json!({})))).await;
    let done = both.iter().filter(|r| r.status == 200 && r.json()["status"] == "done").count();
    let others = both.iter().filter(|r| {
        (r.status == 409 && r.problem() == "conflict") || (r.status == 200 && r.json()["status"] == "nothing")
    });
    assert_eq!((done, others.count()), (1, 3), "{both:?}");
    assert_eq!(shop::dump(server.dir.path()), before);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn a_damaged_snapshot_rolls_nothing_back() {
    let server = shop::server("").await;
    let run = server.execute("UPDATE users SET plan = 'x'").await;
    let id = text(&run["snapshot_id"]);
    let after = shop::dump(server.dir.path());
    let file = server.dir.path().join(format!("data/snapshots/{id}.1.snapshot"));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = server.rollback(id, json!({"on_conflict": "force"})).await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "rollback-impossible"), "{refused:?}");
    assert!(refused.body.contains("damaged"));
    assert_eq!(shop::dump(server.dir.path()), after);
    assert_eq!(server.rollback("snp_nowhere", json!({})).await.status, 404);
    assert_eq!(server.rollback("..%2f..%2fetc", json!({})).await.status, 404);
    assert_eq!(server.rollback(id, json!({"on_conflict": "perhaps"})).await.status, 400);
}

#[tokio::test]
async fn the_file_of_another_snapshot_is_not_taken_for_this_one() {
    let server = shop::server("").await;
    let first = server.execute("UPDATE users SET plan = 'x' WHERE id <= 5").await;
    let second = server.execute("UPDATE users SET plan = 'y' WHERE id BETWEEN 10 AND 20").await;
    let file = |run: &Value| {
        let id = text(&run["snapshot_id"]).to_owned();
        server.dir.path().join(format!("data/snapshots/{id}.1.snapshot"))
    };
    std::fs::copy(file(&second), file(&first)).unwrap();
    let after = shop::dump(server.dir.path());
    let refused = server.rollback(text(&first["snapshot_id"]), json!({"on_conflict": "force"})).await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "rollback-impossible"), "{refused:?}");
    assert!(refused.body.contains(text(&second["snapshot_id"])), "{}", refused.body);
    assert_eq!(shop::dump(server.dir.path()), after);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn the_folder_holds_what_the_log_says() {
    let server = shop::server("").await;
    let run = server.execute("UPDATE users SET plan = 'x'").await;
    let id = text(&run["snapshot_id"]).to_owned();
    let dir = server.stop().await;
    let folder = dir.path().join("data/snapshots");
    for stray in ["snp_stray.1.snapshot", "snp_half.1.snapshot.part", &format!("{id}.2.snapshot")] {
        std::fs::write(folder.join(stray), "x").unwrap();
    }
    let toml = shop::config(dir.path(), "");
    let server = Server::on(dir, &toml).await;
    assert_eq!(shop::snapshot_files(server.dir.path()), [format!("{id}.1.snapshot")]);
    let dir = server.stop().await;
    std::fs::remove_file(dir.path().join(format!("data/snapshots/{id}.1.snapshot"))).unwrap();
    let server = Server::on(dir, &toml).await;
    let metrics = server.get("/metrics").await.body;
    assert!(metrics.contains("checkrein_snapshots_missing 1"), "{metrics}");
    assert_eq!(server.rollback(&id, json!({})).await.problem(), "rollback-impossible");
}

#[tokio::test]
async fn the_oldest_go_first_and_their_end_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    shop::make(dir.path());
    let toml = format!("{}\n[snapshots]\nkeep_bytes = \"1MiB\"\n", shop::config(dir.path(), ""));
    shop::meddle(dir.path(), "UPDATE users SET name = hex(randomblob(10000))");
    let server = Server::on(dir, &toml).await;
    let mut ids = Vec::new();
    for i in 0..3 {
        let run = server.execute(&format!("UPDATE users SET plan = 'p{i}'")).await;
        ids.push(text(&run["snapshot_id"]).to_owned());
    }
    let dir = server.stop().await;
    // Retention looks at the start.
    let server = Server::on(dir, &toml).await;
    let state = async |id: &str| server.get(&format!("/v1/snapshots/{id}")).await.json();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while state(&ids[1]).await["state"] != "removed" {
        assert!(std::time::Instant::now() < deadline, "{}", state(&ids[1]).await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let first = state(&ids[0]).await;
    assert!(text(&first["removed_because"]).contains("keep_bytes"), "{first}");
    assert_eq!(server.rollback(&ids[0], json!({})).await.problem(), "rollback-impossible");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn snapshots_are_sealed_with_the_operators_key() {
    let dir = tempfile::tempdir().unwrap();
    shop::make(dir.path());
    let key = dir.path().join("key");
    std::fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
    let with = format!(
        "{}\n[snapshots]\nencryption_key = {{ file = \"{}\" }}\n",
        shop::config(dir.path(), ""),
        key.display()
    );
    let before = shop::dump(dir.path());
    let server = Server::on(dir, &with).await;
    let run = server.execute("UPDATE users SET plan = 'x'").await;
    let id = text(&run["snapshot_id"]).to_owned();
    let dir = server.stop().await;
    let without = shop::config(dir.path(), "");
    let server = Server::on(dir, &without).await;
    let refused = server.rollback(&id, json!({})).await;
    assert!(
        refused.problem() == "rollback-impossible" && refused.body.contains("encryption_key"),
        "{refused:?}"
    );
    let dir = server.stop().await;
    let server = Server::on(dir, &with).await;
    assert_eq!(server.rollback(&id, json!({})).await.json()["status"], "done");
    assert_eq!(shop::dump(server.dir.path()), before);
}
