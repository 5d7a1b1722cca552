//! What is counted before is what then happens, along every kind of foreign key; what cannot be counted is unknown.

use super::{Shop, affected, expect, statement, with};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Selection, UndoOptions};
use serde_json::json;

const SCHEMA: &str = "
    create table tree (id int primary key, up int references tree on delete cascade, v int);
    create table ring_a (id int primary key, b int); create table ring_b (id int primary key, a int references ring_a on delete cascade);
    create table pairs (x int, y text, v int, primary key (x, y));
    create table on_pairs (id int primary key, x int, y text, foreign key (x, y) references pairs match full on update cascade on delete set null);
    create table on_on (id int primary key, x int, y text, foreign key (x, y) references pairs on update set null on delete cascade);
    create table days (day int primary key, note text) partition by range (day);
    create table days_1 partition of days for values from (0) to (50); create table days_2 partition of days for values from (50) to (100);
    create table events (id int, day int references days on delete cascade, primary key (id, day)) partition by hash (day);
    create table events_0 partition of events for values with (modulus 2, remainder 0); create table events_1 partition of events for values with (modulus 2, remainder 1);
    create table strict (id int primary key, t int references tree on delete restrict);
    insert into tree select i, nullif(i / 2, 0), i from generate_series(1, 200) i;
    begin; insert into ring_a select i, i % 10 + 1 from generate_series(1, 10) i; insert into ring_b select i, i from generate_series(1, 10) i; commit;
    alter table ring_a add foreign key (b) references ring_b on delete cascade;
    insert into pairs select i, 'y' || i, i from generate_series(1, 20) i;
    insert into on_pairs select i, 1 + i % 20, 'y' || 1 + i % 20 from generate_series(1, 60) i; insert into on_pairs values (100, null, null);
    insert into on_on select i, 1 + i % 20, 'y' || 1 + i % 20 from generate_series(1, 40) i;
    insert into days select i from generate_series(0, 99) i; insert into events select i, i % 100 from generate_series(1, 500) i;";

#[tokio::test]
async fn counts_are_what_then_happens() {
    let shop = Shop::new(SCHEMA).await;
    for (sql, params, more) in [
        ("delete from tree where id = $1", json!([2]), 1),
        ("delete from tree", json!([]), 1),
        ("delete from ring_a where id in (1, $1::int)", json!([5]), 2),
        ("delete from pairs where x between 3 and 5", json!([]), 3),
        ("update pairs set y = y || '!' where x < $2 and $1::text is not null", json!(["a", 4]), 3),
        ("update pairs set v = 0 where x < 4", json!([]), 1),
        ("delete from days where day % 10 = 0", json!([]), 2),
        ("update only days_1 set note = 'x'", json!([]), 1),
        ("delete from events using days where days.day = events.day and days.day < 10", json!([]), 1),
        (
            "with few as (select id from tree where v < 5) update tree t set v = 0 from few where few.id = t.up",
            json!([]),
            1,
        ),
        ("insert into pairs select i, 'z', 0 from generate_series(1, $1) i", json!([7]), 1),
        ("insert into pairs values (90, 'a', 1), (91, 'b', default) returning x", json!([]), 1),
        ("update tree set v = 1 where false", json!([]), 0),
    ] {
        let what = with(sql, &params);
        let counted = shop.target.count(&Selection::Statements(vec![what.clone()])).await;
        let counted = counted.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert!(counted.refusals.is_empty() && counted.at_least.is_empty(), "{sql}: {counted:?}");
        let pending = shop.target.execute(&[what]).await.unwrap();
        let (counted, measured) = (&counted.affected, &pending.measured().affected);
        let by_table = |list: &[checkrein_targets::Affected]| {
            let mut sums = std::collections::BTreeMap::<String, u64>::new();
            list.iter().for_each(|a| *sums.entry(a.resource.clone()).or_default() += a.records);
            sums
        };
        assert_eq!(by_table(counted), by_table(measured), "{sql}: {counted:?} {measured:?}");
        assert_eq!(by_table(measured).len(), more, "{sql}: {measured:?}");
        pending.rollback().await;
    }
    shop.sql("insert into strict values (1, 150)").await;
    let counted = shop
        .target
        .count(&Selection::Statements(vec![statement("delete from tree where id = 2")]))
        .await
        .unwrap();
    assert_eq!(counted.refusals.len(), 1, "a record far down the tree is held: {counted:?}");
    assert!(shop.execute("delete from tree where id = 2").await.is_err(), "and the server agrees");
}

#[tokio::test]
async fn what_cannot_be_counted_is_unknown() {
    let shop = Shop::new(&format!(
        "{SCHEMA} create view v as select * from pairs; create function f() returns int language sql volatile as $$ delete from pairs returning x $$;
         create function g() returns trigger language plpgsql as $$ begin return new; end $$; create trigger g before update on pairs for each row execute function g()"
    ))
    .await;
    let before = shop.dump().await;
    for sql in [
        "delete from v",
        "select f()",
        "call p()",
        "with d as (delete from tree returning id) delete from pairs using d where d.id = x",
        "merge into pairs using days on x = day when matched then delete",
    ] {
        let counted = shop.target.count(&Selection::Statements(vec![statement(sql)])).await;
        assert!(matches!(counted, Err(Error::Unmeasurable(_) | Error::Invalid(_))), "{sql}: {counted:?}");
    }
    assert_eq!(shop.dump().await, before);
    let counted =
        shop.target.count(&Selection::Statements(vec![statement("update pairs set v = 0")])).await.unwrap();
    assert_eq!(counted.at_least, ["public.pairs has triggers, which may change more"]);
    let read =
        shop.target.count(&Selection::Statements(vec![statement("select * from days")])).await.unwrap();
    assert_eq!((affected(&read.affected), read.records()), (expect(&[("", "read", 100)]), 0));
}

#[tokio::test]
async fn views_and_procedures_are_measured_by_what_they_change() {
    let shop = Shop::new(&format!(
        "{SCHEMA} create view v as select * from pairs; create view w as select id, v from tree;
         create function instead() returns trigger language plpgsql as $$ begin delete from days where day = old.id; return old; end $$;
         create trigger i instead of delete on w for each row execute function instead();
         create procedure p(n int) language plpgsql as $$ begin update tree set v = n where id < 4; delete from strict; end $$"
    ))
    .await;
    let before = shop.dump().await;
    for (sql, whole) in [
        ("update v set v = 0 where x < 3", vec![("public.pairs", "update", 2)]),
        ("delete from w where id < 3", vec![("public.days", "delete", 2), ("public.events", "cascade", 10)]),
        ("call p(5)", vec![("public.tree", "update", 3)]),
        ("insert into v values (70, 'n', 1) on conflict do nothing", vec![("public.pairs", "insert", 1)]),
    ] {
        let mut pending = shop.execute(sql).await.unwrap();
        assert_eq!(affected(&pending.measured().affected), expect(&whole), "{sql}");
        let (_, snapshot) = shop.captured(&mut pending).await;
        pending.commit().await.unwrap();
        shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
    }
}

/// Foreign keys of tables in the middle and at the end of partitions of partitions.
#[tokio::test]
async fn foreign_keys_at_every_depth_of_partitions() {
    let shop = Shop::new(
        "create table top (code int, region int, sub int, v int, primary key (code, region, sub)) partition by list (region);
         create table mid partition of top for values in (1) partition by list (sub);
         create table leaf partition of mid for values in (1); create table other partition of top for values in (2);
         create table chm (id int primary key, code int, region int, sub int,
           foreign key (code, region, sub) references mid (code, region, sub) on delete cascade);
         create table chl (id int primary key, code int, region int, sub int,
           foreign key (code, region, sub) references leaf (code, region, sub) on delete set null);
         insert into top values (1, 1, 1, 0), (2, 1, 1, 0), (1, 2, 1, 0);
         insert into chm select i, 1, 1, 1 from generate_series(1, 50) i; insert into chl select i, 1, 1, 1 from generate_series(1, 3) i;
         create table p (id int primary key); insert into p values (1);
         create table kids (id int, region int, sub int, primary key (id, region, sub)) partition by list (region);
         create table kids_mid partition of kids for values in (1) partition by list (sub);
         create table kids_leaf partition of kids_mid for values in (1);
         alter table kids_mid add foreign key (id) references p; insert into kids values (1, 1, 1);",
    )
    .await;
    let before = shop.dump().await;
    let refuse = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
    let all =
        expect(&[("public.chl", "unlink", 3), ("public.chm", "cascade", 50), ("public.top", "delete", 1)]);
    for sql in [
        "delete from top where code = 1 and region = 1",
        "delete from mid where code = 1",
        "delete from leaf where code = 1",
    ] {
        let counted = shop.target.count(&Selection::Statements(vec![statement(sql)])).await.unwrap();
        assert_eq!(affected(&counted.affected), all, "{sql}");
        let mut pending = shop.execute(sql).await.unwrap();
        assert_eq!(pending.measured().records(), 54, "{sql}");
        let (_, snapshot) = shop.captured(&mut pending).await;
        pending.commit().await.unwrap();
        shop.undo(&snapshot, &refuse).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
    }
    let elsewhere =
        shop.target.count(&Selection::Statements(vec![statement("delete from other")])).await.unwrap();
    assert_eq!(affected(&elsewhere.affected), expect(&[("public.top", "delete", 1)]));

    // What they refer to is gone by the time of the rollback.
    let snapshot = shop.run("delete from kids").await;
    shop.sql("delete from p").await;
    let refused = shop.undo(&snapshot, &refuse).await;
    assert!(matches!(refused, Err(Error::Irreversible(_))), "{:?}", refused.err());
    assert_eq!(shop.ask("select count(*) from kids").await, "0");
}

#[tokio::test]
async fn a_sample_shows_the_first_and_what_follows_from_them() {
    let shop = Shop::new(SCHEMA).await;
    shop.sql(
        "update tree set v = null where id = 2; create table texts (id int primary key, t text, j jsonb, b bytea, n numeric);
         insert into texts values (1, repeat('é', 9000), '{\"a\": [1, null]}', '\\x00ff', 1.50)",
    )
    .await;
    let before = shop.dump().await;
    let some = async |sql: &str| shop.target.sample(&Selection::Statements(vec![statement(sql)]), 3).await;
    let sampled = some("delete from tree where id = 2").await.unwrap();
    assert_eq!((sampled.len(), sampled[0].resource.as_str()), (1, "public.tree"));
    assert_eq!(sampled[0].columns, ["id", "up", "v"]);
    assert_eq!(sampled[0].rows.len(), 3, "it and two of those below it");
    assert!(sampled[0].rows.contains(&vec![json!("2"), json!("1"), json!(null)]), "{sampled:?}");
    let sampled = some("delete from days where day < 60").await.unwrap();
    let names: Vec<_> = sampled.iter().map(|s| (s.resource.as_str(), s.rows.len())).collect();
    assert_eq!(names, [("public.days", 3), ("public.events", 3)], "partitions are their table");
    let sampled = some("update texts set n = 0").await.unwrap();
    let row = &sampled[0].rows[0];
    assert_eq!(row[1].as_str().map(|t| t.chars().count()), Some(checkrein_targets::SAMPLE_CHARS + 1));
    assert_eq!(
        (&row[2], &row[3], &row[4]),
        (&json!("{\"a\": [1, null]}"), &json!("\\x00ff"), &json!("1.50"))
    );
    let what =
        Selection::Records { resource: "tree".into(), ids: vec![json!(7), json!(7000)], delete: false };
    let sampled = shop.target.sample(&what, 3).await.unwrap();
    assert_eq!(sampled[0].rows, [[json!("7"), json!("3"), json!("7")]]);
    for nothing in ["insert into tree values (900)", "select * from tree", "delete from tree where false"] {
        assert_eq!(some(nothing).await.unwrap(), [], "{nothing}");
    }
    for wrong in ["delete from nothing", "drop table tree", "delete from tree where pg_sleep(20) is null"] {
        assert!(some(wrong).await.is_err(), "{wrong}");
    }
    assert_eq!(shop.dump().await, before);
}
