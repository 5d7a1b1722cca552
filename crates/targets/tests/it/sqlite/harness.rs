//! A file, its target, and what is in the file bit by bit.

use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    Captured, CommitError, Error, How, Limits, Measured, Place, Statement, Target, TargetConfig, Undo,
    UndoOptions,
    snapshot::{Header, Snapshot, SnapshotKey, SnapshotWriter},
};
use rusqlite::{Connection, types::ValueRef};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(super) struct Fixture {
    pub(super) folder: tempfile::TempDir,
    pub(super) path: PathBuf,
    pub(super) target: Arc<dyn Target>,
    next: AtomicU64,
}

/// What a guarded execution did.
pub(super) struct Ran {
    pub(super) measured: Measured,
    pub(super) captured: Captured,
    pub(super) snapshot: Snapshot,
    pub(super) path: PathBuf,
    pub(super) token: String,
}

pub(super) fn statement(sql: &str) -> Statement {
    Statement { sql: sql.to_owned(), params: Vec::new() }
}

pub(super) fn limits() -> Limits {
    Limits { lock: Duration::from_millis(1_500), count: Duration::from_secs(20), ..Limits::default() }
}

pub(super) fn open(path: &Path, limits: Limits) -> Arc<dyn Target> {
    let place = Place::Sqlite(path.to_owned());
    checkrein_targets::open(TargetConfig { name: "shop".into(), place, limits }).unwrap()
}

impl Fixture {
    /// A new file in `mode` (`wal`, `delete`, …) with `sql` run on it.
    pub(super) fn new(mode: &str, sql: &str) -> Self {
        Self::with(mode, sql, limits())
    }

    pub(super) fn with(mode: &str, sql: &str, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "journal_mode", mode).unwrap();
        db.pragma_update(None, "synchronous", "OFF").unwrap();
        db.execute_batch(sql).unwrap();
        drop(db);
        let target = open(&path, limits);
        Self { folder, path, target, next: AtomicU64::new(0) }
    }

    /// Somebody else's connection.
    pub(super) fn other(&self) -> Connection {
        let db = Connection::open(&self.path).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db
    }

    /// Somebody else's work.
    pub(super) fn sql(&self, sql: &str) {
        self.other().execute_batch(sql).unwrap();
    }

    pub(super) fn dump(&self) -> Vec<String> {
        dump(&self.other())
    }

    pub(super) fn writer(&self) -> (SnapshotWriter, PathBuf) {
        self.writer_of(&format!("snp_{}", self.next.load(Ordering::Relaxed)))
    }

    /// A file of the snapshot `id`.
    pub(super) fn writer_of(&self, id: &str) -> (SnapshotWriter, PathBuf) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.snapshot"));
        let header =
            Header { id: id.to_owned(), target: "shop".into(), kind: "sqlite".into(), system: json!({}) };
        let most = (10_000_000, 1 << 34);
        (SnapshotWriter::create(&path, &header, None, most).unwrap(), path)
    }

    pub(super) async fn finish(&self, (out, path): (SnapshotWriter, PathBuf)) -> Snapshot {
        out.finish(&path).await.unwrap();
        Snapshot::open(&[path], None::<SnapshotKey>).await.unwrap()
    }

    /// Executes, captures and commits.
    pub(super) async fn run(&self, sql: &str) -> Ran {
        self.try_run(&[statement(sql)]).await.unwrap()
    }

    pub(super) async fn try_run(&self, statements: &[Statement]) -> Result<Ran, Error> {
        let mut pending = self.target.execute(statements).await?;
        let (mut out, path) = self.writer();
        let captured = pending.capture(&mut out).await?;
        let snapshot = self.finish((out, path.clone())).await;
        let (measured, token) = (pending.measured().clone(), pending.token().to_owned());
        pending.commit().await.map_err(|error| match error {
            CommitError::NotCommitted(why) => Error::Statement { code: "COMMIT".to_owned(), message: why },
            CommitError::Unknown(why) => panic!("{why}"),
        })?;
        Ok(Ran { measured, captured, snapshot, path, token })
    }

    /// Rolls back and commits that, and returns the snapshot that undoes it.
    pub(super) async fn undo(&self, snapshot: &Snapshot) -> Snapshot {
        match self.try_undo(snapshot, OnConflict::Refuse).await.unwrap() {
            (Undone::Done, Some(undo)) => undo,
            (other, _) => panic!("{other:?}"),
        }
    }

    pub(super) async fn try_undo(
        &self,
        snapshot: &Snapshot,
        on_conflict: OnConflict,
    ) -> Result<(Undone, Option<Snapshot>), Error> {
        let (mut out, path) = self.writer();
        let options = UndoOptions { on_conflict, ..UndoOptions::default() };
        match self.target.rollback(snapshot, &options, &mut out).await? {
            Undo::Ready(_, pending) => {
                let undo = self.finish((out, path)).await;
                pending.commit().await.unwrap();
                Ok((Undone::Done, Some(undo)))
            }
            Undo::Nothing(_) => Ok((Undone::Nothing, None)),
            Undo::Conflicts(plan) => {
                assert!(plan.conflict_count > 0);
                Ok((Undone::Conflicts(serde_json::to_value(plan.conflicts).unwrap()), None))
            }
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Undone {
    Done,
    Nothing,
    Conflicts(Value),
}

/// `(resource, how, records)`, in order.
pub(super) fn brief(measured: &[checkrein_targets::Affected]) -> Vec<(&str, How, u64)> {
    measured.iter().map(|a| (a.resource.as_str(), a.how, a.records)).collect()
}

/// Every record of every table, with its rowid and every bit of it, and the counters of AUTOINCREMENT.
pub(super) fn dump(db: &Connection) -> Vec<String> {
    let mut names = db
        .prepare("SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT IN ('sqlite_schema', 'sqlite_stat1')")
        .unwrap();
    let tables: Vec<(String, bool)> =
        names.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let mut lines = Vec::new();
    for (table, without_rowid) in tables {
        let rowid = if without_rowid { "NULL" } else { "rowid" };
        let mut rows =
            db.prepare(&format!("SELECT {rowid}, * FROM \"{}\"", table.replace('"', "\"\""))).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<String> = (0..columns)
                .map(|c| match row.get_ref(c).unwrap() {
                    ValueRef::Real(r) => format!("r{:016x}", r.to_bits()),
                    ValueRef::Text(t) => format!("t{t:02x?}"),
                    other => format!("{other:?}"),
                })
                .collect();
            lines.push(format!("{table}: {}", cells.join(" ")));
        }
    }
    lines.sort();
    lines
}
