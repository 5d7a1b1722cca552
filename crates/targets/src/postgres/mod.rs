//! PostgreSQL 14 and newer.
//!
//! ```text
//! count    derive ─► hits ─► foreign keys, again and again            count.rs, derive.rs, meant.rs
//! execute  guard ─► run ─► measure (counters, locks) ─► Pending       guard.rs, execute.rs, measure.rs
//! capture  three looks from inside and outside, COPY text             images.rs, copy.rs
//! rollback stage ─► compare ─► restore ─► keys ─► Pending             undo/
//! ```
//! Nothing is installed in the database: no trigger, no table, no function.

mod calls;
mod connect;
mod copy;
mod count;
mod derive;
mod execute;
mod find;
mod grants;
mod guard;
mod images;
mod meant;
mod measure;
mod places;
mod rights;
mod sample;
mod schema;
mod sql;
mod take;
mod tls;
mod undo;
mod values;

use crate::{
    Captured, Counted, Error, Kind, Limits, Pending, Plan, Report, ResultSet, Sampled, Selection, Settled,
    Statement, Target, TargetConfig, Undo, UndoOptions,
    snapshot::{Snapshot, SnapshotWriter, Table},
};
use async_trait::async_trait;
use connect::{Connections, Session};
use serde_json::{Map, Value, json};
use sql::{failed, literal};
use values::{Room, Trouble};

/// One database of a PostgreSQL server.
pub(crate) struct Postgres {
    config: TargetConfig,
    connections: Connections,
}

impl Postgres {
    pub(crate) fn new(config: TargetConfig) -> Result<Self, Error> {
        Ok(Self { connections: Connections::new(&config)?, config })
    }

    fn limits(&self) -> &Limits {
        &self.config.limits
    }

    async fn returned(&self, statement: &Statement) -> Result<ResultSet, Trouble> {
        let limits = self.limits();
        let mut session = self.connections.work().await?;
        calls::check(&session, &statement.sql, false).await?;
        execute::begin(&mut session, "READ COMMITTED READ ONLY", limits.execute, limits).await?;
        let mut room = Room { rows: limits.result_rows, bytes: limits.result_bytes };
        let result = values::run(&session, statement, &mut room).await?;
        execute::abandon(session).await;
        Ok(result)
    }

    async fn status(&self, token: &str) -> Result<Settled, Trouble> {
        let session = self.connections.watch().await?;
        let here = sql::ask_one(&session, &format!("SELECT {TIME_LINE}")).await?;
        let mut parts = token.split(':');
        let [kind, system, time_line, number] = [(); 4].map(|()| parts.next().unwrap_or(""));
        if kind != "pg" || parts.next().is_some() || number.parse::<u64>().is_err() {
            return Ok(Settled::Unknown("the transaction's name makes no sense".to_owned()));
        }
        if session.system() != system {
            return Ok(Settled::Unknown(
                "this is another PostgreSQL server than the one that it ran on".to_owned(),
            ));
        }
        if here.as_deref() != Some(time_line) {
            return Ok(Settled::Unknown(
                "the server was restored from a backup or replaced by its standby since: look whether the change is there".to_owned(),
            ));
        }
        let status = format!("SELECT pg_catalog.pg_xact_status({}::pg_catalog.xid8)", literal(number));
        Ok(match sql::ask_one(&session, &status).await?.as_deref() {
            Some("committed") => Settled::Committed,
            Some("aborted") => Settled::NotCommitted,
            Some(_) => Settled::Running,
            None => Settled::Unknown("the transaction is too long ago for the server to remember".to_owned()),
        })
    }
}

/// The time line that the server is on: another one after it was restored or replaced by its standby.
const TIME_LINE: &str =
    "pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)";

/// Writes into a snapshot where it comes from.
fn identify(session: &Session, out: &mut SnapshotWriter, alike: &images::Alike) {
    out.system(json!({ "server": session.system(), "database": session.database(), "alike": alike }));
}

/// Refuses a snapshot that comes from somewhere else.
fn same_system(session: &Session, snapshot: &Snapshot) -> Result<(), Error> {
    let there = &snapshot.footer(0)?.system;
    let same = |key: &str, value: &str| there.get(key).and_then(Value::as_str) == Some(value);
    if same("server", session.system()) && same("database", session.database()) {
        return Ok(());
    }
    Err(Error::Irreversible(
        "the snapshot was taken in another database than the one that this target names now".to_owned(),
    ))
}

#[async_trait]
impl Target for Postgres {
    fn kind(&self) -> Kind {
        Kind::Postgres
    }

    async fn test(&self) -> Result<Report, Error> {
        let limit = self.limits().execute;
        match tokio::time::timeout(limit, self.tested()).await {
            Ok(result) => result.map_err(|trouble| match trouble {
                Trouble::Ours(error) => error,
                Trouble::Server(error) => failed(&error, "testing the target", limit),
            }),
            Err(_) => Err(Error::TimedOut { what: "testing the target", limit }),
        }
    }

    async fn grants(&self, account: &str) -> String {
        self.granted(account).await
    }

    async fn count(&self, what: &Selection) -> Result<Counted, Error> {
        self.counted(what).await
    }

    async fn sample(&self, what: &Selection, rows: usize) -> Result<Vec<Sampled>, Error> {
        self.sampled(what, rows).await
    }

    async fn read(&self, statement: &Statement) -> Result<ResultSet, Error> {
        guard::check(&statement.sql)?;
        let limit = self.limits().execute;
        match tokio::time::timeout(limit, self.returned(statement)).await {
            Ok(result) => result.map_err(|trouble| count::told(trouble, "reading", limit)),
            Err(_) => Err(Error::TimedOut { what: "reading", limit }),
        }
    }

    async fn execute(&self, statements: &[Statement]) -> Result<Box<dyn Pending>, Error> {
        Box::pin(self.run_pending(statements)).await
    }

    async fn capture(&self, what: &Selection, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        let captured = self.taken(what, out).await?;
        out.foresees(&captured.affected);
        Ok(captured)
    }

    async fn seal(&self, snapshot: &Snapshot, out: &mut SnapshotWriter) -> Result<(), Error> {
        self.sealed(snapshot, out).await
    }

    fn decode(&self, table: &Table, data: &[u8]) -> Result<Vec<Map<String, Value>>, Error> {
        let relation = serde_json::from_value(table.shape.clone())
            .map_err(|e| Error::Snapshot(format!("the snapshot's description of {}: {e}", table.resource)))?;
        copy::decode(&relation, data)
            .ok_or_else(|| Error::Snapshot(format!("a record of {} does not fit its table", table.resource)))
    }

    async fn plan(&self, snapshot: &Snapshot, options: &UndoOptions) -> Result<Plan, Error> {
        self.planned(snapshot, options).await
    }

    async fn rollback(
        &self,
        snapshot: &Snapshot,
        options: &UndoOptions,
        out: &mut SnapshotWriter,
    ) -> Result<Undo, Error> {
        self.undone(snapshot, options, out).await
    }

    async fn resolve(&self, token: &str, _snapshot: &Snapshot) -> Result<Settled, Error> {
        let limit = self.limits().connect;
        match tokio::time::timeout(limit * 2, self.status(token)).await {
            Ok(Ok(settled)) => Ok(settled),
            Ok(Err(Trouble::Ours(error))) => Err(error),
            Ok(Err(Trouble::Server(error))) if error.code().is_some_and(|code| code.code() == "22023") => {
                // The number was never given out on this server as it is now.
                Ok(Settled::NotCommitted)
            }
            Ok(Err(Trouble::Server(error))) => Err(failed(&error, "looking for the transaction", limit)),
            Err(_) => Err(Error::TimedOut { what: "looking for the transaction", limit }),
        }
    }
}
