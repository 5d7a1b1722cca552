//! Guarded execution on a real SQLite file.

use super::{common::Server, shop};
use serde_json::{Value, json};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

async fn limit(server: &Server, rule: &str, records: u64) {
    let condition = json!({"resource_pattern": "shop.*", "record_count_exceeds": records});
    server.policy(json!({"name": format!("{rule}_{records}"), "rule": rule, "condition": condition})).await;
}

async fn approve(server: &Server, decision: &Value) {
    let id = text(&decision["approval_id"]);
    let reply = server.post(&format!("/v1/approvals/{id}/decision"), json!({"decision": "approve"})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn what_is_allowed_runs_is_measured_and_can_be_undone() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    let run = server
        .try_execute(
            json!({"statement": "DELETE FROM users WHERE id <= ?", "params": [20], "record_count": 3}),
        )
        .await
        .json();
    assert_eq!((&run["verdict"], &run["executed"]), (&json!("allow"), &json!(true)), "{run}");
    assert_eq!(run["affected"], 60, "20 users, 20 orders and 20 more: {run}");
    assert_eq!(run["blast_radius"]["records"], 60);
    assert_eq!(run["blast_radius"]["basis"], "measured");
    assert_eq!(run["blast_radius"]["understated"], true);
    assert_eq!(run["blast_radius"]["declared"], 3);
    assert!(text(&run["reason"]).contains("stated 3 records; it changes 60"), "{run}");
    assert_ne!(shop::dump(server.dir.path()), before);
    let id = text(&run["id"]);
    assert_eq!(server.outcome(id).await, json!({"status": "ok", "records": 60}));

    let snapshot = text(&run["snapshot_id"]);
    let shown = server.get(&format!("/v1/snapshots/{snapshot}")).await.json();
    assert_eq!(
        (&shown["origin"], &shown["sealed"], &shown["records"]),
        (&json!("execution"), &json!(true), &json!(60))
    );
    assert_eq!(shown["check_id"], *id);
    let planned = server.rollback(snapshot, json!({"dry_run": true})).await.json();
    assert_eq!((&planned["status"], &planned["restored"]), (&json!("planned"), &json!(60)), "{planned}");
    let done = server.rollback(snapshot, json!({})).await.json();
    assert_eq!((&done["status"], &done["restored"]), (&json!("done"), &json!(60)), "{done}");
    assert_eq!(shop::dump(server.dir.path()), before, "byte for byte");
    let again = server.rollback(snapshot, json!({})).await.json();
    assert_eq!((&again["status"], &again["restored"]), (&json!("nothing"), &json!(0)), "{again}");
    let undone = server.rollback(text(&done["undo_snapshot_id"]), json!({})).await.json();
    assert_eq!(undone["status"], "done", "{undone}");
    assert_ne!(shop::dump(server.dir.path()), before);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn it_is_checked_in_the_callers_own_trace() {
    let server = shop::server("").await;
    let said = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let nearer = said.replace("3331-01", "4441-01");
    let run = async |headers: &str, member: Value| {
        let mut body = json!({"target": "shop", "statement": "SELECT 1"});
        if !member.is_null() {
            body["traceparent"] = member;
        }
        let body = body.to_string();
        let reply = server
            .raw(
                format!(
                    "POST /v1/executions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
                     content-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
                    super::common::ADMIN,
                    body.len()
                )
                .as_bytes(),
            )
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let id = text(&reply.json()["id"]).to_owned();
        let row = server.app.store().check(&id).await.unwrap().unwrap();
        row.checked.check.traceparent.map(|trace| trace.to_string())
    };
    let header = format!("traceparent: {said}\r\n");
    assert_eq!(run(&header, Value::Null).await.as_deref(), Some(said));
    assert_eq!(run("", json!(said)).await.as_deref(), Some(said));
    assert_eq!(run(&header, json!(nearer)).await, Some(nearer));
    assert_eq!(run("traceparent: nonsense\r\n", json!("nonsense")).await, None);
    assert_eq!(run("", Value::Null).await, None);
}

#[tokio::test]
async fn what_is_blocked_leaves_the_file_as_it_was() {
    let server = shop::server("").await;
    limit(&server, "block", 25).await;
    let bytes = || std::fs::read(shop::file(server.dir.path())).unwrap();
    let (before, whole) = (shop::dump(server.dir.path()), bytes());
    let run = server.execute("UPDATE users SET plan = 'gone' WHERE plan = 'trial'").await;
    assert_eq!(
        (&run["verdict"], &run["executed"], &run["rows"]),
        (&json!("block"), &json!(false), &Value::Null)
    );
    assert!(text(&run["reason"]).contains("40 records, over 25"), "{run}");
    let cascade = server.execute("DELETE FROM users WHERE id <= 20").await;
    assert_eq!(cascade["verdict"], "block", "the cascades count: {cascade}");
    assert_eq!((shop::dump(server.dir.path()), bytes()), (before, whole));
    assert!(shop::snapshot_files(server.dir.path()).is_empty());
    assert_eq!(server.execute("UPDATE users SET plan = 'vip' WHERE id <= 25").await["executed"], true);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn a_table_that_only_a_cascade_touches_is_judged_too() {
    let server = shop::server("").await;
    let condition = json!({"action": "delete", "resource_pattern": "shop.*orders"});
    server.policy(json!({"name": "keep_orders", "rule": "block", "condition": condition})).await;
    let run = server.execute("DELETE FROM users WHERE id = 50").await;
    assert_eq!(run["verdict"], "block", "{run}");
    assert!(text(&run["reason"]).contains("keep_orders"));
    assert_eq!(server.execute("UPDATE users SET plan = 'x' WHERE id = 50").await["executed"], true);
}

#[tokio::test]
async fn what_is_blocked_whatever_the_count_does_not_even_run() {
    let server = shop::server("").await;
    let condition = json!({"action": "delete", "resource_pattern": "shop.*"});
    server.policy(json!({"name": "no_deletes", "rule": "block", "condition": condition})).await;
    // Somebody else has the write lock: a statement that ran would wait, and fail.
    let db = rusqlite::Connection::open(shop::file(server.dir.path())).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let run = server.execute("DELETE FROM users WHERE id = 50").await;
    assert_eq!(run["verdict"], "block", "{run}");
    assert!(text(&run["reason"]).contains("no_deletes"), "{run}");
    // The second statement hides in no comment of the first.
    let hidden = json!({"statements": [{"statement": "UPDATE users SET plan = 'x' WHERE id = 1 /*"},
        {"statement": "DELETE FROM users -- */"}]});
    let run = server.try_execute(hidden).await.json();
    assert_eq!(run["verdict"], "block", "{run}");
    assert!(text(&run["reason"]).contains("no_deletes"), "{run}");
}

#[tokio::test]
async fn a_hold_keeps_no_lock_and_runs_once_approved_on_the_same_rows() {
    let server = shop::server("").await;
    limit(&server, "require_approval", 10).await;
    let sql = "UPDATE users SET plan = 'vip' WHERE plan = 'trial'";
    let before = shop::dump(server.dir.path());
    let held = server.execute(sql).await;
    assert_eq!((&held["verdict"], &held["executed"]), (&json!("hold"), &json!(false)), "{held}");
    assert!(shop::snapshot_files(server.dir.path()).is_empty(), "no snapshot outlives a hold");
    assert_eq!(shop::dump(server.dir.path()), before);
    assert_eq!(server.execute(sql).await["approval_id"], held["approval_id"], "asked once");
    // Nothing waits for the person: others write.
    shop::meddle(server.dir.path(), "UPDATE orders SET total = 1 WHERE id = 100");

    approve(&server, &held).await;
    let id = text(&held["id"]);
    let told = server.get(&format!("/v1/checks/{id}?wait=5s")).await.json();
    assert_eq!(told["verdict"], "allow", "{told}");
    assert!(text(&told["reason"]).contains("Send the execution again to run it"), "{told}");
    let ran = server.execute(sql).await;
    assert_eq!(
        (&ran["verdict"], &ran["executed"], &ran["affected"]),
        (&json!("allow"), &json!(true), &json!(40))
    );
    assert!(text(&ran["reason"]).starts_with("Approved by"), "{ran}");
    assert_eq!(ran["approval_id"], held["approval_id"]);
    assert!(ran["snapshot_id"].is_string());
    // The hold itself is over: whoever polls it must not run the same again, and a person sees that it ran.
    let over = server.get(&format!("/v1/checks/{id}")).await.json();
    assert_eq!((&over["verdict"], &over["used_by"]), (&json!("block"), &ran["id"]), "{over}");
    let reason = text(&over["reason"]);
    assert!(reason.starts_with("Approved by") && reason.contains(text(&ran["id"])), "{over}");
    assert!(reason.ends_with("do not run it again.") && !reason.contains("ask again"), "{over}");
    let list = server.get("/v1/checks").await.json();
    let listed = list["checks"].as_array().unwrap().iter().find(|check| check["id"] == held["id"]).unwrap();
    assert_eq!((&listed["reason"], &listed["used_by"]), (&over["reason"], &ran["id"]));
    let user = server.get(&format!("/v1/checks/{}", text(&ran["id"]))).await.json();
    assert_eq!((&user["verdict"], user.get("used_by")), (&json!("allow"), None), "{user}");
    let other = server.execute(&sql.replace("vip", "vap").replace("'trial'", "'vip'")).await;
    assert_eq!(other["verdict"], "hold", "used once");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn an_approval_does_not_cover_rows_that_have_changed() {
    let server = shop::server("").await;
    limit(&server, "require_approval", 10).await;
    let sql = "UPDATE users SET plan = 'vip' WHERE plan = 'trial'";
    let held = server.execute(sql).await;
    approve(&server, &held).await;
    shop::meddle(server.dir.path(), "UPDATE users SET name = 'else' WHERE id = 7");
    let again = server.execute(sql).await;
    assert_eq!((&again["verdict"], &again["executed"]), (&json!("hold"), &json!(false)), "{again}");
    assert!(text(&again["reason"]).contains("have changed since"), "{again}");
    assert_ne!(again["approval_id"], held["approval_id"]);
    approve(&server, &again).await;
    assert_eq!(server.execute(sql).await["executed"], true);
    server.stop_and_verify().await;
}

/// The rows are the same, and what would be written into them is not.
#[tokio::test]
async fn an_approval_does_not_cover_other_values_from_elsewhere() {
    let server = shop::server("").await;
    limit(&server, "require_approval", 10).await;
    let sql = "UPDATE users SET plan = (SELECT total FROM orders WHERE id = 100), name = random() WHERE plan = 'trial'";
    let held = server.execute(sql).await;
    approve(&server, &held).await;
    shop::meddle(server.dir.path(), "UPDATE orders SET total = 77 WHERE id = 100");
    let again = server.execute(sql).await;
    assert_eq!((&again["verdict"], &again["executed"]), (&json!("hold"), &json!(false)), "{again}");
    assert!(text(&again["reason"]).contains("takes from others, have changed since"), "{again}");
    assert_ne!(again["approval_id"], held["approval_id"]);
    approve(&server, &again).await;
    let ran = server.execute(sql).await;
    assert_eq!(ran["executed"], true, "{ran}");
    server.stop_and_verify().await;
}

/// One record is changed, and a whole table comes along.
#[tokio::test]
async fn what_a_change_returns_beside_is_counted() {
    let server = shop::server("").await;
    limit(&server, "block", 10).await;
    let one = "UPDATE users SET plan = 'vip' WHERE id = 1";
    let both = json!({"statements": [{"statement": "SELECT * FROM users"}, {"statement": one}]});
    let run = server.try_execute(both).await.json();
    assert_eq!((&run["verdict"], &run["executed"]), (&json!("block"), &json!(false)), "{run}");
    let returned = server.execute(&format!("{one} RETURNING *")).await;
    assert_eq!((&returned["executed"], &returned["blast_radius"]["records"]), (&json!(true), &json!(1)));
    server.stop_and_verify().await;
}

#[tokio::test]
async fn an_approval_does_not_cover_a_read_that_has_grown() {
    let server = shop::server("").await;
    limit(&server, "require_approval", 10).await;
    let sql = "SELECT id FROM users WHERE id <= 20 OR name = 'else'";
    let held = server.execute(sql).await;
    assert_eq!((&held["verdict"], &held["executed"]), (&json!("hold"), &json!(false)), "{held}");
    approve(&server, &held).await;
    shop::meddle(server.dir.path(), "UPDATE users SET name = 'else' WHERE id > 20");
    let again = server.execute(sql).await;
    assert_eq!((&again["verdict"], &again["executed"]), (&json!("hold"), &json!(false)), "{again}");
    assert_ne!(again["approval_id"], held["approval_id"]);
    approve(&server, &again).await;
    assert_eq!(server.execute(sql).await["executed"], true);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn reads_are_judged_and_answered_and_cannot_write() {
    let server = shop::server("").await;
    let read = server.execute("SELECT id, name, id AS id FROM users ORDER BY id LIMIT 2").await;
    assert_eq!(
        (&read["category"], &read["executed"], &read["affected"]),
        (&json!("read"), &json!(true), &json!(0))
    );
    assert_eq!(read["columns"], json!(["id", "name", "id_2"]));
    assert_eq!(read["rows"][1], json!({"id": 2, "name": "user 2", "id_2": 2}), "{read}");
    assert!(read.get("snapshot_id").is_none());
    let wrong = server.try_execute(json!({"statement": "SELECT * FROM nowhere"})).await;
    assert_eq!((wrong.status, wrong.problem().as_str()), (422, "statement-failed"), "{wrong:?}");
    let id = wrong.json()["check_id"].as_str().unwrap().to_owned();
    assert_eq!(server.outcome(&id).await["status"], "error");

    limit(&server, "block", 50).await;
    let many = server.execute("SELECT * FROM users").await;
    assert_eq!((&many["verdict"], &many["rows"]), (&json!("block"), &Value::Null), "{many}");
    assert_eq!(server.execute("SELECT * FROM users LIMIT 50").await["executed"], true);
    server.stop_and_verify().await;
}

#[tokio::test]
async fn several_statements_are_one_transaction() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    let body = json!({"statements": [
        {"statement": "INSERT INTO users VALUES (?, ?, ?) RETURNING id", "params": [500, "new", "paid"]},
        {"statement": "UPDATE orders SET total = total + 1 WHERE user_id = ?", "params": [1]},
    ]});
    let run = server.try_execute(body).await.json();
    assert_eq!((&run["executed"], &run["affected"]), (&json!(true), &json!(3)), "{run}");
    assert_eq!(run["results"][0]["rows"], json!([{"id": 500}]));
    assert_eq!(run["results"][1]["affected"], 2);
    assert_eq!(run["rows"], json!([{"id": 500}]));
    let after = shop::dump(server.dir.path());
    let broken = json!({"statements": [
        {"statement": "UPDATE users SET plan = 'x'"},
        {"statement": "INSERT INTO users VALUES (1, 'twice', 'x')"},
    ]});
    let refused = server.try_execute(broken).await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "statement-failed"), "{refused:?}");
    assert_eq!(shop::dump(server.dir.path()), after);
    let id = refused.json()["check_id"].as_str().unwrap().to_owned();
    let on_record = server.get(&format!("/v1/checks/{id}")).await.json();
    assert_eq!(on_record["verdict"], "block", "{on_record}");
    let done = server.rollback(text(&run["snapshot_id"]), json!({})).await.json();
    assert_eq!((&done["status"], shop::dump(server.dir.path())), (&json!("done"), before), "{done}");
}

#[tokio::test]
async fn what_cannot_be_measured_is_refused() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    for sql in ["DROP TABLE orders", "ATTACH DATABASE '/tmp/x' AS x", "PRAGMA user_version = 3", "VACUUM"] {
        let reply = server.try_execute(json!({"statement": sql})).await;
        let told = reply.json();
        assert!(reply.status == 422 || told["executed"] == false, "{sql}: {reply:?}");
        assert_ne!(told["verdict"], "allow", "{sql}: {told}");
    }
    assert_eq!(shop::dump(server.dir.path()), before);
}

#[tokio::test]
async fn an_idempotency_key_runs_once() {
    let server = shop::server("").await;
    let body =
        json!({"statement": "UPDATE orders SET total = total + 1 RETURNING id", "idempotency_key": "k1"});
    let many = futures_util::future::join_all((0..8).map(|_| server.try_execute(body.clone()))).await;
    let runs: Vec<Value> = many.iter().map(|reply| reply.json()).collect();
    assert!(many.iter().all(|reply| reply.status == 200), "{many:?}");
    assert!(
        runs.iter()
            .all(|run| run["id"] == runs[0]["id"] && run["executed"] == true && run["affected"] == 120)
    );
    assert_eq!(runs.iter().filter(|run| run["rows"].is_array()).count(), 1, "rows are not kept");
    assert!(shop::dump(server.dir.path()).contains("Integer(1) Integer(1) Integer(11)"), "once");

    let other = json!({"statement": "UPDATE orders SET total = 0", "idempotency_key": "k1"});
    assert_eq!(server.try_execute(other).await.problem(), "idempotency-key-reused");
    let check = json!({"action": "update", "resource": "shop.orders", "idempotency_key": "k1"});
    assert_eq!(server.post("/v1/checks", check).await.problem(), "idempotency-key-reused");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn snapshots_are_taken_as_the_operator_wants() {
    for (when, one, none) in [
        ("snapshot_when = \"always\"", true, false),
        ("snapshot_when = \"never\"", false, false),
        ("snapshot_when = { records_exceed = 1 }", false, false),
    ] {
        let server = shop::server(when).await;
        let run = server.execute("UPDATE users SET plan = 'x' WHERE id = 3").await;
        assert_eq!(
            (run["executed"].clone(), run["snapshot_id"].is_string()),
            (json!(true), one),
            "{when}: {run}"
        );
        let run = server.execute("UPDATE users SET plan = 'x' WHERE id = 3000").await;
        assert_eq!(
            (run["executed"].clone(), run["snapshot_id"].is_string()),
            (json!(true), none),
            "{when}: {run}"
        );
        let files = shop::snapshot_files(server.dir.path()).len();
        assert_eq!(files, usize::from(one), "{when}");
        server.stop_and_verify().await;
    }
}

#[tokio::test]
async fn nothing_runs_without_its_snapshot() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    // As root, rights do not stop anybody; a file where the folder should be does.
    let folder = server.dir.path().join("data/snapshots");
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let run = server.execute("UPDATE users SET plan = 'x'").await;
    assert_eq!((&run["verdict"], &run["executed"]), (&json!("block"), &json!(false)), "{run}");
    assert!(text(&run["reason"]).contains("no snapshot could be taken"), "{run}");
    assert_eq!(shop::dump(server.dir.path()), before);
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(server.execute("UPDATE users SET plan = 'x'").await["executed"], true, "no restart needed");
}

#[tokio::test]
async fn nothing_runs_that_is_not_on_record() {
    let server = shop::server("").await;
    let before = shop::dump(server.dir.path());
    server.app.store().close().await;
    let refused = server.try_execute(json!({"statement": "UPDATE users SET plan = 'x'"})).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "not-recorded"), "{refused:?}");
    assert_eq!(shop::dump(server.dir.path()), before);
    assert!(shop::snapshot_files(server.dir.path()).is_empty());
    shop::meddle(server.dir.path(), "UPDATE users SET plan = 'free'");
}

#[tokio::test]
async fn an_agent_runs_for_itself_only() {
    let server = shop::server("").await;
    let (own, other) = (server.key("agent", Some("own")).await, server.key("agent", Some("other")).await);
    let body = json!({"target": "shop", "statement": "UPDATE users SET plan = 'x'"});
    let run = server.send("POST", "/v1/executions", &own, &body.to_string()).await.json();
    assert_eq!(run["executed"], true, "{run}");
    let snapshot = format!("/v1/snapshots/{}", text(&run["snapshot_id"]));
    assert_eq!(server.send("GET", &snapshot, &own, "").await.status, 200);
    assert_eq!(server.send("GET", &snapshot, &other, "").await.status, 404);
    assert_eq!(server.send("POST", &format!("{snapshot}/seal"), &other, "").await.status, 404);
    for (method, path) in [("POST", "rollback"), ("GET", "export")] {
        let refused = server.send(method, &format!("{snapshot}/{path}"), &own, "{}").await;
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    let list = server.send("GET", "/v1/snapshots", &other, "").await.json();
    assert_eq!(list["snapshots"], json!([]));
    let foreign = json!({"target": "shop", "statement": "SELECT 1", "agent": "own"});
    assert_eq!(server.send("POST", "/v1/executions", &other, &foreign.to_string()).await.status, 403);
    let id = text(&run["id"]);
    let report =
        server.send("POST", &format!("/v1/checks/{id}/outcome"), &own, r#"{"status": "error"}"#).await;
    assert_eq!(report.status, 409, "Checkrein knows better: {report:?}");
}

#[tokio::test]
async fn hostile_bodies_are_refused() {
    let server = shop::server("").await;
    for (body, status) in [
        (json!({}), 400),
        (json!({"statement": "SELECT 1", "statements": []}), 400),
        (json!({"statements": []}), 400),
        (json!({"statements": [["SELECT 1", []]]}), 400),
        (json!({"statements": [{"statement": "SELECT 1", "more": 1}]}), 400),
        (json!({"statements": [{"statement": "SELECT 1"}], "params": []}), 400),
        (json!({"statement": ""}), 400),
        (json!({"statement": "SELECT 1\u{0}"}), 400),
        (json!({"statement": "SELECT 1", "params": {"a": 1}}), 400),
        (json!({"statement": "SELECT 1", "record_count": -1}), 400),
        (json!({"statement": "SELECT 1", "idempotency_key": "k".repeat(300)}), 400),
        (json!({"statement": "SELECT 1", "agent": "a\u{202e}b"}), 400),
        (json!({"statement": format!("SELECT '{}'", "x".repeat(300_000))}), 400),
        (json!({"statements": vec![json!({"statement": "SELECT 1"}); 101]}), 400),
        (json!({"statement": "SELECT 1; DROP TABLE users"}), 200),
    ] {
        let reply = server.try_execute(body.clone()).await;
        assert!(reply.status == status || reply.status == 422, "{status} {body}: {reply:?}");
        assert!(reply.status != 200 || reply.json()["executed"] == false, "{body}: {reply:?}");
    }
    let elsewhere =
        server.post("/v1/executions", json!({"target": "nowhere", "statement": "SELECT 1"})).await;
    assert_eq!(elsewhere.problem(), "not-found");
    let twice = r#"{"target": "shop", "target": "shop", "statement": "SELECT 1"}"#;
    assert_eq!(server.send("POST", "/v1/executions", super::common::ADMIN, twice).await.status, 400);
}
