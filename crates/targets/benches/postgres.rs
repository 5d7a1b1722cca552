//! What guarding costs on PostgreSQL, as ratios to what the database does anyway, measured in turns in one run:
//! `cargo bench -p checkrein-targets --bench postgres`. `CHECKREIN_BENCH_ROWS` changes the number of rows.
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
use checkrein_testbed::servers::postgres::Postgres;
use futures_util::{SinkExt as _, TryStreamExt as _};
use serde_json::{Map, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use tokio_postgres::{Client, NoTls};

const ROUNDS: usize = 5;
const ONE_ROW: usize = 200;

const TABLE: &str = "(id int primary key, a int, b text, c timestamptz, d numeric(12,2))";

struct Bench {
    client: Client,
    target: Arc<dyn Target>,
    folder: PathBuf,
    rows: usize,
    files: usize,
}

impl Bench {
    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    fn writer(&mut self) -> (PathBuf, SnapshotWriter) {
        self.files += 1;
        let path = self.folder.join(format!("{}.snapshot", self.files));
        let header =
            Header { id: "snp_1".into(), target: "shop".into(), kind: "postgres".into(), system: json!({}) };
        let writer = SnapshotWriter::create(&path, &header, None, (100_000_000, 64 << 30)).unwrap();
        (path, writer)
    }

    /// All rows into a file, by COPY and by us.
    async fn snapshot(&mut self) -> f64 {
        let began = Instant::now();
        let copy = self.client.copy_out("COPY bench TO STDOUT").await.unwrap();
        let mut copy = std::pin::pin!(copy);
        let mut file = std::io::BufWriter::new(std::fs::File::create(self.folder.join("copy")).unwrap());
        while let Some(bytes) = copy.try_next().await.unwrap() {
            std::io::Write::write_all(&mut file, &bytes).unwrap();
        }
        file.into_inner().unwrap().sync_all().unwrap();
        let plain = began.elapsed();
        let what = Selection::Where { resource: "public.bench".into(), filter: Map::new(), delete: false };
        let (path, mut out) = self.writer();
        let began = Instant::now();
        self.target.capture(&what, &mut out).await.unwrap();
        out.finish(&path).await.unwrap();
        plain.as_secs_f64() / began.elapsed().as_secs_f64()
    }

    async fn direct(&self, sql: &str) -> f64 {
        self.sql("VACUUM bench").await;
        let began = Instant::now();
        self.sql(sql).await;
        began.elapsed().as_secs_f64()
    }

    async fn guarded(&mut self, sql: &str) -> (f64, PathBuf) {
        self.sql("VACUUM bench").await;
        let (path, mut out) = self.writer();
        let began = Instant::now();
        let statement = Statement { sql: sql.to_owned(), params: Vec::new() };
        let mut pending: Box<dyn Pending> = self.target.execute(&[statement]).await.unwrap();
        pending.capture(&mut out).await.unwrap();
        out.finish(&path).await.unwrap();
        pending.commit().await.unwrap();
        (began.elapsed().as_secs_f64(), path)
    }

    /// An UPDATE of a tenth of the rows and of all: guarded, with a trigger that logs, and plain.
    async fn update(&mut self, condition: &str) -> (f64, f64) {
        let sql = format!("UPDATE bench SET a = a + 1 {condition}");
        let plain = self.direct(&sql).await;
        let (guarded, _) = self.guarded(&sql).await;
        self.sql(
            "CREATE TRIGGER log AFTER UPDATE ON bench FOR EACH ROW EXECUTE FUNCTION log(); TRUNCATE log",
        )
        .await;
        let logged = self.direct(&sql).await;
        self.sql("DROP TRIGGER log ON bench").await;
        (guarded / plain, logged / plain)
    }

    /// How long COPY of these rows into a table takes.
    async fn copied(&self, table: &str, lines: &[bytes::Bytes]) -> f64 {
        let began = Instant::now();
        let sink = self.client.copy_in(&format!("COPY {table} FROM STDIN")).await.unwrap();
        let mut sink = std::pin::pin!(sink);
        for block in lines.chunks(1000) {
            sink.feed(bytes::Bytes::from(block.concat())).await.unwrap();
        }
        sink.finish().await.unwrap();
        began.elapsed().as_secs_f64()
    }

    /// A rollback of all rows, against COPY of as many into a new table with the same indexes, and into one that
    /// has been through the same UPDATE and whose rows were then deleted, as who does it by hand must.
    async fn rollback(&mut self) -> (f64, f64) {
        self.sql("DROP TABLE IF EXISTS new, same; CREATE TABLE new (LIKE bench INCLUDING ALL); CREATE TABLE same (LIKE bench INCLUDING ALL); \
            INSERT INTO same SELECT * FROM bench").await;
        let (_, path) = self.guarded("UPDATE bench SET a = a + 1").await;
        self.sql("VACUUM same").await;
        self.sql("UPDATE same SET a = a + 1").await;
        let snapshot = Snapshot::open(&[path], None).await.unwrap();
        let copy = self.client.copy_out("COPY bench TO STDOUT").await.unwrap();
        let lines: Vec<bytes::Bytes> = copy.try_collect().await.unwrap();
        let new = self.copied("new", &lines).await;
        self.sql("BEGIN; DELETE FROM same").await;
        let same = self.copied("same", &lines).await;
        self.sql("COMMIT").await;
        let (to, mut out) = self.writer();
        let began = Instant::now();
        let options = UndoOptions::default();
        let Undo::Ready(_, pending) = self.target.rollback(&snapshot, &options, &mut out).await.unwrap()
        else {
            panic!("there is something to do")
        };
        out.finish(&to).await.unwrap();
        pending.commit().await.unwrap();
        let taken = began.elapsed().as_secs_f64();
        (new / taken, same / taken)
    }

    async fn count(&self) -> f64 {
        let began = Instant::now();
        self.sql("SELECT count(*) FROM bench WHERE d > 10").await;
        let bare = began.elapsed();
        let sql = "UPDATE bench SET a = 1 WHERE d > 10".to_owned();
        let began = Instant::now();
        self.target.count(&Selection::Statements(vec![Statement { sql, params: Vec::new() }])).await.unwrap();
        began.elapsed().as_secs_f64() / bare.as_secs_f64()
    }

    /// One row of many, over and over.
    async fn one_row(&mut self, capture: bool) -> f64 {
        let sql = |i: usize| format!("UPDATE bench SET a = a + 1 WHERE id = {}", 1 + i * 7919 % self.rows);
        let statements: Vec<_> = (0..ONE_ROW).map(sql).collect();
        let began = Instant::now();
        for sql in &statements {
            self.client.execute(sql.as_str(), &[]).await.unwrap();
        }
        let plain = began.elapsed();
        let began = Instant::now();
        for sql in statements {
            if capture {
                let (path, mut out) = self.writer();
                let mut pending =
                    self.target.execute(&[Statement { sql, params: Vec::new() }]).await.unwrap();
                pending.capture(&mut out).await.unwrap();
                out.finish(&path).await.unwrap();
                pending.commit().await.unwrap();
            } else {
                let pending = self.target.execute(&[Statement { sql, params: Vec::new() }]).await.unwrap();
                pending.commit().await.unwrap();
            }
        }
        began.elapsed().as_secs_f64() / plain.as_secs_f64()
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn bench(folder: &Path) {
    let rows = std::env::var("CHECKREIN_BENCH_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let server = Postgres::start(&[("max_wal_size", "4GB"), ("shared_buffers", "512MB")]).unwrap();
    let url = server.database().unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let place = Place::Postgres(url.into());
    let target = open(TargetConfig { name: "shop".into(), place, limits: Limits::default() }).unwrap();
    let mut b = Bench { client, target, folder: folder.to_owned(), rows, files: 0 };
    b.sql(&format!(
        "CREATE TABLE bench {TABLE}; CREATE INDEX ON bench (a);
         INSERT INTO bench SELECT i, i % 1000, repeat(md5(i::text), 2), now(), i FROM generate_series(1, {rows}) i;
         CREATE UNLOGGED TABLE log (old jsonb, new jsonb); CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO log VALUES (to_jsonb(old), to_jsonb(new)); RETURN NULL; END $$; ANALYZE"
    ))
    .await;
    let mut figures: Vec<(&str, &str, Vec<f64>)> = [
        ("snapshot of a table: rate against COPY into a file", "0.9 or more"),
        ("UPDATE of all rows, guarded, against plain", "1.3 or less"),
        ("UPDATE of all rows with a trigger that logs, against plain", ""),
        ("UPDATE of a tenth, guarded, against plain", "1.3 or less"),
        ("rollback of all rows: rate against COPY into a new table with the same indexes", "0.5 or more"),
        ("rollback of all rows: rate against COPY into the same table, its rows deleted before", ""),
        ("counting an UPDATE against a bare SELECT count(*)", ""),
        ("UPDATE of one row, guarded without snapshot, against direct", ""),
        ("UPDATE of one row, guarded with snapshot, against direct", ""),
    ]
    .map(|(what, goal)| (what, goal, Vec::new()))
    .into();
    for _ in 0..ROUNDS {
        let snapshot = b.snapshot().await;
        let (all, logged) = b.update("").await;
        let (tenth, _) = b.update("WHERE id % 10 = 0").await;
        let (rollback, by_hand) = b.rollback().await;
        let round = [
            snapshot,
            all,
            logged,
            tenth,
            rollback,
            by_hand,
            b.count().await,
            b.one_row(false).await,
            b.one_row(true).await,
        ];
        for ((_, _, list), figure) in figures.iter_mut().zip(round) {
            list.push(figure);
        }
        for sql in ["VACUUM FULL bench", "ANALYZE bench", "CHECKPOINT"] {
            b.sql(sql).await;
        }
        std::fs::read_dir(folder).unwrap().for_each(|f| std::fs::remove_file(f.unwrap().path()).unwrap());
    }
    println!("{rows} rows, medians of {ROUNDS} rounds");
    for (what, goal, list) in figures {
        println!(
            "{:7.2}  {what}{}",
            median(list),
            if goal.is_empty() { String::new() } else { format!(" (goal: {goal})") }
        );
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(bench(folder.path()));
}
