//! What guarding costs on SQLite, as ratios to the plain work in the same round:
//! `cargo bench -p checkrein-targets --bench sqlite`. Of the large ones the CPU time, too, over all rounds: on a busy
//! machine it says more.

use checkrein_targets::{
    Limits, Place, Selection, Statement, Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use rusqlite::Connection;
use serde_json::json;
use std::{
    error::Error,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

const ROWS: u32 = 100_000;
const ROUNDS: usize = 5;
const SINGLES: u32 = 50;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut out = std::io::stdout().lock();
    for mode in ["wal", "delete"] {
        let mut ratios: [Vec<f64>; 4] = Default::default();
        let mut used = [[0.0; 2]; 2];
        for _ in 0..ROUNDS {
            let round = runtime.block_on(round(mode, &mut used))?;
            for (list, ratio) in ratios.iter_mut().zip(round) {
                list.push(ratio);
            }
        }
        let names = [
            "guarded UPDATE of one record, to a direct one",
            "guarded UPDATE of 100,000 records, to a plain one",
            "rollback of it, to deleting and inserting them plainly",
            "count of a DELETE of all, to SELECT count(*) under the same condition",
        ];
        for (name, list) in names.iter().zip(&mut ratios) {
            list.sort_by(f64::total_cmp);
            let median = list.get(list.len() / 2).copied().unwrap_or(f64::NAN);
            writeln!(out, "{mode:6} {median:6.2}  {name}")?;
        }
        for (name, [guarded, plain]) in names.iter().skip(1).zip(used) {
            writeln!(out, "{mode:6} {:6.2}  {name}, in CPU time", guarded / plain)?;
        }
    }
    Ok(())
}

fn writer(path: &Path) -> Outcome<SnapshotWriter> {
    let header = Header { id: "snp".into(), target: "t".into(), kind: "sqlite".into(), system: json!({}) };
    Ok(SnapshotWriter::create(path, &header, None, (10_000_000, 1 << 34))?)
}

async fn guarded(target: &Arc<dyn Target>, sql: &str, path: &Path) -> Outcome<()> {
    let statement = Statement { sql: sql.to_owned(), params: Vec::new() };
    let mut pending = target.execute(&[statement]).await?;
    let mut out = writer(path)?;
    pending.capture(&mut out).await?;
    out.finish(path).await?;
    Ok(pending.commit().await?)
}

/// Seconds of CPU that this process has used, in ticks of a hundredth.
fn cpu() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/self/stat makes no sense")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// Adds to `used`, for the UPDATE and for its rollback, the CPU time of the guarded and of the plain work.
async fn round(mode: &str, used: &mut [[f64; 2]; 2]) -> Outcome<[f64; 4]> {
    let [updates, rollbacks] = used;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.db");
    let db = Connection::open(&path)?;
    db.pragma_update(None, "journal_mode", mode)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.busy_timeout(Duration::from_secs(10))?;
    db.execute_batch(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n INT); CREATE INDEX i ON t (n);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO t SELECT i, 'name of ' || i, i FROM n"
    ))?;
    let place = Place::Sqlite(path);
    let limits =
        Limits { lock: Duration::from_secs(10), count: Duration::from_secs(60), ..Limits::default() };
    let target = checkrein_targets::open(TargetConfig { name: "t".into(), place, limits })?;

    let (mut direct, mut guard) = (Duration::ZERO, Duration::ZERO);
    for n in 0..SINGLES {
        let start = Instant::now();
        db.execute(&format!("UPDATE t SET name = 'a' || {n} WHERE id = 7"), [])?;
        direct += start.elapsed();
        let start = Instant::now();
        let sql = format!("UPDATE t SET name = 'b' || {n} WHERE id = 7");
        guarded(&target, &sql, &folder.path().join(format!("s{n}"))).await?;
        guard += start.elapsed();
    }
    let one = guard.as_secs_f64() / direct.as_secs_f64();

    let (start, before) = (Instant::now(), cpu()?);
    db.execute_batch("UPDATE t SET n = n + 1, name = name || '.'")?;
    let (direct, between) = (start.elapsed(), cpu()?);
    let start = Instant::now();
    let all = folder.path().join("all");
    guarded(&target, "UPDATE t SET n = n + 1, name = name || '.'", &all).await?;
    let bulk = start.elapsed().as_secs_f64() / direct.as_secs_f64();
    *updates = [updates[0] + cpu()? - between, updates[1] + between - before];

    let snapshot = Snapshot::open(&[all], None).await?;
    let (start, before) = (Instant::now(), cpu()?);
    let undo = folder.path().join("undo");
    let mut out = writer(&undo)?;
    match target.rollback(&snapshot, &UndoOptions::default(), &mut out).await? {
        Undo::Ready(_, pending) => {
            out.finish(&undo).await?;
            pending.commit().await?;
        }
        _ => return Err("the rollback was not ready".into()),
    }
    let rolled_back = start.elapsed();
    rollbacks[0] += cpu()? - before;
    db.execute_batch("CREATE TEMP TABLE copy AS SELECT * FROM t")?;
    let (start, before) = (Instant::now(), cpu()?);
    db.execute_batch(
        "BEGIN IMMEDIATE; DELETE FROM t WHERE id > 0; INSERT INTO t SELECT * FROM copy; COMMIT",
    )?;
    let rollback = rolled_back.as_secs_f64() / start.elapsed().as_secs_f64();
    rollbacks[1] += cpu()? - before;

    let what = Selection::Statements(vec![Statement {
        sql: "DELETE FROM t WHERE name LIKE '%1%'".to_owned(),
        params: Vec::new(),
    }]);
    let start = Instant::now();
    db.query_row("SELECT count(*) FROM t WHERE name LIKE '%1%'", [], |row| row.get::<_, i64>(0))?;
    let direct = start.elapsed();
    let start = Instant::now();
    target.count(&what).await?;
    let count = start.elapsed().as_secs_f64() / direct.as_secs_f64();
    Ok([one, bulk, rollback, count])
}
