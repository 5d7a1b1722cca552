//! Whoever changes the file behind Checkrein's back is found, and what they did is named.

use crate::common::*;
use checkrein_core::{approval::Answer, chain::Broken};
use checkrein_store::{Difference, Reader, Store, StoreError, VerifyError};
use rusqlite::Connection;
use std::{path::Path, process::Command};
use tempfile::TempDir;

/// A stopped store of eight entries.
async fn log() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .append(vec![policy("limit", 25), key("key_1"), check_with_key("chk_1", "k1")], at(0))
        .await
        .unwrap();
    store.append(vec![check("chk_2"), requested("apr_1", "chk_2")], at(1)).await.unwrap();
    store.append(vec![decided("apr_1", Answer::Deny)], at(2)).await.unwrap();
    store.append(vec![check_with_key("chk_3", "k3"), outcome("chk_3")], at(3)).await.unwrap();
    store.close().await;
    assert_eq!(verified(dir.path()), 8);
    dir
}

fn tamper(dir: &Path, sql: &str) {
    Connection::open(dir.join("checkrein.db")).unwrap().execute_batch(sql).unwrap();
}

fn verify(dir: &Path) -> VerifyError {
    Reader::open(dir).unwrap().verify(None, |_| {}).unwrap_err()
}

async fn found(sql: &str) -> VerifyError {
    let dir = log().await;
    tamper(dir.path(), sql);
    verify(dir.path())
}

#[tokio::test]
async fn changed_entries_are_named() {
    for sql in [
        "UPDATE log SET body = replace(body, 'block', 'allow') WHERE seq = 4",
        "UPDATE log SET agent = 'someone-else' WHERE seq = 4",
        "UPDATE log SET at = at - 1 WHERE seq = 4",
        "UPDATE log SET subject = 'chk_9' WHERE seq = 4",
        "UPDATE log SET kind = 'note' WHERE seq = 4",
        "UPDATE log SET hash = zeroblob(32) WHERE seq = 4",
        "UPDATE log SET hash = x'00' WHERE seq = 4",
        "DROP INDEX log_check; UPDATE log SET seq = 100 WHERE seq = 4; UPDATE log SET seq = 4 WHERE seq = 7; UPDATE log SET seq = 7 WHERE seq = 100",
    ] {
        let error = found(sql).await;
        assert!(matches!(error, VerifyError::Broken(Broken::Changed(4))), "{sql}: {error}");
        assert!(error.to_string().contains("entry 4"));
    }
}

#[tokio::test]
async fn removed_and_added_entries_are_named() {
    let error = found("DELETE FROM log WHERE seq IN (3, 4)").await;
    assert!(matches!(error, VerifyError::Broken(Broken::Removed(3, 4))), "{error}");
    let error = found("DELETE FROM log WHERE seq = 1").await;
    assert!(matches!(error, VerifyError::Broken(Broken::Removed(1, 1))), "{error}");
    let error = found("DELETE FROM log WHERE seq >= 7").await;
    assert!(matches!(error, VerifyError::Broken(Broken::Truncated { expected: 8, found: 6 })), "{error}");
    let error = found("DELETE FROM log").await;
    assert!(matches!(error, VerifyError::Broken(Broken::Truncated { expected: 8, found: 0 })), "{error}");
    let error =
        found("INSERT INTO log SELECT 9, at, kind, 'chk_9', agent, body, hash FROM log WHERE seq = 7").await;
    assert!(matches!(error, VerifyError::Beyond { head: 8, found: 9 }), "{error}");
    let error = found("UPDATE chain SET hash = zeroblob(32) WHERE mark = 'head'").await;
    assert!(matches!(error, VerifyError::Broken(Broken::Replaced(8))), "{error}");
}

#[tokio::test]
async fn a_beginning_cut_off_is_no_retention() {
    let cut = "UPDATE chain SET (seq, hash) = (SELECT seq, hash FROM log WHERE seq = 3) WHERE mark = 'base';
        DELETE FROM log WHERE seq <= 3; DELETE FROM idempotency WHERE seq <= 3";
    assert!(matches!(found(cut).await, VerifyError::Unattested { base: 3 }));
}

#[tokio::test]
async fn an_anchor_finds_a_tail_cut_off_with_its_head() {
    let dir = log().await;
    let anchor = Reader::open(dir.path()).unwrap().head().unwrap();
    let cut = "DELETE FROM log WHERE seq > 6; DELETE FROM idempotency WHERE seq > 6;
        DELETE FROM signals WHERE seq > 6;
        UPDATE chain SET (seq, hash) = (SELECT seq, hash FROM log WHERE seq = 6) WHERE mark = 'head'";
    tamper(dir.path(), cut);
    assert_eq!(verified(dir.path()), 6, "without an anchor nothing tells");
    let error = Reader::open(dir.path()).unwrap().verify(Some(anchor), |_| {}).unwrap_err();
    assert!(matches!(error, VerifyError::Broken(Broken::Truncated { expected: 8, found: 6 })), "{error}");

    let store = open(dir.path());
    store.append(vec![check("chk_7"), check("chk_8"), check("chk_9")], at(9)).await.unwrap();
    let error = Reader::open(dir.path()).unwrap().verify(Some(anchor), |_| {}).unwrap_err();
    assert!(matches!(error, VerifyError::Anchor(8)), "{error}");
    let good = store.head();
    assert_eq!(Reader::open(dir.path()).unwrap().verify(Some(good), |_| {}).unwrap().head, good);
}

#[tokio::test]
async fn changed_tables_are_named() {
    for (sql, table, row, what) in [
        ("UPDATE policies SET body = replace(body, '25', '99999')", "policies", "limit", Difference::Changed),
        ("DELETE FROM policies", "policies", "limit", Difference::Missing),
        ("INSERT INTO policies VALUES ('open', '{}')", "policies", "open", Difference::Added),
        ("UPDATE keys SET body = replace(body, 'agent', 'admin')", "keys", "key_1", Difference::Changed),
        ("INSERT INTO keys VALUES ('key_0', '{}')", "keys", "key_0", Difference::Added),
        ("UPDATE approvals SET state = 'approved'", "approvals", "5", Difference::Changed),
        ("DELETE FROM approvals", "approvals", "5", Difference::Missing),
        (
            "DELETE FROM idempotency WHERE key = 'k1'",
            "idempotency",
            "key_019aa5c2b1d07e3f9c41/k1",
            Difference::Missing,
        ),
        (
            "UPDATE idempotency SET seq = 3 WHERE key = 'k3'",
            "idempotency",
            "key_019aa5c2b1d07e3f9c41/k3",
            Difference::Changed,
        ),
        ("DELETE FROM signals WHERE seq = 7", "signals", "7/0", Difference::Missing),
        ("UPDATE signals SET severity = 0 WHERE seq = 7", "signals", "7/0", Difference::Changed),
        ("INSERT INTO idempotency VALUES ('z', 'z', 3)", "idempotency", "z/z", Difference::Added),
    ] {
        match found(sql).await {
            VerifyError::Projection { table: t, row: r, what: w } => {
                assert_eq!((t, &*r, w), (table, row, what), "{sql}");
            }
            other => panic!("{sql}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_changed_schema_is_named() {
    for (sql, name) in [
        ("DROP INDEX log_check", "log_check"),
        ("DROP TABLE idempotency", "idempotency"),
        ("DROP VIEW checks; CREATE VIEW checks AS SELECT 1 AS seq", "checks"),
        ("CREATE TRIGGER t AFTER INSERT ON log BEGIN DELETE FROM idempotency; END", "t"),
        ("CREATE TABLE more (x)", "more"),
    ] {
        let error = found(sql).await;
        assert!(matches!(&error, VerifyError::Schema(found) if found == name), "{sql}: {error}");
    }
}

#[tokio::test]
async fn what_analyze_adds_is_no_change() {
    let dir = log().await;
    tamper(dir.path(), "ANALYZE");
    let _whole = Reader::open(dir.path()).unwrap().verify(None, |_| {}).unwrap();
}

#[tokio::test]
async fn a_server_does_not_start_on_a_log_with_another_end() {
    for sql in [
        "DELETE FROM log WHERE seq >= 7",
        "DELETE FROM log",
        "UPDATE log SET body = '{}' WHERE seq = 8",
        "UPDATE chain SET seq = 5 WHERE mark = 'head'",
        "INSERT INTO log SELECT 9, at, kind, 'chk_9', agent, body, hash FROM log WHERE seq = 7",
    ] {
        let dir = log().await;
        tamper(dir.path(), sql);
        let Err(error) = Store::open(options(dir.path())) else { panic!("{sql}: it started") };
        assert!(matches!(error, StoreError::Tail { .. }), "{sql}: {error}");
        assert!(error.to_string().contains("checkrein log verify"), "{error}");
    }
}

#[tokio::test]
async fn anyone_can_read_it_with_sql() {
    let dir = log().await;
    let db = Connection::open(dir.path().join("checkrein.db")).unwrap();
    let row = db
        .query_row("SELECT id, agent, action, resource, category, environment, verdict, records, at FROM checks WHERE id = 'chk_3'", [], |r| {
            (0..9).map(|i| r.get::<_, rusqlite::types::Value>(i)).collect::<Result<Vec<_>, _>>()
        })
        .unwrap();
    let text = |t: &str| rusqlite::types::Value::Text(t.into());
    assert_eq!(
        row,
        [
            text("chk_3"),
            text("billing-bot"),
            text("update"),
            text("production.users"),
            text("write"),
            text("production"),
            text("block"),
            rusqlite::types::Value::Integer(10_000),
            text("2033-05-18T03:33:23.000Z"),
        ]
    );
}

/// The Python in `docs/action-log.md`, as it stands there.
#[tokio::test]
async fn plain_python_verifies_the_chain() {
    let docs = include_str!("../../../../docs/action-log.md");
    let script = docs.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let run = |dir: &Path| {
        Command::new("python3").args(["-c", script]).arg(dir.join("checkrein.db")).output().unwrap()
    };
    let dir = log().await;
    let output = run(dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("8 entries"), "{output:?}");
    tamper(dir.path(), "UPDATE log SET body = replace(body, 'block', 'allow') WHERE seq = 4");
    let output = run(dir.path());
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("entry 4"), "{output:?}");
}
