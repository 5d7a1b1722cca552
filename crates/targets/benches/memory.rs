//! The memory that a very large action takes: a guarded UPDATE of ten million records on PostgreSQL, its snapshot and its
//! rollback: `cargo bench -p checkrein-targets --bench memory`. `CHECKREIN_BENCH_ROWS` changes the
//! number of records; ten million take about 5 GB of disk while it runs. It fails where memory grows with them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints its figures"
)]

use checkrein_targets::{
    Limits, Place, Statement, TargetConfig, Undo, UndoOptions, open,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use checkrein_testbed::servers::postgres::Postgres;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio_postgres::NoTls;

/// The most memory that this process may ever have, in MB, whatever the number of records.
const MOST: u64 = 192;

/// The most memory that this process has had so far, in MB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn said(what: &str, began: Instant) {
    println!("{:>6} MB at most, {:>5.0} s  {what}", peak(), began.elapsed().as_secs_f64());
}

fn writer(folder: &Path, name: &str) -> (PathBuf, SnapshotWriter) {
    let path = folder.join(name);
    let header =
        Header { id: "snp_1".into(), target: "shop".into(), kind: "postgres".into(), system: json!({}) };
    let writer = SnapshotWriter::create(&path, &header, None, (100_000_000, 64 << 30)).unwrap();
    (path, writer)
}

async fn bench(folder: &Path) {
    let rows: u64 =
        std::env::var("CHECKREIN_BENCH_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000_000);
    let server = Postgres::start(&[("max_wal_size", "512MB"), ("min_wal_size", "80MB")]).unwrap();
    let url = server.database().unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let hour = Duration::from_secs(3_600);
    let limits = Limits { execute: hour, snapshot: hour, ..Limits::default() };
    let target =
        open(TargetConfig { name: "shop".into(), place: Place::Postgres(url.into()), limits }).unwrap();
    let make = format!(
        "CREATE TABLE t (id int primary key, v int, note text);
         INSERT INTO t SELECT i, i % 1000, md5(i::text) FROM generate_series(1, {rows}) i; VACUUM ANALYZE t; CHECKPOINT"
    );
    for sql in make.split(';') {
        client.batch_execute(sql).await.unwrap();
    }
    let sum = "SELECT sum(hashtext(t::text)::bigint)::text FROM t";
    let before: String = client.query_one(sum, &[]).await.unwrap().get(0);
    println!("{rows} records");
    said("before anything", Instant::now());

    let began = Instant::now();
    let sql = "UPDATE t SET v = v + 1".to_owned();
    let mut pending = target.execute(&[Statement { sql, params: Vec::new() }]).await.unwrap();
    said("UPDATE of all, measured", began);
    let began = Instant::now();
    let (path, mut out) = writer(folder, "action");
    pending.capture(&mut out).await.unwrap();
    let written = out.finish(&path).await.unwrap();
    pending.commit().await.unwrap();
    said(&format!("its snapshot, of {} MB, and the commit", written.bytes >> 20), began);
    client.batch_execute("CHECKPOINT").await.unwrap();

    let began = Instant::now();
    let snapshot = Snapshot::open(&[path], None).await.unwrap();
    let (to, mut out) = writer(folder, "rollback");
    let options = UndoOptions::default();
    let Undo::Ready(plan, pending) = target.rollback(&snapshot, &options, &mut out).await.unwrap() else {
        panic!("there is something to do")
    };
    assert_eq!(plan.by_resource.iter().map(|r| r.update).sum::<u64>(), rows);
    out.finish(&to).await.unwrap();
    pending.commit().await.unwrap();
    said("the rollback, with its own snapshot", began);
    let after: String = client.query_one(sum, &[]).await.unwrap().get(0);
    assert_eq!(before, after, "not everything is as it was");
    assert!(peak() <= MOST, "{} MB are more than {MOST}", peak());
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench(folder.path()));
}
