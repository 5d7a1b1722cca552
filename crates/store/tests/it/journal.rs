//! What is durable before the database has it.

use crate::common::*;
use checkrein_core::approval::{Answer, State, Transition};
use checkrein_store::{AppendError, EntryFilter, Reader, Store, StoreError};
use rusqlite::Connection;
use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;

const JOURNALS: [&str; 2] = ["checkrein.journal-1", "checkrein.journal-2"];

fn copy(from: &Path, to: &Path, files: &[&str]) {
    for file in files {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// What a power cut leaves of a store that had the entries 1 to 3 in its database, synced, and since then
/// acknowledged the entries 4 to 12 in nine batches: `keep` bytes of the write-ahead log, and the journal.
async fn power_cut(keep: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![check("chk_1"), requested("apr_1", "chk_1"), check("chk_2")], at(0)).await.unwrap();
    store.close().await;
    let left = tempfile::tempdir().unwrap();
    copy(dir.path(), left.path(), &["checkrein.db", "checkrein.lock"]);
    // The copy cannot be torn by a checkpoint: none begins before a quarter of this is written.
    let store = Store::open(checkrein_store::Options { wal_bytes: 4 << 20, ..options(dir.path()) }).unwrap();
    store.append(vec![decided("apr_1", Answer::Approve)], at(1)).await.unwrap();
    for i in 5..12 {
        store.append(vec![check_with_key(&format!("chk_{i}"), &format!("k{i}"))], at(1)).await.unwrap();
        if i % 3 == 0 {
            // Makes the database commit.
            assert!(store.check("chk_1").await.unwrap().is_some());
        }
    }
    store.append(vec![policy("limit", 25)], at(2)).await.unwrap();
    copy(dir.path(), left.path(), &["checkrein.db-wal"]);
    copy(dir.path(), left.path(), &JOURNALS);
    let wal = fs::OpenOptions::new().write(true).open(left.path().join("checkrein.db-wal")).unwrap();
    wal.set_len(keep).unwrap();
    left
}

#[tokio::test]
async fn what_a_power_cut_takes_from_the_database_comes_back() {
    for keep in [0, 32, 5_000, 20_000, 60_000, 4 << 20] {
        let dir = power_cut(keep).await;
        // The command line sees it without a server, and without writing anything.
        let reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.verify(None, |_| {}).unwrap().head.seq, 12, "{keep}");
        assert_eq!(reader.head().unwrap().seq, 12);
        assert_eq!(reader.entry(12).unwrap().unwrap().subject, "limit");
        let kinds = EntryFilter { kinds: vec!["policy.put".into()], ..EntryFilter::default() };
        assert_eq!(reader.entries(3, 9, &kinds).unwrap().len(), 1);
        assert_eq!(reader.entries(0, 7, &EntryFilter::default()).unwrap().len(), 7);
        let anchor = reader.head().unwrap();
        drop(reader);

        let store = open(dir.path());
        assert_eq!(store.head(), anchor);
        assert_eq!(store.approval("apr_1").await.unwrap().unwrap().state, State::Approved);
        assert_eq!(store.policies().await.unwrap().len(), 1);
        let again = store.append(vec![check_with_key("chk_new", "k9")], at(3)).await.unwrap_err();
        assert!(matches!(again, AppendError::Duplicate(first) if first.decision.id == "chk_9"));
        let fingerprint = checked("chk_1", "billing-bot", None).fingerprint;
        let using = Transition::Use { check_id: "chk_1".into(), fingerprint };
        store.append(vec![changed("apr_1", using.clone())], at(3)).await.unwrap();
        store.append(vec![changed("apr_1", using)], at(3)).await.unwrap_err();
        store.close().await;
        assert_eq!(verified(dir.path()), 13);
    }
}

#[tokio::test]
async fn a_damaged_journal_is_not_taken_for_its_end() {
    let dir = power_cut(0).await;
    let path = dir.path().join(JOURNALS[0]);
    let whole = fs::read(&path).unwrap();
    let text = |needle: &str| whole.windows(needle.len()).position(|w| w == needle.as_bytes()).unwrap();
    // In the middle: what comes after it proves that it was damaged.
    let mut bytes = whole.clone();
    bytes[text("chk_7")] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let Err(error) = Store::open(options(dir.path())) else { panic!("it started") };
    assert!(matches!(error, StoreError::Stray { last: 3, found: 8, .. }), "{error}");
    // The last one: as a crash in the middle of its write leaves it, which nobody was told of.
    let mut bytes = whole.clone();
    bytes[text("policy.put")] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let store = open(dir.path());
    assert_eq!(store.head().seq, 11);
    store.append(vec![check("chk_12")], at(3)).await.unwrap();
    store.close().await;
    assert_eq!(verified(dir.path()), 12);
}

#[tokio::test]
async fn a_journal_of_another_log_is_refused() {
    let dir = power_cut(0).await;
    let other = tempfile::tempdir().unwrap();
    let store = open(other.path());
    store.append((0..7).map(|i| check(&format!("chk_{i}"))).collect(), at(0)).await.unwrap();
    store.close().await;
    copy(dir.path(), other.path(), &JOURNALS);
    let Err(error) = Store::open(options(other.path())) else { panic!("it started") };
    assert!(matches!(error, StoreError::Stray { last: 7, found: 8, .. }), "{error}");
    assert!(error.to_string().contains("checkrein.journal-1"), "{error}");
    for journal in JOURNALS {
        fs::remove_file(other.path().join(journal)).unwrap();
    }
    open(other.path()).close().await;
}

#[tokio::test]
async fn an_orderly_stop_leaves_one_file_that_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // The journal's files are used several times each.
    for i in 0..40 {
        store.append((0..40).map(|j| check(&format!("chk_{i}_{j}"))).collect(), at(0)).await.unwrap();
    }
    store.close().await;
    let copied = tempfile::tempdir().unwrap();
    copy(dir.path(), copied.path(), &["checkrein.db"]);
    assert_eq!(verified(copied.path()), 1_600);
    // Nor do they stand in the way of what begins anew from an older copy.
    let store = open(dir.path());
    store.append(vec![check("chk_late")], at(0)).await.unwrap();
    store.close().await;
    copy(copied.path(), dir.path(), &["checkrein.db"]);
    let store = open(dir.path());
    assert_eq!(store.head().seq, 1_600);
    store.close().await;
}

#[tokio::test]
async fn others_soon_see_what_is_on_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(vec![check("chk_1")], at(0)).await.unwrap();
    let other = Connection::open(dir.path().join("checkrein.db")).unwrap();
    let mut seen = 0;
    for _ in 0..500 {
        seen = other.query_row("SELECT count(*) FROM log", [], |r| r.get::<_, i64>(0)).unwrap();
        if seen == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(seen, 1);
    store.close().await;
}
