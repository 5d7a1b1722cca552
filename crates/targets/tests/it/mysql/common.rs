//! What every test of MariaDB needs.

use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    Captured, Error, How, Limits, Pending, Place, Plan, Statement, Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use checkrein_testbed::servers::mariadb::{Mariadb, SUPERUSER, is_mysql};
use mysql_async::{Conn, Opts, Row, Value, prelude::Queryable as _};
use serde_json::json;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

/// A database of its own, a target on it, and a connection that goes past Checkrein.
pub(super) struct Shop {
    pub(super) target: Arc<dyn Target>,
    pub(super) sql: Conn,
    pub(super) name: String,
    pub(super) server: &'static Mariadb,
    pub(super) folder: TempDir,
    snapshots: AtomicU64,
}

pub(super) fn limits() -> Limits {
    let (connect, lock, count) = (Duration::from_secs(60), Duration::from_secs(1), Duration::from_secs(20));
    // No test is about how busy the machine is.
    Limits { connect, lock, count, ..Limits::default() }
}

pub(super) fn open(url: &str, limits: Limits) -> Arc<dyn Target> {
    let place = Place::Mysql(url.to_owned().into());
    checkrein_targets::open(TargetConfig { name: "shop".into(), place, limits }).unwrap()
}

impl Shop {
    /// An empty database with these tables.
    pub(super) async fn new(schema: &str) -> Self {
        Self::on(Mariadb::shared(), schema).await
    }

    pub(super) async fn on(server: &'static Mariadb, schema: &str) -> Self {
        let name = server.name();
        let mut root = connect(&server.url(SUPERUSER, "mysql")).await;
        root.query_drop(format!("CREATE DATABASE {name}")).await.unwrap();
        root.disconnect().await.unwrap();
        let url = server.url(SUPERUSER, &name);
        let mut sql = connect(&url).await;
        if is_mysql() {
            numbers(&mut sql, schema).await;
        }
        if !schema.is_empty() {
            sql.query_drop(schema).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        Self { target: open(&url, limits()), sql, name, server, folder, snapshots: AtomicU64::new(0) }
    }

    /// Runs SQL past Checkrein.
    pub(super) async fn run(&mut self, sql: &str) {
        self.sql.query_drop(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// The same, where it may fail.
    pub(super) async fn sql_result(&mut self, sql: &str) -> mysql_async::Result<()> {
        self.sql.query_drop(sql).await
    }

    /// Frees what it took.
    pub(super) async fn drop_database(mut self) {
        let name = self.name.clone();
        self.run(&format!("DROP DATABASE {name}")).await;
    }

    /// The single number that a query returns.
    pub(super) async fn number(&mut self, sql: &str) -> i64 {
        self.sql.query_first(sql).await.unwrap().unwrap_or_else(|| panic!("{sql} returns nothing"))
    }

    pub(super) fn writer(&self) -> (SnapshotWriter, PathBuf) {
        let number = self.snapshots.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.snapshot"));
        let header = Header {
            id: format!("snp_{number}"),
            target: "shop".into(),
            kind: "mysql".into(),
            system: json!(null),
        };
        let out = SnapshotWriter::create(&path, &header, None, (10_000_000, 1 << 34)).unwrap();
        (out, path)
    }

    pub(super) async fn execute(&self, sql: &str) -> Result<Box<dyn Pending>, Error> {
        self.target.execute(&[statement(sql)]).await
    }

    /// Executes, captures and commits.
    pub(super) async fn change(&self, sql: &str) -> Result<(Captured, Snapshot), Error> {
        let pending = self.execute(sql).await?;
        self.keep(pending).await
    }

    /// Captures and commits.
    pub(super) async fn keep(&self, mut pending: Box<dyn Pending>) -> Result<(Captured, Snapshot), Error> {
        let (mut out, path) = self.writer();
        let captured = pending.capture(&mut out).await?;
        out.finish(&path).await.unwrap();
        pending.commit().await.unwrap();
        Ok((captured, Snapshot::open(&[path], None).await.unwrap()))
    }

    /// Rolls back and commits that.
    pub(super) async fn undo(
        &self,
        snapshot: &Snapshot,
        how: OnConflict,
    ) -> Result<(Plan, Option<Snapshot>), Error> {
        let (mut out, path) = self.writer();
        let options = UndoOptions { on_conflict: how, ..UndoOptions::default() };
        match self.target.rollback(snapshot, &options, &mut out).await? {
            Undo::Ready(plan, pending) => {
                out.finish(&path).await.unwrap();
                pending.commit().await.unwrap();
                Ok((plan, Some(Snapshot::open(&[path], None).await.unwrap())))
            }
            Undo::Nothing(plan) | Undo::Conflicts(plan) => Ok((plan, None)),
        }
    }

    /// Everything in these tables, each row as text that loses nothing, sorted.
    pub(super) async fn dump(&mut self, tables: &[&str]) -> Vec<String> {
        let mut all = Vec::new();
        for table in tables {
            let rows: Vec<Row> = self.sql.exec(format!("SELECT * FROM {table}"), ()).await.unwrap();
            let mut lines: Vec<String> = rows.into_iter().map(|row| line(table, row.unwrap())).collect();
            lines.sort();
            all.extend(lines);
        }
        all
    }
}

/// Makes the tables of numbers that a schema reads, which MariaDB has of itself: `seq_1_to_40`.
async fn numbers(sql: &mut Conn, schema: &str) {
    let numbers = |part: &str| -> String { part.chars().take_while(char::is_ascii_digit).collect() };
    for most in schema.split("seq_1_to_").skip(1).map(numbers).collect::<BTreeSet<_>>() {
        let name = format!("seq_1_to_{most}");
        sql.query_drop(format!("CREATE TABLE {name}(seq INT PRIMARY KEY); INSERT INTO {name} VALUES (1)"))
            .await
            .unwrap();
        let (mut there, most) = (1_u64, most.parse().unwrap());
        while there < most {
            let double =
                format!("INSERT INTO {name} SELECT seq + {there} FROM {name} WHERE seq + {there} <= {most}");
            sql.query_drop(double).await.unwrap();
            there *= 2;
        }
    }
}

fn line(table: &str, values: Vec<Value>) -> String {
    let cells: Vec<String> = values
        .into_iter()
        .map(|value| match value {
            Value::Float(n) => format!("f{:08x}", n.to_bits()),
            Value::Double(n) => format!("d{:016x}", n.to_bits()),
            Value::Bytes(b) => format!("{b:02x?}"),
            other => format!("{other:?}"),
        })
        .collect();
    format!("{table}: {}", cells.join(" | "))
}

pub(super) async fn connect(url: &str) -> Conn {
    let mut conn = Conn::new(Opts::from_url(url).unwrap()).await.unwrap();
    // Bytes as they are stored.
    conn.query_drop("SET character_set_results = NULL, time_zone = '+00:00'").await.unwrap();
    conn
}

pub(super) fn statement(sql: &str) -> Statement {
    Statement { sql: sql.to_owned(), params: Vec::new() }
}

/// `users update 3, orders cascade 2`.
pub(super) fn said(affected: &[checkrein_targets::Affected]) -> String {
    let how = |h: How| serde_json::to_value(h).unwrap().as_str().unwrap().to_owned();
    let list: Vec<_> =
        affected.iter().map(|a| format!("{} {} {}", a.resource, how(a.how), a.records)).collect();
    list.join(", ")
}
