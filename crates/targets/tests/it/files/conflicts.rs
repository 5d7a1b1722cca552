//! Later work of others.

use super::{Done, Shop, all, exists, paths};
use checkrein_core::rollback::{ConflictKind, OnConflict};
use checkrein_targets::{CommitError, Undo, UndoOptions, snapshot::Snapshot};
use serde_json::json;
use std::fs;

async fn conflicts(shop: &Shop, snapshot: &Snapshot) -> Vec<(String, ConflictKind)> {
    let Done::Conflicts(plan) = shop.roll_back(snapshot, OnConflict::Refuse).await.unwrap() else {
        panic!("no conflict")
    };
    assert_eq!(plan.conflict_count, plan.conflicts.len() as u64);
    plan.conflicts.iter().map(|c| (c.key["path"].as_str().unwrap().to_owned(), c.kind)).collect()
}

/// An action that changes, removes and makes a file, and what others do afterwards.
async fn three(shop: &Shop) -> Snapshot {
    shop.put("changed", "1");
    shop.put("removed", "2");
    let taken = shop.take(&all()).await;
    shop.put("changed", "agent");
    fs::remove_file(shop.at("removed")).unwrap();
    shop.put("made", "agent");
    shop.seal(taken).await
}

#[tokio::test]
async fn each_kind_of_later_change_is_a_conflict_and_is_kept() {
    let shop = Shop::new();
    let snapshot = three(&shop).await;
    shop.put("changed", "somebody");
    shop.put("removed", "somebody");
    fs::remove_file(shop.at("made")).unwrap();
    assert_eq!(
        conflicts(&shop, &snapshot).await,
        [("changed".to_owned(), ConflictKind::Changed), ("removed".to_owned(), ConflictKind::Replaced)]
    );
    assert!(matches!(shop.roll_back(&snapshot, OnConflict::Skip).await.unwrap(), Done::Nothing));
    assert_eq!((shop.get("changed"), shop.get("removed")), ("somebody".into(), "somebody".into()));
    let Done::Done(plan, undo) = shop.roll_back(&snapshot, OnConflict::Force).await.unwrap() else {
        panic!("forced")
    };
    assert_eq!(plan.conflict_count, 2);
    assert_eq!((shop.get("changed"), shop.get("removed")), ("1".into(), "2".into()));
    shop.undo(&undo).await.unwrap();
    assert_eq!((shop.get("changed"), shop.get("removed")), ("somebody".into(), "somebody".into()));
}

#[tokio::test]
async fn others_are_left_alone_and_the_rest_is_restored_when_skipping() {
    let shop = Shop::new();
    let snapshot = three(&shop).await;
    shop.put("changed", "somebody");
    shop.put("unrelated", "somebody");
    let Done::Done(plan, _) = shop.roll_back(&snapshot, OnConflict::Skip).await.unwrap() else {
        panic!("the rest is restored")
    };
    assert_eq!(plan.conflict_count, 1);
    assert_eq!((shop.get("changed"), shop.get("removed")), ("somebody".into(), "2".into()));
    assert!(!exists(&shop.at("made")));
    assert_eq!(shop.get("unrelated"), "somebody");
}

#[tokio::test]
async fn a_folder_that_others_use_by_now_is_not_removed() {
    let shop = Shop::new();
    let taken = shop.take(&paths(["made"])).await;
    shop.put("made/by agent", "agent");
    let snapshot = shop.seal(taken).await;
    shop.put("made/by somebody", "somebody");
    let found = conflicts(&shop, &snapshot).await;
    assert!(found.contains(&("made/by somebody".to_owned(), ConflictKind::Replaced)), "{found:?}");
    assert!(found.contains(&("made".to_owned(), ConflictKind::Changed)), "{found:?}");
    shop.roll_back(&snapshot, OnConflict::Skip).await.unwrap();
    assert_eq!(shop.get("made/by somebody"), "somebody");
    assert!(!exists(&shop.at("made/by agent")));
    let Done::Done(_, undo) = shop.roll_back(&snapshot, OnConflict::Force).await.unwrap() else {
        panic!("forced")
    };
    assert!(!exists(&shop.at("made")));
    shop.undo(&undo).await.unwrap();
    assert_eq!(shop.get("made/by somebody"), "somebody");
}

#[tokio::test]
async fn an_unsealed_snapshot_shows_the_difference_and_needs_force() {
    let shop = Shop::new();
    shop.put("a", "1");
    let (snapshot, _) = shop.take(&all()).await;
    shop.put("a", "2");
    shop.put("b", "new");
    let found = conflicts(&shop, &snapshot).await;
    assert_eq!(
        found,
        [("a".to_owned(), ConflictKind::Unsealed), ("b".to_owned(), ConflictKind::Unsealed)]
    );
    shop.roll_back(&snapshot, OnConflict::Force).await.unwrap();
    assert_eq!(shop.get("a"), "1");
    assert!(!exists(&shop.at("b")));
}

#[tokio::test]
async fn what_is_written_between_the_comparison_and_the_commit_is_kept() {
    let write = |shop: &Shop| shop.put("changed", "somebody");
    let make = |shop: &Shop| shop.put("removed", "somebody");
    let remove = |shop: &Shop| fs::remove_file(shop.at("made")).unwrap();
    let same_size = |shop: &Shop| shop.put("made", "AGENT");
    for meanwhile in [&write as &dyn Fn(&Shop), &make, &remove, &same_size] {
        let shop = Shop::new();
        let snapshot = three(&shop).await;
        let (mut out, path) = shop.writer();
        let undo = shop.target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap();
        let Undo::Ready(_, pending) = undo else { panic!("ready") };
        out.finish(&path).await.unwrap();
        meanwhile(&shop);
        let is = super::tree::read(&shop.root);
        assert!(matches!(pending.commit().await, Err(CommitError::NotCommitted(_))));
        let mut left = super::tree::read(&shop.root);
        let mut is = is;
        // While it waited, Checkrein's own folder was in the root.
        is.retain(|path, _| !path.starts_with(".checkrein") && !path.as_os_str().is_empty());
        left.retain(|path, _| !path.as_os_str().is_empty());
        assert_eq!(super::tree::differences(&is, &left), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_plan_counts_by_folder_and_shows_all_three_states() {
    let shop = Shop::new();
    shop.put("a/one", "1");
    shop.put("a/two", "2");
    shop.put("b/three", "3");
    let taken = shop.take(&all()).await;
    shop.put("a/one", "agent");
    fs::remove_file(shop.at("a/two")).unwrap();
    shop.put("b/new", "agent");
    let snapshot = shop.seal(taken).await;
    let plan = shop.plan(&snapshot).await;
    let of = |resource: &str| plan.by_resource.iter().find(|r| r.resource == resource).unwrap();
    assert_eq!((of("a").insert, of("a").update, of("a").delete), (1, 2, 0), "with the folder's own time");
    assert_eq!((of("b").delete, of("b").keep), (1, 1));
    shop.put("a/one", "somebody");
    let plan = shop.plan(&snapshot).await;
    let conflict = &plan.conflicts[0];
    assert_eq!(conflict.key["path"], json!("a/one"));
    let size = |side: &Option<serde_json::Map<String, serde_json::Value>>| side.as_ref().unwrap()["size"].clone();
    assert_eq!([size(&conflict.before), size(&conflict.after), size(&conflict.now)], [json!(1), json!(5), json!(8)]);
}
