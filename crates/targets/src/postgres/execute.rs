//! Guarded execution: run, measure, wait for a decision, commit or roll back.

use super::{
    Postgres, calls,
    connect::Session,
    copy::pins,
    derive,
    find::Hints,
    guard,
    images::{self, Looks},
    measure::{self, Said, Touched},
    schema::{self, ForeignKey},
    sql::{ask, ask_list, failed, millis, words},
    values::{Room, Trouble, run, run_telling},
};
use crate::{
    Captured, CommitError, Error, Limits, Measured, Pending, ResultSet, Statement, snapshot::SnapshotWriter,
};
use async_trait::async_trait;
use std::time::Duration;
use tokio_postgres::{Client, error::SqlState};

/// How long a transaction may wait for its decision before the server gives up on it, beyond the limits of
/// the work itself.
const DECISION: Duration = Duration::from_secs(120);
/// Settings that, changed by what a statement called, would deceive the measurement; and who serves us, which
/// a pooler may change.
const WATCHED: &str = "SELECT pg_catalog.current_setting(s) \
    FROM pg_catalog.unnest('{role,session_authorization,session_replication_role,track_counts}'::pg_catalog.text[]) \
      WITH ORDINALITY u(s, i) UNION ALL SELECT pg_catalog.pg_backend_pid()::pg_catalog.text";
/// Names the transaction: the server's identity, its time line, and the number of the transaction.
const TOKEN: &str = "SELECT 'pg:' || (SELECT system_identifier FROM pg_catalog.pg_control_system()) || ':' || \
    pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) || ':' || \
    pg_catalog.pg_current_xact_id()";

/// Begins a transaction of ours: how long it may take is in its settings, so that the server keeps to it even
/// if nobody is left to remind it.
pub(super) async fn begin(
    session: &mut Session,
    mode: &str,
    statement: Duration,
    limits: &Limits,
) -> Result<(), tokio_postgres::Error> {
    begin_and(session, mode, statement, limits, "SELECT 1").await.map(|_| ())
}

/// The same, and what `more` answers, in one round trip.
async fn begin_and(
    session: &mut Session,
    mode: &str,
    statement: Duration,
    limits: &Limits,
    more: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    session.busy();
    let batch = format!(
        "BEGIN ISOLATION LEVEL {mode}; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
         SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL client_connection_check_interval = 2000; {more}",
        millis(statement),
        millis(limits.lock),
        millis(limits.execute + limits.snapshot + DECISION),
    );
    ask_list(session, &batch).await
}

/// Ends it without a trace.
pub(super) async fn abandon(mut session: Session) {
    // A connection that does not even answer this is closed, which undoes everything too.
    if tokio::time::timeout(Duration::from_secs(5), session.batch_execute("ROLLBACK"))
        .await
        .is_ok_and(|r| r.is_ok())
    {
        session.finished();
    }
}

impl Postgres {
    /// See [`crate::Target::execute`].
    pub(super) async fn run_pending(&self, statements: &[Statement]) -> Result<Box<dyn Pending>, Error> {
        if statements.is_empty() {
            return Err(Error::Invalid("there is no statement to run".to_owned()));
        }
        for statement in statements {
            guard::check(&statement.sql)?;
        }
        let limit = self.limits().execute;
        let work = async {
            match self.run_measured(statements, true).await {
                // Telling where rows are takes SELECT; an account that may only write need not tell.
                Err(Trouble::Server(error)) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    self.run_measured(statements, false).await
                }
                result => result,
            }
        };
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(pending)) => Ok(Box::new(pending)),
            Ok(Err(Trouble::Ours(error))) => Err(error),
            Ok(Err(Trouble::Server(error))) => Err(refused(&error, limit)),
            Err(_) => Err(Error::TimedOut { what: "the execution", limit }),
        }
    }

    async fn run_measured(&self, statements: &[Statement], tell: bool) -> Result<Transaction, Trouble> {
        let limits = self.limits();
        let mut session = self.connections.work().await?;
        let watch = self.connections.watch().await?;
        for statement in statements {
            calls::check(&watch, &statement.sql).await?;
        }
        // Before the transaction, where a text that does not work out harms nothing.
        session.busy();
        let telling = match statements {
            [only] if tell => match derive::telling(&only.sql) {
                Some(sql) => session.prepare(&sql).await.ok(),
                None => None,
            },
            _ => None,
        };
        let more = format!("{TOKEN}; {WATCHED}");
        let told =
            begin_and(&mut session, "READ COMMITTED READ WRITE", limits.execute, limits, &more).await?;
        let (token, before) = told
            .split_first()
            .ok_or_else(|| Error::Internal("PostgreSQL does not tell its settings".to_owned()))?;
        check_session(before, session.pid())?;
        let mut room = Room { rows: limits.result_rows, bytes: limits.result_bytes };
        let mut results = Vec::with_capacity(statements.len());
        let mut hints = Hints {
            removed: statements.iter().all(|s| guard::verb(&s.sql).as_deref() == Some("delete")),
            ..Hints::default()
        };
        let work = async {
            for statement in statements {
                results.push(match &telling {
                    Some(prepared) => run_telling(&session, statement, prepared, &mut hints).await?,
                    None => run(&session, statement, &mut room).await?,
                });
            }
            // What waits for the end of the transaction happens now, so that it is measured too.
            let last = format!("SET CONSTRAINTS ALL IMMEDIATE; {}; {WATCHED}", pinned());
            Ok::<_, Trouble>(ask_list(&session, &last).await?)
        };
        let (done, durable) = tokio::join!(work, remember(&watch));
        let after = done?;
        durable?;
        if !after.ends_with(before) {
            return Err(Error::Unmeasurable(
                "something that it called changed the session's role or settings, so that its effect cannot be measured".to_owned(),
            )
            .into());
        }
        let touched = measure::touched(&session).await?;
        let keys =
            schema::foreign_keys(&session, touched.iter().flat_map(|t| [t.relation.oid, t.relation.root]))
                .await?;
        let said = match (statements, results.as_slice()) {
            ([statement], [result]) => Some(said(&statement.sql, result)),
            _ => None,
        };
        let measured = measure::measured(&touched, &keys, said.as_ref());
        Ok(Transaction {
            session,
            watch,
            touched,
            keys,
            hints,
            measured,
            results,
            token: token.clone(),
            limits: limits.clone(),
            captured: false,
        })
    }
}

/// Whether a session can be measured.
fn check_session(found: &[String], pid: &str) -> Result<(), Error> {
    let [.., counts, server] = found else {
        return Err(Error::Internal("PostgreSQL does not tell its settings".to_owned()));
    };
    if counts != "on" {
        return Err(Error::Unmeasurable(
            "the server does not count what transactions change: set track_counts = on".to_owned(),
        ));
    }
    if server != pid {
        return Err(Error::Unmeasurable(
            "a pooler changes connections between transactions: connect to PostgreSQL directly, or pool by session".to_owned(),
        ));
    }
    Ok(())
}

/// Makes the transaction's texts the same everywhere, and its commit durable.
fn pinned() -> String {
    format!(
        "{}; SELECT pg_catalog.set_config('synchronous_commit', \
         CASE pg_catalog.current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
         ELSE pg_catalog.current_setting('synchronous_commit') END, true)",
        pins("LOCAL")
    )
}

/// The same, at once.
pub(super) async fn pin(client: &Client) -> Result<(), tokio_postgres::Error> {
    ask(client, &pinned()).await.map(|_| ())
}

/// Names the transaction.
pub(super) async fn token(client: &Client) -> Result<String, Trouble> {
    let parts = ask_list(client, TOKEN).await?;
    parts.into_iter().next().ok_or_else(|| Error::Internal("the transaction has no number".to_owned()).into())
}

/// Makes sure that the numbers of transactions that were given out so far are never given out again, even if
/// the server dies now: they come back from what is on its disk. A commit that has to wait for the disk does.
pub(super) async fn remember(watch: &Client) -> Result<(), tokio_postgres::Error> {
    let batch = "BEGIN; SET LOCAL synchronous_commit = on; \
        SELECT pg_catalog.pg_logical_emit_message(true, 'checkrein', ''); COMMIT";
    ask(watch, batch).await.map(|_| ())
}

/// What the server did not want to do, in its words.
fn refused(error: &tokio_postgres::Error, limit: Duration) -> Error {
    match failed(error, "running the statement", limit) {
        Error::Forbidden(message) | Error::Invalid(message) => {
            let code = error.code().map_or_else(String::new, |code| code.code().to_owned());
            Error::Statement { code, message }
        }
        other => other,
    }
}

fn said(sql: &str, result: &ResultSet) -> Said {
    let verb = guard::verb(sql).unwrap_or_default();
    let table = derive::target(sql);
    Said { verb, affected: result.affected, table }
}

/// A transaction that is still open.
pub(super) struct Transaction {
    pub(super) session: Session,
    pub(super) watch: Session,
    pub(super) touched: Vec<Touched>,
    pub(super) keys: Vec<ForeignKey>,
    pub(super) hints: Hints,
    pub(super) measured: Measured,
    pub(super) results: Vec<ResultSet>,
    pub(super) token: String,
    pub(super) limits: Limits,
    /// What it did is in a snapshot already: the transaction of a rollback.
    pub(super) captured: bool,
}

#[async_trait]
impl Pending for Transaction {
    fn measured(&self) -> &Measured {
        &self.measured
    }

    fn results(&self) -> &[ResultSet] {
        &self.results
    }

    fn token(&self) -> &str {
        &self.token
    }

    async fn capture(&mut self, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        if self.captured {
            return Err(Error::Internal("this transaction has been captured already".to_owned()));
        }
        self.captured = true;
        let limit = self.limits.snapshot;
        let bound = format!("SET LOCAL statement_timeout = {}", millis(limit));
        let work = async {
            ask(&self.session, &bound).await?;
            self.watch.busy();
            // Outside of a transaction, since each look must be a new one; counts reset it.
            ask(&self.watch, &format!("{}; SET statement_timeout = {}", pins(""), millis(limit))).await?;
            let looks = Looks { inside: &self.session, outside: &self.watch };
            let (captured, alike) = images::capture(
                &looks,
                &self.touched,
                &self.keys,
                std::mem::take(&mut self.hints),
                &self.measured,
                out,
            )
            .await?;
            super::identify(&self.session, out, alike).await?;
            Ok::<_, Trouble>(captured)
        };
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(captured)) => {
                self.watch.finished();
                Ok(captured)
            }
            Ok(Err(Trouble::Ours(error))) => Err(error),
            Ok(Err(Trouble::Server(error))) => Err(failed(&error, "taking the snapshot", limit)),
            Err(_) => Err(Error::TimedOut { what: "taking the snapshot", limit }),
        }
    }

    async fn commit(mut self: Box<Self>) -> Result<(), CommitError> {
        // In a transaction that has failed, COMMIT would quietly roll back; the SELECT makes it an error.
        let asked = self.session.batch_execute("SELECT 1; COMMIT");
        match tokio::time::timeout(self.limits.execute, asked).await {
            Ok(Ok(())) => {
                self.session.finished();
                Ok(())
            }
            Ok(Err(error)) => match error.as_db_error() {
                // A server that shuts down may say so after it has committed.
                Some(db) if !db.code().code().starts_with("57P") && !db.code().code().starts_with("08") => {
                    let message =
                        format!("PostgreSQL refused the commit: {}; nothing was changed", words(&error));
                    let Self { session, .. } = *self;
                    abandon(session).await;
                    Err(CommitError::NotCommitted(message))
                }
                _ => Err(CommitError::Unknown(format!(
                    "the connection broke during the commit ({}): whether it took place will be found out",
                    words(&error)
                ))),
            },
            Err(_) => Err(CommitError::Unknown("PostgreSQL did not answer the commit in time".to_owned())),
        }
    }

    async fn rollback(self: Box<Self>) {
        let Self { session, .. } = *self;
        abandon(session).await;
    }
}
