//! Disks that are full, folders that cannot be written, files that are damaged, a writer that is stuck.

use crate::common::*;
use checkrein_store::{AppendError, Reader, Store, StoreError};
use rusqlite::Connection;
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

fn refused(dir: &Path) -> StoreError {
    Store::open(options(dir)).err().unwrap()
}

/// A stopped store of some hundred entries.
async fn log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append((0..200).map(|i| check(&format!("chk_{i}"))).collect(), at(0)).await.unwrap();
    store.close().await;
    dir
}

#[tokio::test]
async fn a_file_cut_short_is_refused() {
    for part in [1, 2, 3] {
        let dir = log().await;
        let db = dir.path().join("checkrein.db");
        let length = fs::metadata(&db).unwrap().len();
        fs::OpenOptions::new().write(true).open(&db).unwrap().set_len(length * part / 4).unwrap();
        let error = refused(dir.path());
        assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Tail { .. }), "{error}");
        // Whatever can be opened is not taken for whole.
        if let Ok(reader) = Reader::open(dir.path()) {
            reader.verify(None, |_| {}).unwrap_err();
        }
    }
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    for content in [&b"not a database, but long enough to look like one to a careless reader......................................."[..], &[0xff; 8192]] {
        let dir = log().await;
        fs::write(dir.path().join("checkrein.db"), content).unwrap();
        assert!(matches!(refused(dir.path()), StoreError::Damaged { .. }));
        assert!(matches!(Reader::open(dir.path()).err().unwrap(), StoreError::Damaged { .. }));
    }
    let dir = tempfile::tempdir().unwrap();
    Connection::open(dir.path().join("checkrein.db")).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(refused(dir.path()).to_string().contains("another program"));
}

#[tokio::test]
async fn a_log_that_is_gone_does_not_begin_anew() {
    let dir = log().await;
    fs::write(dir.path().join("checkrein.db"), "").unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Lost { .. }));
    fs::remove_file(dir.path().join("checkrein.db")).unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Lost { .. }));
    assert!(matches!(Reader::open(dir.path()).err().unwrap(), StoreError::Absent { .. }));
}

#[tokio::test]
async fn bytes_flipped_anywhere_do_not_pass() {
    let dir = log().await;
    let db = dir.path().join("checkrein.db");
    let whole = fs::read(&db).unwrap();
    for page in (1..whole.len() / 4096).step_by(7) {
        let mut bytes = whole.clone();
        // The end of a page always holds content; its middle may be free.
        for byte in &mut bytes[(page + 1) * 4096 - 64..(page + 1) * 4096 - 32] {
            *byte ^= 0x55;
        }
        fs::write(&db, &bytes).unwrap();
        let verified = Reader::open(dir.path()).map(|r| r.verify(None, |_| {}).is_ok());
        assert!(!verified.unwrap_or(false) || holds_nothing(&whole, page), "page {page}");
    }
}

/// Indexes hold nothing that the log does not, and an empty table holds nothing at all.
fn holds_nothing(bytes: &[u8], page: usize) -> bool {
    let header = &bytes[page * 4096..];
    matches!(header[0], 2 | 10) || header[3..5] == [0, 0]
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = log().await;
    Connection::open(dir.path().join("checkrein.db"))
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(refused(dir.path()), StoreError::Newer { found: 99, .. }));
    assert!(matches!(Reader::open(dir.path()).err().unwrap(), StoreError::Newer { .. }));
}

#[tokio::test]
async fn a_write_ahead_log_that_is_gone_costs_its_entries_and_nothing_else() {
    let dir = log().await;
    let store = open(dir.path());
    store.append(vec![check("chk_late")], at(1)).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join("checkrein.db"), copy.path().join("checkrein.db")).unwrap();
    assert_eq!(verified(copy.path()), 200, "an anchor tells, the file alone cannot");
    let anchor = Some(store.head());
    Reader::open(copy.path()).unwrap().verify(anchor, |_| {}).unwrap_err();
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    // Neither root nor anybody else can make files there.
    for folder in
        [dir.path().join("file"), dir.path().join("file/data"), "/proc/checkrein".into(), "/sys".into()]
    {
        let error = refused(&folder);
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
    }
}

/// A limit on file sizes stands for a full disk: it fails the same writes, for root too, and can be lifted.
#[test]
fn a_full_disk_fails_the_callers_and_is_survived() {
    // Blocks of 512 bytes. With 600, the journal of 256 KiB fits and the database does not; with 450, it is the
    // journal that cannot grow.
    full_disk(600);
    full_disk(450);
}

fn full_disk(blocks: u32) {
    let dir = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    // SIGXFSZ, which would kill, stays ignored across exec.
    let script = format!(
        "trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" faults::full_disk_child --exact --nocapture"
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .arg(exe)
        .env("CHECKREIN_TEST_DIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let full = lines.find(|l| l.starts_with("full ")).unwrap();
    assert!(full.contains("not recorded"), "{full}");
    let lifted = Command::new("prlimit")
        .args(["--pid", &child.id().to_string(), "--fsize=unlimited"])
        .status()
        .unwrap();
    assert!(lifted.success());
    writeln!(child.stdin.take().unwrap(), "go on").unwrap();
    let done = lines.find(|l| l.starts_with("done ")).unwrap();
    assert!(child.wait().unwrap().success());
    let acknowledged: u64 = done.replace("done ", "").parse().unwrap();
    assert!(acknowledged > 100);
    assert_eq!(verified(dir.path()), acknowledged);
}

/// Not a test by itself: the process of the test above.
#[tokio::test(flavor = "multi_thread")]
async fn full_disk_child() {
    let Some(dir) = std::env::var_os("CHECKREIN_TEST_DIR") else { return };
    let store = open(Path::new(&dir));
    let (mut acknowledged, mut id) = (0, 0);
    let mut append = async || {
        id += 1;
        let result = store.append(vec![check(&format!("chk_{id}"))], at(0)).await;
        if let Ok(stamps) = &result {
            acknowledged += 1;
            assert_eq!(stamps[0].seq, acknowledged, "no gap, nothing left over from what failed");
        }
        result.map(|_| acknowledged)
    };
    // The last few bytes can still hold an entry that needs no new page; then it stays full for a while.
    let (mut error, mut in_a_row) = (None, 0);
    while in_a_row < 5 {
        match append().await {
            Ok(_) => in_a_row = 0,
            Err(e) => (error, in_a_row) = (Some(e), in_a_row + 1),
        }
    }
    let error = error.unwrap();
    assert!(matches!(error, AppendError::Full(_) | AppendError::Io(_)));
    assert!(store.writable().is_err(), "and it says so");
    println!("\nfull {error}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut last = 0;
    for _ in 0..100 {
        last = append().await.unwrap();
    }
    store.writable().unwrap();
    store.close().await;
    println!("\ndone {last}");
}

#[tokio::test]
async fn nobody_waits_for_ever_behind_a_writer_that_is_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(checkrein_store::Options {
        timeout: Duration::from_millis(200),
        queue: 1,
        ..options(dir.path())
    })
    .unwrap();
    // Another program that holds the database's write lock stops the writer for two seconds.
    let other = Connection::open(dir.path().join("checkrein.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(store.append(vec![check("chk_1")], at(0)).await, Err(AppendError::Unknown(_))));
    assert!(matches!(store.append(vec![check("chk_2")], at(0)).await, Err(AppendError::Unknown(_))));
    assert!(matches!(store.append(vec![check("chk_3")], at(0)).await, Err(AppendError::Busy(_))));
    other.execute_batch("ROLLBACK").unwrap();
    store.close().await;
    let recorded = verified(dir.path());
    assert!(recorded <= 2, "what was refused for certain is not on record");
}
