//! `kill -9` of the database at each step, during COMMIT too: afterwards there is the old state or the new one,
//! and the target says which.

use super::{Shop, connect, rows};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{CommitError, Error, Settled, Undo, UndoOptions};
use checkrein_testbed::servers::postgres::Postgres;
use std::time::Duration;

const SCHEMA: &str =
    "create table t (id int primary key, v int); insert into t select i, 0 from generate_series(1, 50) i";

async fn kill(server: &'static Postgres) {
    tokio::task::spawn_blocking(|| server.kill().unwrap()).await.unwrap();
}

async fn restart(server: &'static Postgres, shop: &mut Shop) {
    tokio::task::spawn_blocking(|| server.restart().unwrap()).await.unwrap();
    shop.client = connect(&shop.url).await;
}

/// What `resolve` says, and that it is true: the sum that is there then.
async fn settled(
    shop: &Shop,
    token: &str,
    snapshot: &checkrein_targets::snapshot::Snapshot,
    committed: &str,
    not: &str,
) -> Settled {
    let settled = shop.target.resolve(token, snapshot).await.unwrap();
    let sum = shop.ask("select sum(v) from t").await;
    match &settled {
        Settled::Committed => assert_eq!(sum, committed),
        Settled::NotCommitted => assert_eq!(sum, not),
        other => panic!("{other:?}"),
    }
    settled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step() {
    // Leaked, so that threads may hold it; the watchdog clears it away.
    let server: &'static Postgres =
        Box::leak(Box::new(Postgres::start(&[("wal_writer_delay", "10s")]).unwrap()));
    let mut shop = Shop::on(server, SCHEMA).await;
    let refuse = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };

    // Before the statement: nothing runs, and the next one does.
    kill(server).await;
    assert!(matches!(shop.execute("update t set v = 1").await.err(), Some(Error::Unreachable(_))));
    restart(server, &mut shop).await;

    // Between the statement and the capture, and before the commit. Its number is never given out again.
    for captured in [false, true] {
        let mut pending = shop.execute("update t set v = v + 1").await.unwrap();
        let token = pending.token().to_owned();
        let snapshot = if captured { Some(shop.captured(&mut pending).await.1) } else { None };
        kill(server).await;
        if captured {
            assert!(matches!(pending.commit().await, Err(CommitError::Unknown(_))));
        } else {
            let (_, mut out) = shop.writer();
            assert!(pending.capture(&mut out).await.is_err());
        }
        restart(server, &mut shop).await;
        let others = rows(
            &shop.client,
            "insert into t values (1000, 0); delete from t where id = 1000; select pg_current_xact_id()",
        )
        .await;
        let number: u64 = token.rsplit(':').next().unwrap().parse().unwrap();
        assert!(others[0][0].parse::<u64>().unwrap() > number, "{others:?} {token}");
        if let Some(snapshot) = snapshot {
            assert_eq!(settled(&shop, &token, &snapshot, "50", "0").await, Settled::NotCommitted);
        }
    }

    // After a commit that was acknowledged.
    let mut pending = shop.execute("update t set v = v + 1").await.unwrap();
    let token = pending.token().to_owned();
    let (_, snapshot) = shop.captured(&mut pending).await;
    pending.commit().await.unwrap();
    kill(server).await;
    restart(server, &mut shop).await;
    assert_eq!(settled(&shop, &token, &snapshot, "50", "0").await, Settled::Committed);

    // In the midst of the rollback of that, before its commit.
    let (_, mut out) = shop.writer();
    let Ok(Undo::Ready(_, pending)) = shop.target.rollback(&snapshot, &refuse, &mut out).await else {
        panic!()
    };
    let token = pending.token().to_owned();
    kill(server).await;
    assert!(matches!(pending.commit().await, Err(CommitError::Unknown(_))));
    restart(server, &mut shop).await;
    assert_eq!(settled(&shop, &token, &snapshot, "0", "50").await, Settled::NotCommitted);
    shop.undo(&snapshot, &refuse).await.unwrap();
    assert_eq!(shop.ask("select sum(v) from t").await, "0");
    drop(shop);
    tokio::task::spawn_blocking(|| server.kill().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_during_commit() {
    let server: &'static Postgres = Box::leak(Box::new(Postgres::start(&[]).unwrap()));
    let mut shop = Shop::on(server, SCHEMA).await;
    let (mut sum, mut seen) = (0, [0, 0]);
    for turn in 0..8_u64 {
        let mut pending = shop.execute("update t set v = v + 1").await.unwrap();
        let token = pending.token().to_owned();
        let (_, snapshot) = shop.captured(&mut pending).await;
        let dying = tokio::spawn(async move {
            // From before it begins to after it has ended.
            tokio::time::sleep(Duration::from_micros(turn * 400)).await;
            kill(server).await;
        });
        tokio::time::sleep(Duration::from_millis(if turn % 2 == 0 { 10 } else { 0 })).await;
        let answer = pending.commit().await;
        dying.await.unwrap();
        restart(server, &mut shop).await;
        let (committed, not) = ((sum + 50).to_string(), sum.to_string());
        match settled(&shop, &token, &snapshot, &committed, &not).await {
            Settled::Committed => {
                sum += 50;
                seen[0] += 1;
            }
            _ => {
                assert!(answer.is_err(), "an acknowledged commit is lost");
                seen[1] += 1;
            }
        }
        assert!(!matches!(answer, Err(CommitError::NotCommitted(_))), "{answer:?}");
    }
    assert!(seen[0] + seen[1] == 8);
    drop(shop);
    tokio::task::spawn_blocking(|| server.kill().unwrap()).await.unwrap();
}

/// Files put back from a copy: the same server, the same time line, and numbers of transactions that are given out
/// once more. What carries the agent's number then is somebody else's work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_used_again_after_a_restore_of_the_files() {
    let server: &'static Postgres = Box::leak(Box::new(Postgres::start(&[]).unwrap()));
    let mut shop = Shop::on(server, SCHEMA).await;
    let data = shop.ask("show data_directory").await;
    let copy = shop.folder.path().join("copy").display().to_string();
    kill(server).await;
    let copied = std::process::Command::new("cp").args(["-a", &data, &copy]).status().unwrap();
    assert!(copied.success());
    restart(server, &mut shop).await;

    let mut pending = shop.execute("update t set v = v + 1").await.unwrap();
    let number = pending.token().rsplit(':').next().unwrap().to_owned();
    let (_, snapshot) = shop.captured(&mut pending).await;
    pending.commit().await.unwrap();

    kill(server).await;
    std::fs::remove_dir_all(&data).unwrap();
    let copied = std::process::Command::new("cp").args(["-a", &copy, &data]).status().unwrap();
    assert!(copied.success());
    restart(server, &mut shop).await;
    loop {
        let begun = "begin; select pg_current_xact_id()";
        let next = rows(&shop.client, begun).await.swap_remove(0).swap_remove(0);
        let (next, number): (u64, u64) = (next.parse().unwrap(), number.parse().unwrap());
        assert!(next <= number, "{next} came before {number}");
        if next == number {
            break;
        }
        shop.sql("rollback").await;
    }
    shop.sql("update t set v = 7; commit").await;

    let refuse = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
    let (plan, undone) = shop.undo(&snapshot, &refuse).await.unwrap();
    assert_eq!((plan.conflict_count, undone.is_some()), (50, false));
    assert_eq!(shop.ask("select sum(v) from t").await, "350");
    drop(shop);
    tokio::task::spawn_blocking(|| server.kill().unwrap()).await.unwrap();
}
