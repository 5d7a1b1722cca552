//! Guarded execution, snapshots and rollback on real PostgreSQL and MariaDB servers, through the API.

use super::{common::Server, databases};
use checkrein_testbed::servers::{mariadb::Mariadb, postgres::Postgres};
use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};

/// All three tables, read through the API.
async fn dump(server: &Server) -> Value {
    let mut tables = Vec::new();
    for table in ["users", "orders", "notes"] {
        let run = server.execute(&format!("SELECT * FROM {table} ORDER BY id")).await;
        assert_eq!(run["executed"], true, "{run}");
        tables.push(run["rows"].clone());
    }
    Value::Array(tables)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

/// What every database has to make of the same story.
async fn story(server: &Server) {
    let before = dump(server).await;
    // A cascade, measured, and undone.
    let run = server.execute("DELETE FROM users WHERE country = 'DE'").await;
    assert_eq!(
        (&run["verdict"], &run["executed"], &run["affected"]),
        (&json!("allow"), &json!(true), &json!(6)),
        "{run}"
    );
    assert_eq!(server.outcome(text(&run["id"])).await["status"], "ok");
    assert_ne!(dump(server).await, before);
    let done = server.rollback(text(&run["snapshot_id"]), json!({})).await.json();
    assert_eq!((&done["status"], &done["restored"]), (&json!("done"), &json!(6)), "{done}");
    assert_eq!(dump(server).await, before);

    // One record leaves no snapshot, and is settled all the same.
    let one = server.execute("UPDATE users SET country = 'FR' WHERE id = 3").await;
    assert_eq!((&one["executed"], one.get("snapshot_id")), (&json!(true), None), "{one}");
    assert_eq!(server.outcome(text(&one["id"])).await, json!({"status": "ok", "records": 1}));
    server.execute("UPDATE users SET country = 'US' WHERE id = 3").await;

    // The database refuses, and so does Checkrein.
    for (sql, status) in [
        ("INSERT INTO users VALUES (1, 'XX')", 422),
        ("SELECT * FROM nowhere", 422),
        ("TRUNCATE TABLE orders", 200),
        ("DROP TABLE orders", 200),
    ] {
        let reply = server.try_execute(json!({"statement": sql})).await;
        assert_eq!(reply.status, status, "{sql}: {reply:?}");
        assert!(status == 422 || reply.json()["verdict"] == "block", "{sql}: {reply:?}");
    }

    // Held on these rows, and on no others.
    let condition = json!({"action": "update", "record_count_exceeds": 1});
    server.policy(json!({"name": "ask", "rule": "require_approval", "condition": condition})).await;
    let sql = "UPDATE users SET country = 'FR' WHERE country = 'DE'";
    let approve = async |held: &Value| {
        assert_eq!(held["verdict"], "hold", "{held}");
        let decision = format!("/v1/approvals/{}/decision", text(&held["approval_id"]));
        assert_eq!(server.post(&decision, json!({"decision": "approve"})).await.status, 200);
    };
    approve(&server.execute(sql).await).await;
    server.execute("UPDATE users SET country = 'DE' WHERE id = 3").await;
    let changed = server.execute(sql).await;
    assert!(text(&changed["reason"]).contains("have changed since"), "{changed}");
    server.execute("UPDATE users SET country = 'US' WHERE id = 3").await;
    // The rows are again those that were approved first.
    let ran = server.execute(sql).await;
    assert_eq!((&ran["executed"], &ran["affected"]), (&json!(true), &json!(2)), "{ran}");
    let planned = server.rollback(text(&ran["snapshot_id"]), json!({"dry_run": true})).await.json();
    assert_eq!((&planned["status"], &planned["restored"]), (&json!("planned"), &json!(2)), "{planned}");
    server.execute("UPDATE users SET country = 'IT' WHERE id = 1").await;
    let refused = server.rollback(text(&ran["snapshot_id"]), json!({})).await;
    assert_eq!(
        (refused.problem().as_str(), &refused.json()["conflict_count"]),
        ("rollback-conflicts", &json!(1))
    );
    let forced = server.rollback(text(&ran["snapshot_id"]), json!({"on_conflict": "force"})).await.json();
    assert_eq!(forced["status"], "done", "{forced}");
    assert_eq!(dump(server).await, before);

    // A check leaves a snapshot, the outcome seals it.
    assert_eq!(server.send("DELETE", "/v1/policies/ask", super::common::ADMIN, "").await.status, 204);
    let check =
        server.check(json!({"action": "delete", "resource": "shop.users", "record_ids": [1, 2]})).await;
    assert_eq!(check["verdict"], "allow", "{check}");
    let id = text(&check["snapshot_id"]).to_owned();
    server.execute("DELETE FROM users WHERE id IN (1, 2)").await;
    let report = format!("/v1/checks/{}/outcome", text(&check["id"]));
    assert_eq!(server.post(&report, json!({"status": "ok"})).await.status, 200);
    let done = server.rollback(&id, json!({})).await.json();
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(dump(server).await, before);
}

/// More conflicts than are shown: those that nobody sees are what a person's word is about, too. `more` is what the
/// columns of `users` after id and `column` need.
pub(crate) async fn conflicts_beyond_those_shown(server: &Server, column: &str, more: &str) {
    let rows: Vec<String> = (1_000..1_300).map(|id| format!("({id}, 'AA'{more})")).collect();
    server.execute(&format!("INSERT INTO users VALUES {}", rows.join(", "))).await;
    let set = async |value: &str, which: &str| {
        let run = server.execute(&format!("UPDATE users SET {column} = '{value}' WHERE {which}")).await;
        assert_eq!(run["executed"], true, "{run}");
        run
    };
    let run = set("BB", "id >= 1000").await;
    let id = text(&run["snapshot_id"]);
    set("CC", "id >= 1000").await;
    let plan = async || server.rollback(id, json!({"dry_run": true})).await.json()["plan"].clone();
    let seen = plan().await;
    let shown: Vec<String> =
        seen["conflicts"].as_array().unwrap().iter().map(|c| c["key"]["id"].to_string()).collect();
    assert_eq!((shown.len(), &seen["conflict_count"]), (200, &json!(300)), "{seen}");
    assert_eq!(plan().await["digest"], seen["digest"], "nothing has changed");
    let unseen: Vec<i32> = (1_000..1_300)
        .filter(|id| !shown.contains(&id.to_string()) && !shown.contains(&format!("\"{id}\"")))
        .collect();
    assert_eq!(unseen.len(), 100, "{shown:?}");
    set("DD", &format!("id = {}", unseen[50])).await;
    let old = json!({"on_conflict": "force", "plan_digest": seen["digest"]});
    let refused = server.rollback(id, old).await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "rollback-conflicts"), "{refused:?}");
    assert!(text(&refused.json()["detail"]).contains("the plan changed since you looked"), "{refused:?}");
    let now = plan().await;
    assert_eq!(now["conflicts"], seen["conflicts"], "what is shown is what was shown");
    let done =
        server.rollback(id, json!({"on_conflict": "force", "plan_digest": now["digest"]})).await.json();
    assert_eq!(done["status"], "done", "{done}");
    let back = server.execute(&format!("SELECT id FROM users WHERE {column} = 'AA'")).await;
    assert_eq!(back["rows"].as_array().map(Vec::len), Some(300), "{back}");
}

#[tokio::test]
async fn on_postgresql() {
    let database = Postgres::start(&[]).unwrap();
    let url = database.database().unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(databases::SHOP).await.unwrap();
    let server = databases::server("postgres", &url).await;
    story(&server).await;
    conflicts_beyond_those_shown(&server, "country", "").await;
    // One record is changed, and a whole table comes along.
    let condition = json!({"record_count_exceeds": 2});
    server.policy(json!({"name": "few", "rule": "block", "condition": condition})).await;
    let with = "WITH one AS (UPDATE users SET country = 'FR' WHERE id = 1 RETURNING id) SELECT * FROM orders";
    let run = server.execute(with).await;
    assert_eq!((&run["verdict"], &run["blast_radius"]["records"]), (&json!("block"), &json!(3)), "{run}");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn on_mariadb() {
    let database = Mariadb::start(&[]).unwrap();
    let name = database.name();
    let user = checkrein_testbed::servers::mariadb::SUPERUSER;
    let mut client = mysql_async::Conn::from_url(database.url(user, "mysql")).await.unwrap();
    client.query_drop(format!("CREATE DATABASE {name}")).await.unwrap();
    client.query_drop(format!("USE {name}")).await.unwrap();
    for statement in databases::SHOP.split(';').filter(|s| !s.trim().is_empty()) {
        client.query_drop(statement).await.unwrap();
    }
    let server = databases::server("mysql", &database.url(user, &name)).await;
    story(&server).await;
    conflicts_beyond_those_shown(&server, "country", "").await;
    server.stop_and_verify().await;
}
