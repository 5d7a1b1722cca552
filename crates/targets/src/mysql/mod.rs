//! MySQL and MariaDB, with InnoDB's tables.
//!
//! ```text
//! statement ─► sql (understood?) ─► walk (which records? foreign keys, triggers) ─► it runs ─► compare
//!                                      └► footprint: keys, locked                               │
//! observer: the same records as everybody else still sees them ─────────────────────────────────┤
//! InnoDB's own number of changed rows ──────────────────────────────────────────────────────────┴► equal? ─► open
//! ```
//! Neither cascades nor what triggers do appear in what a statement answers. So everything that may change is
//! searched beforehand, compared afterwards, and refused unless it adds up to InnoDB's own number. The server
//! keeps no record of transactions: `resolve` asks the records themselves.

mod access;
mod blocks;
mod builtins;
mod compare;
mod connect;
mod count;
mod dictionary;
mod effects;
mod execute;
mod footprint;
mod identity;
mod measure;
mod open;
mod resolve;
mod result;
mod sample;
mod schema;
mod snapshots;
mod sql;
mod undo;
mod value;
mod walk;

use crate::{
    Captured, Counted, Error, Kind, Pending, Plan, Report, ResultSet, Sampled, Selection, Settled, Statement,
    Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Snapshot, SnapshotWriter, Table},
};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A database of MySQL or MariaDB.
pub(crate) struct Mysql {
    db: Arc<connect::Db>,
}

impl Mysql {
    pub(crate) fn new(config: TargetConfig) -> Result<Self, Error> {
        Ok(Self { db: Arc::new(connect::Db::new(config)?) })
    }
}

#[async_trait]
impl Target for Mysql {
    fn kind(&self) -> Kind {
        Kind::Mysql
    }

    async fn test(&self) -> Result<Report, Error> {
        access::test(&self.db).await
    }

    async fn grants(&self, account: &str) -> String {
        access::grants(&self.db, account)
    }

    async fn count(&self, what: &Selection) -> Result<Counted, Error> {
        count::count(&self.db, what).await
    }

    async fn sample(&self, what: &Selection, rows: usize) -> Result<Vec<Sampled>, Error> {
        sample::sample(&self.db, what, rows).await
    }

    async fn read(&self, statement: &Statement) -> Result<ResultSet, Error> {
        count::read(&self.db, statement).await
    }

    async fn execute(&self, statements: &[Statement]) -> Result<Box<dyn Pending>, Error> {
        execute::execute(&self.db, statements).await
    }

    async fn capture(&self, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        let captured = snapshots::capture(&self.db, what, out).await?;
        out.foresees(&captured.affected);
        Ok(captured)
    }

    async fn seal(&self, snapshot: &Snapshot, out: &mut SnapshotWriter) -> Result<(), Error> {
        snapshots::seal(&self.db, snapshot, out).await
    }

    fn decode(&self, table: &Table, data: &[u8]) -> Result<Vec<Map<String, Value>>, Error> {
        blocks::decode(table, data)
    }

    async fn plan(&self, snapshot: &Snapshot, options: &UndoOptions) -> Result<Plan, Error> {
        undo::plan(&self.db, snapshot, options).await
    }

    async fn rollback(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
        out: &mut SnapshotWriter,
    ) -> Result<Undo, Error> {
        undo::rollback(&self.db, snapshot, options, out).await
    }

    async fn resolve(&self, token: &str, snapshot: &Snapshot) -> Result<Settled, Error> {
        resolve::resolve(&self.db, token, snapshot).await
    }
}
