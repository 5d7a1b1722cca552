//! Somebody else worked on the same records since, or the table is not what it was: nobody's work is lost.

use super::harness::{Fixture, Undone, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, UndoOptions};
use serde_json::{Value, json};

const USERS: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE, plan TEXT);
    INSERT INTO users VALUES (1, 'ann', 'free'), (2, 'bob', 'free'), (3, 'cyd', 'free'), (4, 'dan', 'free');
";

async fn conflicts(file: &Fixture, ran: &super::harness::Ran) -> Vec<Value> {
    let before = file.dump();
    let (undone, _) = file.try_undo(&ran.snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(file.dump(), before, "refused means untouched");
    let Undone::Conflicts(Value::Array(list)) = undone else { panic!("{undone:?}") };
    list
}

fn irreversible(result: Result<(Undone, Option<checkrein_targets::snapshot::Snapshot>), Error>, words: &str) {
    match result {
        Err(Error::Irreversible(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{:?}", other.map(|o| o.0)),
    }
}

#[tokio::test]
async fn a_record_that_somebody_changed_since_is_not_overwritten() {
    let file = Fixture::new("wal", USERS);
    let before = file.dump();
    let ran = file.run("UPDATE users SET plan = 'none' WHERE id <= 3").await;
    file.sql("UPDATE users SET plan = 'gold' WHERE id = 2");
    let list = conflicts(&file, &ran).await;
    assert_eq!(list.len(), 1);
    assert_eq!(
        list[0],
        json!({"resource": "users", "key": {"id": 2}, "kind": "changed",
               "before": {"id": 2, "name": "bob", "plan": "free"},
               "after": {"id": 2, "name": "bob", "plan": "none"},
               "now": {"id": 2, "name": "bob", "plan": "gold"}})
    );
    let options = UndoOptions::default();
    let plan = file.target.plan(&ran.snapshot, &options).await.unwrap();
    assert_eq!((plan.by_resource[0].update, plan.by_resource[0].conflicts), (2, 1));
    // Skip: the others come back, that one stays.
    file.try_undo(&ran.snapshot, OnConflict::Skip).await.unwrap();
    let plans = || {
        let db = file.other();
        let mut rows = db.prepare("SELECT plan FROM users ORDER BY id").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect::<Vec<String>>()
    };
    assert_eq!(plans(), ["free", "gold", "free", "free"]);
    // Force: a person has seen it.
    file.try_undo(&ran.snapshot, OnConflict::Force).await.unwrap();
    assert_eq!(file.dump(), before);
}

#[tokio::test]
async fn a_key_that_was_inserted_again_is_not_overwritten() {
    let file = Fixture::new("delete", USERS);
    let ran = file.run("DELETE FROM users WHERE id = 1").await;
    file.sql("INSERT INTO users VALUES (1, 'new', 'gold')");
    let list = conflicts(&file, &ran).await;
    assert_eq!((&list[0]["kind"], &list[0]["now"]["name"]), (&json!("replaced"), &json!("new")));
}

#[tokio::test]
async fn a_record_that_somebody_removed_since_stays_removed() {
    let file = Fixture::new("wal", USERS);
    let ran = file.run("UPDATE users SET plan = 'none' WHERE id = 1").await;
    file.sql("DELETE FROM users WHERE id = 1");
    assert_eq!(conflicts(&file, &ran).await[0]["kind"], json!("removed"));
}

#[tokio::test]
async fn a_unique_value_that_is_taken_stops_all_of_it() {
    let file = Fixture::new("wal", USERS);
    let ran = file.run("UPDATE users SET name = name || '!' WHERE id <= 2").await;
    file.sql("INSERT INTO users VALUES (9, 'bob', 'gold')");
    let before = file.dump();
    irreversible(file.try_undo(&ran.snapshot, OnConflict::Refuse).await, "has taken its place");
    assert_eq!(file.dump(), before);
}

#[tokio::test]
async fn a_new_child_of_an_inserted_record_keeps_it() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p ON DELETE CASCADE);",
    );
    let ran = file.run("INSERT INTO p VALUES (7)").await;
    file.sql("INSERT INTO c VALUES (1, 7)");
    let before = file.dump();
    irreversible(file.try_undo(&ran.snapshot, OnConflict::Refuse).await, "broken reference");
    assert_eq!(file.dump(), before, "the cascade did not take the child along");
}

#[tokio::test]
async fn a_parent_that_is_gone_stops_all_of_it() {
    let file = Fixture::new(
        "delete",
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p);
         INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1, 1), (2, 2);",
    );
    let ran = file.run("DELETE FROM c").await;
    file.sql("DELETE FROM p WHERE id = 2");
    let before = file.dump();
    irreversible(file.try_undo(&ran.snapshot, OnConflict::Refuse).await, "the record 2 of c refers");
    assert_eq!(file.dump(), before);
}

#[tokio::test]
async fn a_column_added_since_keeps_its_values() {
    let file = Fixture::new("wal", USERS);
    let ran = file.run("UPDATE users SET plan = 'none'").await;
    let gone = file.run("DELETE FROM users WHERE id = 4").await;
    file.sql("ALTER TABLE users ADD COLUMN age INT DEFAULT 5; UPDATE users SET age = id * 10");
    file.undo(&gone.snapshot).await;
    let undo = file.undo(&ran.snapshot).await;
    let rows = || {
        let db = file.other();
        let mut rows = db.prepare("SELECT plan || age FROM users ORDER BY id").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect::<Vec<String>>()
    };
    assert_eq!(rows(), ["free10", "free20", "free30", "free5"]);
    file.undo(&undo).await;
    assert_eq!(rows(), ["none10", "none20", "none30", "none5"]);
}

#[tokio::test]
async fn another_shape_is_refused() {
    for (change, words) in [
        ("ALTER TABLE users DROP COLUMN plan", "the column plan is gone"),
        ("ALTER TABLE users RENAME COLUMN plan TO tier", "the column plan is gone"),
        ("ALTER TABLE users RENAME TO people", "is gone"),
        ("DROP TABLE users", "is gone"),
        (
            "DROP TABLE users; CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, plan BLOB)",
            "another type",
        ),
        (
            "DROP TABLE users; CREATE TABLE users (id INTEGER, name TEXT PRIMARY KEY, plan TEXT)",
            "primary key",
        ),
        ("DROP TABLE users; CREATE VIEW users AS SELECT 1 AS id", "not a table"),
    ] {
        let file = Fixture::new("wal", USERS);
        let ran = file.run("UPDATE users SET plan = 'none'").await;
        file.sql(change);
        let before = file.dump();
        irreversible(file.try_undo(&ran.snapshot, OnConflict::Force).await, words);
        assert_eq!(file.dump(), before);
    }
}

#[tokio::test]
async fn a_table_that_was_made_again_has_conflicts() {
    let file = Fixture::new("wal", USERS);
    let ran = file.run("UPDATE users SET plan = 'none' WHERE id <= 2").await;
    file.sql("DROP TABLE users; CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, plan TEXT)");
    let kinds: Vec<_> = conflicts(&file, &ran).await.iter().map(|c| c["kind"].clone()).collect();
    assert_eq!(kinds, [json!("removed"), json!("removed")]);
}

#[tokio::test]
async fn a_second_rollback_finds_nothing_to_do() {
    let file = Fixture::new("wal", USERS);
    let ran = file.run("DELETE FROM users").await;
    file.undo(&ran.snapshot).await;
    let (undone, _) = file.try_undo(&ran.snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(undone, Undone::Nothing);
}

#[tokio::test]
async fn overlapping_snapshots_only_come_back_in_order() {
    let file = Fixture::new("wal", USERS);
    let before = file.dump();
    let first = file.run("UPDATE users SET plan = 'one' WHERE id <= 3").await;
    let second = file.run("UPDATE users SET plan = 'two' WHERE id >= 3").await;
    assert_eq!(conflicts(&file, &first).await.len(), 1, "the record that both changed");
    file.undo(&second.snapshot).await;
    file.undo(&first.snapshot).await;
    assert_eq!(file.dump(), before);
}

/// Each: what is there, and what the agent does.
#[tokio::test]
async fn awkward_changes_come_back_bit_for_bit() {
    let cases = [
        ("a unique swap", "CREATE TABLE t (id INTEGER PRIMARY KEY, u INT UNIQUE); INSERT INTO t VALUES (1, 1), (2, 2)",
         vec!["UPDATE t SET u = -u", "UPDATE t SET u = 3 + u"]),
        ("a swap of keys", "CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'x'), (2, 'y')",
         vec!["UPDATE t SET id = -id", "UPDATE t SET id = 3 + id"]),
        ("a chain of records that refer to each other",
         "CREATE TABLE t (id INTEGER PRIMARY KEY, up INT REFERENCES t ON DELETE CASCADE); INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2), (4, 3)",
         vec!["DELETE FROM t WHERE id = 1"]),
        ("a deferred cycle",
         "CREATE TABLE a (id INTEGER PRIMARY KEY, b INT REFERENCES b DEFERRABLE INITIALLY DEFERRED); CREATE TABLE b (id INTEGER PRIMARY KEY, a INT REFERENCES a DEFERRABLE INITIALLY DEFERRED);
          BEGIN; INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); COMMIT",
         vec!["UPDATE a SET id = 2", "UPDATE b SET a = 2", "UPDATE b SET id = 5", "UPDATE a SET b = 5"]),
        ("no key and duplicates", "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 2), (1, 2), (1, 2), (NULL, NULL), (NULL, NULL)",
         vec!["DELETE FROM t WHERE rowid IN (2, 5)", "INSERT INTO t VALUES (1, 2)"]),
        ("NULL in the primary key", "CREATE TABLE t (a TEXT PRIMARY KEY, b); INSERT INTO t VALUES (NULL, 1), (NULL, 2), ('x', 3)",
         vec!["UPDATE t SET b = b + 1 WHERE a IS NULL", "DELETE FROM t WHERE b = 2"]),
        ("WITHOUT ROWID and a key that only changes its case",
         "CREATE TABLE t (k TEXT COLLATE NOCASE, n, v, PRIMARY KEY (k, n)) WITHOUT ROWID; INSERT INTO t VALUES ('a', 1, x'00'), ('b', 2.5, -0.0)",
         vec!["UPDATE t SET k = upper(k)", "UPDATE t SET n = 1.0 WHERE n = 1"]),
        ("reuse of a rowid", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3)",
         vec!["DELETE FROM t WHERE a = 3", "INSERT INTO t VALUES (4)"]),
        ("AUTOINCREMENT", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a); INSERT INTO t (a) VALUES (1), (2)",
         vec!["INSERT INTO t (a) VALUES (3), (4)", "DELETE FROM t"]),
        ("generated columns", "CREATE TABLE t (a, s AS (a + 1) STORED, v AS (a * 2), b); INSERT INTO t (a, b) VALUES (1, 2), (3, 4)",
         vec!["UPDATE t SET a = a + 10", "DELETE FROM t WHERE b = 4"]),
        ("REPLACE that removes other records", "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE, w UNIQUE); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)",
         vec!["INSERT OR REPLACE INTO t VALUES (9, 1, 2)", "REPLACE INTO t VALUES (3, 5, 5)"]),
        ("an upsert", "CREATE TABLE t (id INTEGER PRIMARY KEY, n); INSERT INTO t VALUES (1, 1)",
         vec!["INSERT INTO t VALUES (1, 5), (2, 6) ON CONFLICT DO UPDATE SET n = n + excluded.n"]),
        ("a STRICT table", "CREATE TABLE t (id INT PRIMARY KEY, a ANY, b BLOB, r REAL) STRICT; INSERT INTO t VALUES (1, '1', x'ff', 2)",
         vec!["UPDATE t SET a = 1, b = NULL, r = -0.0"]),
        ("a trigger on a view", "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 2), (3, 4); CREATE VIEW v AS SELECT a FROM t;
          CREATE TRIGGER vd INSTEAD OF DELETE ON v BEGIN DELETE FROM t WHERE a = old.a; END",
         vec!["DELETE FROM v WHERE a > 1"]),
        ("columns named like the rowid", "CREATE TABLE t (rowid TEXT, oid TEXT, a); INSERT INTO t VALUES ('x', 'y', 1), ('x', 'y', 1)",
         vec!["DELETE FROM t WHERE _rowid_ = 1"]),
        ("all of a table at once", "CREATE TABLE t (a); WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t SELECT i FROM n",
         vec!["DELETE FROM t"]),
        ("a value that fails a CHECK made in another way", "CREATE TABLE t (a CHECK (a > 0)); PRAGMA ignore_check_constraints = 1; INSERT INTO t VALUES (-1), (1)",
         vec!["DELETE FROM t"]),
    ];
    for (name, schema, statements) in cases {
        for mode in ["wal", "delete"] {
            let file = Fixture::new(mode, schema);
            let before = file.dump();
            let statements: Vec<_> = statements.iter().map(|sql| statement(sql)).collect();
            let ran = file.try_run(&statements).await.unwrap_or_else(|e| panic!("{name}: {e}"));
            let after = file.dump();
            assert_ne!(after, before, "{name}");
            let undo = file.undo(&ran.snapshot).await;
            assert_eq!(file.dump(), before, "{name}");
            file.undo(&undo).await;
            assert_eq!(file.dump(), after, "{name}: and forth again");
        }
    }
}

#[tokio::test]
async fn a_counter_that_was_used_since_is_not_set_back() {
    let file = Fixture::new("wal", "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a)");
    let ran = file.run("INSERT INTO t (a) VALUES (1), (2)").await;
    file.sql("INSERT INTO t (a) VALUES (3); DELETE FROM t WHERE a = 3");
    let plan = file.target.plan(&ran.snapshot, &UndoOptions::default()).await.unwrap();
    assert!(plan.notes[0].contains("was used since"), "{:?}", plan.notes);
    file.undo(&ran.snapshot).await;
    file.sql("INSERT INTO t (a) VALUES (4)");
    let id: i64 = file.other().query_row("SELECT id FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(id, 4, "3 had been given out");
}

#[tokio::test]
async fn references_are_not_broken_by_force() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p, note);
         PRAGMA foreign_keys = OFF; INSERT INTO c (id, p) VALUES (1, 99), (2, 98), (3, 98)",
    );
    // One that nobody has touched stays as broken as it was.
    let note = file.run("UPDATE c SET note = 'x' WHERE id = 3").await;
    file.undo(&note.snapshot).await;
    let ran = file.run("DELETE FROM c").await;
    let gone = file.dump();
    for how in [OnConflict::Refuse, OnConflict::Skip, OnConflict::Force] {
        irreversible(
            file.try_undo(&ran.snapshot, how).await,
            "the record 1 of c refers to one of p that is not there; the record 2 of c refers to",
        );
        assert_eq!(file.dump(), gone);
    }
    file.sql("INSERT INTO p VALUES (98), (99)");
    file.undo(&ran.snapshot).await;
}

/// A conflict clause of the table's own would remove what others have put there since.
#[tokio::test]
async fn a_table_that_replaces_by_itself_loses_nobodys_work() {
    let file = Fixture::new(
        "wal",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, u TEXT UNIQUE ON CONFLICT REPLACE, v TEXT NOT NULL ON CONFLICT IGNORE);
         INSERT INTO t VALUES (1, 'a', 'x'), (2, 'b', 'x')",
    );
    let changed = file.run("UPDATE t SET u = 'c' WHERE id = 1").await;
    let removed = file.run("DELETE FROM t WHERE id = 2").await;
    file.sql("INSERT INTO t VALUES (8, 'a', 'theirs'), (9, 'b', 'theirs')");
    let before = file.dump();
    for snapshot in [&changed.snapshot, &removed.snapshot] {
        irreversible(file.try_undo(snapshot, OnConflict::Force).await, "has taken its place");
        assert_eq!(file.dump(), before);
    }
}

/// Each record's unique value is another one's now, so no order of changing them in place would do.
#[tokio::test]
async fn unique_values_that_went_round_come_back() {
    for (table, rows) in [("", 3_000), ("", 20_000), ("WITHOUT ROWID", 3_000)] {
        for mode in ["wal", "delete"] {
            let file = Fixture::new(
                mode,
                &format!(
                    "CREATE TABLE t (id INTEGER PRIMARY KEY, u INT UNIQUE, pad TEXT) {table};
                     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                     INSERT INTO t SELECT i, i, hex(zeroblob(60)) FROM n"
                ),
            );
            let before = file.dump();
            let statements = [
                format!("UPDATE t SET u = -1 - u % {rows}"),
                "UPDATE t SET u = -u, pad = NULL WHERE u % 3 <> 0".to_owned(),
                format!("DELETE FROM t WHERE id > {rows} - 9"),
                format!("INSERT INTO t SELECT id + {rows}, {rows} + 100 - id, 'new' FROM t WHERE id < 40"),
            ];
            let ran = file.try_run(&statements.each_ref().map(|sql| statement(sql))).await.unwrap();
            let after = file.dump();
            let undo = file.undo(&ran.snapshot).await;
            assert_eq!(file.dump(), before, "{table} {mode}");
            let again = file.undo(&undo).await;
            assert_eq!(file.dump(), after, "{table} {mode}");
            file.undo(&again).await;
            assert_eq!(file.dump(), before, "{table} {mode}");
        }
    }
}
