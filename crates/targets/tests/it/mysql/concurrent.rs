//! Others write at the same time.

use super::common::{Shop, connect, limits, open, said, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Limits, snapshot::Side};
use checkrein_testbed::servers::mariadb::SUPERUSER;
use mysql_async::prelude::Queryable as _;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What a trigger saw of each change is what the snapshot holds, and what others add is never lost.
#[tokio::test(flavor = "multi_thread")]
async fn images_are_those_that_a_trigger_sees() {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, v BIGINT, who VARCHAR(20)); \
         CREATE TABLE seen(n INT PRIMARY KEY AUTO_INCREMENT, id INT, was BIGINT, is_now BIGINT, who VARCHAR(20)); \
         INSERT INTO t SELECT seq, 0, 'start' FROM seq_1_to_40",
    )
    .await;
    // It writes only for the agent, so that the others do not wait for each other there.
    shop.run(
        "CREATE TRIGGER t_u AFTER UPDATE ON t FOR EACH ROW BEGIN IF NEW.who LIKE 'agent%' AND @checkrein_rollback IS NULL THEN \
         INSERT INTO seen(id, was, is_now, who) VALUES (NEW.id, OLD.v, NEW.v, NEW.who); END IF; END",
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..3_i64 {
        let (stop, url) = (Arc::clone(&stop), shop.server.url(SUPERUSER, &shop.name));
        writers.push(tokio::spawn(async move {
            let mut conn = connect(&url).await;
            let mut added = 0_i64;
            let mut id = writer;
            while !stop.load(Ordering::Relaxed) {
                id = (id * 7 + 3) % 40;
                let sql = format!("UPDATE t SET v = v + 1, who = 'w{writer}' WHERE id = {}", id + 1);
                if conn.query_drop(sql).await.is_ok() {
                    added += 1;
                }
            }
            added
        }));
    }
    let (mut ran, mut conflicts, mut agents) = (0, 0, 0_i64);
    for round in 0..30 {
        let low = round % 30 + 1;
        let sql =
            format!("UPDATE t SET v = v + 1000, who = 'agent{round}' WHERE id BETWEEN {low} AND {}", low + 5);
        match shop.change(&sql).await {
            Ok((captured, snapshot)) => {
                ran += 1;
                assert_eq!(captured.affected.iter().find(|a| a.resource == "t").unwrap().records, 6);
                let images = images(&shop, &snapshot).await;
                let seen: Vec<(i64, i64, i64)> = shop
                    .sql
                    .query(format!("SELECT id, was, is_now FROM seen WHERE who = 'agent{round}'"))
                    .await
                    .unwrap();
                assert_eq!(images, seen.into_iter().map(|(id, was, is)| (id, (was, is))).collect());
                if round % 3 == 0 {
                    match shop.undo(&snapshot, OnConflict::Skip).await {
                        Ok((plan, _)) => {
                            conflicts += plan.conflict_count;
                            agents += 6000
                                - 1000
                                    * plan
                                        .by_resource
                                        .iter()
                                        .filter(|r| r.resource == "t")
                                        .map(|r| r.update.cast_signed())
                                        .sum::<i64>();
                        }
                        Err(Error::Unreachable(_)) => agents += 6000,
                        Err(error) => panic!("{error:?}"),
                    }
                } else {
                    agents += 6000;
                }
            }
            // A deadlock with a writer, or a lock that did not come free in time.
            Err(Error::Statement { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut theirs = 0;
    for writer in writers {
        theirs += writer.await.unwrap();
    }
    assert_eq!(
        shop.number("SELECT CAST(SUM(v) AS SIGNED) FROM t").await,
        theirs + agents,
        "somebody's change was lost"
    );
    assert!(ran > 10, "{ran} of 30 ran; {conflicts} conflicts");
    println!("{ran} ran, {theirs} changes of others, {conflicts} conflicts");
}

/// Each record of `t` with its value before and after.
async fn images(shop: &Shop, snapshot: &checkrein_targets::snapshot::Snapshot) -> BTreeMap<i64, (i64, i64)> {
    let mut images: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut blocks = snapshot.blocks();
    while let Some(block) = blocks.next().await.unwrap() {
        let table = &snapshot.tables(0).unwrap()[usize::try_from(block.table).unwrap()];
        if table.resource != "t" {
            continue;
        }
        for record in shop.target.decode(table, &block.data).unwrap() {
            let entry = images.entry(record["id"].as_i64().unwrap()).or_default();
            let value = record["v"].as_i64().unwrap();
            if block.side == Side::Before { entry.0 = value } else { entry.1 = value }
        }
    }
    images
}

#[tokio::test]
async fn a_lock_of_somebody_else_is_not_waited_for_forever() {
    let mut shop = Shop::new("CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)").await;
    shop.run("BEGIN; UPDATE t SET v = 2").await;
    let error = shop.execute("UPDATE t SET v = 3").await.err().unwrap();
    assert!(
        matches!(&error, Error::Statement { message, .. } if message.contains("1205") && message.contains("somebody else works on")),
        "{error:?}"
    );
    shop.run("ROLLBACK").await;
    // A rollback is not impossible for that.
    let (_, snapshot) = shop.change("UPDATE t SET v = 3").await.unwrap();
    shop.run("BEGIN; SELECT * FROM t FOR UPDATE").await;
    let error = shop.undo(&snapshot, OnConflict::Refuse).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(why) if why.contains("try again")), "{error:?}");
    shop.run("ROLLBACK").await;
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    shop.run("BEGIN; SELECT * FROM t").await;
    let pending = shop.execute("UPDATE t SET v = 3").await.unwrap();
    assert_eq!(said(&pending.measured().affected), "t update 1");
    pending.rollback().await;
}

/// Looks at each three of 3000 records in vain, which takes for ever.
const SLOW: &str = "UPDATE t SET v = 2 WHERE id IN (SELECT a.id FROM (SELECT x.id FROM seq_1_to_3000 s, t x, t y WHERE x.v + y.v + s.seq < 0) a)";

#[tokio::test]
async fn what_takes_too_long_is_stopped() {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t SELECT seq, 1 FROM seq_1_to_3000",
    )
    .await;
    let short = Limits { execute: Duration::from_millis(300), count: Duration::from_millis(200), ..limits() };
    let target = open(&shop.server.url(SUPERUSER, &shop.name), short);
    let error = target.execute(&[statement(SLOW)]).await.err().unwrap();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    let what = checkrein_targets::Selection::Statements(vec![statement(SLOW)]);
    let error = target.count(&what).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    shop.run("SET SESSION innodb_lock_wait_timeout = 20; UPDATE t SET v = v").await;
    assert_eq!(shop.number("SELECT COUNT(*) FROM t WHERE v = 2").await, 0);
}

#[tokio::test]
async fn what_somebody_ends_did_not_take_too_long() {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t SELECT seq, 1 FROM seq_1_to_3000",
    )
    .await;
    for kill in ["KILL QUERY", "KILL"] {
        let target = Arc::clone(&shop.target);
        let run = tokio::spawn(async move { target.execute(&[statement(SLOW)]).await.err() });
        let of = format!(
            "SELECT COALESCE(MAX(ID), 0) FROM information_schema.PROCESSLIST WHERE DB = '{}' AND INFO LIKE '%seq_1_to_3000%' AND ID <> CONNECTION_ID()",
            shop.name
        );
        let since = std::time::Instant::now();
        // What was ended in the round before may still be listed, and be the one that is found first.
        while !run.is_finished() {
            let id = shop.number(&of).await;
            if id > 0 {
                // It may have ended meanwhile.
                let _gone = shop.sql.query_drop(format!("{kill} {id}")).await;
            }
            assert!(since.elapsed() < Duration::from_secs(60), "waited for the statement to be ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let error = run.await.unwrap().unwrap();
        let said = |why: &str| why.contains("nothing was changed; try again");
        assert!(matches!(&error, Error::Unreachable(why) if said(why)), "{kill}: {error:?}");
        assert_eq!(shop.number("SELECT MAX(v) FROM t").await, 1);
    }
}

#[tokio::test]
async fn results_are_bounded() {
    let shop = Shop::new("CREATE TABLE t(id INT PRIMARY KEY, v TEXT); INSERT INTO t SELECT seq, REPEAT('x', 1000) FROM seq_1_to_300").await;
    for few in [Limits { result_rows: 100, ..limits() }, Limits { result_bytes: 10_000, ..limits() }] {
        let target = open(&shop.server.url(SUPERUSER, &shop.name), few);
        let error = target.read(&statement("SELECT * FROM t")).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge(_)), "{error:?}");
        assert_eq!(target.read(&statement("SELECT COUNT(*) AS n FROM t")).await.unwrap().rows[0][0], 300);
    }
}

#[tokio::test]
async fn no_more_connections_than_allowed() {
    let shop =
        Shop::new("CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
            .await;
    let few = Limits { connections: 2, connect: Duration::from_millis(400), ..limits() };
    let target = open(&shop.server.url(SUPERUSER, &shop.name), few);
    let first = target.execute(&[statement("UPDATE t SET v = 7 WHERE id = 1")]).await.unwrap();
    let second = target.execute(&[statement("UPDATE t SET v = 7 WHERE id = 2")]).await.unwrap();
    let error = target.execute(&[statement("UPDATE t SET v = 7 WHERE id = 3")]).await.err().unwrap();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    first.rollback().await;
    second.rollback().await;
    target.execute(&[statement("UPDATE t SET v = 7 WHERE id = 3")]).await.unwrap().rollback().await;
}
