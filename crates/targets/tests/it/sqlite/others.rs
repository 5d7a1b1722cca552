//! Other programs at work on the same file, and other things that go wrong around it.

use super::harness::{Fixture, Undone, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Settled, snapshot::Snapshot};
use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

/// Adds one to records at random until its input ends, then says how often to which.
const CLIENT: &str = r#"
import json, random, sqlite3, sys, threading
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
db.execute("PRAGMA synchronous = OFF")
random.seed(int(sys.argv[2]))
done = {}
while not stop.is_set():
    ids = random.sample(range(1, 41), 3)
    db.execute("BEGIN IMMEDIATE")
    for id in ids:
        db.execute("UPDATE t SET n = n + 1 WHERE id = ?", (id,))
    if random.random() < 0.2:
        db.execute("ROLLBACK")
    else:
        db.execute("COMMIT")
        for id in ids:
            done[id] = done.get(id, 0) + 1
    stop.wait(random.random() * 0.002)
print(json.dumps(done))
"#;

#[tokio::test]
async fn nobody_elses_later_change_is_lost() {
    for mode in ["wal", "delete"] {
        let file = Fixture::new(
            mode,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT NOT NULL DEFAULT 0, tag INT NOT NULL DEFAULT 0);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO t (id) SELECT i FROM n",
        );
        let clients: Vec<_> = (0..2)
            .map(|seed| {
                Command::new("python3")
                    .args(["-c", CLIENT])
                    .arg(&file.path)
                    .arg(seed.to_string())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let (mut undone, mut refused) = (0, 0);
        let mut open = Vec::new();
        // Until enough has happened, however slow the clients are to start.
        for round in 0..2_000 {
            let others: i64 =
                file.other().query_row("SELECT sum(n) FROM t", [], |row| row.get(0)).unwrap_or_default();
            if round >= 60 && others > 40 && undone + refused > 10 {
                break;
            }
            let from = round % 30 + 1;
            let update = format!("UPDATE t SET tag = tag + 1 WHERE id BETWEEN {from} AND {}", from + 5);
            match file.try_run(&[statement(&update)]).await {
                Ok(ran) => open.push(ran.snapshot),
                // Others kept the file busy for longer than the limit.
                Err(Error::TimedOut { .. } | Error::Statement { .. }) => continue,
                Err(other) => panic!("{other:?}"),
            }
            if open.len() > 2 {
                let how = [OnConflict::Refuse, OnConflict::Skip][round % 2];
                match file.try_undo(&open.remove(round % 3), how).await {
                    Ok((Undone::Conflicts(_), _)) => refused += 1,
                    Ok(_) => undone += 1,
                    Err(Error::TimedOut { .. }) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut expected: BTreeMap<i64, i64> = BTreeMap::new();
        for mut client in clients {
            client.stdin.take().unwrap().flush().unwrap();
            let out = client.wait_with_output().unwrap();
            assert!(out.status.success());
            let done: BTreeMap<i64, i64> = serde_json::from_slice(&out.stdout).unwrap();
            done.into_iter().for_each(|(id, n)| *expected.entry(id).or_default() += n);
        }
        let db = file.other();
        let mut rows = db.prepare("SELECT id, n FROM t WHERE n > 0").unwrap();
        let found: BTreeMap<i64, i64> =
            rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
        assert_eq!(found, expected, "{mode}");
        assert!(expected.values().sum::<i64>() > 30, "the clients did next to nothing");
        assert!(undone + refused > 10, "{undone} undone, {refused} refused: too little happened");
    }
}

#[tokio::test]
async fn two_executions_take_turns() {
    let file = Fixture::new("wal", "CREATE TABLE t (n); INSERT INTO t VALUES (0)");
    let add = [statement("UPDATE t SET n = n + 1")];
    let work = async || {
        for _ in 0..10 {
            file.target.execute(&add).await.unwrap().commit().await.unwrap();
        }
    };
    tokio::join!(work(), work(), work());
    let n: i64 = file.other().query_row("SELECT n FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(n, 30);
}

#[tokio::test]
async fn a_reader_that_does_not_go_away_only_delays_the_commit() {
    let file = Fixture::new("delete", "CREATE TABLE t (n); INSERT INTO t VALUES (0)");
    let before = file.dump();
    let reader = file.other();
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    let pending = file.target.execute(&[statement("UPDATE t SET n = 1")]).await.unwrap();
    let error = pending.commit().await.unwrap_err();
    assert!(
        matches!(&error, checkrein_targets::CommitError::NotCommitted(why) if why.contains("reading")),
        "{error:?}"
    );
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(file.dump(), before);
    file.run("UPDATE t SET n = 2").await;
}

#[tokio::test]
async fn what_became_of_it_is_told_while_it_runs_and_later() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n); INSERT INTO t VALUES (1, 0), (2, 0)",
    );
    let mut pending = file.target.execute(&[statement("UPDATE t SET n = 1")]).await.unwrap();
    let (mut out, path) = file.writer();
    pending.capture(&mut out).await.unwrap();
    let snapshot = file.finish((out, path)).await;
    let token = pending.token().to_owned();
    assert!(token.len() < 4096);
    assert_eq!(file.target.resolve(&token, &snapshot).await.unwrap(), Settled::Running);
    drop(pending);
    assert_eq!(file.target.resolve(&token, &snapshot).await.unwrap(), Settled::NotCommitted);
    file.sql("UPDATE t SET n = 1 WHERE id = 1");
    let Settled::Unknown(why) = file.target.resolve(&token, &snapshot).await.unwrap() else { panic!() };
    assert!(why.contains("somebody"), "{why}");
    file.sql("UPDATE t SET n = 5");
    assert!(matches!(file.target.resolve(&token, &snapshot).await.unwrap(), Settled::Unknown(_)));
    assert!(matches!(file.target.resolve("{}", &snapshot).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn many_records_are_resolved_by_their_snapshot() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) INSERT INTO t SELECT i, 0 FROM n",
    );
    let ran = file.run("UPDATE t SET n = 1").await;
    // All that the token knows has been changed since; the snapshot knows more.
    file.sql("UPDATE t SET n = 7 WHERE id <= 50");
    assert_eq!(file.target.resolve(&ran.token, &ran.snapshot).await.unwrap(), Settled::Committed);
}

#[tokio::test]
async fn a_damaged_snapshot_changes_nothing() {
    let file = Fixture::new("wal", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)");
    let ran = file.run("DELETE FROM t").await;
    let before = file.dump();
    let whole = std::fs::read(&ran.path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&ran.path, &bytes).unwrap();
        assert!(matches!(
            Snapshot::open(std::slice::from_ref(&ran.path), None).await,
            Err(Error::Snapshot(_))
        ));
        // It was whole when it was opened, and is damaged only when it is read.
        match file.try_undo(&ran.snapshot, OnConflict::Force).await {
            Err(Error::Snapshot(_)) => {}
            other => panic!("byte {at}: {:?}", other.map(|o| o.0)),
        }
        assert_eq!(file.dump(), before);
    }
    std::fs::write(&ran.path, &whole).unwrap();
    file.undo(&ran.snapshot).await;
}

#[tokio::test]
async fn a_snapshot_of_another_system_is_refused() {
    let file = Fixture::new("wal", "CREATE TABLE t (a)");
    let path = file.folder.path().join("foreign");
    let header = checkrein_targets::snapshot::Header {
        id: "snp".into(),
        target: "shop".into(),
        kind: "postgres".into(),
        system: serde_json::Value::Null,
    };
    let out = checkrein_targets::snapshot::SnapshotWriter::create(&path, &header, None, (9, 999)).unwrap();
    let snapshot = file.finish((out, path)).await;
    assert!(matches!(file.try_undo(&snapshot, OnConflict::Force).await, Err(Error::Snapshot(_))));
}

#[tokio::test]
async fn the_same_records_give_the_same_digest() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 1), (2, 2)",
    );
    let digest = async |sql: &str| {
        let mut pending = file.target.execute(&[statement(sql)]).await.unwrap();
        let (mut out, _) = file.writer();
        pending.bind();
        let digest = pending.capture(&mut out).await.unwrap().digest.unwrap();
        pending.rollback().await;
        digest
    };
    let first = digest("UPDATE t SET a = a + 1").await;
    assert_eq!(digest("UPDATE t SET a = a + 1").await, first);
    assert_ne!(digest("UPDATE t SET a = a + 1 WHERE id = 1").await, first);
    assert_ne!(digest("INSERT INTO t VALUES (3, 1)").await, digest("INSERT INTO t VALUES (4, 1)").await);
    file.sql("UPDATE t SET a = 9 WHERE id = 2");
    assert_ne!(digest("UPDATE t SET a = a + 1").await, first, "the records have changed");
}

#[tokio::test]
async fn a_file_that_was_replaced_meanwhile_is_not_written() {
    for mode in ["wal", "delete"] {
        let file = Fixture::new(mode, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
        let pending = file.target.execute(&[statement("DELETE FROM t")]).await.unwrap();
        let other = Fixture::new("delete", "CREATE TABLE t (a); INSERT INTO t VALUES (2)");
        std::fs::rename(&other.path, &file.path).unwrap();
        let error = pending.commit().await.unwrap_err();
        assert!(
            matches!(&error, checkrein_targets::CommitError::NotCommitted(why) if why.contains("replaced")),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn texts_in_another_encoding_are_refused_before_anything_runs() {
    let file = Fixture::new("wal", "");
    let path = file.folder.path().join("wide.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a); INSERT INTO t VALUES ('x')").unwrap();
    let target = super::harness::open(&path, super::harness::limits());
    let error = target.execute(&[statement("DELETE FROM t")]).await.map(|_| ()).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(why) if why.contains("UTF-8")), "{error:?}");
    let report = target.test().await.unwrap();
    let missing: Vec<_> = report.privileges.iter().filter(|p| !p.ok).map(|p| p.needed_for.as_str()).collect();
    assert_eq!(missing, ["execute", "snapshot", "rollback"]);
    assert_eq!(target.read(&statement("SELECT a FROM t")).await.unwrap().rows, [[serde_json::json!("x")]]);
}
