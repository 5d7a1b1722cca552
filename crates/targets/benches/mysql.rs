//! What guarding costs on MariaDB, as ratios to the same work done directly.
//!
//! ```text
//! cargo bench -p checkrein-targets --bench mysql -- [rounds] [records]
//! ```
//! Interleaved rounds, medians of the ratios: one record changed through Checkrein (measured, captured,
//! committed) against a plain UPDATE; the same with a cascade, which has to be measured by InnoDB; an UPDATE
//! of many records; and their rollback against inserting as many into the same table.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use checkrein_targets::{
    Kind, Limits, Place, Statement, Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use checkrein_testbed::servers::mariadb::{Mariadb, SUPERUSER};
use mysql_async::{Conn, Opts, prelude::Queryable as _};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Small changes in one round.
const SMALL: u32 = 40;

struct Bench {
    target: Arc<dyn Target>,
    direct: Conn,
    folder: tempfile::TempDir,
    files: u32,
}

impl Bench {
    fn writer(&mut self) -> Fallible<(SnapshotWriter, PathBuf)> {
        self.files += 1;
        let path = self.folder.path().join(self.files.to_string());
        let header = Header {
            id: self.files.to_string(),
            target: "bench".into(),
            kind: Kind::Mysql.as_str().into(),
            system: serde_json::Value::Null,
        };
        Ok((SnapshotWriter::create(&path, &header, None, (100_000_000, 1 << 40))?, path))
    }

    /// Through Checkrein: seconds, and the snapshot.
    async fn guarded(&mut self, sql: &str) -> Fallible<(f64, PathBuf)> {
        let (mut out, path) = self.writer()?;
        let begun = Instant::now();
        let statement = Statement { sql: sql.to_owned(), params: Vec::new() };
        let mut pending = self.target.execute(&[statement]).await?;
        pending.capture(&mut out).await?;
        out.finish(&path).await?;
        pending.commit().await?;
        Ok((begun.elapsed().as_secs_f64(), path))
    }

    async fn plain(&mut self, sql: &str) -> Fallible<f64> {
        let begun = Instant::now();
        self.direct.query_drop(sql).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    async fn undo(&mut self, path: &Path) -> Fallible<f64> {
        let snapshot = Snapshot::open(&[path.to_owned()], None).await?;
        let (mut out, path) = self.writer()?;
        let begun = Instant::now();
        let undo = self.target.rollback(&snapshot, &UndoOptions::default(), &mut out).await?;
        let Undo::Ready(_, pending) = undo else { return Err("there was nothing to roll back".into()) };
        out.finish(&path).await?;
        pending.commit().await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Inserts as many records as a client can: many a statement, in one transaction.
    async fn insert(&mut self, records: u32) -> Fallible<f64> {
        self.plain("TRUNCATE copy").await?;
        let begun = Instant::now();
        self.direct.query_drop("BEGIN").await?;
        let ids: Vec<u32> = (1..=records).collect();
        for chunk in ids.chunks(256) {
            let rows: Vec<String> = chunk.iter().map(|id| format!("({id}, 0, 'text {id}', {id})")).collect();
            self.direct.query_drop(format!("INSERT INTO copy VALUES {}", rows.join(", "))).await?;
        }
        self.direct.query_drop("COMMIT").await?;
        Ok(begun.elapsed().as_secs_f64())
    }
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let rounds: u32 = args.next().map_or(Ok(5), |n| n.parse())?;
    let records: u32 = args.next().map_or(Ok(20_000), |n| n.parse())?;
    let server = Mariadb::start(&[("innodb-buffer-pool-size", "512M")])?;
    let mut direct = Conn::new(Opts::from_url(&server.url(SUPERUSER, "mysql"))?).await?;
    let shape = "(id INT PRIMARY KEY, v INT, s VARCHAR(40), u INT, KEY (v), KEY (u))";
    direct
        .query_drop(format!(
            "CREATE DATABASE bench; USE bench; CREATE TABLE t{shape}; CREATE TABLE copy{shape}; \
             INSERT INTO t SELECT seq, 0, CONCAT('text ', seq), seq FROM seq_1_to_{records}; \
             CREATE TABLE p(id INT PRIMARY KEY, v INT); \
             CREATE TABLE c(id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p(id) ON UPDATE CASCADE); \
             INSERT INTO p VALUES (1, 0); INSERT INTO c VALUES (1, 1)"
        ))
        .await?;
    let place = Place::Mysql(server.url(SUPERUSER, "bench").into());
    let config = TargetConfig { name: "bench".into(), place, limits: Limits::default() };
    let folder = tempfile::tempdir()?;
    let mut bench = Bench { target: checkrein_targets::open(config)?, direct, folder, files: 0 };
    let (mut one, mut cascade, mut many, mut back) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (mut guarded, mut plain) = (0.0, 0.0);
        for id in 1..=SMALL {
            let sql = format!("UPDATE t SET v = v + 1 WHERE id = {id}");
            plain += bench.plain(&sql).await?;
            guarded += bench.guarded(&sql).await?.0;
        }
        one.push(guarded / plain);
        let sql = "UPDATE p SET id = 3 - id";
        cascade.push(bench.guarded(sql).await?.0 / bench.plain(sql).await?);
        let plain = bench.plain("UPDATE t SET v = v + 1, u = u + 1").await?;
        let (guarded, _) = bench.guarded("UPDATE t SET v = v + 1, u = u + 1").await?;
        many.push(guarded / plain);
        let (_, snapshot) = bench.guarded("DELETE FROM t").await?;
        let undone = bench.undo(&snapshot).await?;
        back.push(bench.insert(records).await? / undone);
    }
    println!("one record, guarded / direct                {:6.2}", median(one));
    println!("one record with a cascade, guarded / direct {:6.2}", median(cascade));
    println!("{records} records, guarded / direct           {:6.2}", median(many));
    println!("rollback of {records}, rate / INSERT's rate    {:6.2}", median(back));
    Ok(())
}
