//! Somebody commits between the moment when records are looked for and the one when they are changed.

use super::common::{Shop, connect, said, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Limits, Pending};
use checkrein_testbed::servers::mariadb::SUPERUSER;
use mysql_async::{Row, prelude::Queryable as _};
use std::time::{Duration, Instant};

/// Runs `statements` while somebody holds a row that the first of them needs, lets them wait for it, commits
/// `meanwhile` on another connection, and only then lets go.
async fn held(
    shop: &mut Shop,
    hold: &str,
    statements: &[&str],
    meanwhile: &str,
) -> Result<Box<dyn Pending>, Error> {
    let url = shop.server.url(SUPERUSER, &shop.name);
    let limits = Limits { lock: Duration::from_secs(20), ..super::common::limits() };
    let target = super::common::open(&url, limits);
    shop.run(&format!("BEGIN; {hold}")).await;
    let list: Vec<_> = statements.iter().map(|sql| statement(sql)).collect();
    let task = tokio::spawn(async move { target.execute(&list).await });
    let mut other = connect(&url).await;
    // InnoDB's report on itself is never an old one; its table of transactions is, for as long as anybody reads it.
    let place = format!("of table `{}`.", shop.name);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(Instant::now() < until, "it neither waits nor ends");
        assert!(!task.is_finished(), "it did not wait: {:?}", task.await.unwrap().err());
        let report: Row = other.query_first("SHOW ENGINE INNODB STATUS").await.unwrap().unwrap();
        let report: Vec<u8> = report.get(2).unwrap();
        let report = String::from_utf8_lossy(&report);
        if report.lines().any(|line| line.contains(&place) && line.ends_with(" waiting")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other.query_drop(meanwhile).await.unwrap();
    shop.run("COMMIT").await;
    task.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_subquery_chooses_is_what_it_chooses_at_that_moment() {
    let mut shop = Shop::new(
        "CREATE TABLE big(id INT PRIMARY KEY, v INT); INSERT INTO big VALUES (1, 0), (2, 0); \
         CREATE TABLE t(id INT PRIMARY KEY, v VARCHAR(9)); INSERT INTO t VALUES (1, 'one'), (2, 'two'); \
         CREATE TABLE pick(id INT PRIMARY KEY); INSERT INTO pick VALUES (1); \
         CREATE TABLE pick2(id INT PRIMARY KEY); INSERT INTO pick2 VALUES (1), (2)",
    )
    .await;
    let statements = [
        "UPDATE big SET v = v + 1 WHERE id IN (SELECT id FROM pick2)",
        "UPDATE t SET v = 'AGENT' WHERE id IN (SELECT id FROM pick)",
    ];
    let hold = "SELECT * FROM big WHERE id = 1 FOR UPDATE";
    let before = shop.dump(&["t", "big"]).await;
    let pending = held(&mut shop, hold, &statements, "UPDATE pick SET id = 2").await.unwrap();
    assert_eq!(said(&pending.measured().affected), "big update 2, t update 1");
    let (captured, snapshot) = shop.keep(pending).await.unwrap();
    assert_eq!(said(&captured.affected), "big update 2, t update 1");
    assert_eq!(shop.number("SELECT COUNT(*) FROM t WHERE id = 2 AND v = 'AGENT'").await, 1);
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.dump(&["t", "big"]).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trigger_overwrites_is_what_was_there_at_that_moment() {
    let mut shop = Shop::new(
        "CREATE TABLE big(id INT PRIMARY KEY, v INT); INSERT INTO big VALUES (1, 0), (2, 0); \
         CREATE TABLE w(id INT PRIMARY KEY, state VARCHAR(9)); INSERT INTO w VALUES (1, 'idle'); \
         CREATE TRIGGER big_u AFTER UPDATE ON big FOR EACH ROW UPDATE w SET state = 'idle' WHERE id = 1",
    )
    .await;
    let hold = "SELECT * FROM big WHERE id = 1 FOR UPDATE";
    let statements = ["UPDATE big SET v = v + 1"];
    let meanwhile = "UPDATE w SET state = 'busy'";
    let pending = held(&mut shop, hold, &statements, meanwhile).await.unwrap();
    assert_eq!(said(&pending.measured().affected), "big update 2, w update 1");
    let (captured, snapshot) = shop.keep(pending).await.unwrap();
    assert_eq!(said(&captured.affected), "big update 2, w update 1");
    assert_eq!(shop.number("SELECT COUNT(*) FROM w WHERE state = 'idle'").await, 1);
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.number("SELECT COUNT(*) FROM w WHERE state = 'busy'").await, 1);
}

/// Others add to a table that a trigger adds to: neither waits for the other, and each one's records are told
/// apart.
#[tokio::test(flavor = "multi_thread")]
async fn others_add_to_the_log_of_a_trigger() {
    let mut shop = Shop::new(
        "CREATE TABLE big(id INT PRIMARY KEY, v INT); INSERT INTO big VALUES (1, 0), (2, 0); \
         CREATE TABLE log(n INT PRIMARY KEY AUTO_INCREMENT, id INT); INSERT INTO log(id) VALUES (77); \
         CREATE TRIGGER big_u AFTER UPDATE ON big FOR EACH ROW INSERT INTO log(id) VALUES (NEW.id)",
    )
    .await;
    let url = shop.server.url(SUPERUSER, &shop.name);
    let mut open = connect(&url).await;
    open.query_drop("BEGIN; INSERT INTO log(id) VALUES (78)").await.unwrap();
    let hold = "SELECT * FROM big WHERE id = 1 FOR UPDATE";
    let statements = ["UPDATE big SET v = v + 1"];
    let pending = held(&mut shop, hold, &statements, "INSERT INTO log(id) VALUES (79)").await.unwrap();
    assert_eq!(said(&pending.measured().affected), "big update 2, log insert 2");
    let mut later = connect(&url).await;
    later
        .query_drop("SET SESSION innodb_lock_wait_timeout = 1; INSERT INTO log(id) VALUES (80)")
        .await
        .unwrap();
    let (captured, snapshot) = shop.keep(pending).await.unwrap();
    assert_eq!(said(&captured.affected), "big update 2, log insert 2");
    open.query_drop("COMMIT").await.unwrap();
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.number("SELECT COUNT(*) FROM log WHERE id IN (77, 78, 79, 80)").await, 4);
}

/// As many records are changed as were found, but others: an earlier statement's do not account for them.
#[tokio::test]
async fn equal_numbers_prove_nothing() {
    let mut shop =
        Shop::new("CREATE TABLE t(id INT PRIMARY KEY, v INT); INSERT INTO t SELECT seq, 0 FROM seq_1_to_40")
            .await;
    let before = shop.dump(&["t"]).await;
    let both = [
        statement("UPDATE t SET v = 10 WHERE id <= 5"),
        statement("UPDATE t SET v = v + 1 ORDER BY RAND() LIMIT 5"),
    ];
    let error = shop.target.execute(&both).await.err().unwrap();
    assert!(matches!(&error, Error::Unmeasurable(why) if why.contains("unseen")), "{error:?}");
    assert_eq!(shop.dump(&["t"]).await, before);
    let both = [statement("UPDATE t SET v = 10 WHERE id = 1"), statement("UPDATE t SET v = 0 WHERE id <= 2")];
    let pending = shop.target.execute(&both).await.unwrap();
    assert_eq!(said(&pending.measured().affected), "", "there and back is no change");
    pending.rollback().await;
}
