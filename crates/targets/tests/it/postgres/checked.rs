//! Snapshots that are taken before the agent itself makes the change, and what they cannot know.

use super::{Shop, statement};
use crate::sealed;
use checkrein_core::rollback::{ConflictKind, OnConflict};
use checkrein_targets::{Error, Selection, UndoOptions};
use serde_json::Map;

const KU: &str = "create table ku (id int primary key, v int); insert into ku values (1, 1), (2, 2);
    create table part (id int, k text, primary key (id, k)) partition by list (k);
    create table part_a partition of part for values in ('a'); create table part_b partition of part for values in ('b');
    insert into part select n, 'a' from generate_series(1, 3) n";

#[tokio::test]
async fn a_statement_that_changes_keys_leaves_no_snapshot() {
    let shop = Shop::new(KU).await;
    for (sql, refused) in [
        ("update ku set id = id + 1000", true),
        ("update ku k set (v, ID) = (1, 7) where v = 1", true),
        ("update part set k = 'b' where k = 'a'", true),
        ("update part_a set k = 'b'", true),
        ("update ku set v = id + 1000", false),
        ("delete from part where k = 'a'", false),
    ] {
        let (_, mut out) = shop.writer();
        let what = Selection::Statements(vec![statement(sql)]);
        match shop.target.capture(&what, &mut out).await {
            Err(Error::Unmeasurable(why)) if refused => assert!(why.contains("use an execution"), "{why}"),
            taken => assert!(!refused && taken.is_ok(), "{sql}: {taken:?}"),
        }
        shop.target.sample(&what, 3).await.unwrap();
    }
}

#[tokio::test]
async fn a_record_that_is_not_under_its_key_any_more_is_a_conflict() {
    let all = |table: &str, delete| Selection::Where { resource: table.into(), filter: Map::new(), delete };
    for (table, act) in
        [("ku", "update ku set id = id + 1000, v = 9"), ("part", "update part set k = 'b' where k = 'a'")]
    {
        let shop = Shop::new(KU).await;
        let (snapshot, _files) = sealed(&*shop.target, &all(table, false), shop.sql(act)).await;
        let stands = shop.dump().await;
        let (plan, _) = shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
        assert_eq!(plan.conflicts[0].kind, ConflictKind::Removed, "{plan:?}");
        assert!(plan.notes.iter().any(|note| note.contains("changed the keys")), "{:?}", plan.notes);
        let skip = UndoOptions { on_conflict: OnConflict::Skip, ..UndoOptions::default() };
        let (plan, undone) = shop.undo(&snapshot, &skip).await.unwrap();
        assert!(undone.is_none(), "{plan:?}");
        assert_eq!(shop.dump().await, stands, "no record is there twice");
    }
    for (what, act) in [
        (all("ku", true), "delete from ku"),
        (Selection::Statements(vec![statement("delete from part")]), "delete from part"),
        (all("ku", false), "update ku set v = 5 where id = 1"),
    ] {
        let shop = Shop::new(KU).await;
        let before = shop.dump().await;
        let (snapshot, _files) = sealed(&*shop.target, &what, shop.sql(act)).await;
        shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
        assert_eq!(shop.dump().await, before, "{act}");
    }
}
