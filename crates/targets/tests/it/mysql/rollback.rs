//! Rollback: what it restores, and what it refuses.

use super::common::{Shop, said};
use checkrein_core::rollback::{ConflictKind, OnConflict};
use checkrein_targets::{Error, How, Selection, UndoOptions};
use checkrein_testbed::servers::mariadb::is_mysql;
use serde_json::{Map, json};

const T: &str = "CREATE TABLE t(id INT PRIMARY KEY, v VARCHAR(20), u INT UNIQUE); \
    INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)";
const FAMILY: &str = "CREATE TABLE p(id INT PRIMARY KEY, v INT); \
    CREATE TABLE c(id INT PRIMARY KEY, pid INT, FOREIGN KEY (pid) REFERENCES p(id) ON DELETE CASCADE); \
    INSERT INTO p VALUES (1, 1), (2, 2); INSERT INTO c VALUES (1, 1), (2, 1), (3, 2)";

#[tokio::test]
async fn brings_back_what_was_and_can_itself_be_undone() {
    let mut shop = Shop::new(FAMILY).await;
    let before = shop.dump(&["p", "c"]).await;
    let (captured, snapshot) = shop.change("DELETE FROM p WHERE id = 1").await.unwrap();
    assert_eq!(said(&captured.affected), "c cascade 2, p delete 1");
    let after = shop.dump(&["p", "c"]).await;
    let plan = shop.target.plan(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(shop.dump(&["p", "c"]).await, after, "a plan changes nothing");
    assert_eq!(plan.by_resource.iter().map(|r| r.insert).sum::<u64>(), 3);
    let (_, undone) = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["p", "c"]).await, before);
    let (plan, none) = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert!(none.is_none() && plan.conflict_count == 0, "rolled back twice: nothing to do");
    shop.undo(&undone.unwrap(), OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["p", "c"]).await, after);
}

#[tokio::test]
async fn a_row_changed_since_is_a_conflict() {
    let mut shop = Shop::new(T).await;
    let (_, snapshot) = shop.change("UPDATE t SET v = 'x'").await.unwrap();
    shop.run("UPDATE t SET v = 'theirs' WHERE id = 2").await;
    shop.run("DELETE FROM t WHERE id = 3").await;
    let changed = shop.dump(&["t"]).await;
    let (plan, none) = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert!(none.is_none());
    assert_eq!(plan.conflict_count, 2);
    assert_eq!(shop.dump(&["t"]).await, changed);
    let first = plan.conflicts.iter().find(|c| c.key["id"] == json!(2)).unwrap();
    assert_eq!(first.kind, ConflictKind::Changed);
    assert_eq!(first.before.as_ref().unwrap()["v"], json!("b"));
    assert_eq!(first.after.as_ref().unwrap()["v"], json!("x"));
    assert_eq!(first.now.as_ref().unwrap()["v"], json!("theirs"));
    assert!(plan.conflicts.iter().any(|c| c.kind == ConflictKind::Removed));
    shop.undo(&snapshot, OnConflict::Skip).await.unwrap();
    assert_eq!(shop.number("SELECT COUNT(*) FROM t WHERE v IN ('a', 'theirs')").await, 2);
    let (_, undo) = shop.undo(&snapshot, OnConflict::Force).await.unwrap();
    assert_eq!(shop.number("SELECT COUNT(*) FROM t WHERE v IN ('a', 'b', 'c')").await, 3);
    shop.undo(&undo.unwrap(), OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.number("SELECT COUNT(*) FROM t WHERE v IN ('a', 'theirs')").await, 2);
}

#[tokio::test]
async fn a_key_inserted_again_is_a_conflict() {
    let mut shop = Shop::new(T).await;
    let (_, snapshot) = shop.change("DELETE FROM t WHERE id = 1").await.unwrap();
    shop.run("INSERT INTO t VALUES (1, 'new', 9)").await;
    let (plan, none) = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert!(none.is_none());
    assert_eq!(plan.conflicts[0].kind, ConflictKind::Replaced);
}

#[tokio::test]
async fn a_unique_value_taken_since_refuses() {
    let mut shop = Shop::new(T).await;
    let (_, snapshot) = shop.change("DELETE FROM t WHERE id = 1").await.unwrap();
    shop.run("INSERT INTO t VALUES (9, 'new', 1)").await;
    let now = shop.dump(&["t"]).await;
    let error = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_err();
    assert!(matches!(error, Error::Irreversible(_)), "{error:?}");
    assert_eq!(shop.dump(&["t"]).await, now);
}

#[tokio::test]
async fn a_new_child_of_what_the_agent_inserted_refuses() {
    let mut shop = Shop::new(FAMILY).await;
    let (_, snapshot) = shop.change("INSERT INTO p VALUES (9, 9)").await.unwrap();
    shop.run("INSERT INTO c VALUES (9, 9)").await;
    let error = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_err();
    assert!(matches!(&error, Error::Irreversible(why) if why.contains("refers to")), "{error:?}");
    assert_eq!(shop.number("SELECT COUNT(*) FROM c WHERE pid = 9").await, 1);
}

#[tokio::test]
async fn a_parent_that_is_gone_refuses() {
    let mut shop = Shop::new(FAMILY).await;
    let (_, snapshot) = shop.change("DELETE FROM c WHERE pid = 1").await.unwrap();
    shop.run("DELETE FROM p WHERE id = 1").await;
    let error = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_err();
    assert!(matches!(&error, Error::Irreversible(why) if why.contains("gone")), "{error:?}");
    assert_eq!(shop.number("SELECT COUNT(*) FROM c").await, 1);
}

#[tokio::test]
async fn a_table_of_another_shape_refuses() {
    for change in [
        "ALTER TABLE t ADD COLUMN w INT",
        "ALTER TABLE t DROP COLUMN v",
        "ALTER TABLE t CHANGE COLUMN v w VARCHAR(20)",
        "ALTER TABLE t MODIFY COLUMN v VARCHAR(30)",
        "ALTER TABLE t MODIFY COLUMN v VARCHAR(20) CHARACTER SET latin1",
        "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, u)",
        "ALTER TABLE t ENGINE=MyISAM",
        "DROP TABLE t",
    ] {
        let mut shop = Shop::new(T).await;
        let (_, snapshot) = shop.change("UPDATE t SET v = 'x' WHERE id = 1").await.unwrap();
        shop.run(change).await;
        let error = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_err();
        assert!(matches!(error, Error::Irreversible(_)), "{change}: {error:?}");
    }
}

#[tokio::test]
async fn a_table_made_anew_is_another_one() {
    let anew = "CREATE TABLE t(id INT PRIMARY KEY, v VARCHAR(20), u INT UNIQUE)";
    for change in [
        format!("DROP TABLE t; {anew}"),
        format!("ALTER TABLE t RENAME TO away; {anew}"),
        "TRUNCATE TABLE t".to_owned(),
    ] {
        let mut shop = Shop::new(T).await;
        let (_, snapshot) = shop.change("DELETE FROM t WHERE id = 1").await.unwrap();
        shop.run(&change).await;
        for how in [OnConflict::Refuse, OnConflict::Skip] {
            let error = shop.undo(&snapshot, how).await.unwrap_err();
            assert!(
                matches!(&error, Error::Irreversible(why) if why.contains("made anew")),
                "{change}: {error:?}"
            );
        }
        assert!(shop.target.plan(&snapshot, &UndoOptions::default()).await.is_err(), "{change}");
        assert_eq!(shop.number("SELECT COUNT(*) FROM t").await, 0, "{change}");
        shop.undo(&snapshot, OnConflict::Force).await.unwrap();
        assert_eq!(shop.number("SELECT COUNT(*) FROM t").await, 1, "a person knows better");
    }
    // What leaves the records where they are leaves the table what it is; so with partitions.
    for schema in [
        T,
        "CREATE TABLE t(id INT PRIMARY KEY, v VARCHAR(20)) PARTITION BY HASH (id) PARTITIONS 3; INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    ] {
        let mut shop = Shop::new(schema).await;
        let before = shop.dump(&["t"]).await;
        let (_, snapshot) = shop.change("DELETE FROM t").await.unwrap();
        shop.run("ALTER TABLE t ADD INDEX (v)").await;
        shop.run("ANALYZE TABLE t").await;
        let (_, undone) = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
        assert_eq!(shop.dump(&["t"]).await, before);
        shop.undo(&undone.unwrap(), OnConflict::Refuse).await.unwrap();
    }
}

#[tokio::test]
async fn unique_values_and_keys_swap_back() {
    let mut shop = Shop::new(T).await;
    let before = shop.dump(&["t"]).await;
    let mut snapshots = Vec::new();
    for sql in [
        "UPDATE t SET u = u + 10",
        "UPDATE t SET u = CASE u WHEN 11 THEN 3 WHEN 12 THEN 1 ELSE 2 END",
        "UPDATE t SET id = -id",
        "UPDATE t SET id = id + 4 ORDER BY id DESC",
    ] {
        snapshots.push(shop.change(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).1);
    }
    for snapshot in snapshots.iter().rev() {
        shop.undo(snapshot, OnConflict::Refuse).await.unwrap();
    }
    assert_eq!(shop.dump(&["t"]).await, before);
}

#[tokio::test]
async fn snapshots_that_overlap_go_back_in_order_only() {
    let mut shop = Shop::new(T).await;
    let before = shop.dump(&["t"]).await;
    let (_, first) = shop.change("UPDATE t SET v = 'x' WHERE id < 3").await.unwrap();
    let (_, second) = shop.change("UPDATE t SET v = 'y' WHERE id > 1").await.unwrap();
    let (plan, none) = shop.undo(&first, OnConflict::Refuse).await.unwrap();
    assert!(none.is_none() && plan.conflict_count == 1);
    shop.undo(&second, OnConflict::Refuse).await.unwrap();
    shop.undo(&first, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["t"]).await, before);
}

#[tokio::test]
async fn chains_of_a_table_that_refers_to_itself() {
    let mut shop = Shop::new(
        "CREATE TABLE s(id INT PRIMARY KEY, boss INT, FOREIGN KEY (boss) REFERENCES s(id) ON DELETE CASCADE); \
         INSERT INTO s VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, NULL), (6, 5); \
         UPDATE s SET boss = 6 WHERE id = 5",
    )
    .await;
    let before = shop.dump(&["s"]).await;
    for (sql, records) in [("DELETE FROM s WHERE id = 2", 3), ("DELETE FROM s WHERE id = 5", 2)] {
        let (captured, snapshot) = shop.change(sql).await.unwrap();
        assert_eq!(captured.affected.iter().map(|a| a.records).sum::<u64>(), records);
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
        assert_eq!(shop.dump(&["s"]).await, before);
    }
}

#[tokio::test]
async fn records_without_a_key_are_counted() {
    let mut shop = Shop::new(
        "CREATE TABLE n(a INT, b VARCHAR(9)); INSERT INTO n VALUES (1,'x'),(1,'x'),(1,'x'),(2,NULL)",
    )
    .await;
    let before = shop.dump(&["n"]).await;
    for sql in [
        "DELETE FROM n WHERE a = 1 LIMIT 2",
        "UPDATE n SET b = 'y' WHERE a = 1 LIMIT 1",
        "UPDATE n SET b = 'x', a = 1",
        "INSERT INTO n VALUES (1, 'x'), (1, 'X'), (5, NULL)",
        "DELETE FROM n",
    ] {
        let (_, snapshot) = shop.change(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_ne!(shop.dump(&["n"]).await, before, "{sql}");
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(shop.dump(&["n"]).await, before, "{sql}");
    }
}

#[tokio::test]
async fn what_triggers_do_is_measured_and_undone_too() {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, v INT); CREATE TABLE log(id INT PRIMARY KEY AUTO_INCREMENT, t INT, v INT); \
         CREATE TABLE sums(id INT PRIMARY KEY, n INT); INSERT INTO sums VALUES (1, 0); INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    .await;
    shop.run(
        "CREATE TRIGGER t_u AFTER UPDATE ON t FOR EACH ROW BEGIN INSERT INTO log(t, v) VALUES (NEW.id, OLD.v); \
         UPDATE sums SET n = n + 1 WHERE id = 1; END",
    )
    .await;
    let before = shop.dump(&["t", "log", "sums"]).await;
    let pending = shop.execute("UPDATE t SET v = v + 1").await.unwrap();
    assert_eq!(said(&pending.measured().affected), "log insert 2, sums update 1, t update 2");
    let (_, snapshot) = shop.keep(pending).await.unwrap();
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["t", "log", "sums"]).await, before);
}

#[tokio::test]
async fn a_trigger_that_changes_what_is_put_back_refuses() {
    let mut shop =
        Shop::new("CREATE TABLE t(id INT PRIMARY KEY, v INT, n INT); INSERT INTO t VALUES (1, 1, 1)").await;
    shop.run("CREATE TRIGGER t_u BEFORE UPDATE ON t FOR EACH ROW SET NEW.n = OLD.n + 1").await;
    let (_, snapshot) = shop.change("UPDATE t SET v = 2").await.unwrap();
    let now = shop.dump(&["t"]).await;
    let error = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_err();
    assert!(matches!(&error, Error::Irreversible(why) if why.contains("@checkrein_rollback")), "{error:?}");
    assert_eq!(shop.dump(&["t"]).await, now);
    // The trigger spares itself.
    shop.run(
        "DROP TRIGGER t_u; CREATE TRIGGER t_u BEFORE UPDATE ON t FOR EACH ROW \
         BEGIN IF @checkrein_rollback IS NULL THEN SET NEW.n = OLD.n + 1; END IF; END",
    )
    .await;
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.number("SELECT n * 10 + v FROM t").await, 11);
}

#[tokio::test]
async fn a_long_log_that_triggers_write_is_no_hindrance() {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1), (2, 2); \
         CREATE TABLE log(n INT PRIMARY KEY AUTO_INCREMENT, v INT); INSERT INTO log(v) SELECT seq FROM seq_1_to_60000; \
         CREATE TABLE big(n INT PRIMARY KEY, v INT); INSERT INTO big SELECT seq, seq FROM seq_1_to_60000",
    )
    .await;
    shop.run("CREATE TRIGGER t_u AFTER UPDATE ON t FOR EACH ROW INSERT INTO log(v) VALUES (OLD.v)").await;
    shop.run("CREATE TRIGGER t_d AFTER DELETE ON t FOR EACH ROW UPDATE big SET v = 0 WHERE n = OLD.id").await;
    let before = shop.dump(&["t"]).await;
    let (captured, snapshot) = shop.change("UPDATE t SET v = v + 1").await.unwrap();
    assert_eq!(said(&captured.affected), "log insert 2, t update 2");
    shop.run("INSERT INTO log(v) VALUES (-1)").await;
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["t"]).await, before);
    assert_eq!(shop.number("SELECT COUNT(*) FROM log").await, 60_001, "theirs stays, ours is gone");
    let error = shop.execute("DELETE FROM t").await.err().unwrap();
    assert!(matches!(&error, Error::Unmeasurable(why) if why.contains("foreseen")), "{error:?}");
}

#[tokio::test]
async fn a_trigger_that_changes_keys_is_seen_through() {
    let mut shop = Shop::new(
        "CREATE TABLE p(id INT PRIMARY KEY, v INT); \
         CREATE TABLE c(id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p(id) ON UPDATE CASCADE); \
         INSERT INTO p VALUES (1, 1), (2, 2); INSERT INTO c VALUES (1, 1), (2, 2)",
    )
    .await;
    shop.run(
        "CREATE TRIGGER p_u BEFORE UPDATE ON p FOR EACH ROW \
         BEGIN IF @checkrein_rollback IS NULL THEN SET NEW.id = OLD.id + 100; END IF; END",
    )
    .await;
    let before = shop.dump(&["p", "c"]).await;
    for sql in
        ["UPDATE p SET v = 5 WHERE id = 1", "INSERT INTO p VALUES (2, 7) ON DUPLICATE KEY UPDATE v = 8"]
    {
        let (captured, snapshot) = shop.change(sql).await.unwrap();
        assert_eq!(captured.affected.iter().map(|a| a.records).sum::<u64>(), 3, "{sql}: {captured:?}");
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
        assert_eq!(shop.dump(&["p", "c"]).await, before, "{sql}");
    }
}

#[tokio::test]
async fn triggers_that_reach_beyond_transactions_refuse() {
    let mut shop = Shop::new(T).await;
    shop.run("CREATE TABLE old(id INT) ENGINE=MyISAM").await;
    shop.run("CREATE TRIGGER t_d AFTER DELETE ON t FOR EACH ROW INSERT INTO old VALUES (OLD.id)").await;
    shop.run("CREATE PROCEDURE p() DELETE FROM old").await;
    shop.run("CREATE TRIGGER t_u AFTER UPDATE ON t FOR EACH ROW CALL p()").await;
    for sql in ["DELETE FROM t WHERE id = 1", "UPDATE t SET v = 'x'"] {
        let error = shop.execute(sql).await.err().unwrap();
        assert!(matches!(error, Error::Unmeasurable(_)), "{sql}: {error:?}");
    }
    assert_eq!(shop.number("SELECT COUNT(*) FROM old").await, 0);
    match shop.execute("INSERT INTO t VALUES (7, 'x', 7)").await {
        Ok(pending) => pending.rollback().await,
        // Without RETURNING, what triggers on other events would do counts as well.
        Err(error) => assert!(is_mysql() && matches!(error, Error::Unmeasurable(_)), "{error:?}"),
    }
}

#[tokio::test]
async fn an_unsealed_snapshot_shows_and_needs_force_and_a_sealed_one_does_not() {
    let mut shop = Shop::new(FAMILY).await;
    let before = shop.dump(&["p", "c"]).await;
    let what = Selection::Records { resource: "p".into(), ids: vec![json!(1)], delete: true };
    let (mut out, path) = shop.writer();
    let captured = shop.target.capture(&what, &mut out).await.unwrap();
    assert_eq!(said(&captured.affected), "c cascade 2, p delete 1");
    out.finish(&path).await.unwrap();
    let unsealed =
        checkrein_targets::snapshot::Snapshot::open(std::slice::from_ref(&path), None).await.unwrap();
    shop.run("DELETE FROM p WHERE id = 1").await;
    let (plan, none) = shop.undo(&unsealed, OnConflict::Refuse).await.unwrap();
    assert!(none.is_none());
    assert!(plan.conflicts.iter().all(|c| c.kind == ConflictKind::Unsealed));
    let second = path.with_extension("2");
    let header = unsealed.header().unwrap().clone();
    let mut out =
        checkrein_targets::snapshot::SnapshotWriter::create(&second, &header, None, (1000, 1 << 20)).unwrap();
    shop.target.seal(&unsealed, &mut out).await.unwrap();
    out.finish(&second).await.unwrap();
    let sealed = checkrein_targets::snapshot::Snapshot::open(&[path, second], None).await.unwrap();
    assert!(sealed.is_sealed());
    shop.undo(&sealed, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["p", "c"]).await, before);
}

#[tokio::test]
async fn selections_name_records_exactly() {
    let shop = Shop::new(
        "CREATE TABLE t(a INT, b VARCHAR(9), c INT NULL, PRIMARY KEY (a, b)); \
         INSERT INTO t VALUES (0, 'x', 1), (1, 'x', NULL), (1, 'y', 3)",
    )
    .await;
    let records = |ids| Selection::Records { resource: "t".into(), ids, delete: true };
    let by = |filter: serde_json::Value| Selection::Where {
        resource: "t".into(),
        filter: filter.as_object().cloned().unwrap_or_else(Map::new),
        delete: false,
    };
    for (what, count) in [
        (records(vec![json!([1, "x"]), json!({"b": "y", "a": 1}), json!([7, "q"])]), 2),
        (by(json!({"c": null})), 1),
        (by(json!({"a": [0, 1], "b": "x"})), 2),
        (by(json!({})), 3),
        (by(json!({"a": []})), 0),
    ] {
        assert_eq!(shop.target.count(&what).await.unwrap().records(), count, "{what:?}");
    }
    for what in
        [by(json!({"a": "abc"})), by(json!({"zz": 1})), records(vec![json!(1)]), by(json!({"b": 5, "a": {}}))]
    {
        assert!(matches!(shop.target.count(&what).await, Err(Error::Invalid(_))), "{what:?}");
    }
}

#[tokio::test]
async fn what_others_forbid_is_said_before() {
    let shop = Shop::new(
        "CREATE TABLE p(id INT PRIMARY KEY); CREATE TABLE c(id INT PRIMARY KEY, pid INT, FOREIGN KEY (pid) REFERENCES p(id)); \
         INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1, 1), (2, 1)",
    )
    .await;
    let what = Selection::Records { resource: "p".into(), ids: vec![json!(1), json!(2)], delete: true };
    let counted = shop.target.count(&what).await.unwrap();
    assert_eq!(counted.refusals, ["2 records of c refer to them and forbid it"]);
    assert_eq!(counted.affected[0].how, How::Delete);
    let error = shop.execute("DELETE FROM p").await.err().unwrap();
    assert!(matches!(&error, Error::Statement { code, .. } if code == "23000"), "{error:?}");
}

/// Where a BEFORE trigger changes what an UPDATE of several tables has computed a stored column from, MariaDB keeps
/// the column as it was computed first. Nobody can write such a value, so nobody can put it back.
#[tokio::test]
async fn a_computed_value_that_is_wrong_is_refused_and_not_passed_over() {
    for key in ["PRIMARY KEY (id)", "KEY (id)"] {
        wrong_value(key).await;
    }
}

async fn wrong_value(key: &str) {
    let mut shop = Shop::new(&format!(
        "CREATE TABLE t(id INT NOT NULL, v INT, g INT AS (v + 1) STORED, h INT AS (v * 3) VIRTUAL, {key}); \
         CREATE TABLE o(id INT PRIMARY KEY, v INT); INSERT INTO t(id, v) VALUES (1, 1), (2, 2); INSERT INTO o VALUES (1, 70); \
         CREATE TRIGGER b BEFORE UPDATE ON t FOR EACH ROW BEGIN IF @checkrein_rollback IS NULL THEN SET NEW.v = OLD.v + 1; END IF; END"
    ))
    .await;
    let before = shop.dump(&["t", "o"]).await;
    let both = "UPDATE t JOIN o ON o.id = t.id SET t.v = o.v";
    let (_, snapshot) = shop.change(both).await.unwrap();
    let wrong = shop.number("SELECT COUNT(*) FROM t WHERE g <> v + 1").await;
    let after = shop.dump(&["t", "o"]).await;
    let (_, undone) = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["t", "o"]).await, before);
    let redone = shop.undo(&undone.unwrap(), OnConflict::Refuse).await;
    if wrong == 0 {
        // A server that computes it at the end.
        assert_eq!((redone.is_ok(), shop.dump(&["t", "o"]).await), (true, after));
        return;
    }
    let refused = |why: &Error| matches!(why, Error::Irreversible(why) if why.contains("the column g of t"));
    assert!(redone.as_ref().is_err_and(refused), "{:?}", redone.err());
    assert_eq!(shop.dump(&["t", "o"]).await, before, "nothing of it stays");

    // It was wrong before the action already.
    shop.run(both).await;
    let (_, snapshot) = shop.change("UPDATE t SET v = 5 WHERE id = 1").await.unwrap();
    let stands = shop.dump(&["t", "o"]).await;
    let undone = shop.undo(&snapshot, OnConflict::Refuse).await;
    assert!(undone.as_ref().is_err_and(refused), "{:?}", undone.err());
    assert_eq!(shop.dump(&["t", "o"]).await, stands);
}
