//! Tables that inherit from another: what a statement on that reaches is counted, captured and put back.

use super::{Shop, affected, expect, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Selection, UndoOptions, snapshot::Snapshot};
use serde_json::{Map, Value, json};

const SCHEMA: &str = "
    create table inh (id int primary key, v int); create table inh_c (more text, primary key (id)) inherits (inh);
    create table inh_cc (primary key (id)) inherits (inh_c); create table held (n serial primary key, id int references inh_cc on delete cascade);
    insert into inh select i, i from generate_series(1, 20) i; insert into inh_c select i, i, 'c' from generate_series(1, 20) i;
    insert into inh_cc select i, i, 'cc' from generate_series(1, 3) i; insert into held (id) values (1), (1), (2);";

#[tokio::test]
async fn children_are_counted_as_the_statement_reaches_them() {
    let shop = Shop::new(SCHEMA).await;
    let all = |delete| Selection::Where { resource: "inh".into(), filter: Map::new(), delete };
    let ids = |delete| Selection::Records {
        resource: "public.inh".into(),
        ids: (1..=20).map(Value::from).collect(),
        delete,
    };
    let updated = expect(&[
        ("public.inh", "update", 20),
        ("public.inh_c", "update", 20),
        ("public.inh_cc", "update", 3),
    ]);
    let removed = expect(&[
        ("public.held", "cascade", 3),
        ("public.inh", "delete", 20),
        ("public.inh_c", "delete", 20),
        ("public.inh_cc", "delete", 3),
    ]);
    let statements = |sql: &str| Selection::Statements(vec![statement(sql)]);
    for (what, expected) in [
        (all(false), &updated),
        (ids(false), &updated),
        (statements("update inh set v = -1"), &updated),
        (all(true), &removed),
        (ids(true), &removed),
        (statements("delete from inh"), &removed),
    ] {
        let counted = shop.target.count(&what).await.unwrap();
        assert_eq!(affected(&counted.affected), *expected, "{what:?}");
        assert!(counted.at_least.is_empty(), "{counted:?}");
    }
    let filter = json!({"v": [1, 2, 30]}).as_object().cloned().unwrap();
    let few = Selection::Where { resource: "inh".into(), filter, delete: true };
    assert_eq!(shop.target.count(&few).await.unwrap().records(), 6 + 3);
    let only = shop.target.count(&statements("delete from only inh")).await.unwrap();
    assert_eq!(affected(&only.affected), expect(&[("public.inh", "delete", 20)]));

    // What a child has that may do more counts too, and one that is elsewhere is unknown.
    shop.sql(
        "create function g() returns trigger language plpgsql as $$ begin return new; end $$;
         create trigger g before update on inh_cc for each row execute function g()",
    )
    .await;
    let counted = shop.target.count(&all(false)).await.unwrap();
    assert_eq!(counted.at_least, ["public.inh_cc has triggers, which may change more"]);
    shop.sql(
        "create foreign data wrapper none; create server s foreign data wrapper none;
         create foreign table far () inherits (inh) server s",
    )
    .await;
    let unknown = shop.target.count(&all(false)).await;
    assert!(matches!(&unknown, Err(Error::Unmeasurable(why)) if why.contains("public.far")), "{unknown:?}");
}

#[tokio::test]
async fn a_snapshot_before_the_action_holds_the_children_too() {
    let shop = Shop::new(SCHEMA).await;
    let before = shop.dump().await;
    for (delete, sql) in [(false, "update inh set v = -1"), (true, "delete from inh")] {
        let what = Selection::Where { resource: "inh".into(), filter: Map::new(), delete };
        let (path, mut out) = shop.writer();
        let captured = shop.target.capture(&what, &mut out).await.unwrap();
        let counted = shop.target.count(&what).await.unwrap();
        assert_eq!(affected(&captured.affected), affected(&counted.affected), "{sql}");
        out.finish(&path).await.unwrap();
        shop.sql(sql).await;
        assert_ne!(shop.dump().await, before);
        let snapshot = Snapshot::open(std::slice::from_ref(&path), None).await.unwrap();
        let (sealed, mut out) = shop.writer();
        shop.target.seal(&snapshot, &mut out).await.unwrap();
        out.finish(&sealed).await.unwrap();
        let snapshot = Snapshot::open(&[path, sealed], None).await.unwrap();
        let how = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
        shop.undo(&snapshot, &how).await.unwrap();
        assert_eq!(shop.dump().await, before, "{sql}");
    }
}
