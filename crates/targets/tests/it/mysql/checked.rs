//! Snapshots that are taken before the agent itself makes the change, and what they cannot know.

use super::common::{Shop, statement};
use crate::sealed;
use checkrein_core::rollback::{ConflictKind, OnConflict};
use checkrein_targets::{Error, Selection};
use serde_json::{Map, json};

const KU: &str = "CREATE TABLE ku(id INT PRIMARY KEY, v INT); INSERT INTO ku VALUES (1, 1), (2, 2)";

#[tokio::test]
async fn a_statement_that_changes_keys_leaves_no_snapshot() {
    let shop = Shop::new(KU).await;
    for (sql, refused) in [
        ("UPDATE ku SET id = id + 1000", true),
        ("UPDATE ku AS k SET k.v = 1, k.`ID` = 7 WHERE v = 1", true),
        ("UPDATE ku SET v = id + 1000", false),
        ("DELETE FROM ku WHERE id = 1", false),
    ] {
        let (mut out, _) = shop.writer();
        let taken = shop.target.capture(&Selection::Statements(vec![statement(sql)]), &mut out).await;
        match taken {
            Err(Error::Unmeasurable(why)) if refused => assert!(why.contains("use an execution"), "{why}"),
            taken => assert!(!refused && taken.is_ok(), "{sql}: {taken:?}"),
        }
    }
}

#[tokio::test]
async fn a_record_that_is_not_under_its_key_any_more_is_a_conflict() {
    let all = |delete| Selection::Where { resource: "ku".into(), filter: Map::new(), delete };
    let mut shop = Shop::new(KU).await;
    let target = shop.target.clone();
    let act = shop.run("UPDATE ku SET id = id + 1000, v = 9");
    let (snapshot, _files) = sealed(&*target, &all(false), act).await;
    let stands = shop.dump(&["ku"]).await;
    let (plan, _) = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!((plan.conflict_count, plan.conflicts[0].kind), (2, ConflictKind::Removed));
    assert!(plan.notes.iter().any(|note| note.contains("changed the keys")), "{:?}", plan.notes);
    let (plan, undone) = shop.undo(&snapshot, OnConflict::Skip).await.unwrap();
    assert!(undone.is_none(), "{plan:?}");
    assert_eq!(shop.dump(&["ku"]).await, stands, "no record is there twice");

    // What was to be removed comes back, and what was to be changed as long as it is there.
    for (what, act) in [
        (all(true), "DELETE FROM ku"),
        (
            Selection::Records { resource: "ku".into(), ids: vec![json!(1)], delete: false },
            "UPDATE ku SET v = 5 WHERE id = 1",
        ),
        (Selection::Statements(vec![statement("DELETE FROM ku")]), "DELETE FROM ku"),
    ] {
        let mut shop = Shop::new(KU).await;
        let before = shop.dump(&["ku"]).await;
        let target = shop.target.clone();
        let (snapshot, _files) = sealed(&*target, &what, shop.run(act)).await;
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
        assert_eq!(shop.dump(&["ku"]).await, before, "{act}");
    }
}

/// Which of the records that are alike somebody has changed is not known.
#[tokio::test]
async fn without_a_key_skip_restores_none_of_a_table_with_a_conflict() {
    let mut shop = Shop::new(
        "CREATE TABLE nk(a INT, b VARCHAR(9)); INSERT INTO nk VALUES (1, 'n'), (1, 'n'), (1, 'n'); \
         CREATE TABLE other(id INT PRIMARY KEY, v INT); INSERT INTO other VALUES (1, 1)",
    )
    .await;
    let pending = shop
        .target
        .execute(&[statement("UPDATE nk SET b = 'q'"), statement("UPDATE other SET v = 2")])
        .await
        .unwrap();
    let (_, snapshot) = shop.keep(pending).await.unwrap();
    shop.run("DELETE FROM nk LIMIT 1").await;
    let stands = shop.dump(&["nk"]).await;
    let (plan, _) = shop.undo(&snapshot, OnConflict::Skip).await.unwrap();
    assert_eq!(shop.dump(&["nk"]).await, stands, "{plan:?}");
    assert_eq!(shop.number("SELECT v FROM other").await, 1, "the rest is restored");
    assert!(plan.notes.iter().any(|note| note.starts_with("nk has no key")), "{:?}", plan.notes);
    let nk = plan.by_resource.iter().find(|part| part.resource == "nk").unwrap();
    assert_eq!((nk.insert, nk.update, nk.delete, nk.conflicts), (0, 0, 0, 1));
    shop.undo(&snapshot, OnConflict::Force).await.unwrap();
    assert_eq!(shop.number("SELECT COUNT(*) FROM nk WHERE b = 'n'").await, 3);
    assert_eq!(shop.number("SELECT COUNT(*) FROM nk").await, 3);
}
