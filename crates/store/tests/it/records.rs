//! What goes on record comes back, once, in order, whoever asks.

use crate::common::*;
use checkrein_core::{
    approval::{Answer, Refused, State, Transition},
    decision::Verdict,
    event::Event,
    name::Pattern,
};
use checkrein_store::{AppendError, ApprovalFilter, CheckFilter, EntryFilter, Reader, StoreError};
use std::os::unix::fs::PermissionsExt as _;

#[tokio::test]
async fn what_goes_on_record_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/data");
    let store = open(&folder);
    let stamps = store.append(vec![check_with_key("chk_1", "k1"), outcome("chk_1")], at(1)).await.unwrap();
    assert_eq!(stamps.iter().map(|s| s.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((store.head().seq, store.head().hash), (2, stamps[1].hash));
    assert_eq!(*store.subscribe().borrow(), 2);

    let row = store.check("chk_1").await.unwrap().unwrap();
    assert_eq!((row.seq, row.at), (1, at(1)));
    assert_eq!(Event::Check(Box::new(row.checked.clone())), check_with_key("chk_1", "k1"));
    assert_eq!(Event::Outcome(row.outcome.unwrap()), outcome("chk_1"));
    assert_eq!(store.check("chk_2").await.unwrap(), None);
    let key_id = row.checked.key_id.clone();
    assert_eq!(store.by_idempotency_key(&key_id, "k1").await.unwrap(), Some(row.checked));
    assert_eq!(store.by_idempotency_key("key_other", "k1").await.unwrap(), None);
    assert_eq!(store.recent_idempotency_keys(10).await.unwrap(), [(key_id, "k1".to_owned())]);

    let entries = store.entries(0, 10, EntryFilter::default()).await.unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].body, check_with_key("chk_1", "k1").body().unwrap());
    assert_eq!(store.entry(2).await.unwrap().as_ref(), entries.get(1));
    assert_eq!(verified(&folder), 2, "beside the running server");

    store.close().await;
    assert!(matches!(store.append(vec![check("chk_3")], at(2)).await, Err(AppendError::Closed)));
    assert!(matches!(store.check("chk_1").await, Err(StoreError::Closed)));
    assert!(!folder.join("checkrein.db-wal").exists(), "everything is in one file after an orderly stop");
    assert_eq!(verified(&folder), 2);
    for (file, mode) in [("", 0o700), ("checkrein.db", 0o600), ("checkrein.lock", 0o600)] {
        assert_eq!(folder.join(file).metadata().unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
    let store = open(&folder);
    assert_eq!(store.head().seq, 2);
    assert_eq!(store.append(vec![check("chk_3")], at(2)).await.unwrap()[0].seq, 3);
}

#[tokio::test]
async fn a_call_is_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let refused = store.append(vec![check_with_key("chk_1", "k"), outcome("chk_9")], at(0)).await;
    assert!(matches!(refused, Err(AppendError::NotFound(what)) if what.contains("chk_9")));
    assert_eq!(store.head().seq, 0);
    assert_eq!(store.check("chk_1").await.unwrap(), None);
    store.append(vec![check_with_key("chk_1", "k")], at(0)).await.unwrap();
    let again = store.append(vec![check("chk_1")], at(0)).await;
    assert!(matches!(again, Err(AppendError::Exists(what)) if what.contains("chk_1")));
    assert!(matches!(store.append(vec![], at(0)).await, Err(AppendError::Invalid(_))));
    store.close().await;
    assert_eq!(verified(dir.path()), 1);
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_take_the_log_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![check("chk_1")], at(100)).await.unwrap();
    assert_eq!(store.append(vec![check("chk_2")], at(50)).await.unwrap()[0].at, at(100));
    store.close().await;
    let store = open(dir.path());
    assert_eq!(store.append(vec![check("chk_3")], at(60)).await.unwrap()[0].at, at(100));
    assert_eq!(store.append(vec![check("chk_4")], at(101)).await.unwrap()[0].at, at(101));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_is_recorded_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let calls: Vec<_> = (0..64)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                store.append(vec![check_with_key(&format!("chk_{i}"), "same")], at(0)).await
            })
        })
        .collect();
    let (mut first, mut told) = (Vec::new(), Vec::new());
    for (i, call) in calls.into_iter().enumerate() {
        match call.await.unwrap() {
            Ok(_) => first.push(format!("chk_{i}")),
            Err(AppendError::Duplicate(checked)) => told.push(checked.decision.id),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((first.len(), told.len(), store.head().seq), (1, 63, 1));
    assert!(told.iter().all(|id| *id == first[0]));
    store.close().await;
    assert_eq!(verified(dir.path()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_deciders_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![check("chk_1"), requested("apr_1", "chk_1")], at(0)).await.unwrap();
    assert_eq!(store.open_approval(&approval("", "chk_1").fingerprint).await.unwrap().unwrap().id, "apr_1");
    let calls: Vec<_> = (0..50)
        .map(|i| {
            let store = store.clone();
            let answer = if i % 2 == 0 { Answer::Approve } else { Answer::Deny };
            tokio::spawn(async move { store.append(vec![decided("apr_1", answer)], at(1)).await })
        })
        .collect();
    let mut won = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => won += 1,
            Err(AppendError::Refused(Refused::Settled(_))) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((won, store.head().seq), (1, 3));
    store.close().await;
    assert_eq!(verified(dir.path()), 3);
}

#[tokio::test]
async fn an_approval_lets_one_check_through() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![check("chk_1"), requested("apr_1", "chk_1")], at(0)).await.unwrap();
    let fingerprint = approval("", "chk_1").fingerprint;
    let used = |by: &str| {
        changed("apr_1", Transition::Use { check_id: by.into(), fingerprint: fingerprint.clone() })
    };
    let early = store.append(vec![used("chk_2"), check("chk_2")], at(1)).await;
    assert!(matches!(early, Err(AppendError::Refused(Refused::NotApproved(State::Pending)))));
    store.append(vec![decided("apr_1", Answer::Approve)], at(2)).await.unwrap();
    store.append(vec![used("chk_2"), check("chk_2")], at(3)).await.unwrap();
    let twice = store.append(vec![used("chk_3"), check("chk_3")], at(4)).await;
    assert!(matches!(twice, Err(AppendError::Refused(Refused::Used(by))) if by == "chk_2"));
    assert_eq!(store.check("chk_3").await.unwrap(), None, "the check was not recorded either");
    assert_eq!(store.open_approval(&fingerprint).await.unwrap(), None);
    assert_eq!(store.approval("apr_1").await.unwrap().unwrap().used_by.as_deref(), Some("chk_2"));
    let unknown = store.append(vec![decided("apr_9", Answer::Deny)], at(4)).await;
    assert!(matches!(unknown, Err(AppendError::NotFound(_))));
    store.close().await;
    verified(dir.path());
}

#[tokio::test]
async fn approvals_are_listed_and_come_due() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for i in 0..5 {
        let (apr, chk) = (format!("apr_{i}"), format!("chk_{i}"));
        store.append(vec![check(&chk), requested(&apr, &chk)], at(0)).await.unwrap();
    }
    store.append(vec![decided("apr_3", Answer::Deny)], at(1)).await.unwrap();
    let pending = ApprovalFilter { state: Some(State::Pending), ..ApprovalFilter::default() };
    let page = store.approvals(pending.clone(), None, 3).await.unwrap();
    assert_eq!(page.rows.iter().map(|a| &*a.id).collect::<Vec<_>>(), ["apr_4", "apr_2", "apr_1"]);
    let page = store.approvals(pending, page.next, 3).await.unwrap();
    assert_eq!(page.rows.iter().map(|a| &*a.id).collect::<Vec<_>>(), ["apr_0"]);
    assert_eq!(page.next, None);
    let nobody = ApprovalFilter { agent: Some(Pattern::new("x*").unwrap()), ..ApprovalFilter::default() };
    assert!(store.approvals(nobody, None, 3).await.unwrap().rows.is_empty());

    assert!(store.due_approvals(at(3599), 10).await.unwrap().is_empty());
    let due = store.due_approvals(at(3600), 10).await.unwrap();
    assert_eq!(due.len(), 4, "the denied one is not due");
    for approval in due {
        store.append(vec![changed(&approval.id, Transition::Expire)], at(3600)).await.unwrap();
    }
    assert!(store.due_approvals(at(9999), 10).await.unwrap().is_empty());
    store.close().await;
    verified(dir.path());
}

#[tokio::test]
async fn policies_and_keys_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![policy("b", 1), policy("a", 2), key("key_1"), key("key_2")], at(0)).await.unwrap();
    store.append(vec![policy("b", 3), revoked("key_1")], at(1)).await.unwrap();
    store.close().await;
    let store = open(dir.path());
    let limits: Vec<_> = store
        .policies()
        .await
        .unwrap()
        .iter()
        .map(|p| p["condition"]["record_count_exceeds"].as_u64().unwrap())
        .collect();
    assert_eq!(limits, [2, 3]);
    assert_eq!(store.keys().await.unwrap().iter().map(|k| &*k.id).collect::<Vec<_>>(), ["key_2"]);
    store.append(vec![policy_deleted("a")], at(2)).await.unwrap();
    for (event, word) in [(policy_deleted("a"), "policy a"), (revoked("key_1"), "key key_1")] {
        let refused = store.append(vec![event], at(3)).await;
        assert!(matches!(refused, Err(AppendError::NotFound(what)) if what == word));
    }
    assert!(matches!(store.append(vec![key("key_2")], at(3)).await, Err(AppendError::Exists(_))));
    assert_eq!(store.policies().await.unwrap().len(), 1);
    store.close().await;
    verified(dir.path());
}

#[tokio::test]
async fn checks_are_found_by_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut events = Vec::new();
    for i in 0..30 {
        let agent = if i % 3 == 0 { "billing-bot" } else { "mail-bot" };
        let (verb, resource) =
            if i % 2 == 0 { ("delete", "production.users") } else { ("update", "shop.orders") };
        let verdict = if i % 5 == 0 { Verdict::Hold } else { Verdict::Allow };
        let checked = checked_with(&format!("chk_{i}"), agent, None, verb, resource, verdict);
        events.push((i, Event::Check(Box::new(checked))));
    }
    for (i, event) in events {
        store.append(vec![event], at(i)).await.unwrap();
    }
    let ids = async |filter: CheckFilter| {
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let page = store.checks(filter.clone(), before, 4).await.unwrap();
            assert!(page.rows.len() <= 4);
            ids.extend(
                page.rows.iter().map(|r| r.checked.decision.id.replace("chk_", "").parse::<i64>().unwrap()),
            );
            if page.next.is_none() {
                return ids;
            }
            before = page.next;
        }
    };
    let pattern = |p: &str| Some(Pattern::new(p).unwrap());
    let all = |keep: &dyn Fn(i64) -> bool| (0..30).rev().filter(|i| keep(*i)).collect::<Vec<_>>();
    let none = CheckFilter::default;
    assert_eq!(ids(none()).await, all(&|_| true));
    assert_eq!(ids(CheckFilter { agent: pattern("Billing-bot"), ..none() }).await, all(&|i| i % 3 == 0));
    assert_eq!(ids(CheckFilter { agent: pattern("mail*"), ..none() }).await, all(&|i| i % 3 != 0));
    assert_eq!(ids(CheckFilter { verdict: Some(Verdict::Hold), ..none() }).await, all(&|i| i % 5 == 0));
    assert_eq!(ids(CheckFilter { action: pattern("delete"), ..none() }).await, all(&|i| i % 2 == 0));
    assert_eq!(ids(CheckFilter { resource: pattern("shop.*"), ..none() }).await, all(&|i| i % 2 != 0));
    let between = CheckFilter { since: Some(at(7)), until: Some(at(20)), ..none() };
    assert_eq!(ids(between).await, all(&|i| (7..20).contains(&i)));
    let both =
        CheckFilter { agent: pattern("*bot"), since: Some(at(29)), verdict: Some(Verdict::Allow), ..none() };
    assert_eq!(ids(both).await, [29]);
    assert_eq!(ids(CheckFilter { until: Some(at(-5)), ..none() }).await, Vec::<i64>::new());
}

#[tokio::test]
async fn entries_are_read_in_order_by_kind_and_agent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store
        .append(vec![check("chk_1"), policy("a", 1), outcome("chk_1"), check("chk_2")], at(0))
        .await
        .unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let seqs = |after, limit, kinds: &[&str], agent: Option<&str>| {
        let filter = EntryFilter {
            kinds: kinds.iter().map(ToString::to_string).collect(),
            agent: agent.map(|a| Pattern::new(a).unwrap()),
            since: None,
        };
        reader.entries(after, limit, &filter).unwrap().iter().map(|e| e.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(0, 9, &[], None), [1, 2, 3, 4]);
    assert_eq!(seqs(1, 2, &[], None), [2, 3]);
    assert_eq!(seqs(0, 9, &["outcome", "policy.put"], None), [2, 3]);
    assert_eq!(seqs(0, 9, &["outcome", "check"], None), [1, 3, 4]);
    assert_eq!(seqs(0, 9, &[], Some("billing-*")), [1, 4]);
    assert_eq!(seqs(1, 9, &["check"], Some("billing-bot")), [4]);
    assert_eq!(reader.head().unwrap().seq, 4);
    store.append(vec![check("chk_3")], at(5)).await.unwrap();
    let since = |after, seconds| {
        let filter =
            EntryFilter { kinds: vec!["check".into()], since: Some(at(seconds)), ..EntryFilter::default() };
        reader.entries(after, 9, &filter).unwrap().iter().map(|e| e.seq).collect::<Vec<_>>()
    };
    assert_eq!(since(0, 0), [1, 4, 5]);
    assert_eq!(since(1, 0), [4, 5]);
    assert_eq!(since(0, 1), [5]);
    assert!(since(0, 6).is_empty());
}

#[tokio::test]
async fn a_second_server_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let Err(error) = checkrein_store::Store::open(options(dir.path())) else { panic!("two servers") };
    let message = error.to_string();
    assert!(message.contains(dir.path().to_str().unwrap()), "{message}");
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    store.close().await;
    open(dir.path());
}

#[tokio::test]
async fn the_write_ahead_log_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // About 20 MB of pages, through a log of 256 KiB.
    for i in 0..1000 {
        let events = (0..10).map(|j| check(&format!("chk_{i}_{j}"))).collect();
        store.append(events, at(0)).await.unwrap();
    }
    let length = dir.path().join("checkrein.db-wal").metadata().unwrap().len();
    assert!(length < 8 * 1024 * 1024, "{length} bytes");
    store.close().await;
    assert_eq!(verified(dir.path()), 10_000);
}
