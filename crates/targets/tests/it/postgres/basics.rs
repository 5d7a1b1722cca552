//! The way of an ordinary change: counted, run, measured, captured, committed, rolled back, resolved.

use super::{Shop, affected, expect, statement, with};
use checkrein_targets::{Error, Selection, Settled, Undo, UndoOptions};
use serde_json::{Value, json};

const SHOP: &str = "
    create table teams (id int primary key, name text not null);
    create table users (id int generated always as identity primary key, team int references teams on delete cascade,
        email text unique, note text);
    create table orders (id serial primary key, user_id int references users on delete cascade, cents bigint);
    create table logins (user_id int references users on delete set null, at timestamptz);
    create table invoices (id int primary key, user_id int references users);
    insert into teams select i, 'team ' || i from generate_series(1, 4) i;
    insert into users (team, email) select 1 + i % 4, 'u' || i || '@x' from generate_series(1, 40) i;
    insert into orders (user_id, cents) select 1 + i % 40, i from generate_series(1, 200) i;
    insert into logins select 1 + i % 40, now() from generate_series(1, 80) i;";

#[tokio::test]
async fn a_cascade_is_counted_measured_and_put_back() {
    let shop = Shop::new(SHOP).await;
    let before = shop.dump().await;
    let sql = "delete from teams where id = 1";
    let whole = expect(&[
        ("public.logins", "unlink", 20),
        ("public.orders", "cascade", 50),
        ("public.teams", "delete", 1),
        ("public.users", "cascade", 10),
    ]);
    let counted = shop.target.count(&Selection::Statements(vec![statement(sql)])).await.unwrap();
    assert_eq!(affected(&counted.affected), whole);
    assert_eq!(counted.affected[0].resource, "public.teams", "the named one comes first");
    assert!(counted.refusals.is_empty() && counted.at_least.is_empty());

    let mut pending = shop.execute(sql).await.unwrap();
    assert_eq!(affected(&pending.measured().affected), whole);
    assert!(pending.measured().exact);
    let (captured, snapshot) = shop.captured(&mut pending).await;
    assert_eq!(affected(&captured.affected), whole);
    let token = pending.token().to_owned();
    assert_eq!(shop.target.resolve(&token, &snapshot).await.unwrap(), Settled::Running);
    assert_eq!(shop.dump().await, before, "nothing is to be seen before the commit");
    pending.commit().await.unwrap();
    assert_eq!(shop.target.resolve(&token, &snapshot).await.unwrap(), Settled::Committed);
    let changed = shop.dump().await;
    assert_ne!(changed, before);

    let plan = shop.target.plan(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(plan.conflict_count, 0);
    assert_eq!(shop.dump().await, changed, "a plan changes nothing");
    let (done, undo) = shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(done, plan);
    assert_eq!(shop.dump().await, before);

    // The rollback can be rolled back, and that again.
    let (_, redo) = shop.undo(&undo.unwrap(), &UndoOptions::default()).await.unwrap();
    assert_eq!(shop.dump().await, changed);
    shop.undo(&redo.unwrap(), &UndoOptions::default()).await.unwrap();
    assert_eq!(shop.dump().await, before);
    let (plan, nothing) = shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
    assert!(nothing.is_none() && plan.conflict_count == 0, "twice is once");
}

#[tokio::test]
async fn what_is_rolled_back_before_its_commit_never_was() {
    let shop = Shop::new(SHOP).await;
    let before = shop.dump().await;
    let mut pending = shop.execute("update users set note = 'x'").await.unwrap();
    let (first, snapshot) = shop.captured(&mut pending).await;
    let token = pending.token().to_owned();
    pending.rollback().await;
    assert_eq!(shop.dump().await, before);
    assert_eq!(shop.target.resolve(&token, &snapshot).await.unwrap(), Settled::NotCommitted);

    let mut pending = shop.execute("update users set note = 'x'").await.unwrap();
    let (second, _) = shop.captured(&mut pending).await;
    assert_eq!(first.digest, second.digest, "the same statement on the same records");
    drop(pending);
    shop.sql("update users set note = 'y' where id = 7").await;
    let mut pending = shop.execute("update users set note = 'x'").await.unwrap();
    let (third, _) = shop.captured(&mut pending).await;
    assert_ne!(first.digest, third.digest, "a record has changed");
}

#[tokio::test]
async fn an_insert_is_undone_and_numbers_are_not_part_of_its_digest() {
    let shop = Shop::new(SHOP).await;
    let before = shop.dump().await;
    let sql = "insert into users (team, email) values (2, 'new@x') returning id, email";
    let mut pending = shop.execute(sql).await.unwrap();
    let (first, _) = shop.captured(&mut pending).await;
    pending.rollback().await;
    let mut pending = shop.execute(sql).await.unwrap();
    let result = &pending.results()[0];
    assert_eq!(result.columns, ["id", "email"]);
    assert_eq!(result.rows, [vec![json!(42), json!("new@x")]]);
    assert_eq!(result.affected, 1);
    let (second, snapshot) = shop.captured(&mut pending).await;
    assert_eq!(first.digest, second.digest, "the database numbered it anew");
    pending.commit().await.unwrap();
    let Undo::Ready(plan, pending) =
        shop.target.rollback(&snapshot, &UndoOptions::default(), &mut shop.writer().1).await.unwrap()
    else {
        panic!("something is to be done")
    };
    assert_eq!((plan.by_resource[0].delete, plan.by_resource[0].insert), (1, 0));
    assert_eq!(affected(&pending.measured().affected), expect(&[("public.users", "delete", 1)]));
    pending.commit().await.unwrap();
    assert_eq!(shop.dump().await, before);
}

#[tokio::test]
async fn parameters_are_bound_by_the_servers_types_and_results_lose_nothing() {
    let shop = Shop::new("create type mood as enum ('fine', 'bad');
        create table t (i int, b bigint, n numeric, f float8, x text, j jsonb, a int[], m mood, d date, y bytea, o boolean)").await;
    let insert = with(
        "insert into t values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) returning *",
        &json!([1, 9_007_199_254_740_993_i64, "1.10", 0.1, "it's \\ \"é\"", {"k": [1, null]}, [1, null, 3], "bad", "2024-02-29", "\\xdeadbeef", true]),
    );
    let pending = shop.target.execute(&[insert]).await.unwrap();
    let row = &pending.results()[0].rows[0];
    assert_eq!(
        *row,
        [
            json!(1),
            json!("9007199254740993"),
            json!("1.10"),
            json!(0.1),
            json!("it's \\ \"é\""),
            json!({"k": [1, null]}),
            json!("{1,NULL,3}"),
            json!("bad"),
            json!("2024-02-29"),
            json!("\\xdeadbeef"),
            json!(true),
        ]
    );
    pending.commit().await.unwrap();
    let read =
        with("select count(*) as n from t where i = any($1) and x = $2", &json!([[1, 2], "it's \\ \"é\""]));
    let result = shop.target.read(&read).await.unwrap();
    assert_eq!((result.columns, result.rows), (vec!["n".to_owned()], vec![vec![json!(1)]]));
    for (sql, params) in [
        ("select $1::int", json!(["x"])),
        ("select $1::int", json!([])),
        ("select $1::int", json!([[1]])),
        ("select $1::text", json!(["\0"])),
        ("select 1; select 2", json!([])),
        ("select * from nowhere", json!([])),
        ("", json!([])),
    ] {
        let error = shop.target.read(&with(sql, &params)).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{sql} {params}: {error:?}");
    }
    let written = shop.target.read(&statement("delete from t")).await.unwrap_err();
    assert!(matches!(written, Error::Unmeasurable(_)), "{written:?}");
    assert_eq!(shop.ask("select count(*) from t").await, "1");
}

#[tokio::test]
async fn records_are_counted_by_key_and_by_value() {
    let shop = Shop::new(SHOP).await;
    let count = async |resource: &str, ids: Option<Value>, filter: Value, delete: bool| {
        let resource = resource.to_owned();
        let what = match ids {
            Some(ids) => Selection::Records { resource, ids: ids.as_array().unwrap().clone(), delete },
            None => Selection::Where { resource, filter: filter.as_object().unwrap().clone(), delete },
        };
        shop.target.count(&what).await.map(|counted| affected(&counted.affected))
    };
    let none = json!({});
    let users =
        count("users", Some(json!([1, 2, 2, {"id": 3}, [4], 999])), none.clone(), false).await.unwrap();
    assert_eq!(users, expect(&[("public.users", "update", 4)]));
    let teams = count("public.teams", Some(json!([1])), none.clone(), true).await.unwrap();
    assert_eq!(teams.len(), 4);
    let some = count("public.users", None, json!({"team": [1, 2], "note": null}), false).await.unwrap();
    assert_eq!(some, expect(&[("public.users", "update", 20)]));
    assert_eq!(
        count("users", None, none.clone(), false).await.unwrap(),
        expect(&[("public.users", "update", 40)])
    );
    for (resource, ids, filter) in [
        ("nowhere", Some(json!([1])), json!({})),
        ("users", Some(json!([[1, 2]])), json!({})),
        ("users", Some(json!([null])), json!({})),
        ("users", None, json!({"colour": 1})),
        ("logins", Some(json!([1])), json!({})),
        ("users", Some(json!(["x"])), json!({})),
    ] {
        let error = count(resource, ids.clone(), filter.clone(), false).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{resource} {ids:?} {filter}: {error:?}");
    }
    shop.sql("insert into invoices select i, i from generate_series(1, 3) i").await;
    let what = Selection::Records { resource: "users".into(), ids: vec![json!(1), json!(9)], delete: true };
    let counted = shop.target.count(&what).await.unwrap();
    assert_eq!(counted.refusals.len(), 1, "{counted:?}");
    assert!(
        counted.refusals[0].starts_with("1 records of public.invoices refer to public.users"),
        "{counted:?}"
    );
}

#[tokio::test]
async fn a_snapshot_of_records_is_taken_sealed_and_rolled_back() {
    let shop = Shop::new(SHOP).await;
    let before = shop.dump().await;
    let what = Selection::Records { resource: "users".into(), ids: vec![json!(1), json!(2)], delete: false };
    let (path, mut out) = shop.writer();
    let captured = shop.target.capture(&what, &mut out).await.unwrap();
    assert_eq!(affected(&captured.affected), expect(&[("public.users", "update", 2)]));
    out.finish(&path).await.unwrap();
    shop.sql("update users set note = 'agent' where id in (1, 2)").await;
    let snapshot =
        checkrein_targets::snapshot::Snapshot::open(std::slice::from_ref(&path), None).await.unwrap();
    let plan = shop.target.plan(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(plan.conflict_count, 2, "not sealed: whose change it is cannot be told");

    let (sealed, mut out) = shop.writer();
    shop.target.seal(&snapshot, &mut out).await.unwrap();
    out.finish(&sealed).await.unwrap();
    let snapshot = checkrein_targets::snapshot::Snapshot::open(&[path, sealed], None).await.unwrap();
    shop.sql("update users set note = 'somebody' where id = 2").await;
    let plan = shop.target.plan(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!((plan.conflict_count, plan.by_resource[0].update), (1, 1));
    let now = plan.conflicts[0].now.as_ref().unwrap();
    assert_eq!(now["note"], json!("somebody"));
    assert_eq!(plan.conflicts[0].key, json!({"id": "2"}).as_object().unwrap().clone());
    shop.sql("update users set note = 'agent' where id = 2").await;
    shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(shop.dump().await, before);
}
