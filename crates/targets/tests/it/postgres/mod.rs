//! PostgreSQL, on a real server.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod adversarial;
mod basics;
mod bound;
mod checked;
mod concurrent;
mod counting;
mod crash;
mod deferred;
mod fallback;
mod inherited;
mod keyless;
mod large;
mod model;
mod pooler;
mod property;
mod reached;
mod refused;
mod settings;
mod tls;
mod types;

use checkrein_targets::{
    Captured, Error, Limits, Pending, Place, Plan, Statement, Target, TargetConfig, Undo, UndoOptions, open,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use checkrein_testbed::servers::postgres::Postgres;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A database of a test's own, and the target that it is.
struct Shop {
    url: String,
    client: Client,
    target: Arc<dyn Target>,
    folder: tempfile::TempDir,
    snapshots: std::sync::atomic::AtomicU32,
}

fn config(url: &str, limits: Limits) -> TargetConfig {
    TargetConfig { name: "shop".into(), place: Place::Postgres(url.to_owned().into()), limits }
}

/// The usual limits, but for what only says how busy the machine is.
fn patient() -> Limits {
    Limits { connect: std::time::Duration::from_secs(60), ..Limits::default() }
}

fn statement(sql: &str) -> Statement {
    Statement { sql: sql.into(), params: Vec::new() }
}

/// A connection beside the target's.
async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Shop {
    async fn new(schema: &str) -> Self {
        Self::on(Postgres::shared(), schema).await
    }

    async fn on(server: &Postgres, schema: &str) -> Self {
        let url = server.database().unwrap();
        let client = connect(&url).await;
        client.batch_execute(schema).await.unwrap();
        let target = open(config(&url, patient())).unwrap();
        Self { url, client, target, folder: tempfile::tempdir().unwrap(), snapshots: 0.into() }
    }

    /// The same database through a target with connections of its own.
    async fn fresh(&self) -> Self {
        let target = open(config(&self.url, patient())).unwrap();
        let client = connect(&self.url).await;
        Self {
            url: self.url.clone(),
            client,
            target,
            folder: tempfile::tempdir().unwrap(),
            snapshots: 0.into(),
        }
    }

    /// Runs SQL beside Checkrein.
    async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// The first column of the first row.
    async fn ask(&self, sql: &str) -> String {
        rows(&self.client, sql).await.swap_remove(0).swap_remove(0)
    }

    /// A path for a new snapshot, and a writer for it.
    fn writer(&self) -> (PathBuf, SnapshotWriter) {
        let number = self.snapshots.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.snapshot"));
        let header =
            Header { id: "snp_1".into(), target: "shop".into(), kind: "postgres".into(), system: json!({}) };
        let writer = SnapshotWriter::create(&path, &header, None, (10_000_000, 16 << 30)).unwrap();
        (path, writer)
    }

    async fn execute(&self, sql: &str) -> Result<Box<dyn Pending>, Error> {
        self.target.execute(&[statement(sql)]).await
    }

    /// Captures what is pending, durably.
    async fn captured(&self, pending: &mut Box<dyn Pending>) -> (Captured, Snapshot) {
        let (path, mut out) = self.writer();
        pending.bind();
        let captured = pending.capture(&mut out).await.unwrap();
        let written = out.finish(&path).await.unwrap();
        (captured, Snapshot::open(&[written.path], None).await.unwrap())
    }

    /// Runs a statement as the server would: measured, captured, committed.
    async fn run(&self, sql: &str) -> Snapshot {
        let mut pending = self.execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let (_, snapshot) = self.captured(&mut pending).await;
        pending.commit().await.unwrap();
        snapshot
    }

    /// Rolls back and commits: the plan, and the snapshot by which this can be undone.
    async fn undo(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
    ) -> Result<(Plan, Option<Snapshot>), Error> {
        let (path, mut out) = self.writer();
        match self.target.rollback(snapshot, options, &mut out).await? {
            Undo::Ready(plan, pending) => {
                let written = out.finish(&path).await.unwrap();
                pending.commit().await.unwrap();
                Ok((plan, Some(Snapshot::open(&[written.path], None).await.unwrap())))
            }
            Undo::Nothing(plan) | Undo::Conflicts(plan) => Ok((plan, None)),
        }
    }

    /// Everything that is in the database, in an order that does not depend on where it is stored.
    async fn dump(&self) -> BTreeMap<String, Vec<String>> {
        dump(&self.client).await
    }
}

/// The rows of all statements in `sql`, as texts.
async fn rows(client: &Client, sql: &str) -> Vec<Vec<String>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL").to_owned()).collect())
        }
        _ => None,
    });
    rows.collect()
}

/// The rows of a table as a snapshot writes them.
async fn copy(client: &Client, table: &str) -> Vec<String> {
    client
        .batch_execute(
            "set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set extra_float_digits = 3; \
            set timezone = 'UTC'; set bytea_output = 'hex'",
        )
        .await
        .unwrap();
    let columns = rows(client, &format!("select string_agg(quote_ident(attname), ',' order by attnum) from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped")).await;
    let stream = client
        .copy_out(&format!("copy (select {} from only {table}) to stdout", columns[0][0].replace("NULL", "")))
        .await
        .unwrap();
    let parts: Vec<bytes::Bytes> = futures_util::TryStreamExt::try_collect(stream).await.unwrap();
    parts.iter().map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
}

async fn dump(client: &Client) -> BTreeMap<String, Vec<String>> {
    let tables = rows(
        client,
        "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'",
    )
    .await;
    let mut dump = BTreeMap::new();
    for table in tables {
        let name = table[0].clone();
        let mut lines: Vec<String> = rows(client, &format!("SELECT t::text FROM ONLY {name} t"))
            .await
            .into_iter()
            .map(|mut r| r.remove(0))
            .collect();
        lines.sort();
        dump.insert(name, lines);
    }
    dump
}

/// How many records a list of what is affected holds, by table and way.
fn affected(list: &[checkrein_targets::Affected]) -> Vec<(String, String, u64)> {
    let mut list: Vec<_> = list
        .iter()
        .map(|a| {
            (a.resource.clone(), serde_json::to_value(a.how).unwrap().as_str().unwrap().to_owned(), a.records)
        })
        .collect();
    list.sort();
    list
}

/// The same, written down.
fn expect(list: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
    list.iter()
        .map(|(resource, how, records)| ((*resource).to_owned(), (*how).to_owned(), *records))
        .collect()
}

fn with(sql: &str, params: &Value) -> Statement {
    Statement { sql: sql.into(), params: params.as_array().cloned().unwrap_or_default() }
}
