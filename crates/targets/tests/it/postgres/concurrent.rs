//! Others write at the same time: the images are exactly what the transaction did, and nothing of theirs is lost.

use super::{Shop, config, connect, patient, rows, statement};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Error, Limits, UndoOptions, open, snapshot::Side};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A log that triggers write says what every transaction did.
const SCHEMA: &str = "
    create table parents (id int primary key, v int);
    create table t (id int primary key, v int not null, parent int references parents, note text) with (fillfactor = 60);
    create table log (xid xid8, side text, id int, line text);
    create function log() returns trigger language plpgsql as $$ begin
        if tg_op <> 'INSERT' then insert into log values (pg_current_xact_id(), 'before', old.id,
            concat_ws(chr(9), old.id, old.v, old.parent, coalesce(old.note, '\\N'))); end if;
        if tg_op <> 'DELETE' then insert into log values (pg_current_xact_id(), 'after', new.id,
            concat_ws(chr(9), new.id, new.v, new.parent, coalesce(new.note, '\\N'))); end if;
        return null; end $$;
    create trigger log after insert or update or delete on t for each row execute function log();
    insert into parents select i, 0 from generate_series(1, 5) i;
    insert into t select i, 0, 1 + i % 5, null from generate_series(1, 200) i;
    truncate log;";

/// One of several writers: updates, deletes, inserts, key locks, savepoints that fail, until told to stop.
async fn write(url: String, number: u32, stop: Arc<AtomicBool>) {
    let client = connect(&url).await;
    client.batch_execute("set deadlock_timeout = '100ms'; set lock_timeout = '500ms'").await.unwrap();
    let mut turn = number;
    while !stop.load(Relaxed) {
        turn = turn.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let id = 1 + (turn >> 16) % 200;
        let sql = match (turn >> 8) % 6 {
            0 => format!("update t set v = v + 1 where id = {id}"),
            1 => format!(
                "begin; delete from t where id = {id}; insert into t values ({id}, 0, 1, 'again {number}'); commit"
            ),
            2 => format!(
                "begin; savepoint a; update t set note = 'never' where id = {id}; rollback to a; update t set note = 'w{number}' where id = {id}; commit"
            ),
            3 => format!(
                "begin; select 1 from t where id = {id} for key share; update parents set v = v + 1 where id = {}; commit",
                1 + id % 5
            ),
            4 => format!("insert into t values ({}, 1, 2, 'new') on conflict do nothing", 1_000 + id),
            _ => format!("begin; update t set v = v - 1 where id = {id}; rollback"),
        };
        if client.batch_execute(&sql).await.is_err() {
            let _aborted = client.batch_execute("rollback").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_exactly_what_a_trigger_log_says() {
    let shop = Shop::new(SCHEMA).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (1..=4).map(|number| tokio::spawn(write(shop.url.clone(), number, stop.clone()))).collect();
    let mut compared = 0;
    for turn in 0..60 {
        let sql = match turn % 4 {
            0 => format!("update t set v = v + 100, note = 'agent' where id % 7 = {}", turn % 7),
            1 => format!("delete from t where id > 1000 or id % 31 = {}", turn % 31),
            2 => format!(
                "insert into t select i, 5, 3, 'agent' from generate_series({}, {}) i",
                5_000 + turn * 10,
                5_004 + turn * 10
            ),
            _ => "update t set note = note where v > 0".to_owned(),
        };
        // Locks of the others may be in the way.
        let Ok(mut pending) = shop.execute(&sql).await else { continue };
        let (_, snapshot) = shop.captured(&mut pending).await;
        let xid = pending.token().rsplit(':').next().unwrap().to_owned();
        pending.commit().await.unwrap();
        compared += 1;

        let mut logged: BTreeMap<(String, String), i64> = BTreeMap::new();
        // What was changed twice in one transaction has images in between, which cancel out.
        for row in rows(&shop.client, &format!("select side, line from log where xid = '{xid}'")).await {
            *logged.entry((row[0].clone(), row[1].clone())).or_default() += 1;
        }
        let mut taken: BTreeMap<(String, String), i64> = BTreeMap::new();
        let tables = snapshot.tables(0).unwrap();
        let mut blocks = snapshot.blocks();
        while let Some(block) = blocks.next().await.unwrap() {
            if tables[block.table as usize].resource != "public.t" {
                continue;
            }
            let side = if block.side == Side::Before { "before" } else { "after" };
            for line in String::from_utf8(block.data).unwrap().lines() {
                *taken.entry((side.to_owned(), line.to_owned())).or_default() += 1;
            }
        }
        assert_eq!(taken, logged, "{sql}");
    }
    stop.store(true, Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(compared > 20, "only {compared} changes came through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_elses_later_change_is_lost() {
    let shop = Shop::new("create table t (id int primary key, agent int default 0, person int default 0); insert into t select i from generate_series(1, 300) i").await;
    let stop = Arc::new(AtomicBool::new(false));
    let person = {
        let (url, stop) = (shop.url.clone(), stop.clone());
        tokio::spawn(async move {
            let client = connect(&url).await;
            let (mut done, mut turn) = (0_u64, 1_u32);
            while !stop.load(Relaxed) {
                turn = turn.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                let id = 1 + (turn >> 16) % 300;
                done += client
                    .execute(&format!("update t set person = person + 1 where id = {id}"), &[])
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            done
        })
    };
    for turn in 1..12 {
        let Ok(mut pending) = shop.execute(&format!("update t set agent = {turn} where id <= 60")).await
        else {
            continue;
        };
        let (_, snapshot) = shop.captured(&mut pending).await;
        pending.commit().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let options = UndoOptions { on_conflict: OnConflict::Skip, ..UndoOptions::default() };
        shop.undo(&snapshot, &options).await.unwrap();
    }
    stop.store(true, Relaxed);
    let done = person.await.unwrap();
    assert_eq!(
        shop.ask("select sum(person) from t").await,
        done.to_string(),
        "each of their changes still counts"
    );
}

/// Who updates a row that a foreign key of the agent's has locked takes the lock's number along to the new version.
/// What they write is not the agent's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_the_agent_refers_to_while_others_update_them() {
    let shop = Shop::new(
        "create table small (id int primary key, boss int references small(id), seen int not null default 0);
         insert into small select i from generate_series(1, 20) i",
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (url, stop) = (shop.url.clone(), stop.clone());
            tokio::spawn(async move {
                let client = connect(&url).await;
                while !stop.load(Relaxed) {
                    client.batch_execute("update small set seen = seen + 1 where id = 5").await.unwrap();
                }
            })
        })
        .collect();
    for turn in 0..150 {
        let mut pending = shop.execute("update small set boss = 5 where id in (1, 2)").await.unwrap();
        let (captured, snapshot) = shop.captured(&mut pending).await;
        pending.commit().await.unwrap();
        assert_eq!(captured.affected.iter().map(|a| a.records).sum::<u64>(), 2, "turn {turn}");
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut blocks = snapshot.blocks();
        while let Some(block) = blocks.next().await.unwrap() {
            let side = if block.side == Side::Before { &mut before } else { &mut after };
            side.extend(String::from_utf8(block.data).unwrap().lines().map(str::to_owned));
        }
        before.sort();
        after.sort();
        assert_eq!(before, ["1\t\\N\t0", "2\t\\N\t0"], "turn {turn}");
        assert_eq!(after, ["1\t5\t0", "2\t5\t0"], "turn {turn}");
        let refuse = UndoOptions { on_conflict: OnConflict::Refuse, ..UndoOptions::default() };
        let (plan, _) = shop.undo(&snapshot, &refuse).await.unwrap();
        assert_eq!(plan.conflict_count, 0, "turn {turn}");
    }
    stop.store(true, Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(shop.ask("select count(*) from small where boss is null").await, "20");
}

#[tokio::test]
async fn what_somebody_ends_did_not_take_too_long() {
    let shop = Shop::new("create table t (id int primary key, v int); insert into t values (1, 1)").await;
    for kill in ["pg_cancel_backend", "pg_terminate_backend"] {
        let target = Arc::clone(&shop.target);
        let run = tokio::spawn(async move {
            target.execute(&[statement("update t set v = 2 where pg_sleep(40) is not null")]).await.err()
        });
        let ended = format!(
            "select count({kill}(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
             and state = 'active' and query like 'update t set v = 2 where pg_sleep%'"
        );
        let since = Instant::now();
        while shop.ask(&ended).await == "0" {
            assert!(since.elapsed() < Duration::from_secs(60), "waited for the statement to run");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let error = run.await.unwrap().unwrap();
        let said = |why: &str| why.contains("nothing was changed; try again");
        assert!(matches!(&error, Error::Unreachable(why) if said(why)), "{kill}: {error:?}");
        assert_eq!(shop.ask("select v from t").await, "1");
    }
}

#[tokio::test]
async fn a_rollback_that_waits_for_a_lock_is_not_impossible() {
    let shop = Shop::new("create table t (id int primary key, v int); insert into t values (1, 1)").await;
    let snapshot = shop.run("update t set v = 2").await;
    let limits = Limits { lock: Duration::from_millis(500), ..patient() };
    let target = open(config(&shop.url, limits)).unwrap();
    shop.sql("begin; select * from t for update").await;
    let (_, mut out) = shop.writer();
    let error = target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.err().unwrap();
    assert!(matches!(&error, Error::Unreachable(why) if why.contains("nothing was changed")), "{error:?}");
    shop.sql("rollback").await;
    shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!(shop.ask("select v from t").await, "1");
}

/// A row that somebody changed while the agent waited for it is locked by the agent and yet not its own: it is in no
/// image, and nothing of it is put back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_waited_for_in_vain_is_nobody_s_image() {
    let mut shop = Shop::new(
        "create table t (id int primary key, v int, note text); insert into t select i, 0, 'a' from generate_series(1, 500) i",
    )
    .await;
    let limits = Limits { lock: Duration::from_secs(120), execute: Duration::from_secs(120), ..patient() };
    shop.target = open(config(&shop.url, limits)).unwrap();
    shop.sql("begin; update t set v = 1, note = 'theirs' where id in (5, 6)").await;
    let target = Arc::clone(&shop.target);
    let waiting =
        tokio::spawn(async move { target.execute(&[statement("update t set v = 2 where v = 0")]).await });
    let waits = "select count(*) from pg_locks where not granted and locktype = 'transactionid'";
    let deadline = Instant::now() + Duration::from_secs(60);
    while shop.ask(waits).await == "0" {
        assert!(Instant::now() < deadline, "the agent does not wait for the row");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shop.sql("commit").await;
    let mut pending = waiting.await.unwrap().unwrap();
    let (captured, snapshot) = shop.captured(&mut pending).await;
    assert_eq!(captured.affected.iter().map(|a| a.records).sum::<u64>(), 498);
    pending.commit().await.unwrap();
    let totals = snapshot.footer(0).unwrap().tables.iter().map(|t| (t.before, t.after)).collect::<Vec<_>>();
    assert_eq!(totals, [(498, 498)]);
    let (plan, undone) = shop.undo(&snapshot, &UndoOptions::default()).await.unwrap();
    assert_eq!((plan.conflict_count, undone.is_some()), (0, true));
    assert_eq!(
        shop.ask("select string_agg(id::text, ',' order by id) from t where note = 'theirs' and v = 1").await,
        "5,6"
    );
    assert_eq!(shop.ask("select count(*) from t where v = 0").await, "498");
}
