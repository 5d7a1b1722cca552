//! Tables without a key: which of the records that are alike is the action's, and whether it still is there.

use super::Shop;
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{UndoOptions, snapshot::Snapshot};

fn how(on_conflict: OnConflict) -> UndoOptions {
    UndoOptions { on_conflict, ..UndoOptions::default() }
}

/// Rolls back once more, for which there is nothing to do.
async fn nothing(shop: &Shop, snapshot: &Snapshot) {
    let before = shop.dump().await;
    let (plan, done) = shop.undo(snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert!(done.is_none() && plan.conflict_count == 0, "{plan:?}");
    assert_eq!(shop.dump().await, before);
}

/// Tries to roll back, which is a conflict, and changes nothing.
async fn conflict(shop: &Shop, snapshot: &Snapshot) -> checkrein_targets::Plan {
    let before = shop.dump().await;
    for on_conflict in [OnConflict::Skip, OnConflict::Refuse] {
        let (plan, done) = shop.undo(snapshot, &how(on_conflict)).await.unwrap();
        assert!(done.is_none() && plan.conflict_count > 0, "{plan:?}");
        assert_eq!(shop.dump().await, before);
    }
    shop.target.plan(snapshot, &how(OnConflict::Refuse)).await.unwrap()
}

#[tokio::test]
async fn what_was_there_already_is_not_taken_for_what_was_added() {
    let shop = Shop::new(
        "create table l (t text); insert into l values ('hit'); create table nk (a int); insert into nk values (1), (1), (2);
         create table m (t text); insert into m values ('x'), ('hit'), ('hit');
         create table w (v int); insert into w values (1)",
    )
    .await;
    let before = shop.dump().await;
    for sql in [
        "insert into l values ('hit'), ('hit')",
        "insert into nk values (1)",
        "update m set t = 'hit' where t = 'x'",
        "with d as (delete from m where t = 'x') insert into m values ('hit'), ('new')",
        "insert into w select 1 from generate_series(1, 3)",
    ] {
        let snapshot = shop.run(sql).await;
        let after = shop.dump().await;
        let (_, undo) = shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
        for _ in 0..3 {
            nothing(&shop, &snapshot).await;
        }
        // Back and forth, each time by the snapshot of the time before: as far as the others know, what stands then
        // may be somebody else's.
        let undo = undo.unwrap();
        let (_, redo) = shop.undo(&undo, &how(OnConflict::Refuse)).await.unwrap();
        assert_eq!(shop.dump().await, after, "{sql}");
        nothing(&shop, &undo).await;
        conflict(&shop, &snapshot).await;
        shop.undo(&redo.unwrap(), &how(OnConflict::Refuse)).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
        nothing(&shop, &snapshot).await;
    }
}

#[tokio::test]
async fn others_that_add_records_alike_lose_none() {
    let shop = Shop::new("create table l (t text); insert into l values ('hit')").await;
    let snapshot = shop.run("insert into l values ('hit'), ('hit')").await;
    shop.sql("insert into l values ('hit')").await;
    shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.ask("select count(*) from l").await, "2", "the action's own are known by their number");
    // Now there are neither as many as before nor as many as after.
    let plan = conflict(&shop, &snapshot).await;
    assert!(plan.notes.iter().any(|note| note.contains("rolled back already")), "{plan:?}");
    shop.undo(&snapshot, &how(OnConflict::Force)).await.unwrap();
    assert_eq!(shop.ask("select count(*) from l").await, "0", "a person said so");
}

/// As many as the action had made, and none of them the action's.
#[tokio::test]
async fn after_a_rollback_what_others_made_is_theirs() {
    let shop = Shop::new(
        "create table l (t text); insert into l values ('hit'); create table m (t text); insert into m values ('x'), ('y');
         create function f() returns void language plpgsql as $$ begin
             begin insert into l values ('hit'), ('hit'); exception when others then null; end; end $$",
    )
    .await;
    for (sql, theirs) in [
        ("insert into l values ('hit'), ('hit')", "insert into l values ('hit'), ('hit')"),
        ("update m set t = 'z' where t = 'x'", "update m set t = 'z' where t = 'x'"),
    ] {
        let before = shop.dump().await;
        let snapshot = shop.run(sql).await;
        shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
        assert_eq!(shop.dump().await, before);
        nothing(&shop, &snapshot).await;
        shop.sql(theirs).await;
        conflict(&shop, &snapshot).await;
    }
    // Nor does the undoing of a rollback take what others put back.
    let snapshot = shop.run("delete from l where t = 'hit'").await;
    let (_, undo) = shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    let undo = undo.unwrap();
    shop.undo(&undo, &how(OnConflict::Refuse)).await.unwrap();
    nothing(&shop, &undo).await;
    shop.sql("insert into l values ('hit'), ('hit'), ('hit')").await;
    conflict(&shop, &undo).await;
    // On what a savepoint made is another number: there, how many there are must do.
    let before = shop.dump().await;
    let snapshot = shop.run("select f()").await;
    shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.dump().await, before);
}

#[tokio::test]
async fn force_is_a_way_out_of_each_conflict() {
    let shop =
        Shop::new("create table l (t text); insert into l select 'a' from generate_series(1, 3)").await;
    let snapshot = shop.run("update l set t = 'b'").await;
    shop.sql("delete from l where ctid = (select min(ctid) from l)").await;
    conflict(&shop, &snapshot).await;
    let (_, undo) = shop.undo(&snapshot, &how(OnConflict::Force)).await.unwrap();
    assert_eq!(shop.ask("select string_agg(t, '') from l").await, "aaa");
    nothing(&shop, &snapshot).await;
    shop.undo(&undo.unwrap(), &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.ask("select string_agg(t, '') from l").await, "bb");
}

/// A table so large that records are not counted when some are added.
#[tokio::test]
async fn in_a_large_table_the_number_on_the_records_tells() {
    let shop = Shop::new(
        "create table l (t text, fill text); alter table l alter fill set storage plain; insert into l values ('hit', null);
         insert into l select 'other', repeat('x', 7000) from generate_series(1, 4200)",
    )
    .await;
    let snapshot = shop.run("insert into l values ('hit'), ('hit'), ('new')").await;
    let left = "select count(*) filter (where t = 'hit') || ' ' || count(*) from l";
    shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.ask(left).await, "1 4201");
    let plan = conflict(&shop, &snapshot).await;
    assert!(plan.notes.iter().any(|note| note.contains("does not say how many")), "{plan:?}");
    shop.sql("delete from l where t = 'hit'").await;
    nothing(&shop, &snapshot).await;
}
