//! Counting before: what is named, and what follows through foreign keys.

use super::harness::{Fixture, brief, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, How, Selection, Statement};
use serde_json::{Value, json};

const SHOP: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, boss INT REFERENCES users ON DELETE SET NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE lines (order_id INT REFERENCES orders ON DELETE CASCADE, n INT, PRIMARY KEY (order_id, n)) WITHOUT ROWID;
    CREATE TABLE invoices (id INTEGER PRIMARY KEY, order_id INT REFERENCES orders);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10)
    INSERT INTO users SELECT i, 'user ' || i, NULLIF(i / 2, 0) FROM n;
    INSERT INTO orders SELECT id * 10 + n, id FROM users, (SELECT 1 AS n UNION SELECT 2);
    INSERT INTO lines SELECT id, n FROM orders, (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3);
    INSERT INTO invoices VALUES (1, 51), (2, 91);
";

async fn count(file: &Fixture, sql: &str, params: Value) -> checkrein_targets::Counted {
    let params = params.as_array().unwrap().clone();
    let what = Selection::Statements(vec![Statement { sql: sql.to_owned(), params }]);
    file.target.count(&what).await.unwrap()
}

#[tokio::test]
async fn follows_foreign_keys_to_their_end() {
    for mode in ["wal", "delete"] {
        let file = Fixture::new(mode, SHOP);
        let counted = count(&file, "DELETE FROM users WHERE id <= ?", json!([4])).await;
        assert_eq!(
            brief(&counted.affected),
            [
                ("users", How::Delete, 4),
                ("users", How::Unlink, 5),
                ("lines", How::Cascade, 24),
                ("orders", How::Cascade, 8)
            ]
        );
        assert_eq!((counted.refusals.len(), counted.at_least.len()), (0, 0));
        let measured = file.run("DELETE FROM users WHERE id <= 4").await.measured;
        assert_eq!(measured.records(), counted.records());
    }
}

#[tokio::test]
async fn says_what_forbids_it() {
    let file = Fixture::new("wal", SHOP);
    let counted = count(&file, "DELETE FROM users WHERE id = 5", json!([])).await;
    assert_eq!(counted.refusals, ["1 records of invoices refer to them and forbid it"]);
    assert!(file.target.execute(&[statement("DELETE FROM users WHERE id = 5")]).await.is_err());
    // The invoice would go, too.
    let both = Selection::Statements(vec![
        statement("DELETE FROM invoices"),
        statement("DELETE FROM users WHERE id = 5"),
    ]);
    assert_eq!(file.target.count(&both).await.unwrap().refusals.len(), 0);
}

#[tokio::test]
async fn takes_statements_apart() {
    let file = Fixture::new("wal", SHOP);
    for (sql, params, records) in [
        ("UPDATE users SET name = ? WHERE id > ? AND name <> ?", json!(["x", 7, "user 8"]), 2),
        ("UPDATE users SET name = $2 WHERE id = $1", json!([3, "x"]), 1),
        (
            "UPDATE users AS u SET name = 'x' FROM orders AS o WHERE o.user_id = u.id AND o.id IN (11, 12, 21)",
            json!([]),
            2,
        ),
        (
            "WITH few AS (SELECT id FROM users WHERE id < 4) UPDATE users SET name = '' WHERE id IN (SELECT id FROM few)",
            json!([]),
            3,
        ),
        ("update main.users set name = '?' || \"name\"", json!([]), 10),
        (
            "DELETE FROM lines AS l WHERE l.n = 1 AND EXISTS (SELECT 1 FROM orders o WHERE o.id = l.order_id)",
            json!([]),
            20,
        ),
        ("UPDATE orders SET user_id = 1", json!([]), 20),
        ("UPDATE users SET id = id + 100 WHERE id = 10", json!([]), 3),
        ("INSERT INTO users (name) VALUES ('a'), ('b')", json!([]), 2),
        ("INSERT INTO users (name) SELECT name FROM users WHERE id < ?", json!([4]), 3),
        ("INSERT INTO users DEFAULT VALUES", json!([]), 1),
    ] {
        let counted = count(&file, sql, params.clone()).await;
        assert_eq!(counted.records(), records, "{sql}: {counted:?}");
    }
    let read = count(&file, "SELECT * FROM users WHERE id < ?", json!([4])).await;
    assert_eq!(brief(&read.affected), [("users", How::Read, 3)]);
    assert_eq!(read.records(), 0);
}

#[tokio::test]
async fn triggers_and_conflict_clauses_make_it_a_lower_bound() {
    let file = Fixture::new("wal", SHOP);
    file.sql("CREATE TRIGGER g AFTER DELETE ON orders BEGIN DELETE FROM users; END");
    assert!(count(&file, "DELETE FROM users", json!([])).await.at_least[0].contains("orders has triggers"));
    assert!(count(&file, "DELETE FROM lines", json!([])).await.at_least.is_empty());
    assert_eq!(count(&file, "REPLACE INTO lines VALUES (1, 1)", json!([])).await.at_least.len(), 1);
    assert!(!count(&file, "UPDATE OR REPLACE users SET id = 5", json!([])).await.at_least.is_empty());
    file.sql("CREATE TABLE own (id INTEGER PRIMARY KEY, u UNIQUE ON CONFLICT REPLACE)");
    for sql in ["INSERT INTO own VALUES (1, 1)", "UPDATE own SET u = 1"] {
        assert!(count(&file, sql, json!([])).await.at_least[0].contains("ON CONFLICT of the table"), "{sql}");
    }
}

#[tokio::test]
async fn counts_records_by_key_and_by_filter() {
    let file = Fixture::new("wal", SHOP);
    let target = &file.target;
    let records = async |resource: &str, ids: Value, delete| {
        let ids = ids.as_array().unwrap().clone();
        target.count(&Selection::Records { resource: resource.to_owned(), ids, delete }).await
    };
    assert_eq!(records("users", json!([1, 2, 2, 99, "3"]), false).await.unwrap().records(), 3);
    assert_eq!(records("users", json!([10]), true).await.unwrap().records(), 1 + 2 + 6);
    assert_eq!(
        records("lines", json!([[11, 1], {"n": 2, "order_id": 11}]), true).await.unwrap().records(),
        2
    );
    for bad in [json!([[1, 2, 3]]), json!([1]), json!([{"x": 1, "n": 2}])] {
        assert!(matches!(records("lines", bad, true).await, Err(Error::Invalid(_))));
    }
    assert!(matches!(records("nowhere", json!([1]), true).await, Err(Error::Invalid(_))));
    let filter = async |filter: Value, delete| {
        let filter = filter.as_object().unwrap().clone();
        target.count(&Selection::Where { resource: "users".to_owned(), filter, delete }).await
    };
    assert_eq!(filter(json!({}), false).await.unwrap().records(), 10);
    assert_eq!(filter(json!({"boss": [1, null]}), false).await.unwrap().records(), 3);
    assert_eq!(filter(json!({"boss": null, "id": [1, 2]}), false).await.unwrap().records(), 1);
    assert_eq!(filter(json!({"id": []}), true).await.unwrap().records(), 0);
    assert!(matches!(filter(json!({"id\" = 1 --": 1}), false).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_snapshot_of_a_selection_is_sealed_and_rolled_back() {
    let file = Fixture::new("wal", SHOP);
    let before = file.dump();
    let (mut out, path) = file.writer();
    let what = Selection::Where {
        resource: "users".into(),
        filter: json!({"id": [1, 2, 10]}).as_object().unwrap().clone(),
        delete: true,
    };
    let captured = file.target.capture(&what, &mut out).await.unwrap();
    out.finish(&path).await.unwrap();
    let unsealed =
        checkrein_targets::snapshot::Snapshot::open(std::slice::from_ref(&path), None).await.unwrap();
    let id = unsealed.header().unwrap().id.clone();
    assert_eq!(captured.affected, file.target.count(&what).await.unwrap().affected);
    // The application's own work, which Checkrein does not see.
    file.sql("PRAGMA foreign_keys = ON; DELETE FROM users WHERE id IN (1, 2, 10); UPDATE users SET name = 'other' WHERE id = 3");
    let after = file.dump();
    let (undone, _) = file.try_undo(&unsealed, OnConflict::Refuse).await.unwrap();
    assert!(format!("{undone:?}").contains("unsealed"), "{undone:?}");
    let (mut out, second) = file.writer_of(&id);
    file.target.seal(&unsealed, &mut out).await.unwrap();
    out.finish(&second).await.unwrap();
    let sealed = checkrein_targets::snapshot::Snapshot::open(&[path, second], None).await.unwrap();
    let undo = file.undo(&sealed).await;
    let mut now = file.dump();
    now.retain(|line| !line.starts_with("users: Integer(3)"));
    let mut then = before.clone();
    then.retain(|line| !line.starts_with("users: Integer(3)"));
    assert_eq!(now, then, "everything but the record that was not in the snapshot");
    file.undo(&undo).await;
    assert_eq!(file.dump(), after);
}

#[tokio::test]
async fn a_sample_shows_the_first_and_what_follows_from_them() {
    let file = Fixture::new("wal", SHOP);
    file.sql("UPDATE users SET name = printf('%.*c', 9000, 'x') WHERE id = 2; CREATE TABLE bare (a, b); INSERT INTO bare VALUES (x'00ff', NULL)");
    let before = file.dump();
    let some = async |what: Selection| file.target.sample(&what, 3).await.unwrap();
    let of = |sql: &str| Selection::Statements(vec![statement(sql)]);
    let sampled = some(of("DELETE FROM users WHERE id <= 4")).await;
    let names: Vec<_> = sampled.iter().map(|s| (s.resource.as_str(), s.rows.len())).collect();
    assert_eq!(names, [("users", 3), ("lines", 3), ("orders", 3)]);
    assert_eq!(sampled[0].columns, ["id", "name", "boss"]);
    assert_eq!(sampled[0].rows[0], [json!(1), json!("user 1"), json!(null)]);
    assert_eq!(sampled[0].rows[1][1].as_str().map(str::len), Some(checkrein_targets::SAMPLE_CHARS + 1));
    let sampled = some(of("UPDATE bare SET b = 1")).await;
    assert_eq!(sampled[0].rows, [[json!(1), json!("X'00FF'"), json!(null)]], "with its rowid");
    let what =
        Selection::Records { resource: "users".to_owned(), ids: vec![json!(9), json!(77)], delete: false };
    assert_eq!(some(what).await[0].rows, [[json!(9), json!("user 9"), json!(4)]]);
    for nothing in
        ["INSERT INTO users (name) VALUES ('a')", "SELECT * FROM users", "DELETE FROM users WHERE 0"]
    {
        assert_eq!(some(of(nothing)).await, [], "{nothing}");
    }
    for wrong in ["DELETE FROM nothing", "DROP TABLE users", "DELETE FROM users; DELETE FROM lines"] {
        assert!(file.target.sample(&of(wrong), 3).await.is_err(), "{wrong}");
    }
    assert_eq!(file.dump(), before);
}
