//! Snapshots, unsettled executions and rollbacks: what the log makes of them, and what retention leaves.

use crate::common::*;
use checkrein_core::{
    event::Event,
    key::Role,
    name::Pattern,
    rollback::OnConflict,
    snapshot::{Execution, Origin, RollbackRecord, RollbackStatus, Seal},
};
use checkrein_store::{
    AppendError, Difference, LiveSnapshot, OpenExecution, Reader, SnapshotFilter, VerifyError,
};
use rusqlite::Connection;

fn taken(id: &str, agent: &str, check_id: Option<&str>) -> Event {
    Event::SnapshotTaken(Box::new(snapshot(id, agent, check_id)))
}

fn sealed(id: &str) -> Event {
    Event::SnapshotSealed { id: id.into(), bytes: 11, key_id: "key_2".into() }
}

fn removed(id: &str) -> Event {
    Event::SnapshotRemoved { id: id.into(), reason: "it was older than 30 days".into() }
}

fn executing(check: &str, snapshot: &str) -> Event {
    let mut checked = checked(check, "billing-bot", Some(check));
    checked.decision.snapshot_id = Some(snapshot.into());
    checked.execution = Some(Execution {
        target: "shop".into(),
        token: Some("tx 7".into()),
        snapshot_id: Some(snapshot.into()),
    });
    Event::Check(Box::new(checked))
}

fn started(id: &str, snapshot: &str) -> Event {
    Event::RollbackStarted(Box::new(RollbackRecord {
        id: id.into(),
        snapshot_id: snapshot.into(),
        undo_snapshot_id: format!("{snapshot}_undo"),
        target: "shop".into(),
        token: "tx 8".into(),
        by: actor(Role::Operator),
        on_conflict: OnConflict::Refuse,
        restored: 3,
        by_resource: Vec::new(),
    }))
}

fn finished(id: &str, status: RollbackStatus) -> Event {
    Event::RollbackFinished { id: id.into(), status, reason: None }
}

#[tokio::test]
async fn where_they_stand_follows_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .append(vec![executing("chk_1", "snp_1"), taken("snp_1", "bot", Some("chk_1"))], at(1))
        .await
        .unwrap();
    store.append(vec![taken("snp_2", "other", None)], at(2)).await.unwrap();
    let open_one = OpenExecution {
        check_id: "chk_1".into(),
        target: "shop".into(),
        token: "tx 7".into(),
        snapshot_id: Some("snp_1".into()),
    };
    let found = store.open_executions(0, 10).await.unwrap();
    assert_eq!(found, [(found[0].0, open_one)]);
    assert_eq!(store.open_executions(found[0].0, 10).await.unwrap(), [], "after that one");
    store.append(vec![outcome("chk_1")], at(3)).await.unwrap();
    assert_eq!(store.open_executions(0, 10).await.unwrap(), []);

    store.append(vec![sealed("snp_1")], at(4)).await.unwrap();
    for again in [sealed("snp_1"), taken("snp_1", "bot", None), finished("rbk_9", RollbackStatus::Done)] {
        let refused = store.append(vec![check("chk_x"), again.clone()], at(5)).await;
        assert!(matches!(refused, Err(AppendError::Exists(_) | AppendError::NotFound(_))), "{again:?}");
    }
    let one = store.snapshot("snp_1").await.unwrap().unwrap();
    assert_eq!((one.record.sealed, one.parts, one.record.bytes, one.created_at), (true, 2, 111, at(1)));
    assert_eq!(one.seal, Some(Seal { at: at(4), key_id: "key_2".into() }));

    store.append(vec![started("rbk_1", "snp_1")], at(6)).await.unwrap();
    let second = store.append(vec![started("rbk_2", "snp_1")], at(6)).await;
    assert!(matches!(second, Err(AppendError::Exists(_))), "one at a time: {second:?}");
    let open = store.open_rollbacks(0, 10).await.unwrap();
    assert_eq!((open.len(), open[0].1.record.id.as_str()), (1, "rbk_1"));
    assert_eq!(store.open_rollbacks(open[0].0, 10).await.unwrap(), []);
    store.append(vec![finished("rbk_1", RollbackStatus::NotDone)], at(7)).await.unwrap();
    store.append(vec![started("rbk_2", "snp_1")], at(8)).await.unwrap();
    let last = store.rollback_of("snp_1").await.unwrap().unwrap();
    assert_eq!((last.record.id.as_str(), last.status), ("rbk_2", None));

    store.append(vec![removed("snp_2")], at(9)).await.unwrap();
    assert!(store.append(vec![sealed("snp_2")], at(9)).await.is_err(), "what is gone is not sealed");
    let page = |filter, before, limit| store.snapshots(filter, before, limit);
    let first = page(SnapshotFilter::default(), None, 1).await.unwrap();
    assert_eq!(first.rows[0].record.id, "snp_2");
    let next = page(SnapshotFilter::default(), first.next, 1).await.unwrap();
    assert_eq!((next.rows[0].record.id.as_str(), next.next), ("snp_1", None));
    let bots = SnapshotFilter { agent: Some(Pattern::new("bo*").unwrap()), ..Default::default() };
    assert_eq!(page(bots, None, 10).await.unwrap().rows.len(), 1);
    let live = SnapshotFilter { live: Some(true), ..Default::default() };
    assert_eq!(page(live, None, 10).await.unwrap().rows[0].record.id, "snp_1");
    let live = LiveSnapshot {
        id: "snp_1".into(),
        agent: "bot".into(),
        key_id: "key_1".into(),
        origin: Origin::Execution,
        created_at: at(1),
        bytes: 111,
    };
    assert_eq!(store.live_snapshots().await.unwrap(), [live]);
    assert_eq!(store.snapshots_of_check("chk_1").await.unwrap().len(), 1);
    store.close().await;
    verified(dir.path());

    for (sql, table, what) in [
        ("UPDATE snapshots SET live = 1", "snapshots", Difference::Changed),
        ("DELETE FROM snapshots WHERE id = 'snp_1'", "snapshots", Difference::Missing),
        ("INSERT INTO executions VALUES (1, 'chk_1', 'shop', 't', NULL)", "executions", Difference::Added),
        ("UPDATE rollbacks SET open = 0", "rollbacks", Difference::Changed),
    ] {
        let copy = tempfile::tempdir().unwrap();
        let file = copy.path().join("checkrein.db");
        std::fs::copy(dir.path().join("checkrein.db"), &file).unwrap();
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
        let error = Reader::open(copy.path()).unwrap().verify(None, |_| {}).unwrap_err();
        let VerifyError::Projection { table: t, what: w, .. } = error else { panic!("{sql}: {error}") };
        assert_eq!((t, w), (table, what), "{sql}");
    }
}

#[tokio::test]
async fn retention_leaves_what_somebody_may_still_need() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![check("chk_0")], at(0)).await.unwrap();
    store
        .append(vec![executing("chk_1", "snp_1"), taken("snp_1", "bot", Some("chk_1"))], at(1))
        .await
        .unwrap();
    store.append(vec![check("chk_2")], at(2)).await.unwrap();
    assert_eq!(store.prune(at(100)).await.unwrap().through, 1, "a live snapshot keeps its check");
    store.append(vec![removed("snp_1")], at(3)).await.unwrap();
    assert_eq!(store.prune(at(100)).await.unwrap().removed, 0, "and an execution without outcome");
    store.append(vec![outcome("chk_1")], at(4)).await.unwrap();
    // Up to the rollback, which is not settled although its snapshot is gone.
    store
        .append(vec![taken("snp_3", "bot", None), removed("snp_3"), started("rbk_1", "snp_3")], at(5))
        .await
        .unwrap();
    let through = store.prune(at(100)).await.unwrap().through;
    assert_eq!(store.snapshot("snp_1").await.unwrap(), None, "it went with its entry");
    assert_eq!(store.check("chk_1").await.unwrap(), None);
    assert_eq!(store.rollback_of("snp_3").await.unwrap().map(|r| r.record.id), Some("rbk_1".into()));
    store.append(vec![finished("rbk_1", RollbackStatus::Done)], at(6)).await.unwrap();
    assert!(store.prune(at(100)).await.unwrap().through > through);
    assert_eq!(store.rollback_of("snp_3").await.unwrap(), None);
    store.close().await;
    verified(dir.path());
}
