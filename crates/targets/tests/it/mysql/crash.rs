//! `kill -9` of the server at each step, and what `resolve` says afterwards.

use super::common::{Shop, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    CommitError, Error, Settled, Undo, UndoOptions,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use checkrein_testbed::servers::mariadb::{Mariadb, SUPERUSER};
use mysql_async::prelude::Queryable as _;
use serde_json::json;
use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// A server that may be killed, and one test at a time that does it.
async fn server() -> (&'static Mariadb, tokio::sync::MutexGuard<'static, ()>) {
    static SERVER: OnceLock<Mariadb> = OnceLock::new();
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let turn = TURN.lock().await;
    // A committed transaction must be there after the kill; the settings of the shared server allow that too.
    (SERVER.get_or_init(|| Mariadb::start(&[]).unwrap()), turn)
}

const T: &str = "CREATE TABLE t(id INT PRIMARY KEY AUTO_INCREMENT, v INT); \
    INSERT INTO t(v) VALUES (1), (2), (3), (4), (5)";

async fn again(shop: &mut Shop) {
    shop.server.restart().unwrap();
    shop.sql = super::common::connect(&shop.server.url(SUPERUSER, &shop.name)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_commit_nothing_happened() {
    let (server, _turn) = server().await;
    let mut shop = Shop::on(server, T).await;
    let before = shop.dump(&["t"]).await;
    let mut pending = shop.execute("UPDATE t SET v = v + 10").await.unwrap();
    let (mut out, path) = shop.writer();
    pending.capture(&mut out).await.unwrap();
    out.finish(&path).await.unwrap();
    let token = pending.token().to_owned();
    server.kill().unwrap();
    assert!(matches!(pending.commit().await, Err(CommitError::Unknown(_))));
    again(&mut shop).await;
    let snapshot = Snapshot::open(&[path], None).await.unwrap();
    assert_eq!(shop.target.resolve(&token, &snapshot).await.unwrap(), Settled::NotCommitted);
    assert_eq!(shop.dump(&["t"]).await, before);
    // The connections of the server that was killed are forgotten by themselves.
    shop.change("UPDATE t SET v = 0 WHERE id = 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_captures_nothing_happened() {
    let (server, _turn) = server().await;
    let mut shop = Shop::on(server, T).await;
    let before = shop.dump(&["t"]).await;
    let mut pending = shop.execute("DELETE FROM t").await.unwrap();
    server.kill().unwrap();
    let (mut out, _) = shop.writer();
    assert!(pending.capture(&mut out).await.is_err());
    assert!(matches!(pending.commit().await, Err(CommitError::NotCommitted(_))));
    again(&mut shop).await;
    assert_eq!(shop.dump(&["t"]).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_commit_it_is_known_which() {
    let (server, _turn) = server().await;
    let mut shop = Shop::on(server, T).await;
    let (mut seen, mut arrives) = ([0; 3], Duration::ZERO);
    for round in 0..11_u32 {
        let pending_before = shop.number("SELECT SUM(v) FROM t").await;
        let mut pending = shop.execute("UPDATE t SET v = v + 100").await.unwrap();
        let (mut out, path) = shop.writer();
        pending.capture(&mut out).await.unwrap();
        out.finish(&path).await.unwrap();
        let token = pending.token().to_owned();
        // The kill takes a while to arrive: from "long done" to "not sent yet".
        let mut probe = super::common::connect(&server.url(SUPERUSER, "mysql")).await;
        let begun = Instant::now();
        let kill = tokio::task::spawn_blocking(|| server.kill().map_err(|e| e.to_string()));
        if round == 0 {
            while probe.ping().await.is_ok() {
                assert!(begun.elapsed() < Duration::from_secs(60), "the server outlives its kill");
            }
            arrives = begun.elapsed();
        } else {
            tokio::time::sleep_until((begun + arrives * round / 6).into()).await;
        }
        let committed = pending.commit().await;
        kill.await.unwrap().unwrap();
        again(&mut shop).await;
        let now = shop.number("SELECT SUM(v) FROM t").await;
        let snapshot = Snapshot::open(&[path], None).await.unwrap();
        let settled = shop.target.resolve(&token, &snapshot).await.unwrap();
        assert_eq!(settled, if now == pending_before { Settled::NotCommitted } else { Settled::Committed });
        match committed {
            Ok(()) => {
                assert_ne!(now, pending_before, "acknowledged, and gone");
                seen[0] += 1;
            }
            Err(CommitError::NotCommitted(_)) => {
                assert_eq!(now, pending_before);
                seen[1] += 1;
            }
            Err(CommitError::Unknown(_)) => seen[2] += 1,
        }
        if now != pending_before {
            shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
            assert_eq!(shop.number("SELECT SUM(v) FROM t").await, pending_before);
        }
    }
    println!("acknowledged, not committed, unknown: {seen:?}");
    assert!(seen[2] > 0, "the server was never killed in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_rollback_is_committed_it_did_not_happen() {
    let (server, _turn) = server().await;
    let mut shop = Shop::on(server, T).await;
    let (_, snapshot) = shop.change("DELETE FROM t WHERE id < 4").await.unwrap();
    let after = shop.dump(&["t"]).await;
    let (mut out, path) = shop.writer();
    let undo = shop.target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap();
    let Undo::Ready(_, pending) = undo else { panic!("there is something to roll back") };
    out.finish(&path).await.unwrap();
    let token = pending.token().to_owned();
    let of_undo = Snapshot::open(&[path], None).await.unwrap();
    assert_eq!(shop.target.resolve(&token, &of_undo).await.unwrap(), Settled::Running);
    server.kill().unwrap();
    drop(pending);
    again(&mut shop).await;
    assert_eq!(shop.target.resolve(&token, &of_undo).await.unwrap(), Settled::NotCommitted);
    assert_eq!(shop.dump(&["t"]).await, after);
    shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
    assert_eq!(shop.target.resolve(&token, &of_undo).await.unwrap(), Settled::Committed);
}

#[tokio::test]
async fn dropped_anywhere_nothing_is_held_any_more() {
    let mut shop = Shop::new(T).await;
    let before = shop.dump(&["t"]).await;
    drop(shop.execute("UPDATE t SET v = 9").await.unwrap());
    for micros in [0, 500, 2_000, 5_000, 9_000, 20_000] {
        let work = shop.target.execute(&[statement("DELETE FROM t")]).await;
        drop(work);
        let limit = Duration::from_micros(micros);
        let _cut = tokio::time::timeout(limit, shop.execute("UPDATE t SET v = v + 1")).await;
    }
    // Whoever comes next may have to wait until the server has noticed.
    shop.run("SET SESSION innodb_lock_wait_timeout = 20; UPDATE t SET v = v + 1; UPDATE t SET v = v - 1")
        .await;
    assert_eq!(shop.dump(&["t"]).await, before);
}

#[tokio::test]
async fn without_room_for_the_snapshot_nothing_happens() {
    let mut shop = Shop::new(T).await;
    let before = shop.dump(&["t"]).await;
    let mut pending = shop.execute("UPDATE t SET v = v + 1").await.unwrap();
    let path = shop.folder.path().join("small");
    let header =
        Header { id: "snp".into(), target: "shop".into(), kind: "mysql".into(), system: json!(null) };
    let mut out = SnapshotWriter::create(&path, &header, None, (1, 10)).unwrap();
    assert!(matches!(pending.capture(&mut out).await, Err(Error::TooLarge(_))));
    assert!(matches!(pending.commit().await, Err(CommitError::NotCommitted(_))));
    assert_eq!(shop.dump(&["t"]).await, before);
}

/// More than goes into one chunk or one block, in memory that does not grow with it.
#[tokio::test]
async fn many_records_come_back() {
    let mut shop = Shop::new(
        "CREATE TABLE t(id INT PRIMARY KEY, v INT, s VARCHAR(40), u INT UNIQUE); \
         INSERT INTO t SELECT seq, seq % 7, CONCAT('text ', seq), seq FROM seq_1_to_20000",
    )
    .await;
    let sum = "SELECT BIT_XOR(CRC32(CONCAT_WS('|', id, v, s, u))) FROM t";
    let before = shop.number(sum).await;
    for sql in ["UPDATE t SET v = v + 1, s = 'x'", "DELETE FROM t WHERE v < 5", "UPDATE t SET u = 20001 - u"]
    {
        let (captured, snapshot) = match shop.change(sql).await {
            Ok(done) => done,
            // Row by row, the server does not let unique values swap.
            Err(Error::Statement { code, .. }) if code == "23000" => continue,
            Err(error) => panic!("{sql}: {error}"),
        };
        assert!(captured.affected[0].records > 10_000, "{sql}");
        shop.undo(&snapshot, OnConflict::Refuse).await.unwrap();
        assert_eq!(shop.number(sum).await, before, "{sql}");
    }
}
