//! Many records in little memory, and a disk that is full. In a process of its own, whose memory and files
//! can be limited.

use super::harness::{Fixture, dump, limits, open, statement};
use checkrein_targets::{
    Limits, Undo, UndoOptions,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

const FOLDER: &str = "CHECKREIN_TEST_BULK_FOLDER";

/// A million in the long run; the memory does not depend on it.
fn rows() -> i64 {
    if std::env::var_os("CHECKREIN_SOAK").is_some() { 1_000_000 } else { 200_000 }
}

fn writer(path: &Path) -> SnapshotWriter {
    let header = Header { id: "snp".into(), target: "shop".into(), kind: "sqlite".into(), system: json!({}) };
    SnapshotWriter::create(path, &header, None, (10_000_000, 1 << 34)).unwrap()
}

/// `ulimit` is in units of 512 bytes; `trap` makes writing beyond it an error rather than the end.
fn run(test: &str, folder: &Path, blocks: &str) -> Output {
    let binary = std::env::current_exe().unwrap();
    let script =
        format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact sqlite::bulk::{test} --nocapture");
    Command::new("sh").args(["-c", &script]).arg(binary).env(FOLDER, folder).output().unwrap()
}

fn table(rows: i64) -> String {
    format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, n INT); CREATE INDEX i ON t (n);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO t SELECT i, 'text ' || i, i FROM n;"
    )
}

/// Megabytes that this process had at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn child_with_many() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let long = Duration::from_secs(600);
    let target = open(&folder.join("shop.db"), Limits { execute: long, snapshot: long, ..limits() });
    let mut pending = target.execute(&[statement("UPDATE t SET a = a || '!', n = -n")]).await.unwrap();
    assert_eq!(pending.measured().records(), u64::try_from(rows()).unwrap());
    let mut out = writer(&folder.join("a"));
    pending.capture(&mut out).await.unwrap();
    out.finish(&folder.join("a")).await.unwrap();
    pending.commit().await.unwrap();
    let snapshot = Snapshot::open(&[folder.join("a")], None).await.unwrap();
    let mut out = writer(&folder.join("b"));
    match target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap() {
        Undo::Ready(plan, pending) => {
            assert_eq!(plan.by_resource[0].update, u64::try_from(rows()).unwrap());
            pending.commit().await.unwrap();
        }
        _ => panic!("not ready"),
    }
    println!("\npeak {}", peak());
}

#[test]
fn many_records_take_little_memory() {
    let file = Fixture::new("wal", &table(rows()));
    let hash = || {
        let db = file.other();
        let sql =
            "SELECT count(*) || ' ' || sum(n) || ' ' || sum(length(a)) || ' ' || sum(n * length(a)) FROM t";
        db.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap()
    };
    let before = hash();
    let out = run("child_with_many", file.folder.path(), "unlimited");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let peak: u64 = text.lines().find_map(|l| l.strip_prefix("peak ")).unwrap().parse().unwrap();
    assert!(peak < 100, "{peak} MB for {} records", rows());
    assert_eq!(hash(), before);
}

#[tokio::test]
async fn child_on_a_full_disk() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let target = open(&folder.join("shop.db"), limits());
    let result = match target.execute(&[statement("UPDATE t SET a = a || a || a || a, n = -n")]).await {
        Ok(mut pending) => {
            let mut out = writer(&folder.join("a"));
            match pending.capture(&mut out).await {
                Ok(_) => match out.finish(&folder.join("a")).await {
                    Ok(_) => pending.commit().await.map_err(|e| format!("commit: {e}")),
                    Err(e) => Err(format!("finish: {e}")),
                },
                Err(e) => Err(format!("capture: {e}")),
            }
        }
        Err(e) => Err(format!("execute: {e}")),
    };
    println!("\nresult {}", result.unwrap_err());
}

#[test]
fn a_full_disk_changes_nothing() {
    for mode in ["wal", "delete"] {
        let file = Fixture::new(mode, &table(30_000));
        let before = file.dump();
        let size = std::fs::metadata(&file.path).unwrap().len();
        // Room for the file as it is, not for what the update needs; then hardly any room.
        for blocks in [size / 512 + 8, size / 1024, 64] {
            let out = run("child_on_a_full_disk", file.folder.path(), &blocks.to_string());
            let text = String::from_utf8_lossy(&out.stdout);
            assert!(out.status.success(), "{mode}: {text}\n{}", String::from_utf8_lossy(&out.stderr));
            assert!(text.contains("result "), "{text}");
            assert_eq!(file.dump(), before, "{mode} with {blocks}: {text}");
            assert_eq!(dump(&file.other()), before);
            let parts: Vec<_> = std::fs::read_dir(file.folder.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".part"))
                .collect();
            assert!(parts.is_empty(), "{parts:?}");
            let _whole_snapshot = std::fs::remove_file(file.folder.path().join("a"));
        }
    }
}
