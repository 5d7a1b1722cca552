//! Records that somebody has worked on are not written over in place: that way is begun, found to be wrong by the
//! digests of what stood, and given up for the one that looks at each record.

use super::Shop;
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    Undo, UndoOptions,
    snapshot::{Header, Side, Snapshot, SnapshotKey, SnapshotWriter},
};
use serde_json::json;

const ROWS: usize = 20_000;

fn options(on_conflict: OnConflict) -> UndoOptions {
    UndoOptions { on_conflict, ..UndoOptions::default() }
}

#[tokio::test]
async fn what_was_written_in_place_leaves_nothing_behind_when_it_is_given_up() {
    let shop = Shop::new(&format!(
        "create table t (id int primary key, v int, note text);
         insert into t select i, 0, repeat(md5(i::text), 4) from generate_series(1, {ROWS}) i"
    ))
    .await;
    let snapshot = shop.run("update t set v = id").await;
    // The last one: all others have been written over by then.
    shop.sql(&format!("update t set note = 'a person' where id = {ROWS}")).await;
    let stands = shop.dump().await;

    let (_, mut out) = shop.writer();
    let refused = shop.target.rollback(&snapshot, &options(OnConflict::Refuse), &mut out).await.unwrap();
    let Undo::Conflicts(plan) = refused else { panic!("it is the person's") };
    assert_eq!((plan.conflict_count, plan.conflicts[0].key["id"].clone()), (1, json!(ROWS.to_string())));
    assert_eq!(shop.dump().await, stands, "nothing was changed");

    // What undoes it holds each record once, whatever had been written into it before; encrypted or not.
    let key = SnapshotKey::new([9; 32]);
    for key in [None, Some(key)] {
        let path = shop.folder.path().join(if key.is_some() { "sealed" } else { "open" });
        let header =
            Header { id: "snp_2".into(), target: "shop".into(), kind: "postgres".into(), system: json!({}) };
        let mut out = SnapshotWriter::create(&path, &header, key.as_ref(), (10_000_000, 16 << 30)).unwrap();
        let undo = shop.target.rollback(&snapshot, &options(OnConflict::Skip), &mut out).await.unwrap();
        let Undo::Ready(plan, pending) = undo else { panic!("the rest comes back") };
        assert_eq!(plan.by_resource[0].update, ROWS as u64 - 1);
        out.finish(&path).await.unwrap();
        pending.commit().await.unwrap();
        assert_eq!(shop.ask("select count(*) from t where v = 0").await, (ROWS - 1).to_string());
        assert_eq!(shop.ask("select count(*) from t where note = 'a person' and v = id").await, "1");

        assert_eq!(Snapshot::open(std::slice::from_ref(&path), None).await.is_err(), key.is_some());
        let undone = Snapshot::open(&[path], key).await.unwrap();
        let totals = undone.footer(0).unwrap().tables.clone();
        assert_eq!(
            totals.iter().map(|t| (t.before, t.after)).collect::<Vec<_>>(),
            [(ROWS as u64 - 1, ROWS as u64 - 1)]
        );
        let (mut blocks, mut lines) = (undone.blocks(), 0);
        while let Some(block) = blocks.next().await.unwrap() {
            let text = String::from_utf8(block.data).unwrap();
            lines += text.lines().filter(|line| block.side == Side::Before || line.contains("\t0\t")).count();
        }
        assert_eq!(lines, 2 * (ROWS - 1));
        let (plan, again) = shop.undo(&undone, &options(OnConflict::Refuse)).await.unwrap();
        assert_eq!((plan.conflict_count, again.is_some()), (0, true));
        assert_eq!(shop.dump().await, stands);
    }
}

/// What is written over in place is read back only as far as it was written: nothing else may change then.
#[tokio::test]
async fn a_trigger_that_would_change_more_does_not_run() {
    for fires in ["always", "replica"] {
        let shop = Shop::new(
            "create table t (id int primary key, v int, note text);
             insert into t select i, 0, 'note' from generate_series(1, 100) i;
             create function more() returns trigger language plpgsql as $$ begin new.note := 'more'; return new; end $$",
        )
        .await;
        let snapshot = shop.run("update t set v = id").await;
        shop.sql(&format!(
            "create trigger more before update on t for each row execute function more(); alter table t enable {fires} trigger more"
        ))
        .await;
        let (plan, undone) = shop.undo(&snapshot, &options(OnConflict::Refuse)).await.unwrap();
        assert_eq!((plan.conflict_count, undone.is_some()), (0, true), "{fires}");
        assert_eq!(shop.ask("select count(*) from t where v = 0 and note = 'note'").await, "100", "{fires}");
    }
}

/// What is computed from columns that are written over is read back too, and what was not recorded of it is found
/// anew.
#[tokio::test]
async fn columns_that_are_computed_come_back_with_what_they_are_computed_from() {
    let shop = Shop::new(
        "create table t (id int primary key, v int, twice int generated always as (v * 2) stored, note text);
         insert into t (id, v, note) select i, i, E'a\\tb\\\\' from generate_series(1, 100) i",
    )
    .await;
    let before = shop.dump().await;
    let snapshot = shop.run("update t set v = v / 2").await;
    let changed = shop.dump().await;
    let (_, again) = shop.undo(&snapshot, &options(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.dump().await, before);
    shop.undo(&again.unwrap(), &options(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.dump().await, changed);
    shop.undo(&snapshot, &options(OnConflict::Refuse)).await.unwrap();
    shop.sql("alter table t add more int generated always as (v * 3) stored").await;
    let snapshot = shop.run("update t set v = v + 1").await;
    shop.sql("alter table t add most int generated always as (v * 4) stored").await;
    let (_, again) = shop.undo(&snapshot, &options(OnConflict::Refuse)).await.unwrap();
    let right =
        "select count(*) from t where twice = v * 2 and more = v * 3 and most = v * 4 and v = id + {}";
    assert_eq!(shop.ask(&right.replace("{}", "0")).await, "100");
    shop.undo(&again.unwrap(), &options(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.ask(&right.replace("{}", "1")).await, "100");
}
