//! Retention removes the oldest entries, and what remains can still be verified.

use crate::common::*;
use checkrein_core::{approval::Answer, chain::Walk};
use checkrein_store::{EntryFilter, Reader, VerifyError};
use rusqlite::Connection;

#[tokio::test]
async fn what_remains_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![policy("old", 1), key("key_old")], at(0)).await.unwrap();
    for i in 0..20 {
        store.append(vec![check_with_key(&format!("chk_{i}"), &format!("k{i}"))], at(i)).await.unwrap();
    }
    let old = store.entry(5).await.unwrap().unwrap();
    let pruned = store.prune(at(10)).await.unwrap();
    assert_eq!((pruned.through, pruned.removed), (12, 12));
    let entries = store.entries(0, 100, EntryFilter::default()).await.unwrap();
    assert_eq!((entries[0].seq, entries.last().unwrap().kind.as_str()), (13, "log.pruned"));
    assert_eq!(store.check("chk_3").await.unwrap(), None);
    assert_eq!(store.policies().await.unwrap().len(), 1, "what is in force stays");
    store.append(vec![check_with_key("chk_again", "k3"), outcome("chk_15")], at(30)).await.unwrap();
    let verify = |anchor| Reader::open(dir.path()).unwrap().verify(anchor, |_| {});
    let good = verify(None).unwrap();
    assert_eq!((good.base.seq, good.entries), (12, 13));
    let early = verify(Some(Walk { seq: old.seq, hash: old.hash }));
    assert!(matches!(early, Err(VerifyError::AnchorPruned { anchor: 5, base: 12 })));

    assert_eq!(store.prune(at(10)).await.unwrap().removed, 0, "nothing is left to remove");
    let again = store.prune(at(15)).await.unwrap();
    assert_eq!((again.through, again.removed), (17, 5));
    assert_eq!(verify(None).unwrap().base.seq, 17);
    store.close().await;
    open(dir.path()).close().await;

    let tamper =
        |sql: &str| Connection::open(dir.path().join("checkrein.db")).unwrap().execute_batch(sql).unwrap();
    tamper("UPDATE chain SET hash = zeroblob(32) WHERE mark = 'base'");
    assert!(verify(None).is_err());
}

#[tokio::test]
async fn everything_may_go_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // More than one transaction of retention.
    for _ in 0..12 {
        let n = store.head().seq;
        store.append((0..1000).map(|i| check(&format!("chk_{}", n + i))).collect(), at(0)).await.unwrap();
    }
    let pruned = store.prune(at(1)).await.unwrap();
    assert_eq!(pruned.removed, 12_002, "with the marks of its first two steps");
    assert_eq!(
        store.prune(at(1_000_000_000)).await.unwrap().removed,
        0,
        "only the marks of retention are left"
    );
    store.append(vec![check("chk_new")], at(2)).await.unwrap();
    store.close().await;
    let good = Reader::open(dir.path()).unwrap().verify(None, |_| {}).unwrap();
    assert_eq!(good.head.seq, 12_004);
}

#[tokio::test]
async fn an_open_approval_keeps_its_check() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![check("chk_1")], at(0)).await.unwrap();
    store.append(vec![check("chk_2"), requested("apr_2", "chk_2")], at(1)).await.unwrap();
    store.append(vec![check("chk_3")], at(2)).await.unwrap();
    assert_eq!(store.prune(at(100)).await.unwrap().through, 1);
    assert!(store.check("chk_2").await.unwrap().is_some());
    store.append(vec![decided("apr_2", Answer::Deny)], at(3)).await.unwrap();
    assert_eq!(store.prune(at(3)).await.unwrap().through, 5);
    assert_eq!(store.approval("apr_2").await.unwrap(), None, "it went with its entry");
    store.close().await;
    verified(dir.path());
}
