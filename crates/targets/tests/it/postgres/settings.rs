//! Settings of the session, which decide what a statement means: nobody changes them, by whatever way.

use super::{Shop, config, statement};
use checkrein_targets::{Error, Limits, open};

const SCHEMA: &str = "
    create table users (id int primary key, plan text);
    create table orders (id int primary key, user_id int references users on delete cascade);
    insert into users select i, 'free' from generate_series(1, 100) i;
    insert into orders select i, i from generate_series(1, 100) i;
    create view mine as select * from pg_settings;
    create view names as select name, setting from mine;
    create table log (t text);
    create rule also as on insert to log do also update mine set setting = 'replica' where name = new.t;
    create function sets(n text) returns int language sql as $$ update mine set setting = 'replica' where name = n; select 1 $$;
    create function sets_plpgsql(n text) returns int language plpgsql as $$ begin update names set setting = 'replica' where name = n; return 1; end $$;
    create function direct(n text) returns int language plpgsql as $$ begin update pg_settings set setting = 'replica' where name = n; return 1; end $$;";

/// `%` stands for the view, written so that no list of words knows it, where that can be.
const WAYS: [&str; 8] = [
    "update % set setting = 'evil, public' where name = 'search_path'",
    "update % set setting = '0' where name = 'statement_timeout'",
    "with d as (delete from users where id = 71 returning 1) update % s set setting = v.x \
     from (select 'replica' x union all select 'replica' from d union all select 'origin') v \
     where s.name = 'session_repl' || 'ication_role'",
    "merge into % s using (values (1)) v on s.name = 'session_repl' || 'ication_role' when matched then update set setting = 'replica'",
    "insert into log values ('session_repl' || 'ication_role')",
    "select sets('session_repl' || 'ication_role')",
    "select sets_plpgsql('session_repl' || 'ication_role')",
    "select direct('session_repl' || 'ication_role')",
];

#[tokio::test]
async fn a_write_to_the_settings_is_refused_by_whatever_way() {
    let shop = Shop::new(SCHEMA).await;
    let before = shop.dump().await;
    // With the rights that `target grants` prints, and no others.
    let role = format!("settings{}", std::process::id());
    shop.sql(&format!(
        "create role {role} login; grant select, insert, update, delete on all tables in schema public to {role};
         grant set on parameter session_replication_role to {role}; alter role {role} bypassrls"
    ))
    .await;
    let url = shop.url.replace("postgres@", &format!("{role}@"));
    let limits = Limits { connect: std::time::Duration::from_secs(60), ..Limits::default() };
    let (mine, own) = (open(config(&url, limits)).unwrap(), &shop.target);
    for view in ["pg_settings", "pg_catalog.\"pg_settings\"", "mine", "names"] {
        for way in WAYS {
            let sql = way.replace('%', view);
            // More than once in the same session: what the server has planned already is no way round either.
            for target in [&mine, &mine, own] {
                match target.execute(&[statement(&sql)]).await.err() {
                    Some(Error::Unmeasurable(_)) => {}
                    // The server itself knows no MERGE into a view before 17.
                    Some(Error::Statement { message, .. }) if sql.starts_with("merge") => {
                        assert!(message.contains("MERGE"), "{sql}: {message}");
                    }
                    Some(other) => panic!("{sql}: {other:?}"),
                    None => panic!("{sql}: ran"),
                }
            }
            assert_eq!(shop.dump().await, before, "{sql}");
        }
    }
    shop.sql(&format!("drop owned by {role}; drop role {role}")).await;
}

#[tokio::test]
async fn settings_may_be_read() {
    let shop = Shop::new(SCHEMA).await;
    for sql in ["select setting from pg_settings where name = 'search_path'", "select * from names limit 1"] {
        let pending = shop.execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(pending.results()[0].rows.len(), 1, "{sql}");
        pending.rollback().await;
    }
}
