//! The snapshot file.

use checkrein_targets::{
    Error,
    snapshot::{Header, Side, Snapshot, SnapshotKey, SnapshotWriter},
};
use serde_json::json;
use std::path::{Path, PathBuf};

async fn write(path: &Path, key: Option<&SnapshotKey>) -> PathBuf {
    let header =
        Header { id: "snp_1".into(), target: "shop".into(), kind: "postgres".into(), system: json!({}) };
    let mut out = SnapshotWriter::create(path, &header, key, (1_000, 1 << 20)).unwrap();
    let users = out.table("public.users", json!({"key": ["id"]})).await.unwrap();
    out.rows(users, Side::Before, 2, b"1\tann\n2\tbob\n").await.unwrap();
    out.rows(users, Side::After, 1, b"1\teve\n").await.unwrap();
    out.sealed();
    out.finish(path).await.unwrap().path
}

#[tokio::test]
async fn reads_back_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for key in [None, Some(SnapshotKey::new([7; 32]))] {
        let path = folder.path().join(format!("{}.snapshot", key.is_some()));
        write(&path, key.as_ref()).await;
        let snapshot = Snapshot::open(&[path], key).await.unwrap();
        assert!(snapshot.is_sealed());
        assert_eq!(snapshot.tables(0).unwrap()[0].resource, "public.users");
        let mut blocks = snapshot.blocks();
        let before = blocks.next().await.unwrap().unwrap();
        assert_eq!(
            (before.side, before.rows, before.data.as_slice()),
            (Side::Before, 2, b"1\tann\n2\tbob\n".as_slice())
        );
        assert_eq!(blocks.next().await.unwrap().unwrap().side, Side::After);
        assert_eq!(blocks.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn every_damaged_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for key in [None, Some(SnapshotKey::new([7; 32]))] {
        let path = folder.path().join(format!("{}.snapshot", key.is_some()));
        write(&path, key.as_ref()).await;
        let whole = std::fs::read(&path).unwrap();
        let damaged = folder.path().join("damaged");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&damaged, &bytes).unwrap();
            let opened = Snapshot::open(std::slice::from_ref(&damaged), key.clone()).await;
            assert!(matches!(opened, Err(Error::Snapshot(_))), "byte {at}");
            std::fs::write(&damaged, &whole[..at]).unwrap();
            assert!(
                Snapshot::open(std::slice::from_ref(&damaged), key.clone()).await.is_err(),
                "cut at {at}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_is_left_of_what_was_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let header = Header { id: "snp_1".into(), target: "t".into(), kind: "files".into(), system: json!(null) };
    let mut out = SnapshotWriter::create(&path, &header, None, (1, 100)).unwrap();
    let table = out.table("t", json!(null)).await.unwrap();
    let error = out.rows(table, Side::Before, 3, b"x").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)));
    drop(out);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
