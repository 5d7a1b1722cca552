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

fn header(id: &str) -> Header {
    Header { id: id.into(), target: "t".into(), kind: "files".into(), system: json!(null) }
}

#[tokio::test]
async fn only_the_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder.path().join("a"), None).await;
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[tokio::test]
async fn a_snapshot_that_is_there_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder.path().join("a"), None).await;
    let was = std::fs::read(&path).unwrap();
    let out = SnapshotWriter::create(&path, &header("snp_2"), None, (1_000, 1 << 20)).unwrap();
    assert!(out.finish(&path).await.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), was);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_was_refused_is_never_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut out = SnapshotWriter::create(&path, &header("snp_1"), None, (1, 10)).unwrap();
    let table = out.table("t", json!(null)).await.unwrap();
    assert!(matches!(out.rows(table, Side::Before, 1, &[0; 11]).await, Err(Error::TooLarge(_))));
    assert!(matches!(out.finish(&path).await, Err(Error::TooLarge(_))));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_finish_that_nobody_waits_for_leaves_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for polls in 0..40_u32 {
        let path = folder.path().join(polls.to_string());
        let mut out = SnapshotWriter::create(&path, &header("snp_1"), None, (1_000, 1 << 20)).unwrap();
        let table = out.table("t", json!(null)).await.unwrap();
        out.rows(table, Side::Before, 1, &[7; 100_000]).await.unwrap();
        let mut finish = Box::pin(out.finish(&path));
        let limit = std::time::Duration::from_micros(u64::from(polls) * 50);
        let finished = tokio::time::timeout(limit, &mut finish).await.is_ok();
        drop(finish);
        // The thread ends soon: it holds nothing but the file.
        let settled = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while path.exists() != finished || folder.path().join(format!("{polls}.part")).exists() {
            assert!(std::time::Instant::now() < settled, "{polls}");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_snapshot_without_encryption_is_no_good_where_a_key_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let key = SnapshotKey::new([7; 32]);
    let plain = write(&folder.path().join("plain"), None).await;
    let sealed = write(&folder.path().join("sealed"), Some(&key)).await;
    let open = async |path: &PathBuf, key: Option<SnapshotKey>| {
        Snapshot::open(std::slice::from_ref(path), key).await.map(drop).unwrap_err().to_string()
    };
    assert!(open(&plain, Some(key)).await.contains("not encrypted"));
    assert!(open(&sealed, None).await.contains("no key is configured"));
    assert!(open(&sealed, Some(SnapshotKey::new([8; 32]))).await.contains("another key"));
}

#[tokio::test]
async fn a_file_that_is_swapped_after_it_was_opened_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder.path().join("a"), None).await;
    let other = write(&folder.path().join("b"), None).await;
    let snapshot = Snapshot::open(std::slice::from_ref(&path), None).await.unwrap();
    std::fs::rename(other, path).unwrap();
    let mut blocks = snapshot.blocks();
    assert!(matches!(blocks.next().await, Err(Error::Snapshot(_))));
}

/// Frames of one file in another, twice, in another order or left out: never read as something else.
#[tokio::test]
async fn frames_cannot_be_moved() {
    let folder = tempfile::tempdir().unwrap();
    for key in [None, Some(SnapshotKey::new([7; 32]))] {
        let name = |n: u8| folder.path().join(format!("{}-{n}", key.is_some()));
        let [first, second] = [write(&name(1), key.as_ref()).await, write(&name(2), key.as_ref()).await]
            .map(|path| std::fs::read(path).unwrap());
        let frames = |bytes: &[u8]| {
            let (mut at, mut found) = (41, Vec::new());
            while at < bytes.len() {
                let len = u32::from_le_bytes(bytes[at + 1..at + 5].try_into().unwrap());
                let end = at + 5 + usize::try_from(len).unwrap();
                found.push(bytes[at..end].to_vec());
                at = end;
            }
            found
        };
        let (ours, theirs) = (frames(&first), frames(&second));
        assert_eq!(ours.len(), 5);
        let mut wrong = Vec::new();
        for n in 0..ours.len() {
            let mut other = ours.clone();
            other[n].clone_from(&theirs[n]);
            wrong.push(other);
            let mut twice = ours.clone();
            twice.insert(n, ours[n].clone());
            wrong.push(twice);
            let mut without = ours.clone();
            without.remove(n);
            wrong.push(without);
            let mut swapped = ours.clone();
            swapped.swap(n, (n + 1) % ours.len());
            wrong.push(swapped);
        }
        for frames in wrong {
            let path = folder.path().join("wrong");
            std::fs::write(&path, [&first[..41], &frames.concat()].concat()).unwrap();
            assert!(Snapshot::open(&[path], key.clone()).await.is_err());
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        failure_persistence: None, ..proptest::prelude::ProptestConfig::with_cases(300)
    })]

    #[test]
    fn random_bytes_and_random_edits_are_refused(
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
        at in 0..1_000_usize, cut in 0..60_usize, keep in proptest::prelude::any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = write(&folder.path().join("a"), None).await;
            let whole = std::fs::read(&path).unwrap();
            let edited = if keep {
                let at = at % whole.len();
                let end = (at + cut).min(whole.len());
                [&whole[..at], &noise, &whole[end..]].concat()
            } else {
                [b"CHKRSNP1".as_slice(), &noise].concat()
            };
            std::fs::write(&path, &edited).unwrap();
            let opened = Snapshot::open(&[path], None).await;
            proptest::prop_assert!(edited == whole || matches!(opened, Err(Error::Snapshot(_))));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_leaves_nothing() {
    let Some(disk) = crate::files::disk::Disk::of("2m") else { return };
    let path = disk.path().join("a");
    let mut out = SnapshotWriter::create(&path, &header("snp_1"), None, (1_000, 1 << 30)).unwrap();
    let table = out.table("t", json!(null)).await.unwrap();
    let mut noise = vec![0_u8; 1 << 20];
    let mut error = None;
    for _ in 0..20 {
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
        if let Err(e) = out.rows(table, Side::Before, 1, &noise).await {
            error = Some(e);
            break;
        }
    }
    let error = match error {
        Some(error) => {
            drop(out);
            error
        }
        None => out.finish(&path).await.unwrap_err(),
    };
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
}
