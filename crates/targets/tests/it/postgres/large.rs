//! Many rows: in bounded memory, within the limits, and found without reading everything.

use super::{Shop, affected, expect};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    Error, UndoOptions,
    snapshot::{Header, SnapshotWriter},
};
use serde_json::json;
use std::sync::atomic::Ordering::Relaxed;

const ROWS: u64 = 200_000;

/// The most memory that this process has had so far, in kB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn many_rows_in_bounded_memory() {
    let shop = Shop::new(&format!(
        "create table t (id int primary key, v int, filler text); insert into t select i, 0, repeat(md5(i::text), 16) from generate_series(1, {ROWS}) i"
    ))
    .await;
    let sum = "select sum(hashtext(t::text)::bigint) from t";
    let before = shop.ask(sum).await;
    let memory = peak();
    let mut pending = shop.execute("update t set v = id").await.unwrap();
    let (captured, snapshot) = shop.captured(&mut pending).await;
    assert_eq!(affected(&captured.affected), expect(&[("public.t", "update", ROWS)]));
    pending.commit().await.unwrap();
    let options = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
    shop.undo(&snapshot, &options).await.unwrap();
    assert_eq!(shop.ask(sum).await, before);
    assert_eq!(options.progress.done.load(Relaxed), 2 * ROWS);
    assert_eq!(options.progress.total.load(Relaxed), 2 * ROWS);
    // The rows alone are 100 MB on either side. Other tests may run in this process meanwhile.
    let grown = peak().saturating_sub(memory) / 1024;
    assert!(grown < 90, "{grown} MB");
}

#[tokio::test]
async fn more_than_the_limits_allow_is_refused() {
    let shop = Shop::new("create table t (id int primary key, filler text); insert into t select i, repeat(md5(i::text), 100) from generate_series(1, 2000) i").await;
    let before = shop.dump().await;
    let header =
        Header { id: "snp_1".into(), target: "shop".into(), kind: "postgres".into(), system: json!({}) };
    for limits in [(100, 1 << 30), (10_000, 100_000)] {
        let mut pending = shop.execute("delete from t").await.unwrap();
        let path = shop.folder.path().join("limited");
        let mut out = SnapshotWriter::create(&path, &header, None, limits).unwrap();
        assert!(matches!(pending.capture(&mut out).await, Err(Error::TooLarge(_))));
        drop(pending);
        drop(out);
        assert!(!path.exists());
    }
    assert_eq!(shop.dump().await, before, "what cannot be captured is not committed");
}

#[tokio::test]
async fn one_row_of_a_large_table_and_what_follows_it_are_found() {
    let shop = Shop::new(
        "create table p (id int primary key, v text); create table c (id int primary key, p int references p on delete cascade);
         create table n (id int primary key, p int references p on delete set null on update cascade);
         insert into p select i, repeat('x', 100) from generate_series(1, 20000) i; insert into c select i, i / 2 from generate_series(2, 40000) i;
         insert into n select i, i from generate_series(1, 20000) i; create index on c (p); create index on n (p); analyze",
    )
    .await;
    let before = shop.dump().await;
    for (sql, whole) in [
        ("update p set v = 'y' where id = 777 -- one;", vec![("public.p", "update", 1)]),
        (
            "delete from p where id in (5, 19999);",
            vec![("public.c", "cascade", 4), ("public.n", "unlink", 2), ("public.p", "delete", 2)],
        ),
        ("insert into p values (-1, 'new')", vec![("public.p", "insert", 1)]),
        (
            "update p set id = -1 where id = 20000 and not exists (select 1 from c where p = 20000) or id = -5",
            vec![],
        ),
        ("delete from c where id = 30000", vec![("public.c", "delete", 1)]),
        ("update n set id = -id where id = 9", vec![("public.n", "update", 1)]),
    ] {
        let mut pending = shop.execute(sql).await.unwrap();
        assert!(pending.results()[0].rows.is_empty() && pending.results()[0].columns.is_empty());
        let (captured, snapshot) = shop.captured(&mut pending).await;
        assert_eq!(affected(&captured.affected), expect(&whole), "{sql}");
        pending.commit().await.unwrap();
        let options = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
        shop.undo(&snapshot, &options).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
    }
}

/// The number of the transaction is on rows that it only locked, too, and is not on those that it changed in a
/// savepoint, or that somebody else has locked since.
#[tokio::test]
async fn rows_that_are_only_locked_or_changed_in_a_savepoint() {
    let shop = Shop::new(
        "create table t (id int primary key, v int, filler text); insert into t select i, 0, repeat('x', 100) from generate_series(1, 3000) i;
         create table keyless (v int); insert into keyless select i % 7 from generate_series(1, 2000) i;
         create function tries(many int) returns int language plpgsql as $$ begin
           update t set v = v + 1 where id <= many;
           begin update t set v = v + 100 where id > 2000; exception when division_by_zero then null; end;
           begin update t set v = -1 where id <= 2500; perform 1 / 0; exception when division_by_zero then null; end;
           return many; end $$; analyze",
    )
    .await;
    let before = shop.dump().await;
    for (sql, changed) in [
        (
            "with l as (select id from t for update) update t set v = 1 where id in (select id from l where id % 2 = 0)",
            1500,
        ),
        (
            "with l as (select id from t for update) update t set v = 1 where id in (select id from l where id = 77)",
            1,
        ),
        (
            "with l as (select id from t for no key update) delete from t where id in (select id from l where id > 100)",
            2900,
        ),
        ("select tries(1500)", 2500),
        ("update t set v = 1", 3000),
        ("update keyless set v = v + 1 where v > 2", 1143),
    ] {
        let mut pending = shop.execute(sql).await.unwrap();
        // Somebody refers to some of the rows, as a foreign key would.
        let other = super::connect(&shop.url).await;
        if !sql.starts_with("with") {
            other
                .batch_execute("begin; select 1 from t where id between 5 and 50 for key share")
                .await
                .unwrap();
        }
        let (captured, snapshot) = shop.captured(&mut pending).await;
        assert_eq!(captured.affected.iter().map(|a| a.records).sum::<u64>(), changed, "{sql}");
        other.batch_execute("rollback").await.unwrap();
        pending.commit().await.unwrap();
        let options = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
        let (plan, _) = shop.undo(&snapshot, &options).await.unwrap();
        assert_eq!(plan.conflict_count, 0, "{sql}");
        assert_eq!(shop.dump().await, before, "{sql}");
    }
    let several = shop.execute("delete from t; delete from keyless").await.err();
    let Some(Error::Statement { code, message }) = several else { panic!("{several:?}") };
    assert_eq!((code.as_str(), message.contains("as a list")), ("42601", true), "{message}");
}
