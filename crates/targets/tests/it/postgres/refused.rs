//! What cannot be measured, and whoever may not do it: refused, and nothing has happened.

use super::{Shop, config, connect, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Limits, UndoOptions, open};
use std::time::Duration;

const SCHEMA: &str = "
    create table t (id int primary key, v int); insert into t select i, i from generate_series(1, 10) i;
    create table u (id int primary key references t, v int);
    create function truncates() returns int language plpgsql as $$ begin truncate u; return 1; end $$;
    create function makes() returns int language plpgsql as $$ begin create temp table x (a int); return 1; end $$;
    create function grants() returns int language plpgsql as $$ begin grant select on t to public; return 1; end $$;
    create function replicates() returns int language plpgsql as $$ begin set session_replication_role = replica; return 1; end $$;
    create function becomes() returns int language plpgsql as $$ begin set role pg_monitor; return 1; end $$;
    create function commits() returns int language plpgsql as $$ begin commit; return 1; end $$;
    create procedure steps() language plpgsql as $$ begin update t set v = 0; commit; end $$;
    create procedure plain(inout n int) language plpgsql as $$ begin update t set v = n; end $$;
    create function blob() returns oid language sql as $$ select lo_create(0) $$;";

#[tokio::test]
async fn what_cannot_be_measured_does_not_run() {
    let shop = Shop::new(SCHEMA).await;
    let before = shop.dump().await;
    for sql in [
        "truncate u",
        "select truncates()",
        "update t set v = truncates()",
        "select makes()",
        "select grants()",
        "select replicates()",
        "select becomes()",
        "select blob()",
        "create table x (a int)",
        "select 1 into x",
        "drop table u",
        "commit",
        "rollback; delete from t",
        "set role pg_monitor",
        "lock table t",
        "copy t to program 'true'",
        "do $$ begin delete from t; end $$",
        "select pg_notify('a', 'b')",
        "notify a",
        "select dblink('a', 'b')",
        "prepare x as delete from t",
        "execute x",
        "vacuum",
    ] {
        let error = shop.execute(sql).await.err().unwrap_or_else(|| panic!("{sql} was measured"));
        assert!(matches!(error, Error::Unmeasurable(_)), "{sql}: {error:?}");
        assert_eq!(shop.dump().await, before, "{sql}");
    }
    for sql in [
        "update t set v = commits()",
        "call steps()",
        "delete from t; delete from u",
        "delete from nowhere",
        "update t set v = 1 / 0",
        "insert into u values (99, 1)",
        "selec 1",
    ] {
        match shop.execute(sql).await.err() {
            Some(Error::Statement { .. } | Error::Unmeasurable(_)) => {}
            other => panic!("{sql}: {other:?}"),
        }
        assert_eq!(shop.dump().await, before, "{sql}");
    }
    // The connections are as good as new after all that.
    let pending = shop.execute("call plain(7)").await.unwrap();
    assert_eq!(super::affected(&pending.measured().affected), super::expect(&[("public.t", "update", 10)]));
    pending.rollback().await;
}

#[tokio::test]
async fn counters_start_from_nothing_each_time() {
    let shop = Shop::new(SCHEMA).await;
    for n in 1..30 {
        let pending = shop.execute(&format!("update t set v = 1 where id <= {}", n % 10)).await.unwrap();
        assert_eq!(
            pending.measured().records(),
            n % 10,
            "a session keeps the counters of the transaction before"
        );
        if n % 2 == 0 {
            pending.commit().await.unwrap();
        } else {
            pending.rollback().await;
        }
    }
}

#[tokio::test]
async fn a_foreign_table_is_refused() {
    let shop = Shop::new(SCHEMA).await;
    let port = checkrein_testbed::servers::postgres::Postgres::shared().port();
    let database = shop.ask("select current_database()").await;
    shop.sql(&format!(
        "create extension postgres_fdw; create server s foreign data wrapper postgres_fdw options (host '127.0.0.1', port '{port}', dbname '{database}');
         create user mapping for postgres server s options (user 'postgres', password_required 'false');
         create foreign table far (id int, v int) server s options (table_name 't')"
    ))
    .await;
    let error = shop.execute("update far set v = 5").await.err().unwrap();
    assert!(matches!(&error, Error::Unmeasurable(why) if why.contains("foreign table")), "{error:?}");
    assert_eq!(shop.ask("select max(v) from t").await, "10");
}

#[tokio::test]
async fn limits_of_time_and_size_are_kept() {
    let shop = Shop::new(SCHEMA).await;
    let limits = Limits {
        execute: Duration::from_millis(400),
        count: Duration::from_millis(300),
        lock: Duration::from_millis(200),
        result_rows: 5,
        ..Limits::default()
    };
    let target = open(config(&shop.url, limits.clone())).unwrap();
    let slow = [statement("update t set v = 1 where pg_sleep(1) is not null")];
    assert!(matches!(target.execute(&slow).await.err(), Some(Error::TimedOut { .. })));
    let count = checkrein_targets::Selection::Statements(slow.to_vec());
    assert!(matches!(target.count(&count).await, Err(Error::TimedOut { .. })));
    assert!(matches!(target.read(&statement("select * from t")).await, Err(Error::TooLarge(_))));
    let returning = [statement("update t set v = 1 returning *")];
    assert!(matches!(target.execute(&returning).await.err(), Some(Error::TooLarge(_))));
    let other = connect(&shop.url).await;
    other.batch_execute("begin; update t set v = 2 where id = 1").await.unwrap();
    match target.execute(&[statement("update t set v = 3")]).await.err() {
        Some(Error::Statement { code, message }) => {
            assert_eq!((code.as_str(), message.contains("lock")), ("55P03", true));
        }
        other => panic!("{other:?}"),
    }
    other.batch_execute("rollback").await.unwrap();
    assert_eq!(shop.ask("select sum(v) from t").await, "55");
    // Whatever was given up holds no lock.
    let pending = target.execute(&[statement("update t set v = 3")]).await.unwrap();
    drop(pending);
    shop.sql("set lock_timeout = '5s'; update t set v = v").await;
}

#[tokio::test]
async fn an_account_without_privileges_is_told_which_are_missing() {
    let shop = Shop::new(SCHEMA).await;
    let (role, database) = (format!("r{}", std::process::id()), shop.ask("select current_database()").await);
    shop.sql(&format!("create role {role} login; grant select, update, delete on t to {role}; revoke temporary on database {database} from public")).await;
    let url = shop.url.replace("postgres@", &format!("{role}@"));
    let target = open(config(&url, Limits::default())).unwrap();
    let report = target.test().await.unwrap();
    assert!(report.system.starts_with("PostgreSQL 1"), "{report:?}");
    let missing: Vec<_> = report.privileges.iter().filter(|p| !p.ok).map(|p| p.message.as_str()).collect();
    for grant in [
        "GRANT TEMPORARY ON DATABASE",
        "GRANT SET ON PARAMETER session_replication_role",
        "GRANT SELECT ON public.u",
        "GRANT INSERT ON",
    ] {
        assert!(missing.iter().any(|message| message.contains(grant)), "{grant}: {missing:?}");
    }
    let error = target.execute(&[statement("delete from u")]).await.err().unwrap();
    assert!(matches!(&error, Error::Statement { code, .. } if code == "42501"), "{error:?}");

    // What it could not put back it does not do.
    let update = [statement("update t set v = 0 where id = 1")];
    let refused = async |missing: &[&str]| match target.execute(&update).await.err() {
        Some(Error::Forbidden(why)) => {
            for words in missing.iter().chain(&["checkrein target grants"]) {
                assert!(why.contains(words), "{words}: {why}");
            }
        }
        other => panic!("{other:?}"),
    };
    let replica = "GRANT SET ON PARAMETER session_replication_role";
    refused(&["GRANT INSERT ON public.t", "GRANT TEMPORARY ON DATABASE", replica]).await;
    shop.sql(&format!("grant temporary on database {database} to {role}; grant insert on t to {role}")).await;
    refused(&[replica]).await;
    shop.sql("alter table t enable row level security; create policy all_of_it on t using (true)").await;
    refused(&["BYPASSRLS"]).await;
    shop.sql("alter table t disable row level security").await;
    assert_eq!(shop.ask("select sum(v) from t").await, "55");
    let grants = target.grants(&role).await;
    shop.sql(&grants.replace("CREATE ROLE", "ALTER ROLE")).await;
    let report = target.test().await.unwrap();
    assert!(report.privileges.iter().all(|p| p.ok), "the printed grants are what it needs: {report:?}");
    let mut pending = target.execute(&update).await.unwrap();
    let (_, snapshot) = shop.captured(&mut pending).await;
    pending.commit().await.unwrap();

    // A grant that was taken back since is named before anything is put back.
    let undo = async || {
        let (_, mut out) = shop.writer();
        target
            .rollback(
                &snapshot,
                &UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() },
                &mut out,
            )
            .await
    };
    shop.sql(&format!("revoke set on parameter session_replication_role from {role}")).await;
    match undo().await.err() {
        Some(Error::Forbidden(why)) => assert!(why.contains(replica), "{why}"),
        other => panic!("{other:?}"),
    }
    shop.sql(&format!("grant set on parameter session_replication_role to {role}")).await;
    let Ok(checkrein_targets::Undo::Ready(_, pending)) = undo().await else { panic!("it may now") };
    pending.commit().await.unwrap();
    assert_eq!(shop.ask("select sum(v) from t").await, "55");
    shop.sql(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn rows_that_a_policy_hides_are_an_error_not_a_gap() {
    let shop = Shop::new(SCHEMA).await;
    let role = format!("p{}", std::process::id());
    shop.sql(&format!(
        "create role {role} login; grant all on t to {role}; alter table t enable row level security;
         create policy half on t for select to {role} using (id < 6); create policy whole on t for update to {role} using (true)"
    ))
    .await;
    let target =
        open(config(&shop.url.replace("postgres@", &format!("{role}@")), Limits::default())).unwrap();
    let report = target.test().await.unwrap();
    assert!(report.privileges.iter().any(|p| !p.ok && p.message.contains("BYPASSRLS")), "{report:?}");
    let error = target.execute(&[statement("update t set v = 0")]).await.err().unwrap();
    assert!(error.to_string().contains("row-level security"), "{error:?}");
    let (_, mut out) = shop.writer();
    let all = checkrein_targets::Selection::Where {
        resource: "t".into(),
        filter: serde_json::Map::new(),
        delete: false,
    };
    let error = target.capture(&all, &mut out).await.unwrap_err();
    assert!(error.to_string().contains("row-level security"), "{error:?}");
    assert_eq!(shop.ask("select sum(v) from t").await, "55");
    shop.sql(&format!("drop owned by {role}; drop role {role}")).await;
}

/// What acts on another connection does so at once: a statement that is only counted, or that a policy blocks
/// afterwards, would have done it.
#[tokio::test]
async fn functions_that_act_outside_are_not_called() {
    let shop = Shop::new(SCHEMA).await;
    let port = checkrein_testbed::servers::postgres::Postgres::shared().port();
    let database = shop.ask("select current_database()").await;
    shop.sql(&format!(
        "create extension dblink; create extension pgcrypto; create extension \"uuid-ossp\";
         create function outside(n int) returns text language plpgsql as $$ begin
           return dblink_exec('host=127.0.0.1 port={port} user=postgres dbname={database}', 'delete from t where id = ' || n); end $$;
         create function \"Wraps it\"() returns text language sql as $$ select outside(3) $$;
         create function builds(sql text) returns int language plpgsql as $$ begin execute sql; return 1; end $$;
         create function adds(a int, b int) returns int language sql as $$ select a + b $$;
         create function changes() returns int language plpgsql as $$ begin update t set v = 7 where id = 7; return 1; end $$;"
    ))
    .await;
    let before = shop.dump().await;
    for sql in [
        "select outside(3)",
        "select \"Wraps it\"()",
        "update t set v = 1 where outside(3) is null",
        "delete from t where outside(id) is not null",
        "insert into u values (1, length(outside(3)))",
        "select builds('select dbl' || 'ink_exec(''x'', ''y'')')",
    ] {
        let one = [statement(sql)];
        let counted = shop.target.count(&checkrein_targets::Selection::Statements(one.to_vec())).await;
        assert!(matches!(counted, Err(Error::Unmeasurable(_))), "{sql}: {counted:?}");
        let read = shop.target.read(&one[0]).await;
        assert!(matches!(read, Err(Error::Unmeasurable(_))), "{sql}: {read:?}");
        let ran = shop.execute(sql).await.err().unwrap_or_else(|| panic!("{sql} ran"));
        assert!(matches!(ran, Error::Unmeasurable(_)), "{sql}: {ran:?}");
        assert_eq!(shop.dump().await, before, "{sql}");
    }
    // Nor by a trigger, also of a child or a partition, a default, a view, an operator, an aggregate or a cast.
    shop.sql(
        "create function fires() returns trigger language plpgsql as $$ begin perform outside(3); return null; end $$;
         create table parents (id int primary key); create table children (id int primary key, parent int references parents on delete cascade);
         create trigger t after delete on children for each row execute function fires();
         create table parts (id int primary key) partition by range (id); create table part partition of parts for values from (0) to (9);
         create trigger t after insert on part for each row execute function fires();
         create table defaults (id int, done text default outside(3)); create table checks (id int, check (outside(3) is null));
         create view looks as select id, outside(3) from t; create view through as select id from parents;
         create operator ### (function = outside, rightarg = int);
         create function sums(n int, m int) returns int language sql as $$ select length(outside(m)) $$;
         create aggregate every_one (int) (sfunc = sums, stype = int);
         create type odd as (a int); create function casts(odd) returns text language sql as $$ select outside(3) $$;
         create table free (id int primary key, v int); insert into free values (1, 1); insert into parents values (1); insert into children values (1, 1)"
    )
    .await;
    let before = shop.dump().await;
    for sql in [
        "delete from parents",
        "delete from through",
        "delete from children where id = 1",
        "insert into parts values (1)",
        "insert into defaults values (1)",
        "insert into checks values (1)",
        "select * from looks",
        "select ### 3",
        "select every_one(id) from t",
    ] {
        let ran = shop.execute(sql).await.err().unwrap_or_else(|| panic!("{sql} ran"));
        assert!(matches!(&ran, Error::Unmeasurable(why) if why.contains("public.")), "{sql}: {ran:?}");
        assert_eq!(shop.dump().await, before, "{sql}");
    }
    // What only reads sets off no trigger; and a table with nothing of that kind is as it was.
    assert_eq!(shop.target.read(&statement("select count(*) from children")).await.unwrap().rows.len(), 1);
    shop.execute("update free set v = 2").await.unwrap().rollback().await;
    shop.sql("create cast (odd as text) with function casts(odd) as implicit").await;
    let ran = shop.execute("update free set v = length(row(1)::odd || '')").await.err();
    assert!(matches!(&ran, Some(Error::Unmeasurable(_))), "{ran:?}");
    assert_eq!(shop.dump().await, before);
    shop.sql("drop cast (odd as text)").await;
    // What keeps within the transaction runs.
    for sql in [
        "update t set v = adds(v, 1) where id = 1",
        "update t set v = length(gen_salt('bf')) where id = 2",
        "update t set v = length(uuid_generate_v4()::text) where id = 2",
        "select changes()",
    ] {
        shop.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).rollback().await;
    }
    assert_eq!(shop.ask("select outside(3)").await, "DELETE 1", "the function does what is feared of it");
}

/// Triggers that tell others are common; what they tell leaves with the commit, and never without it.
#[tokio::test]
async fn triggers_may_notify_and_are_heard_only_after_the_commit() {
    let shop = Shop::new(SCHEMA).await;
    shop.sql(
        "create function tells() returns trigger language plpgsql as $$ begin perform pg_notify('changed', new.id::text); return new; end $$;
         create function says() returns trigger language plpgsql as $$ begin notify changed, 'said'; return new; end $$;
         create function told() returns int language plpgsql as $$ begin perform pg_notify('changed', 'read'); return 1; end $$;
         create trigger a after update on t for each row execute function tells();
         create trigger b after update on t for each statement execute function says();",
    )
    .await;
    let (client, mut connection) = tokio_postgres::connect(&shop.url, tokio_postgres::NoTls).await.unwrap();
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let tokio_postgres::AsyncMessage::Notification(note) = message {
                heard.send(note.payload().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("listen changed").await.unwrap();
    let mut hear = async || {
        let heard = tokio::time::timeout(Duration::from_secs(60), hears.recv()).await;
        heard.expect("PostgreSQL tells nothing for a minute").unwrap()
    };
    let update = "update t set v = 0 where id < 3";

    let selection = checkrein_targets::Selection::Statements(vec![statement(update)]);
    shop.target.count(&selection).await.unwrap();
    shop.execute(update).await.unwrap().rollback().await;
    // A read is judged by nobody.
    for sql in ["select told()", "select pg_notify('changed', 'x')"] {
        assert!(matches!(shop.target.read(&statement(sql)).await, Err(Error::Unmeasurable(_))), "{sql}");
    }
    client.batch_execute("notify changed, 'mine'").await.unwrap();
    assert_eq!(hear().await, "mine", "nothing was sent before");

    let snapshot = shop.run(update).await;
    let mut told = [hear().await, hear().await, hear().await];
    told.sort();
    assert_eq!(told, ["1", "2", "said"]);
    shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(shop.ask("select sum(v) from t").await, "55");
    client.batch_execute("notify changed, 'mine'").await.unwrap();
    assert_eq!(hear().await, "mine", "a rollback tells nobody");
}
