//! A small shop in an SQLite file, and a server that is connected to it.

use super::common::{Reply, Server};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, plan TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users ON DELETE CASCADE, total INTEGER NOT NULL);
CREATE TABLE invoices (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users ON DELETE RESTRICT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
    INSERT INTO users SELECT i, 'user ' || i, iif(i <= 40, 'trial', 'paid') FROM n;
INSERT INTO orders SELECT id, id, id * 10 FROM users;
INSERT INTO orders SELECT 1000 + id, id, 7 FROM users WHERE id <= 20;
INSERT INTO invoices SELECT id, id FROM users WHERE id > 90;
";

/// What is added to a server's configuration; `more` goes into `[targets.shop]`.
pub(crate) fn config(dir: &Path, more: &str) -> String {
    format!(
        "[targets.shop]\nkind = \"sqlite\"\npath = \"{}\"\nenvironment = \"production\"\n{more}\n",
        file(dir).display()
    )
}

pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join("shop.db")
}

/// Makes the shop in `dir`.
pub(crate) fn make(dir: &Path) {
    Connection::open(file(dir)).unwrap().execute_batch(SCHEMA).unwrap();
}

/// A server with the shop beside its data.
pub(crate) async fn server(more: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let toml = config(dir.path(), more);
    Server::on(dir, &toml).await
}

/// Everything in the shop, as text.
pub(crate) fn dump(dir: &Path) -> String {
    let db = Connection::open(file(dir)).unwrap();
    let mut text = String::new();
    for sql in [
        "SELECT 'u', id, quote(name), plan FROM users ORDER BY id",
        "SELECT 'o', id, user_id, total FROM orders ORDER BY id",
        "SELECT 'i', id, user_id, '' FROM invoices ORDER BY id",
    ] {
        let mut rows = db.prepare(sql).unwrap();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for i in 0..4 {
                text.push_str(&format!("{:?} ", row.get::<_, rusqlite::types::Value>(i).unwrap()));
            }
            text.push('\n');
        }
    }
    text
}

/// Does something to the shop as somebody else.
pub(crate) fn meddle(dir: &Path, sql: &str) {
    Connection::open(file(dir)).unwrap().execute_batch(sql).unwrap();
}

/// The files of snapshots.
pub(crate) fn snapshot_files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("data/snapshots")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

impl Server {
    pub(crate) async fn try_execute(&self, body: Value) -> Reply {
        let mut body = body;
        body["target"] = json!("shop");
        self.post("/v1/executions", body).await
    }

    pub(crate) async fn execute(&self, sql: &str) -> Value {
        let reply = self.try_execute(json!({"statement": sql})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    pub(crate) async fn rollback(&self, id: &str, body: Value) -> Reply {
        self.post(&format!("/v1/snapshots/{id}/rollback"), body).await
    }

    pub(crate) async fn outcome(&self, check_id: &str) -> Value {
        self.get(&format!("/v1/checks/{check_id}")).await.json()["outcome"].clone()
    }

    /// The log is whole and the tables are what it says.
    pub(crate) async fn stop_and_verify(self) -> tempfile::TempDir {
        let dir = self.stop().await;
        checkrein_store::Reader::open(&dir.path().join("data")).unwrap().verify(None, |_| {}).unwrap();
        dir
    }
}
