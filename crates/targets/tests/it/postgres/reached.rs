//! Texts that reach something in a way that is easily missed: long words, tables without SELECT, domains, files.

use super::{Shop, affected, expect, statement};
use checkrein_targets::{Counted, Error, Selection};

async fn counted(shop: &Shop, sql: &str) -> Result<Counted, Error> {
    shop.target.count(&Selection::Statements(vec![statement(sql)])).await
}

#[tokio::test]
async fn long_words_of_any_script_are_no_hindrance() {
    let shop = Shop::new(
        "create table notes (id serial primary key, t text); insert into notes (t) values ('a'), ('b');",
    )
    .await;
    let long = "\u{3053}\u{308c}\u{306f}\u{4e09}\u{5341}\u{6587}\u{5b57}".repeat(9);
    let ascii = "a".repeat(200);
    let mixed = format!("x{}\u{1f600}", "\u{e9}".repeat(70));
    for text in [&long, &ascii, &mixed] {
        let insert = format!("insert into notes (t) values ('{text}')");
        let update = format!("update notes set t = '{text}' where t = 'a'");
        let delete = format!("delete from notes where t <> '{text}' and id = 2");
        for (sql, counts) in [(insert, 0), (update, 1), (delete, 1)] {
            let found = counted(&shop, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            assert!(found.records() >= counts, "{sql}: {found:?}");
            let pending = shop.execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(pending.measured().records(), 1, "{sql}");
            pending.rollback().await;
        }
        let read = shop.target.read(&statement(&format!("select 1 as n, '{text}'"))).await.unwrap();
        assert_eq!(read.rows.len(), 1);
    }
    // A name that the server cuts is still followed.
    shop.sql(&format!(
        "create function {long}() returns int language plpgsql as $$ begin execute 'select 1'; return 1; end $$"
    ))
    .await;
    let error = shop.execute(&format!("update notes set id = {long}()")).await.err();
    assert!(matches!(&error, Some(Error::Unmeasurable(why)) if why.contains("put together")), "{error:?}");
}

#[tokio::test]
async fn what_table_reads_is_counted_like_what_select_reads() {
    let shop = Shop::new(
        "create table t (id int primary key, v int); insert into t select i, i from generate_series(1, 100) i;
         create table c (w int) inherits (t); insert into c select 200 + i, 0, 0 from generate_series(1, 5) i",
    )
    .await;
    for (sql, rows) in [
        ("table t", 105),
        ("(TABLE t);", 105),
        ("TABLE ONLY t", 100),
        ("table t limit 7", 7),
        ("with x as (table t) select * from x", 105),
        ("select * from (table t) x", 105),
        ("select 0, 0 union all table t", 106),
        ("select * from only t u where u.id > 90 -- ten", 10),
        ("select * from t * where id > 90", 15),
        ("select * from only (t)", 100),
    ] {
        let found = counted(&shop, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(affected(&found.affected), expect(&[("", "read", rows)]), "{sql}");
        let read = shop.target.read(&statement(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(read.rows.len() as u64, rows, "{sql}");
    }
    for sql in [
        "select table_to_xml('t', true, false, '')",
        "select query_to_xml('table t', true, false, '')",
        "select schema_to_xml('public', true, false, '')",
        "select pg_catalog.database_to_xml(true, false, '')",
        "delete from t where length(table_to_xml('t', true, false, '')::text) = 0",
    ] {
        let unknown = counted(&shop, sql).await;
        assert!(matches!(unknown, Err(Error::Unmeasurable(_))), "{sql}: {unknown:?}");
        let ran = shop.execute(sql).await.err();
        assert!(matches!(&ran, Some(Error::Unmeasurable(_))), "{sql}: {ran:?}");
        assert!(matches!(shop.target.read(&statement(sql)).await, Err(Error::Unmeasurable(_))), "{sql}");
    }
}

/// The server of the tests may write files there: whether one was written is seen.
#[tokio::test]
async fn domains_and_copies_that_act_outside_are_not_reached() {
    let folder = tempfile::tempdir().unwrap();
    let mut permissions = std::fs::metadata(folder.path()).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o777);
    std::fs::set_permissions(folder.path(), permissions).unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let written = || std::fs::read_dir(folder.path()).unwrap().count();
    let shop = Shop::new(&format!(
        "create table t (a int); insert into t values (1), (2);
         create function builds(n int) returns boolean language plpgsql as $$ begin execute 'copy (select 1) to ''{}'' '; return true; end $$;
         create domain edom as int check (builds(value)); create domain above as edom;
         create domain \"Odd one\" as int check (builds(value)); create type comp as (a int, b edom);
         create function copies() returns int language plpgsql security definer as $$ begin copy (select 1) to '{}'; return 1; end $$;
         create function copies_in_sql() returns int language sql as $$ copy t to '{}'; select 1 $$;
         create function loads() returns int language plpgsql as $$ begin copy t from '{}'; return 1; end $$;
         create function talks() returns int language plpgsql as $$ begin -- copy nothing
           /* copy t to '/nowhere' */ return 1; end $$;
         create domain fine as int check (value > 0); create table other (a fine, check (builds(1)));
         create policy p on other using (builds(1)); create table with_one (a fine);",
        file("a"),
        file("b"),
        file("c"),
        file("d"),
    ))
    .await;
    for sql in [
        "select 5::edom",
        "select cast(5 as EDOM)",
        "select 5::above",
        "select 5::public.\"Odd one\"",
        "select row(1, 2)::comp",
        "select '{1}'::edom[]",
        "update t set a = 1 where a = 9::edom",
        "select copies()",
        "delete from t where copies() = 1",
        "select copies_in_sql()",
        "update t set a = loads()",
    ] {
        let unknown = counted(&shop, sql).await;
        assert!(matches!(unknown, Err(Error::Unmeasurable(_))), "{sql}: {unknown:?}");
        let ran = shop.execute(sql).await.err();
        assert!(matches!(&ran, Some(Error::Unmeasurable(why)) if why.contains("public.")), "{sql}: {ran:?}");
        let read = shop.target.read(&statement(sql)).await;
        assert!(matches!(&read, Err(Error::Unmeasurable(_))), "{sql}: {read:?}");
        assert_eq!(written(), 0, "{sql} wrote a file");
    }
    // Nor is a table one that is reached because it has columns of the same domain.
    for sql in
        ["select 5::fine, talks() from with_one", "update t set a = 1 where a = 1::fine and talks() = 1"]
    {
        counted(&shop, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        shop.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).rollback().await;
    }
    shop.ask("select copies()").await;
    assert_eq!(written(), 1, "the function does what is feared of it");
}

/// Functions of the server itself, which the operator's own definitions call: nothing but their text says so.
#[tokio::test]
async fn definitions_that_change_settings_are_seen() {
    const SET: &str = "set_config('checkrein.x', 'y', false)";
    let shop = Shop::new(&format!(
        "create table t (id int primary key, lo_price int); insert into t values (1, 1);
         create view sets as select {SET} as s, id from t; create view above as select id from sets;
         create view fine as select lo_price, count(*) as set_config from t group by 1;
         create table ruled (id int primary key); create rule r as on update to ruled do also select {SET};
         create table filled (id int primary key, s text default {SET});
         create table checked (id int check ({SET} is not null));
         create table hidden (id int); alter table hidden enable row level security;
         create policy p on hidden using ({SET} is not null);
         create function nothing() returns trigger language plpgsql as $$ begin return new; end $$;
         create table watched (id int); create trigger w before update on watched for each row
             when ({SET} = old.id::text) execute function nothing();"
    ))
    .await;
    for (sql, what) in [
        ("select * from sets", "a view or rule on sets"),
        ("table above", "a view or rule on sets"),
        ("update t set id = 2 where id in (select id from \"above\")", "a view or rule on sets"),
        ("update ruled set id = 2", "a view or rule on ruled"),
        ("insert into filled values (1)", "a default of filled"),
        ("insert into checked values (1)", "the constraint checked_check"),
        ("delete from hidden", "the policy p"),
        ("update watched set id = 2", "the trigger w"),
    ] {
        let ran = shop.execute(sql).await.err();
        let told = |why: &str| why.starts_with(what) && why.contains("calls `set_config`");
        assert!(matches!(&ran, Some(Error::Unmeasurable(why)) if told(why)), "{sql}: {ran:?}");
    }
    let found = counted(&shop, "select * from sets").await;
    assert!(matches!(found, Err(Error::Unmeasurable(_))), "{found:?}");
    let read = shop.target.read(&statement("select * from fine")).await.unwrap();
    assert_eq!(read.rows.len(), 1);
    assert_eq!(shop.execute("delete from t").await.unwrap().measured().records(), 1);
}
