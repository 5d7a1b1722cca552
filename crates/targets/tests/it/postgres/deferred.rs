//! What the database leaves for the end of the transaction: measured and verified before that.

use super::{Shop, affected, expect};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, UndoOptions};

/// A value that was taken since, under a constraint that waits; in each way that one can be written.
#[tokio::test]
async fn a_rollback_keeps_constraints_that_may_wait() {
    for (table, rows, change, taken) in [
        (
            "u (id int primary key, s int unique deferrable initially deferred)",
            "select i, i from generate_series(1, 5) i",
            "update u set s = s + 100 where id <= 2",
            "insert into u values (50, 1)",
        ),
        (
            "u (id int primary key, s int unique deferrable initially immediate)",
            "select i, i from generate_series(1, 5) i",
            "delete from u where id = 1",
            "insert into u values (50, 1)",
        ),
        (
            "u (id int primary key, s text collate \"C\", v varchar(9), unique (s, v) deferrable)",
            "select i, i, i from generate_series(1, 5) i",
            "update u set v = 'new' where id = 1",
            "insert into u values (50, '1', '1')",
        ),
        (
            "u (id int primary key, s int, unique nulls not distinct (s) deferrable)",
            "values (1, null), (2, 2)",
            "delete from u where id = 1",
            "insert into u values (50, null)",
        ),
        (
            "u (id int primary key, r int4range, exclude using gist (r with &&) deferrable)",
            "values (1, int4range(1, 5)), (2, int4range(10, 15))",
            "update u set r = int4range(20, 25) where id = 1",
            "insert into u values (50, int4range(3, 4))",
        ),
        (
            "u (id int primary key, a int, b int, live bool default true, exclude using gist (int4range(a, b) with &&) where (live) deferrable initially deferred)",
            "values (1, 1, 5), (2, 10, 15)",
            "delete from u where id = 1",
            "insert into u values (50, 3, 4)",
        ),
    ] {
        let shop = Shop::new(&format!("create table {table}; insert into u {rows}")).await;
        let whole = shop.dump().await;
        let snapshot = shop.run(change).await;
        shop.sql(taken).await;
        let before = shop.dump().await;
        for on_conflict in [OnConflict::Refuse, OnConflict::Skip, OnConflict::Force] {
            let how = UndoOptions { on_conflict, ..UndoOptions::default() };
            match shop.undo(&snapshot, &how).await {
                Err(Error::Irreversible(why)) => assert!(why.contains("u_"), "{table}: {why}"),
                other => panic!("{table}: {other:?}"),
            }
            assert_eq!(shop.dump().await, before, "{table}: refused, so nothing changed");
        }
        shop.sql(&format!("delete from u where id = {}", taken.split(['(', ',']).nth(1).unwrap())).await;
        shop.undo(&snapshot, &UndoOptions::default()).await.unwrap_or_else(|e| panic!("{table}: {e}"));
        assert_eq!(shop.dump().await, whole, "{table}");
    }
}

const CHAIN: &str = "
    create table a (id int primary key); create table b (id int primary key); create table x (id int primary key);
    insert into x select generate_series(1, 500);
    create function fa() returns trigger language plpgsql as $$ begin
        set constraints all deferred; insert into b select generate_series(1, 10); return null; end $$;
    create function fb() returns trigger language plpgsql as $$ begin
        if new.id = 1 then delete from x; end if; return null; end $$;
    create constraint trigger ta after insert on a deferrable initially deferred for each row execute function fa();
    create constraint trigger tb after insert on b deferrable initially deferred for each row execute function fb();";

#[tokio::test]
async fn triggers_that_defer_others_are_measured_and_undone() {
    let shop = Shop::new(CHAIN).await;
    let before = shop.dump().await;
    let mut pending = shop.execute("insert into a values (1)").await.unwrap();
    assert_eq!(
        affected(&pending.measured().affected),
        expect(&[("public.a", "insert", 1), ("public.b", "insert", 10), ("public.x", "delete", 500)])
    );
    let (_, snapshot) = shop.captured(&mut pending).await;
    pending.commit().await.unwrap();
    assert_eq!(shop.ask("select count(*) from x").await, "0");
    shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(shop.dump().await, before);
}

#[tokio::test]
async fn triggers_that_defer_each_other_without_end_are_refused() {
    let shop = Shop::new(&format!(
        "{CHAIN} create or replace function fb() returns trigger language plpgsql as $$ begin
            set constraints all deferred; insert into b values (new.id + 100); return null; end $$;"
    ))
    .await;
    let before = shop.dump().await;
    match shop.execute("insert into b values (1)").await.err() {
        Some(Error::Unmeasurable(why)) => assert!(why.contains("again and again"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(shop.dump().await, before);
}

#[tokio::test]
async fn a_deferred_trigger_that_always_fires_is_found_out_in_a_rollback() {
    let shop = Shop::new(
        "create table t (id int primary key, v int); insert into t values (1, 1); create table log (n int);
         create function log() returns trigger language plpgsql as $$ begin insert into public.log values (1); return null; end $$;",
    )
    .await;
    let snapshot = shop.run("update t set v = 2").await;
    shop.sql(
        "create constraint trigger g after insert or update on t deferrable initially deferred for each row execute function log();
         alter table t enable always trigger g",
    )
    .await;
    match shop.undo(&snapshot, &UndoOptions::default()).await {
        Err(Error::Irreversible(why)) => assert!(why.contains("also changed public.log"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(shop.ask("select count(*) from log").await, "0");
}
