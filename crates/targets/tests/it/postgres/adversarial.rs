//! What must not go wrong between a change and its rollback, one test each.

use super::{Shop, rows};
use checkrein_core::rollback::{ConflictKind, OnConflict};
use checkrein_targets::{Error, UndoOptions, snapshot::Snapshot};
use serde_json::json;

const SHOP: &str = "
    create table users (id int primary key, email text unique, name text);
    create table orders (id int primary key, user_id int references users, note text);
    insert into users select i, 'u' || i, 'name' from generate_series(1, 5) i;";

fn how(on_conflict: OnConflict) -> UndoOptions {
    UndoOptions { on_conflict, ..UndoOptions::default() }
}

/// Rolls back, which finds this one conflict and changes nothing; the shop and the snapshot.
async fn conflict(shop: &Shop, snapshot: &Snapshot, kind: ConflictKind) -> checkrein_targets::Conflict {
    let before = shop.dump().await;
    let (plan, done) = shop.undo(snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert!(done.is_none());
    assert_eq!(plan.conflict_count, 1, "{plan:?}");
    assert_eq!(plan.conflicts[0].kind, kind);
    assert_eq!(shop.dump().await, before, "refused, so nothing changed");
    plan.conflicts[0].clone()
}

/// Rolls back, which is refused with these words and changes nothing.
async fn irreversible(shop: &Shop, snapshot: &Snapshot, words: &str) {
    let before = shop.dump().await;
    match shop.undo(snapshot, &how(OnConflict::Refuse)).await {
        Err(Error::Irreversible(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(shop.dump().await, before, "refused, so nothing changed");
}

#[tokio::test]
async fn a_row_changed_since_is_not_overwritten() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("update users set name = 'agent' where id < 4").await;
    shop.sql("update users set name = 'person' where id = 2").await;
    let found = conflict(&shop, &snapshot, ConflictKind::Changed).await;
    let name =
        |record: &Option<serde_json::Map<_, serde_json::Value>>| record.as_ref().unwrap()["name"].clone();
    assert_eq!(
        (name(&found.before), name(&found.after), name(&found.now)),
        (json!("name"), json!("agent"), json!("person"))
    );
    let (plan, _) = shop.undo(&snapshot, &how(OnConflict::Skip)).await.unwrap();
    assert_eq!((plan.by_resource[0].update, plan.by_resource[0].conflicts), (2, 1));
    assert_eq!(
        shop.ask("select string_agg(name, ' ' order by id) from users").await,
        "name person name name name"
    );
    let (plan, _) = shop.undo(&snapshot, &how(OnConflict::Force)).await.unwrap();
    let one = &plan.by_resource[0];
    assert_eq!((one.update, one.conflicts, one.keep), (1, 1, 2), "what is forced is told as done");
    assert_eq!(
        shop.ask("select string_agg(name, ' ' order by id) from users").await,
        "name name name name name"
    );
}

#[tokio::test]
async fn a_change_that_changed_nothing_is_no_conflict() {
    let shop = Shop::new(SHOP).await;
    let before = shop.dump().await;
    let snapshot = shop.run("update users set name = 'agent'").await;
    shop.sql("update users set name = name").await;
    shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.dump().await, before);
}

#[tokio::test]
async fn a_row_that_the_agent_changed_and_somebody_removed() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("update users set name = 'agent' where id = 1").await;
    shop.sql("delete from users where id = 1").await;
    conflict(&shop, &snapshot, ConflictKind::Removed).await;
}

#[tokio::test]
async fn a_key_that_was_inserted_again() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("delete from users where id = 3").await;
    shop.sql("insert into users values (3, 'other', 'person')").await;
    conflict(&shop, &snapshot, ConflictKind::Replaced).await;
    let (plan, _) = shop.undo(&snapshot, &how(OnConflict::Force)).await.unwrap();
    assert_eq!((plan.by_resource[0].update, plan.by_resource[0].conflicts), (1, 1));
    assert_eq!(shop.ask("select email from users where id = 3").await, "u3");
}

#[tokio::test]
async fn a_unique_value_that_is_taken() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("delete from users where id = 3").await;
    shop.sql("insert into users values (30, 'u3', 'person')").await;
    irreversible(&shop, &snapshot, "users_email_key").await;
}

#[tokio::test]
async fn a_new_child_of_a_row_that_the_agent_made() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("insert into users values (9, 'u9', 'agent')").await;
    shop.sql("insert into orders values (1, 9, 'of a person')").await;
    irreversible(&shop, &snapshot, "1 records of public.orders refer").await;
}

#[tokio::test]
async fn a_parent_that_is_gone() {
    let shop = Shop::new(&format!("{SHOP} insert into orders values (1, 5, 'x')")).await;
    let snapshot = shop.run("delete from orders").await;
    shop.sql("delete from users where id = 5").await;
    irreversible(&shop, &snapshot, "that are not there any more").await;
}

#[tokio::test]
async fn a_parent_that_goes_while_its_child_comes_back() {
    let shop = Shop::new(&format!("{SHOP} insert into orders values (1, 5, 'x')")).await;
    let snapshot = shop.run("delete from orders").await;
    let (path, mut out) = shop.writer();
    let checkrein_targets::Undo::Ready(_, pending) =
        shop.target.rollback(&snapshot, &how(OnConflict::Refuse), &mut out).await.unwrap()
    else {
        panic!("there is something to do")
    };
    let refused = shop.client.batch_execute("set lock_timeout = 200; delete from users where id = 5").await;
    assert!(refused.is_err(), "the parent is held until the end");
    out.finish(&path).await.unwrap();
    pending.commit().await.unwrap();
    assert!(
        shop.client.batch_execute("delete from users where id = 5").await.is_err(),
        "and referred to then"
    );
}

#[tokio::test]
async fn a_column_that_was_added() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop
        .run("with d as (delete from users where id = 1) update users set name = 'agent' where id > 1")
        .await;
    shop.sql("alter table users add extra text default 'none', add twice int generated always as (id * 2) stored; update users set extra = 'kept'").await;
    let (plan, undo) = shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("extra was added since")), "{plan:?}");
    let now = "select string_agg(concat_ws(':', id, name, extra, twice), ' ' order by id) from users";
    assert_eq!(shop.ask(now).await, "1:name:none:2 2:name:kept:4 3:name:kept:6 4:name:kept:8 5:name:kept:10");
    shop.undo(&undo.unwrap(), &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.ask(now).await, "2:agent:kept:4 3:agent:kept:6 4:agent:kept:8 5:agent:kept:10");
}

#[tokio::test]
async fn a_column_that_was_dropped() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("delete from users where id = 1").await;
    shop.sql("alter table users drop column name").await;
    irreversible(&shop, &snapshot, "the column name was dropped").await;
    shop.sql("alter table users add name text").await;
    irreversible(&shop, &snapshot, "the column name was dropped").await;
}

#[tokio::test]
async fn a_column_and_a_table_that_were_renamed() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("delete from users where id = 1").await;
    shop.sql("alter table users rename column name to full_name; alter table users rename to people").await;
    let (plan, _) = shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(plan.notes.len(), 2, "{plan:?}");
    assert_eq!(shop.ask("select full_name from people where id = 1").await, "name");
}

#[tokio::test]
async fn a_column_of_another_type() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("delete from users where id = 1").await;
    shop.sql("alter table users alter column name type varchar(4)").await;
    irreversible(&shop, &snapshot, "was of type text and is of type character varying(4)").await;
}

#[tokio::test]
async fn a_table_that_was_made_anew() {
    let shop = Shop::new(SHOP).await;
    let snapshot = shop.run("delete from orders; ".trim_end_matches("; ")).await;
    let snapshot_of_users = shop.run("update users set name = 'agent'").await;
    shop.sql("drop table orders; alter table users rename to old; create table users (like old including all); insert into users select * from old; drop table old").await;
    irreversible(&shop, &snapshot_of_users, "was dropped or made anew").await;
    let (plan, _) = shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert!(plan.by_resource.is_empty(), "nothing was in it");
}

#[tokio::test]
async fn another_database_with_the_same_tables() {
    let (shop, other) = (Shop::new(SHOP).await, Shop::new(SHOP).await);
    let snapshot = shop.run("delete from users where id = 1").await;
    irreversible(&other, &snapshot, "in another database").await;
}

#[tokio::test]
async fn a_rollback_twice_also_without_a_key() {
    let shop = Shop::new(
        "create table t (a int, b text); insert into t select i % 3, 'x' from generate_series(1, 9) i",
    )
    .await;
    let before = shop.dump().await;
    for sql in [
        "delete from t where a = 1",
        "delete from t where ctid = (select min(ctid) from t)",
        "update t set b = 'y' where a = 2",
        "insert into t values (0, 'x'), (7, 'z')",
    ] {
        let snapshot = shop.run(sql).await;
        shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
        let (plan, again) = shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
        assert!(again.is_none(), "{sql}: {plan:?}");
        assert_eq!(shop.dump().await, before, "{sql}, twice");
    }
}

#[tokio::test]
async fn without_a_key_somebody_elses_later_change_is_a_conflict() {
    let shop =
        Shop::new("create table t (a int, b text); insert into t select i, 'x' from generate_series(1, 4) i")
            .await;
    let snapshot = shop.run("update t set b = 'agent'").await;
    shop.sql("update t set b = 'person' where a = 2").await;
    conflict(&shop, &snapshot, ConflictKind::Removed).await;
    let changed = shop.dump().await;
    let (plan, _) = shop.undo(&snapshot, &how(OnConflict::Skip)).await.unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("no key")), "{plan:?}");
    assert_eq!(shop.dump().await, changed, "which of the others belongs to it is not known");
}

#[tokio::test]
async fn overlapping_snapshots_out_of_order() {
    let shop = Shop::new(SHOP).await;
    let before = shop.dump().await;
    let first = shop.run("update users set name = 'first' where id <= 3").await;
    let second = shop.run("update users set name = 'second' where id >= 3").await;
    conflict(&shop, &first, ConflictKind::Changed).await;
    shop.undo(&second, &how(OnConflict::Refuse)).await.unwrap();
    shop.undo(&first, &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(shop.dump().await, before);
}

#[tokio::test]
async fn values_and_keys_that_changed_places() {
    let shop = Shop::new(
        "create table s (id int primary key deferrable initially deferred, v int); insert into s select i, i from generate_series(1, 9) i;
         create table t (id int primary key, u int unique deferrable, up int references t on update cascade deferrable initially deferred);
         create table a (id int primary key, b int); create table b (id int primary key, a int references a deferrable initially deferred);
         alter table a add foreign key (b) references b deferrable initially deferred;
         insert into t select i, -i, nullif(i - 1, 0) from generate_series(1, 10) i;
         begin; insert into a values (1, 2); insert into b values (2, 1); commit;",
    )
    .await;
    let before = shop.dump().await;
    for sql in [
        "update t set u = -11 - u",
        "update s set id = 10 - id",
        "update t set id = id + 100",
        "update t set up = 1 where id > 1",
        "delete from t",
        "with x as (delete from a) delete from b",
        "with x as (update a set b = 3) update b set id = 3",
    ] {
        let snapshot = shop.run(sql).await;
        assert_ne!(shop.dump().await, before, "{sql}");
        shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
    }
}

#[tokio::test]
async fn rows_of_partitions_identity_and_generated_columns() {
    let shop = Shop::new(
        "create table e (id int generated always as identity, part int, twice int generated always as (part * 2) stored, primary key (id, part)) partition by list (part);
         create table e1 partition of e for values in (1); create table e2 partition of e for values in (2); create table rest partition of e default;
         create table parent (a int); create table child (b int) inherits (parent);
         insert into e (part) select 1 + i % 3 from generate_series(1, 30) i; insert into parent values (1); insert into child values (1, 2);",
    )
    .await;
    let before = shop.dump().await;
    for sql in [
        "update e set part = 3 - part where part < 3",
        "delete from e where id % 2 = 0",
        "insert into e (part) values (1), (9)",
        "update parent set a = 5",
        "delete from parent",
    ] {
        let mut pending = shop.execute(sql).await.unwrap();
        let resources: Vec<_> = pending.measured().affected.iter().map(|a| a.resource.clone()).collect();
        assert!(
            resources.iter().all(|r| ["public.e", "public.parent", "public.child"].contains(&r.as_str())),
            "{resources:?}"
        );
        let (_, snapshot) = shop.captured(&mut pending).await;
        pending.commit().await.unwrap();
        shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
    }
}

#[tokio::test]
async fn a_damaged_snapshot_changes_nothing() {
    let shop = Shop::new(SHOP).await;
    shop.run("update users set name = 'agent'").await;
    let path = shop.folder.path().join("0.snapshot");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(Snapshot::open(&[path], None).await, Err(Error::Snapshot(_))));
}

#[tokio::test]
async fn triggers_that_always_fire_are_found_out() {
    let shop = Shop::new(&format!(
        "{SHOP} create table log (n int); create function log() returns trigger language plpgsql as $$ begin insert into public.log values (1); return null; end $$;"
    ))
    .await;
    let snapshot = shop.run("update users set name = 'agent'").await;
    shop.sql("create trigger t after insert or update on users for each row execute function log(); alter table users enable always trigger t").await;
    irreversible(&shop, &snapshot, "also changed public.log").await;
    shop.sql("alter table users disable trigger t; alter table users enable trigger t").await;
    shop.undo(&snapshot, &how(OnConflict::Refuse)).await.unwrap();
    assert_eq!(
        rows(&shop.client, "select * from log").await.len(),
        0,
        "an ordinary trigger is kept from firing"
    );
}
