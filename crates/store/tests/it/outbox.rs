//! Signals that derive from the log, and what the dispatcher keeps beside them.

use crate::common::{at, check, checked_with, decided, name, open, requested};
use checkrein_core::{
    approval::Answer,
    decision::Verdict,
    event::Event,
    signal::{Delivery, Groups, OutboxChanges, OutboxLimits, Place, Route, Routing, Standing},
};
use checkrein_store::{Reader, SignalFilter, Store};

async fn signals(store: &Store) -> Vec<(u64, String)> {
    let page = store.signals(SignalFilter::default(), None, 100).await.unwrap();
    page.rows.into_iter().rev().map(|row| (row.place.seq, row.signal.kind)).collect()
}

async fn log(store: &Store) {
    let mut allowed = checked_with("chk_2", "bot", None, "read", "shop.users", Verdict::Allow);
    allowed.decision.policies.clear();
    let events = [
        check("chk_1"),
        Event::Check(Box::new(allowed)),
        requested("apr_1", "chk_1"),
        decided("apr_1", Answer::Deny),
    ];
    for event in events {
        store.append(vec![event], at(1)).await.unwrap();
    }
}

#[tokio::test]
async fn they_derive_from_the_log_and_verify() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    log(&store).await;
    let expected = [(1, "action.blocked".to_owned()), (4, "approval.denied".to_owned())];
    assert_eq!(signals(&store).await, expected);
    // A call that is refused causes none.
    store.append(vec![check("chk_1")], at(2)).await.unwrap_err();
    store.append(vec![check("chk_3"), decided("apr_1", Answer::Approve)], at(2)).await.unwrap_err();
    assert_eq!(signals(&store).await, expected);
    store.close().await;
    assert_eq!(Reader::open(dir.path()).unwrap().verify(None, |_| {}).unwrap().entries, 4);
    // What the database lost comes back from the journal, with its signals.
    let store = open(dir.path());
    assert_eq!(signals(&store).await, expected);
}

/// One step of a dispatcher: everything goes to one sink.
async fn step(store: &Store, last_no: &mut u64) -> OutboxChanges {
    let sinks = vec!["team".to_owned()];
    let routing = Routing {
        routes: vec![Route { sinks: sinks.clone(), ..Route::default() }],
        sinks,
        ..Routing::default()
    };
    let kept = store.outbox().await.unwrap();
    let mut groups = Groups::load(kept.groups);
    let mut changes = OutboxChanges::default();
    for (place, signal) in store.signals_after(kept.routed, 100).await.unwrap() {
        groups.take(place, &signal, &routing, at(3));
        changes.routed = Some(place);
    }
    for message in groups.due(&routing, at(3)).0 {
        *last_no += 1;
        groups.settled(&message.notification.delivery_id);
        changes.deliveries.push(Delivery {
            no: *last_no,
            sink: message.sink,
            standing: if *last_no == 1 { Standing::Dead } else { Standing::Queued },
            condition: message.condition,
            entries: message.entries,
            queued_at: at(3),
            attempts: 1,
            next_at: at(3),
            settled_at: None,
            error: None,
            notification: message.notification,
        });
    }
    changes.groups = groups.changes();
    changes
}

#[tokio::test]
async fn a_step_of_the_dispatcher_is_kept_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    log(&store).await;
    let mut last_no = 0;
    let changes = step(&store, &mut last_no).await;
    assert_eq!((changes.routed, changes.deliveries.len()), (Some(Place { seq: 4, n: 0 }), 2));
    store.keep_outbox(changes).await.unwrap();
    let kept = store.outbox().await.unwrap();
    assert_eq!((kept.routed.seq, kept.queued.len(), kept.last_no), (4, 1, 2));
    assert!(!kept.groups.is_empty());
    assert!(step(&store, &mut last_no).await.deliveries.is_empty(), "all is routed");
    // Each signal shows the messages that speak for it.
    let filter = |standing| SignalFilter { standing: Some(standing), ..SignalFilter::default() };
    for (standing, seq) in [(Standing::Dead, 1), (Standing::Queued, 4)] {
        let page = store.signals(filter(standing), None, 10).await.unwrap();
        let found: Vec<_> = page.rows.iter().map(|row| (row.place.seq, row.deliveries.len())).collect();
        assert_eq!(found, [(seq, 1)], "{standing:?}");
    }
    // It survives whatever a restart survives, and the log still verifies.
    store.close().await;
    let store = open(dir.path());
    assert_eq!(store.outbox().await.unwrap().queued.len(), 1);
    store.close().await;
    Reader::open(dir.path()).unwrap().verify(None, |_| {}).unwrap();
}

#[tokio::test]
async fn what_is_done_with_is_removed_and_what_is_not_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..20 {
        let agent = format!("bot-{n}");
        let checked = checked_with(&format!("chk_{n}"), &agent, None, "update", "shop.users", Verdict::Block);
        assert_eq!(checked.action.agent, name(&agent));
        store.append(vec![Event::Check(Box::new(checked))], at(1)).await.unwrap();
    }
    let limits = OutboxLimits { signals: 5, delivered: 3, dead: 2 };
    let prune = || OutboxChanges { prune: Some(limits), ..OutboxChanges::default() };
    store.keep_outbox(prune()).await.unwrap();
    assert_eq!(signals(&store).await.len(), 20, "nobody has routed them");
    let mut last_no = 0;
    let mut changes = step(&store, &mut last_no).await;
    assert_eq!(changes.deliveries.len(), 20);
    for delivery in &mut changes.deliveries {
        delivery.standing = match delivery.no {
            1..=8 => Standing::Dead,
            9..=15 => Standing::Delivered,
            _ => Standing::Queued,
        };
    }
    store.keep_outbox(changes).await.unwrap();
    store.keep_outbox(prune()).await.unwrap();
    let left: Vec<_> = signals(&store).await.into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(left, [16, 17, 18, 19, 20]);
    let db = rusqlite::Connection::open(dir.path().join("checkrein.db")).unwrap();
    let count = |standing: &str| -> i64 {
        db.query_row("SELECT count(*) FROM deliveries WHERE standing = ?1", [standing], |r| r.get(0)).unwrap()
    };
    assert_eq!([count("dead"), count("delivered"), count("queued")], [2, 3, 5]);
    drop(db);
    store.close().await;
    Reader::open(dir.path()).unwrap().verify(None, |_| {}).unwrap();
}

/// A hundred thousand signals, nearly all of them of one runaway agent: what is asked for is found in one page, and
/// no look goes through all of it.
#[tokio::test]
async fn what_did_not_arrive_is_found_among_very_many() {
    const MANY: i64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..3 {
        let agent = ["rare", "runaway", "rare"][n];
        let checked = checked_with(&format!("chk_{n}"), agent, None, "update", "shop.users", Verdict::Block);
        store.append(vec![Event::Check(Box::new(checked))], at(1)).await.unwrap();
    }
    let mut last_no = 0;
    let mut made = step(&store, &mut last_no).await.deliveries;
    let runaway = made.iter().position(|d| d.condition.contains("runaway")).unwrap();
    let runaway = made.swap_remove(runaway);
    store.close().await;
    let db = rusqlite::Connection::open(dir.path().join("checkrein.db")).unwrap();
    db.execute(
        "WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < ?1)
         INSERT INTO signals SELECT 10 + i, 0, kind, severity, agent, body FROM signals, i WHERE seq = 2",
        [MANY],
    )
    .unwrap();
    drop(db);
    let store = open(dir.path());
    let filter = |standing| SignalFilter { standing: Some(standing), ..SignalFilter::default() };
    let none = store.signals(filter(Standing::Dead), None, 50).await.unwrap();
    assert_eq!((none.rows.len(), none.next), (0, None), "one look, not a page for each 5,000");

    // One dead letter at the very beginning, and ten thousand messages about the runaway agent.
    let mut changes = OutboxChanges::default();
    let (old, message) = (made.remove(0), |no: u64, of: &Delivery| {
        let mut delivery = Delivery { no, ..of.clone() };
        delivery.notification.delivery_id = format!("dlv_{no}");
        delivery
    });
    changes.deliveries.push(Delivery { standing: Standing::Dead, entries: (1, 1), ..message(1, &old) });
    for no in 2..=10_001 {
        let entries = (2, 10 + (no - 1) * 10);
        changes.deliveries.push(Delivery { standing: Standing::Delivered, entries, ..message(no, &runaway) });
    }
    store.keep_outbox(changes).await.unwrap();
    let dead = store.signals(filter(Standing::Dead), None, 50).await.unwrap();
    let found: Vec<_> = dead.rows.iter().map(|row| (row.place.seq, row.deliveries.len())).collect();
    assert_eq!((found, dead.next), (vec![(1, 1)], None));
    // A message of a group speaks for all of it: what is shown of each signal is bounded.
    let oldest = SignalFilter { sink: Some("team".to_owned()), ..SignalFilter::default() };
    let page = store.signals(oldest, Some(Place { seq: 500, n: 0 }), 50).await.unwrap();
    assert_eq!(page.rows.len(), 50);
    let row = &page.rows[0];
    assert_eq!((row.place.seq, row.deliveries.len()), (499, 50));
    assert!(
        row.deliveries.iter().all(|d| d.entries.1 >= 499),
        "the first that spoke for it, and those after"
    );
    assert!(row.deliveries.iter().any(|d| d.entries.1 == 500), "the first is among them");
    store.close().await;

    // However the tables grow, these stay look-ups.
    let db = rusqlite::Connection::open(dir.path().join("checkrein.db")).unwrap();
    let plan = |sql: &str| -> Vec<String> {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect()
    };
    for sql in [
        "SELECT body FROM deliveries WHERE condition = 'x' AND standing = 'dead' AND last_seq >= 1
         AND first_seq <= 1 ORDER BY last_seq LIMIT 50",
        "SELECT sink, condition, first_seq, last_seq FROM deliveries WHERE standing = 'dead'",
        "SELECT seq, n, kind, agent, body FROM signals
         WHERE (seq, n) < (9, 0) AND seq >= 1 AND severity >= 0 ORDER BY seq DESC, n DESC",
    ] {
        let plan = plan(sql);
        assert!(plan.len() == 1 && plan[0].starts_with("SEARCH"), "{sql}: {plan:?}");
    }
}
