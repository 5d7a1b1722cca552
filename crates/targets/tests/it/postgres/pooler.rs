//! What stands between us and PostgreSQL: a pooler, on which what is exact on one connection is not, or silence.

use super::{Shop, config, statement};
use checkrein_targets::{Error, Limits, Selection, open};
use checkrein_testbed::servers::{pgbouncer::Pgbouncer, postgres::Postgres};
use std::time::Duration;

#[tokio::test]
async fn a_pooler_is_refused_by_name() {
    let shop = Shop::new("create table t (id int primary key, v int); insert into t values (1, 1)").await;
    let server = Postgres::shared();
    let update = statement("update t set v = 2");
    let count = Selection::Statements(vec![update.clone()]);
    // What a pooler does not know it refuses, or leaves out where it is told to.
    for settings in [&[][..], &[("ignore_startup_parameters", "options,extra_float_digits")]] {
        for mode in ["session", "transaction", "statement"] {
            let pooler = Pgbouncer::start(server, mode, settings).unwrap();
            let url = shop.url.replace(&format!(":{}/", server.port()), &format!(":{}/", pooler.port()));
            let client = super::connect(&url).await;
            assert_eq!(super::rows(&client, "select v from t").await, [["1"]], "the pooler itself works");
            let target = open(config(&url, Limits::default())).unwrap();
            let errors = [
                target.execute(std::slice::from_ref(&update)).await.err(),
                target.count(&count).await.err(),
                target.read(&statement("select 1")).await.err(),
                target.test().await.err(),
            ];
            for error in errors {
                let why = |why: &String| why.contains("PgBouncer") && why.contains("PostgreSQL itself");
                assert!(
                    matches!(&error, Some(Error::Unsupported(w)) if why(w)),
                    "{mode} {settings:?}: {error:?}"
                );
            }
        }
    }
    assert_eq!(shop.ask("select v from t").await, "1");
}

/// A server that has stopped in mid-conversation is not waited for.
#[tokio::test]
async fn silence_ends_in_an_error() {
    let shop = Shop::new("create table t (id int primary key, v int)").await;
    let limit = Duration::from_secs(10);
    let limits = Limits { connect: limit, execute: limit, ..Limits::default() };
    let target = open(config(&shop.url, limits)).unwrap();
    target.test().await.unwrap();
    let pids = shop
        .ask(
            "select string_agg(pid::text, ' ') from pg_stat_activity \
             where datname = current_database() and application_name = 'checkrein'",
        )
        .await;
    let signal = |signal: &str| {
        let sent = std::process::Command::new("kill").arg(signal).args(pids.split(' ')).status();
        assert!(sent.unwrap().success());
    };
    signal("-STOP");
    let said =
        tokio::time::timeout(limit * 10, async { (target.test().await, target.grants("a").await) }).await;
    signal("-CONT");
    let (tested, grants) = said.expect("it waits for ever");
    assert!(matches!(tested, Err(Error::TimedOut { .. } | Error::Unreachable(_))), "{:?}", tested.err());
    assert!(grants.contains("CREATE ROLE"), "{grants}");
}
