//! What guarding costs on MariaDB, as ratios to what the database does anyway, measured in turns in one run:
//! `cargo bench -p checkrein-targets --bench mysql`. `CHECKREIN_BENCH_ROWS` changes the number of rows.
//!
//! The server syncs each commit to the disk, as it does where nobody has set it up otherwise.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints its figures"
)]

use checkrein_targets::{
    Limits, Pending, Place, Selection, Statement, Target, TargetConfig, Undo, UndoOptions, open,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use checkrein_testbed::servers::mariadb::{Mariadb, SUPERUSER};
use mysql_async::{Conn, Opts, Row, Value, prelude::Queryable as _};
use serde_json::{Map, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

const ROUNDS: usize = 5;
const ONE_ROW: usize = 200;
const CASCADES: usize = 20;

const TABLE: &str = "(id INT PRIMARY KEY, a INT, b VARCHAR(80), c TIMESTAMP, d DECIMAL(12,2), KEY (a))";

struct Bench {
    sql: Conn,
    target: Arc<dyn Target>,
    folder: PathBuf,
    rows: usize,
    files: usize,
}

impl Bench {
    async fn sql(&mut self, sql: &str) {
        self.sql.query_drop(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    async fn direct(&mut self, sql: &str) -> f64 {
        let began = Instant::now();
        self.sql(sql).await;
        began.elapsed().as_secs_f64()
    }

    fn writer(&mut self) -> (PathBuf, SnapshotWriter) {
        self.files += 1;
        let path = self.folder.join(format!("{}.snapshot", self.files));
        let header =
            Header { id: "snp_1".into(), target: "shop".into(), kind: "mysql".into(), system: json!({}) };
        let writer = SnapshotWriter::create(&path, &header, None, (100_000_000, 64 << 30)).unwrap();
        (path, writer)
    }

    /// All rows into a file, by a SELECT and by us: against a client that writes what it is sent, and against
    /// a file that the server itself writes.
    async fn snapshot(&mut self) -> (f64, f64) {
        let began = Instant::now();
        let mut file = std::io::BufWriter::new(std::fs::File::create(self.folder.join("rows")).unwrap());
        let mut rows = self.sql.query_iter("SELECT * FROM bench").await.unwrap();
        while let Some(row) = rows.next().await.unwrap() {
            write(&mut file, row);
        }
        drop(rows);
        file.into_inner().unwrap().sync_all().unwrap();
        let selected = began.elapsed().as_secs_f64();
        let name = format!("outfile-{}", self.files);
        let outfile = self.direct(&format!("SELECT * FROM bench INTO OUTFILE '{name}'")).await;
        let what = Selection::Where { resource: "bench".into(), filter: Map::new(), delete: false };
        let (path, mut out) = self.writer();
        let began = Instant::now();
        self.target.capture(&what, &mut out).await.unwrap();
        out.finish(&path).await.unwrap();
        let ours = began.elapsed().as_secs_f64();
        (selected / ours, outfile / ours)
    }

    async fn guarded(&mut self, sql: &str) -> (f64, PathBuf) {
        let (path, mut out) = self.writer();
        let began = Instant::now();
        let statement = Statement { sql: sql.to_owned(), params: Vec::new() };
        let mut pending: Box<dyn Pending> = self.target.execute(&[statement]).await.unwrap();
        pending.capture(&mut out).await.unwrap();
        out.finish(&path).await.unwrap();
        pending.commit().await.unwrap();
        (began.elapsed().as_secs_f64(), path)
    }

    /// An UPDATE: guarded, with a trigger that logs, and plain.
    async fn update(&mut self, condition: &str, guarded_first: bool) -> (f64, f64) {
        let sql = format!("UPDATE bench SET a = a + 1 {condition}");
        let (mut plain, mut guarded) = (0.0, 0.0);
        for turn in [guarded_first, !guarded_first] {
            self.settle().await;
            if turn {
                guarded = self.guarded(&sql).await.0;
            } else {
                plain = self.direct(&sql).await;
            }
        }
        self.sql(
            "CREATE TRIGGER log AFTER UPDATE ON bench FOR EACH ROW INSERT INTO log VALUES \
             (JSON_ARRAY(OLD.id, OLD.a, OLD.b, OLD.c, OLD.d), JSON_ARRAY(NEW.id, NEW.a, NEW.b, NEW.c, NEW.d))",
        )
        .await;
        self.settle().await;
        let logged = self.direct(&sql).await;
        self.sql("DROP TRIGGER log; TRUNCATE log").await;
        (guarded / plain, logged / plain)
    }

    /// A rollback, against LOAD DATA and against INSERTs of as many rows into a table with the same indexes.
    async fn rollback(&mut self, what: &str) -> (f64, f64) {
        let (_, path) = self.guarded(what).await;
        let snapshot = Snapshot::open(&[path], None).await.unwrap();
        let name = format!("rollback-{}", self.files);
        self.sql(&format!(
            "SELECT * FROM copy INTO OUTFILE '{name}'; DROP TABLE IF EXISTS other; CREATE TABLE other LIKE bench"
        ))
        .await;
        self.settle().await;
        let loaded = self.direct(&format!("LOAD DATA INFILE '{name}' INTO TABLE other")).await;
        let rows: Vec<Row> = self.sql.query("SELECT * FROM copy").await.unwrap();
        let cells = |row: Row| {
            let cells: Vec<_> = row.unwrap().iter().map(|v| v.as_sql(false)).collect();
            format!("({})", cells.join(","))
        };
        let rows: Vec<String> = rows.into_iter().map(cells).collect();
        self.sql("TRUNCATE other").await;
        self.settle().await;
        let began = Instant::now();
        self.sql("BEGIN").await;
        for chunk in rows.chunks(1000) {
            self.sql(&format!("INSERT INTO other VALUES {}", chunk.join(","))).await;
        }
        self.sql("COMMIT").await;
        let inserted = began.elapsed().as_secs_f64();
        let (to, mut out) = self.writer();
        self.settle().await;
        let began = Instant::now();
        let options = UndoOptions::default();
        let Undo::Ready(_, pending) = self.target.rollback(&snapshot, &options, &mut out).await.unwrap()
        else {
            panic!("there is something to do")
        };
        out.finish(&to).await.unwrap();
        pending.commit().await.unwrap();
        let ours = began.elapsed().as_secs_f64();
        (loaded / ours, inserted / ours)
    }

    /// Lets the server remove what older transactions left, so that it does not do so during the next.
    async fn settle(&mut self) {
        loop {
            let row: Option<Row> =
                self.sql.query_first("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'").await.unwrap();
            let length: Option<String> = row.and_then(|r| r.get(1));
            if length.unwrap().parse::<u64>().unwrap() < 5 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn count(&mut self) -> f64 {
        let bare = self.direct("SELECT COUNT(*) FROM bench WHERE d > 10").await;
        let sql = "UPDATE bench SET a = 1 WHERE d > 10".to_owned();
        let began = Instant::now();
        self.target.count(&Selection::Statements(vec![Statement { sql, params: Vec::new() }])).await.unwrap();
        began.elapsed().as_secs_f64() / bare
    }

    /// One row of many, over and over: without a snapshot and with one.
    async fn one_row(&mut self) -> (f64, f64) {
        let sql = |i: usize| format!("UPDATE bench SET a = a + 1 WHERE id = {}", 1 + i * 7919 % self.rows);
        let statements: Vec<_> = (0..ONE_ROW).map(sql).collect();
        let (mut plain, mut bare, mut kept) = (0.0, 0.0, 0.0);
        for sql in statements {
            plain += self.direct(&sql).await;
            let began = Instant::now();
            let statement = Statement { sql: sql.clone(), params: Vec::new() };
            self.target.execute(&[statement]).await.unwrap().commit().await.unwrap();
            bare += began.elapsed().as_secs_f64();
            kept += self.guarded(&sql).await.0;
        }
        (bare / plain, kept / plain)
    }

    /// One row with another that follows by a foreign key, over and over.
    async fn cascade(&mut self) -> f64 {
        let (mut plain, mut guarded) = (0.0, 0.0);
        for _ in 0..CASCADES {
            let sql = "UPDATE p SET id = 3 - id";
            plain += self.direct(sql).await;
            guarded += self.guarded(sql).await.0;
        }
        guarded / plain
    }
}

fn write(file: &mut impl std::io::Write, row: Row) {
    for (place, value) in row.unwrap().into_iter().enumerate() {
        if place > 0 {
            file.write_all(b"\t").unwrap();
        }
        match value {
            Value::Bytes(bytes) => file.write_all(&bytes).unwrap(),
            _ => file.write_all(b"\\N").unwrap(),
        }
    }
    file.write_all(b"\n").unwrap();
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

const FIGURES: [(&str, &str); 13] = [
    ("snapshot of a table: rate against a SELECT into a synced file", "0.9 or more"),
    ("snapshot of a table: rate against SELECT … INTO OUTFILE", ""),
    ("UPDATE of all rows, guarded, against plain", "1.3 or less"),
    ("UPDATE of all rows with a trigger that logs, against plain", ""),
    ("UPDATE of a tenth, guarded, against plain", "1.3 or less"),
    ("rollback of an UPDATE of all: rate against LOAD DATA into the same indexes", "0.5 or more"),
    ("rollback of an UPDATE of all: rate against INSERTs of 1,000 rows", ""),
    ("rollback of a DELETE of all: rate against LOAD DATA into the same indexes", "0.5 or more"),
    ("rollback of a DELETE of all: rate against INSERTs of 1,000 rows", ""),
    ("counting an UPDATE against a bare SELECT COUNT(*)", ""),
    ("UPDATE of one row, guarded without snapshot, against direct", ""),
    ("UPDATE of one row, guarded with snapshot, against direct", ""),
    ("UPDATE of one row with a cascade, guarded with snapshot, against direct", ""),
];

async fn bench(folder: &Path) {
    let rows = std::env::var("CHECKREIN_BENCH_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let server = Mariadb::start(&[
        ("innodb-flush-log-at-trx-commit", "1"),
        ("innodb-flush-method", "O_DIRECT"),
        ("innodb-buffer-pool-size", "512M"),
        ("innodb-log-file-size", "1G"),
    ])
    .unwrap();
    let mut sql = Conn::new(Opts::from_url(&server.url(SUPERUSER, "mysql")).unwrap()).await.unwrap();
    sql.query_drop("CREATE DATABASE bench; USE bench").await.unwrap();
    let place = Place::Mysql(server.url(SUPERUSER, "bench").into());
    let target = open(TargetConfig { name: "shop".into(), place, limits: Limits::default() }).unwrap();
    let mut b = Bench { sql, target, folder: folder.to_owned(), rows, files: 0 };
    b.sql(&format!(
        "CREATE TABLE bench {TABLE}; CREATE TABLE log (old TEXT, new TEXT); \
         INSERT INTO bench SELECT seq, seq % 1000, REPEAT(MD5(seq), 2), NOW(), seq FROM seq_1_to_{rows}; \
         CREATE TABLE copy SELECT * FROM bench; ANALYZE TABLE bench; \
         CREATE TABLE p(id INT PRIMARY KEY, v INT); \
         CREATE TABLE c(id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p(id) ON UPDATE CASCADE); \
         INSERT INTO p VALUES (1, 0); INSERT INTO c VALUES (1, 1)"
    ))
    .await;
    let mut figures: [Vec<f64>; FIGURES.len()] = Default::default();
    for round in 0..ROUNDS {
        let snapshot = b.snapshot().await;
        let all = b.update("", round % 2 == 1).await;
        let (tenth, _) = b.update("WHERE id % 10 = 0", round % 2 == 1).await;
        let updated = b.rollback("UPDATE bench SET a = a + 1").await;
        let deleted = b.rollback("DELETE FROM bench").await;
        let count = b.count().await;
        let one = b.one_row().await;
        let cascade = b.cascade().await;
        let round_ = [
            snapshot.0, snapshot.1, all.0, all.1, tenth, updated.0, updated.1, deleted.0, deleted.1, count,
            one.0, one.1, cascade,
        ];
        let said: Vec<String> = round_.iter().map(|f| format!("{f:.2}")).collect();
        println!("round {}: {}", round + 1, said.join("  "));
        for (list, figure) in figures.iter_mut().zip(round_) {
            list.push(figure);
        }
        std::fs::read_dir(folder).unwrap().for_each(|f| std::fs::remove_file(f.unwrap().path()).unwrap());
    }
    println!("{rows} rows, medians of {ROUNDS} rounds");
    for ((what, goal), list) in FIGURES.iter().zip(figures) {
        let goal = if goal.is_empty() { String::new() } else { format!(" (goal: {goal})") };
        println!("{:7.2}  {what}{goal}", median(list));
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench(folder.path()));
}
