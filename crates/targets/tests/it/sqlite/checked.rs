//! Snapshots that are taken before the agent itself makes the change, and records without a key.

use super::harness::{Fixture, Undone, statement};
use crate::sealed;
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Selection, UndoOptions};
use serde_json::Map;

const KU: &str = "CREATE TABLE ku (id INTEGER PRIMARY KEY, v); INSERT INTO ku VALUES (1, 1), (2, 2);
    CREATE TABLE pair (a, b, v, PRIMARY KEY (b, a)) WITHOUT ROWID; CREATE TABLE named (name TEXT PRIMARY KEY, v)";

#[tokio::test]
async fn a_statement_that_changes_keys_leaves_no_snapshot() {
    let file = Fixture::new("wal", KU);
    for (sql, refused) in [
        ("UPDATE ku SET id = id + 1000", true),
        ("UPDATE ku AS k SET (v, \"RowID\") = (1, 7) WHERE v = 1", true),
        ("UPDATE pair SET A = 1", true),
        ("UPDATE ku SET v = id + 1000", false),
        ("UPDATE pair SET v = 1", false),
        // The rowid stays.
        ("UPDATE named SET name = 'x'", false),
        ("DELETE FROM ku WHERE id = 1", false),
    ] {
        let (mut out, _) = file.writer();
        let what = Selection::Statements(vec![statement(sql)]);
        match file.target.capture(&what, &mut out).await {
            Err(Error::Unmeasurable(why)) if refused => assert!(why.contains("use an execution"), "{why}"),
            taken => assert!(!refused && taken.is_ok(), "{sql}: {taken:?}"),
        }
        file.target.sample(&what, 3).await.unwrap();
    }
}

#[tokio::test]
async fn a_record_that_is_not_under_its_key_any_more_is_a_conflict() {
    let all = |delete| Selection::Where { resource: "ku".into(), filter: Map::new(), delete };
    let file = Fixture::new("wal", KU);
    let act = async { file.sql("UPDATE ku SET id = id + 1000, v = 9") };
    let (snapshot, _files) = sealed(&*file.target, &all(false), act).await;
    let stands = file.dump();
    let plan = file.target.plan(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(plan.conflict_count, 2);
    assert!(plan.notes.iter().any(|note| note.contains("changed the keys")), "{:?}", plan.notes);
    let (undone, _) = file.try_undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert!(format!("{undone:?}").contains("removed"), "{undone:?}");
    let (undone, _) = file.try_undo(&snapshot, OnConflict::Skip).await.unwrap();
    assert_eq!((undone, file.dump()), (Undone::Nothing, stands), "no record is there twice");

    for (what, act) in [
        (all(true), "DELETE FROM ku"),
        (Selection::Statements(vec![statement("DELETE FROM ku")]), "DELETE FROM ku"),
        (all(false), "UPDATE ku SET v = 5 WHERE id = 1"),
    ] {
        let file = Fixture::new("wal", KU);
        let before = file.dump();
        let (snapshot, _files) = sealed(&*file.target, &what, async { file.sql(act) }).await;
        file.undo(&snapshot).await;
        assert_eq!(file.dump(), before, "{act}");
    }
}

/// VACUUM may give records without a key other rowids, and nothing else tells them apart.
#[tokio::test]
async fn after_a_vacuum_records_without_a_key_are_not_taken_for_others() {
    let alike = "CREATE TABLE log (a); WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30) INSERT INTO log SELECT 'x' FROM n;
        CREATE TABLE users (id INTEGER PRIMARY KEY, v); INSERT INTO users VALUES (1, 1);
        CREATE TABLE named (name TEXT PRIMARY KEY, v); INSERT INTO named VALUES ('a', 1), ('b', 2)";
    for mode in ["wal", "delete"] {
        let file = Fixture::new(mode, alike);
        let log = file.run("DELETE FROM log WHERE rowid <= 5").await;
        let users = file.run("UPDATE users SET v = 2").await;
        let named = file.run("DELETE FROM named WHERE name = 'a'").await;
        file.sql("VACUUM");
        let stands = file.dump();
        for how in [OnConflict::Refuse, OnConflict::Skip, OnConflict::Force] {
            let refused = file.try_undo(&log.snapshot, how).await;
            let said = matches!(&refused, Err(Error::Irreversible(why)) if why.contains("vacuumed"));
            assert!(said, "{mode} {how:?}: {:?}", refused.map(|r| r.0));
        }
        assert_eq!(file.dump(), stands);
        // Keys hold.
        file.undo(&users.snapshot).await;
        file.undo(&named.snapshot).await;
        let rows: i64 = file
            .other()
            .query_row("SELECT count(*) FROM named, users WHERE users.v = 1", [], |r| r.get(0))
            .unwrap();
        assert_eq!(rows, 2, "{mode}");

        let again = file.run("DELETE FROM log WHERE rowid <= 5").await;
        file.undo(&again.snapshot).await;
        assert_eq!(
            file.other().query_row("SELECT count(*) FROM log", [], |r| r.get::<_, i64>(0)).unwrap(),
            25
        );
    }
}
