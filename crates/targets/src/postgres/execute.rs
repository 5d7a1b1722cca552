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
    schema::ForeignKey,
    sql::{Texts, ask, ask_list, failed, millis, words},
    values::{Room, Trouble, run, run_telling},
};
use crate::{
    Captured, CommitError, Error, Limits, Measured, Pending, ResultSet, Statement, binding::Binding,
    snapshot::SnapshotWriter,
};
use async_trait::async_trait;
use sqlparser::dialect::PostgreSqlDialect;
use std::time::Duration;
use tokio_postgres::{Client, error::SqlState};

/// How long a transaction may wait for its decision before the server gives up on it, beyond the limits of
/// the work itself.
const DECISION: Duration = Duration::from_secs(120);
/// How often what waits for the end of the transaction may make something else wait for it.
const PASSES: u32 = 16;
/// Settings that, changed by what a statement called, would deceive the measurement; and who serves us, which
/// a pooler may change.
const WATCHED: &str = "SELECT pg_catalog.concat_ws(' ', pg_catalog.current_setting('search_path'), \
    pg_catalog.current_setting('statement_timeout'), pg_catalog.current_setting('lock_timeout'), \
    pg_catalog.current_setting('idle_in_transaction_session_timeout'), pg_catalog.current_setting('row_security'), \
    pg_catalog.current_setting('transaction_isolation'), pg_catalog.current_setting('role'), \
    pg_catalog.current_setting('session_authorization'), pg_catalog.current_setting('session_replication_role'), \
    pg_catalog.current_setting('track_counts'), pg_catalog.pg_backend_pid())";

/// Asks for what names the transaction: the server's identity, its time line, and the transaction's number.
fn named(session: &Session) -> String {
    format!(
        "SELECT 'pg:{}:' || {} || ':' || pg_catalog.pg_current_xact_id()",
        session.system(),
        super::TIME_LINE
    )
}

/// Begins a transaction of ours: how long it may take is in its settings, so that the server keeps to it even
/// if nobody is left to remind it.
pub(super) async fn begin(
    session: &mut Session,
    mode: &str,
    statement: Duration,
    limits: &Limits,
) -> Result<(), tokio_postgres::Error> {
    session.busy();
    begin_and(session, mode, statement, limits, "SELECT 1").await.map(|_| ())
}

/// The same, and what `more` answers, in one round trip.
async fn begin_and(
    session: &Session,
    mode: &str,
    statement: Duration,
    limits: &Limits,
    more: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
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
        // What goes over the same connection goes in this order, without waiting for the answers in between.
        session.busy();
        let prepared = async {
            match statements {
                // Before the transaction, where a text that does not work out harms nothing.
                [only] if tell => match derive::telling(&only.sql) {
                    Some(sql) => session.prepare(&sql).await.ok(),
                    None => None,
                },
                _ => None,
            }
        };
        let more = format!("{}; {WATCHED}", named(&session));
        let begun = begin_and(&session, "READ COMMITTED READ WRITE", limits.execute, limits, &more);
        let seen_through = async {
            for statement in statements {
                calls::check(&watch, &statement.sql, true).await?;
            }
            Ok::<_, Trouble>(())
        };
        let (telling, told, seen_through) = tokio::join!(prepared, begun, seen_through);
        let told = told?;
        if let Err(refused) = seen_through {
            abandon(session).await;
            return Err(refused);
        }
        let [token, before] = told.as_slice() else {
            return Err(Error::Internal("PostgreSQL does not tell its settings".to_owned()).into());
        };
        check_session(before, session.pid())?;
        let mut room = Room { rows: limits.result_rows, bytes: limits.result_bytes };
        let mut results = Vec::with_capacity(statements.len());
        let mut hints = Hints {
            removed: statements.iter().all(|s| guard::verb(&s.sql).as_deref() == Some("delete")),
            ..Hints::default()
        };
        // What waits for the end of the transaction happens now, so that it is measured too. With the settings that
        // the statement ran with: ours can be taken back, should this have to be done once more.
        let touched = measure::asked(&session);
        let last = format!(
            "SET CONSTRAINTS ALL IMMEDIATE; {WATCHED}; SAVEPOINT checkrein_settled; {}; {touched}",
            pinned()
        );
        let work = async {
            if let ([only], Some(prepared)) = (statements, &telling) {
                let (result, last) =
                    tokio::join!(run_telling(&session, only, prepared, &mut hints), ask(&session, &last));
                results.push(result?);
                return Ok::<_, Trouble>(last?);
            }
            for statement in statements {
                results.push(run(&session, statement, &mut room).await?);
                if statements.len() > 1 {
                    same_settings(&ask(&session, WATCHED).await?, before)?;
                }
            }
            Ok(ask(&session, &last).await?)
        };
        let (done, durable) = tokio::join!(work, remember(&watch));
        durable?;
        let mut rows = settled(done?, before)?;
        let (mut touched, mut keys) = measure::touched(&watch, rows.clone()).await?;
        // A trigger that waited may have made others wait again. They do so for rows alone: once nothing more has
        // changed, nothing waits.
        let waits =
            |touched: &[Touched]| touched.iter().any(|t| t.relation.triggers > 0 || t.relation.partition);
        let mut passes = 0;
        while waits(&touched) {
            passes += 1;
            let again = format!(
                "ROLLBACK TO SAVEPOINT checkrein_settled; RELEASE SAVEPOINT checkrein_settled; {last}"
            );
            let now = settled(ask(&session, &again).await?, before)?;
            if same_rows(&now, &rows) {
                break;
            }
            if passes == PASSES {
                return Err(Error::Unmeasurable(
                    "its deferred triggers defer others again and again, so that what it changes is known only at the commit: let a person do it".to_owned(),
                )
                .into());
            }
            (touched, keys) = measure::touched(&watch, now.clone()).await?;
            rows = now;
        }
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
            statements: statements.to_vec(),
            bound: false,
        })
    }
}

/// What the last questions about a transaction answered, without its settings, which must be as they were.
fn settled(answers: Texts, before: &str) -> Result<Texts, Error> {
    let (settings, rows): (Texts, Texts) = answers.into_iter().partition(|row| row.len() == 1);
    same_settings(&settings, before)?;
    Ok(rows)
}

fn same_settings(found: &Texts, before: &str) -> Result<(), Error> {
    if found.first().is_some_and(|row| row.iter().map(Option::as_deref).eq([Some(before)])) {
        return Ok(());
    }
    Err(Error::Unmeasurable(
        "something that it called changed the session's role or settings, so that its effect cannot be measured".to_owned(),
    ))
}

/// Whether the same was changed; in which order the server tells it means nothing.
fn same_rows(now: &Texts, then: &Texts) -> bool {
    now.len() == then.len() && now.iter().all(|row| then.contains(row))
}

/// Whether a session can be measured.
fn check_session(found: &str, pid: &str) -> Result<(), Error> {
    let mut words = found.rsplit(' ');
    let (server, counts) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if counts != "on" {
        return Err(Error::Unmeasurable(
            "the server does not count what transactions change: set track_counts = on".to_owned(),
        ));
    }
    if server != pid {
        return Err(Error::Unmeasurable(
            "a pooler changes connections between transactions: connect to PostgreSQL directly".to_owned(),
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
pub(super) async fn token(session: &Session) -> Result<String, Trouble> {
    let token = ask_list(session, &named(session)).await?.pop();
    token.ok_or_else(|| Error::Internal("the transaction has no number".to_owned()).into())
}

/// The transaction's number, of its name.
pub(super) fn number_of(token: &str) -> Option<u64> {
    token.rsplit(':').next()?.parse().ok()
}

/// Makes sure that the numbers of transactions that were given out so far are never given out again, even if
/// the server dies now: they come back from what is on its disk. A commit that has to wait for the disk does.
/// From here on, until it counts, this session writes texts as snapshots have them, and plans a question once.
pub(super) async fn remember(watch: &Client) -> Result<(), tokio_postgres::Error> {
    let batch = format!(
        "BEGIN; {}; SET plan_cache_mode = force_generic_plan; SET LOCAL synchronous_commit = on; \
         SELECT pg_catalog.pg_logical_emit_message(true, 'checkrein', ''); COMMIT",
        pins("")
    );
    ask(watch, &batch).await.map(|_| ())
}

/// What the server did not want to do, in its words.
fn refused(error: &tokio_postgres::Error, limit: Duration) -> Error {
    match failed(error, "running the statement", limit) {
        Error::Invalid(message) if message.starts_with("cannot insert multiple commands") => Error::Statement {
            code: SqlState::SYNTAX_ERROR.code().to_owned(),
            message: "this text holds several statements: send them as a list (`statements`), and they run in one transaction".to_owned(),
        },
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
    /// What the agent sent.
    pub(super) statements: Vec<Statement>,
    /// Whether an approval will be bound to it.
    pub(super) bound: bool,
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

    fn bind(&mut self) {
        self.bound = true;
    }

    async fn capture(&mut self, out: &mut SnapshotWriter) -> Result<Captured, Error> {
        if self.captured {
            return Err(Error::Internal("this transaction has been captured already".to_owned()));
        }
        self.captured = true;
        let limit = self.limits.snapshot;
        let work = async {
            let number = number_of(&self.token)
                .ok_or_else(|| Error::Internal("the transaction has no number".to_owned()))?;
            self.watch.busy();
            let looks = Looks { inside: &self.session, outside: &self.watch, number, limit };
            let bound = self.bound.then(|| Binding::of(&PostgreSqlDialect {}, &self.statements));
            let (captured, alike) = images::capture(
                &looks,
                &self.touched,
                &self.keys,
                std::mem::take(&mut self.hints),
                (&self.measured, bound),
                out,
            )
            .await?;
            super::identify(&self.session, out, &alike);
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
