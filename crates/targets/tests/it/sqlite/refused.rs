//! What is refused, and that nothing happens then.

use super::harness::{Fixture, limits, open, statement};
use checkrein_targets::{Error, Limits, Selection, Statement};
use serde_json::json;
use std::time::Duration;

const SHOP: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a);
    INSERT INTO t (a) VALUES (1), (2), (3);
    CREATE VIRTUAL TABLE notes USING fts5 (body);
    INSERT INTO notes VALUES ('hello');
    CREATE VIRTUAL TABLE box USING rtree (id, x0, x1);
    CREATE TABLE docs (body);
    CREATE TRIGGER indexed AFTER INSERT ON docs BEGIN INSERT INTO notes VALUES (new.body); END;
";

#[tokio::test]
async fn what_cannot_be_measured_does_not_run() {
    let file = Fixture::new("wal", SHOP);
    let before = file.dump();
    let outside = file.folder.path().join("outside.db");
    let attach = format!("ATTACH '{}' AS o", outside.display());
    let into = format!("VACUUM INTO '{}'", outside.display());
    for sql in [
        "CREATE TABLE x (a)",
        "CREATE TEMP TABLE x (a)",
        "CREATE INDEX i ON t (a)",
        "CREATE VIRTUAL TABLE v USING fts5 (a)",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
        "DROP TABLE t",
        "DROP TRIGGER indexed",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t ADD COLUMN b",
        "REINDEX",
        "ANALYZE",
        "VACUUM",
        &into,
        &attach,
        "DETACH main",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA defer_foreign_keys = ON",
        "PRAGMA writable_schema = ON",
        "PRAGMA user_version = 5",
        "PRAGMA journal_mode = delete",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA encoding = 'UTF-16'",
        "SELECT load_extension('x')",
        "SELECT fts3_tokenizer('simple')",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "RELEASE s",
        "INSERT INTO notes VALUES ('x')",
        "DELETE FROM notes",
        "INSERT INTO notes (notes) VALUES ('optimize')",
        "DELETE FROM notes_data",
        "INSERT INTO box VALUES (1, 1, 2)",
        "INSERT INTO docs VALUES ('a trigger writes into a virtual table')",
        "UPDATE sqlite_sequence SET seq = 0",
        "DELETE FROM sqlite_schema",
        "INSERT INTO sqlite_schema VALUES ('table', 'a', 'a', 0, 'CREATE TABLE a (b)')",
    ] {
        let error = file.target.execute(&[statement(sql)]).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Unmeasurable(_)), "{sql}: {error:?}");
        assert!(error.to_string().len() > 30, "{sql}: {error}");
        let error = file.target.read(&statement(sql)).await.unwrap_err();
        assert!(matches!(error, Error::Unmeasurable(_)), "read of {sql}: {error:?}");
        let counted = file.target.count(&Selection::Statements(vec![statement(sql)])).await;
        assert!(matches!(counted, Err(Error::Unmeasurable(_))), "count of {sql}: {counted:?}");
    }
    assert_eq!(file.dump(), before);
    assert!(!outside.exists());
}

#[tokio::test]
async fn what_makes_no_sense_is_said_to() {
    let file = Fixture::new("delete", SHOP);
    for sql in [
        "SELEC 1",
        "SELECT * FROM nowhere",
        "UPDATE t SET nothing = 1",
        "DELETE FROM t; DELETE FROM t",
        "",
        "-- nothing",
    ] {
        let error = file.target.execute(&[statement(sql)]).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{sql}: {error:?}");
    }
    for params in
        [json!([]), json!([1, 2]), json!([[1]]), json!([{"a": 1}]), json!([18_446_744_073_709_551_615_u64])]
    {
        let sql = "DELETE FROM t WHERE id = ?".to_owned();
        let statement = Statement { sql, params: params.as_array().unwrap().clone() };
        let error = file.target.execute(&[statement]).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{params}: {error:?}");
    }
    let error =
        file.target.execute(&[statement("INSERT INTO t (id) VALUES (1)")]).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(error, Error::Statement { ref code, .. } if code == "SQLITE_CONSTRAINT_PRIMARYKEY"),
        "{error:?}"
    );
}

#[tokio::test]
async fn parameters_come_by_number_whatever_their_style() {
    let file = Fixture::new("wal", "CREATE TABLE t (a, b, c, d)");
    for sql in [
        "INSERT INTO t VALUES (?, ?, ?, ?)",
        "INSERT INTO t VALUES (?1, ?2, ?3, ?4)",
        "INSERT INTO t (d, c, b, a) VALUES ($4, $3, $2, $1)",
    ] {
        let params = vec![json!(i64::MAX), json!("x"), json!(-0.0), json!(true)];
        let statements = [Statement { sql: sql.to_owned(), params }];
        file.target.execute(&statements).await.unwrap().commit().await.unwrap();
    }
    let read = file.target.read(&statement("SELECT *, typeof(c), x'00FF', CAST(x'FF' AS TEXT) FROM t GROUP BY a, b, c, d HAVING count(*) = 3")).await.unwrap();
    assert_eq!(
        read.rows,
        [json!(["9223372036854775807", "x", -0.0, 1, "real", "X'00FF'", "X'FF'"])
            .as_array()
            .unwrap()
            .clone()]
    );
    let named = Statement { sql: "DELETE FROM t WHERE a = :a".to_owned(), params: vec![json!(1)] };
    assert!(matches!(file.target.execute(&[named]).await.map(|_| ()), Err(Error::Invalid(_))));
}

#[tokio::test]
async fn nothing_is_ever_created() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.db");
    let target = open(&absent, limits());
    let error = target.execute(&[statement("DELETE FROM t")]).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert!(target.test().await.is_err());
    let error = open(folder.path(), limits()).read(&statement("SELECT 1")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    let text = folder.path().join("text");
    std::fs::write(&text, "this is no database, and long enough to be looked at as one: ".repeat(20))
        .unwrap();
    let error = open(&text, limits()).execute(&[statement("DELETE FROM t")]).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["text"]);
}

#[tokio::test]
async fn a_link_leads_to_the_file() {
    let file = Fixture::new("wal", "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    let link = file.folder.path().join("link.db");
    std::os::unix::fs::symlink(&file.path, &link).unwrap();
    let target = open(&link, limits());
    target.execute(&[statement("UPDATE t SET a = 2")]).await.unwrap().commit().await.unwrap();
    assert!(file.dump()[0].contains("Integer(2)"));
    assert!(target.test().await.unwrap().privileges.iter().all(|p| p.ok));
    assert!(target.grants("app").await.contains("setfacl -m u:'app':rw"));
}

#[tokio::test]
async fn time_is_limited() {
    let short = Limits {
        execute: Duration::from_millis(200),
        count: Duration::from_millis(200),
        lock: Duration::from_millis(200),
        ..Limits::default()
    };
    let file = Fixture::with("wal", "CREATE TABLE t (a); INSERT INTO t VALUES (1)", short);
    let before = file.dump();
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) ";
    let update = statement(&format!("{endless} UPDATE t SET a = (SELECT count(*) FROM n)"));
    let error = file.target.execute(std::slice::from_ref(&update)).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { what: "the execution", .. }), "{error:?}");
    let select = statement(&format!("{endless} SELECT count(*) FROM n"));
    assert!(matches!(file.target.read(&select).await, Err(Error::TimedOut { .. })));
    let delete = statement(
        "DELETE FROM t WHERE a < (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n)",
    );
    let counted = file.target.count(&Selection::Statements(vec![delete])).await;
    assert!(matches!(counted, Err(Error::TimedOut { what: "counting", .. })), "{counted:?}");
    let other = file.other();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = file.target.execute(&[statement("DELETE FROM t")]).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(file.dump(), before);
}

#[tokio::test]
async fn results_are_limited() {
    let few = Limits { result_rows: 3, result_bytes: 100, ..Limits::default() };
    let file = Fixture::with("wal", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3), (4)", few);
    let before = file.dump();
    let error = file.target.execute(&[statement("DELETE FROM t RETURNING a")]).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error:?}");
    assert!(matches!(
        file.target.read(&statement("SELECT printf('%.200c', 'x')")).await,
        Err(Error::TooLarge(_))
    ));
    assert_eq!(file.dump(), before);
    let pending =
        file.target.execute(&[statement("DELETE FROM t WHERE a < 3 RETURNING a AS x")]).await.unwrap();
    assert_eq!(pending.results()[0].columns, ["x"]);
    assert_eq!((pending.results()[0].rows.len(), pending.results()[0].affected), (2, 2));
    pending.rollback().await;
    assert_eq!(file.dump(), before);
}

#[tokio::test]
async fn a_commit_that_a_deferred_key_forbids_is_told_before() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p INT REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    );
    let error = file.target.execute(&[statement("INSERT INTO c VALUES (9)")]).await.map(|_| ()).unwrap_err();
    assert!(
        matches!(error, Error::Statement { ref code, .. } if code == "SQLITE_CONSTRAINT_FOREIGNKEY"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_record_may_be_as_long_as_a_snapshot_can_hold() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 1), (2, 2)",
    );
    let before = file.dump();
    let error = file
        .target
        .execute(&[statement("UPDATE t SET a = zeroblob(100000000)")])
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::Statement { ref code, .. } if code == "SQLITE_TOOBIG"), "{error:?}");
    let ran = file.run("UPDATE t SET a = zeroblob(20000000) WHERE id = 1").await;
    file.undo(&ran.snapshot).await;
    assert_eq!(file.dump(), before);
}

#[tokio::test]
async fn work_that_nobody_waits_for_stops_and_frees_the_file() {
    let long = Limits { execute: Duration::from_secs(600), ..limits() };
    let file = Fixture::with("delete", "CREATE TABLE t (a); INSERT INTO t VALUES (1)", long);
    let before = file.dump();
    let endless = statement(
        "UPDATE t SET a = (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n)",
    );
    let endless = std::slice::from_ref(&endless);
    let given_up = tokio::time::timeout(Duration::from_millis(200), file.target.execute(endless)).await;
    assert!(given_up.is_err());
    file.run("UPDATE t SET a = 2").await;
    file.sql("UPDATE t SET a = 1");
    assert_eq!(file.dump(), before);
}

#[tokio::test]
async fn a_snapshot_that_is_too_large_leaves_the_transaction_to_be_rolled_back() {
    let file = Fixture::new("wal", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3)");
    let before = file.dump();
    let mut pending = file.target.execute(&[statement("UPDATE t SET a = a + 1")]).await.unwrap();
    let path = file.folder.path().join("small");
    let header = checkrein_targets::snapshot::Header {
        id: "snp".into(),
        target: "shop".into(),
        kind: "sqlite".into(),
        system: json!({}),
    };
    let mut out =
        checkrein_targets::snapshot::SnapshotWriter::create(&path, &header, None, (1, 1 << 20)).unwrap();
    let error = pending.capture(&mut out).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error:?}");
    pending.rollback().await;
    assert_eq!(file.dump(), before);
    file.run("UPDATE t SET a = 5").await;
}
