//! Connections: their settings, their time-outs, and what their errors mean.

use super::{access::Grants, dictionary::Known, schema::get};
use crate::{Error, Limits, Place, TargetConfig};
use mysql_async::{
    Conn, Opts, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, Row, SslOpts, prelude::Queryable as _,
};
use secrecy::ExposeSecret as _;
use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How often what was granted may change while a connection is made.
const TRIES: usize = 4;

/// Parts of `sql_mode` that change how a text is read. What was parsed here must be what the server reads.
const READING_MODES: [&str; 12] = [
    "NO_BACKSLASH_ESCAPES",
    "PIPES_AS_CONCAT",
    "ANSI_QUOTES",
    "HIGH_NOT_PRECEDENCE",
    "IGNORE_SPACE",
    "PAD_CHAR_TO_FULL_LENGTH",
    "POSTGRESQL",
    "ORACLE",
    "MSSQL",
    "MAXDB",
    "DB2",
    "ANSI",
];

/// What a session is for, which decides its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Counting and reading: read-only.
    Count,
    /// A guarded execution, or the look of an observer at it.
    Execute,
    /// Taking or sealing a snapshot: read-only.
    Snapshot,
    /// A rollback.
    Undo,
}

/// A server.
pub(super) struct Db {
    opts: OptsBuilder,
    pools: Mutex<Arc<Pools>>,
    pub(super) target: String,
    pub(super) limits: Limits,
    /// The database of the address. Its tables are named without it.
    pub(super) database: String,
    /// What tables are like.
    pub(super) known: Known,
}

/// The connections.
struct Pools {
    main: Pool,
    /// For short looks from outside while a connection of `main` is held: those who hold one never wait
    /// for another of the same pool, so that they cannot wait for each other.
    side: Pool,
    /// What was granted before any of them was made: some of it a connection keeps from when it began, so
    /// all of them are given up when it changes.
    granted: Option<blake3::Hash>,
}

/// A connection with its settings made. Dropped: whatever it has open is rolled back.
pub(super) struct Session {
    pub(super) conn: Conn,
    pub(super) mariadb: bool,
    /// Whether InnoDB's dictionary has names as they are in files: MariaDB, and MySQL before 8.
    pub(super) files: bool,
    /// Whether INSERT … RETURNING is known.
    pub(super) returning: bool,
    /// Whether SKIP LOCKED is known.
    pub(super) skips: bool,
    /// The server's clock when the transaction began, in seconds since 1970.
    pub(super) begun: f64,
    /// What the account may do.
    pub(super) grants: Arc<Grants>,
    /// What tells its server from others.
    pub(super) server: String,
}

/// What tells a server from others.
const SERVER: &str = "CONCAT_WS(' ', @@hostname, @@port, @@server_id, @@datadir, @@pid_file)";

impl Pools {
    fn new(opts: &OptsBuilder, limits: &Limits, granted: Option<blake3::Hash>) -> Self {
        let pool = |most: u32| {
            let most = usize::try_from(most.max(1)).unwrap_or(1);
            let constraints = PoolConstraints::new(0, most).unwrap_or_default();
            let pool = PoolOpts::default()
                .with_constraints(constraints)
                .with_reset_connection(true)
                .with_inactive_connection_ttl(Duration::from_secs(60));
            Pool::new(opts.clone().pool_opts(pool))
        };
        Self { main: pool(limits.connections), side: pool((limits.connections / 4).max(2)), granted }
    }
}

impl Db {
    pub(super) fn new(config: TargetConfig) -> Result<Self, Error> {
        let TargetConfig { name, place, limits } = config;
        let Place::Mysql(address) = place else {
            return Err(Error::Config(format!("{name}: not an address of MySQL or MariaDB")));
        };
        let opts = options(&name, address.expose_secret())?;
        let Some(database) = opts.db_name().filter(|d| !d.is_empty()).map(str::to_owned) else {
            return Err(Error::Config(format!(
                "{name}: the address names no database; write it as mysql://user:password@host:3306/database"
            )));
        };
        let opts = OptsBuilder::from_opts(opts)
            .setup(vec![settings(&limits)])
            .prefer_socket(Some(false))
            .client_found_rows(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .stmt_cache_size(Some(128));
        let pools = Mutex::new(Arc::new(Pools::new(&opts, &limits, None)));
        Ok(Self { opts, pools, target: name, limits, database, known: Known::default() })
    }

    fn pools(&self) -> Arc<Pools> {
        Arc::clone(&self.pools.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection on which a transaction has begun.
    pub(super) async fn begin(&self, purpose: Purpose) -> Result<Session, Error> {
        let limit = self.limit(purpose);
        let seconds = limit.as_secs_f64().max(0.05);
        let mut begin = format!(
            "SHOW GRANTS; SET SESSION completion_type = 0 /*M!100100 , max_statement_time = {seconds:.3} */"
        );
        if matches!(purpose, Purpose::Count | Purpose::Snapshot) {
            begin.push_str(&format!(" /*!50708 , max_execution_time = {} */", limit.as_millis().max(50)));
        }
        if purpose == Purpose::Undo {
            begin.push_str(
                ", foreign_key_checks = 0, time_zone = '+00:00', \
                 sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION', \
                 @checkrein_rollback = 1; SET NAMES binary",
            );
        }
        begin.push_str(match purpose {
            Purpose::Count | Purpose::Snapshot => "; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            // Everything that it reads, in subqueries too, is the latest and stays so. The snapshot is not taken
            // then; what is left of the phrase is that InnoDB's transaction begins at once.
            Purpose::Execute | Purpose::Undo => {
                "; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE"
            }
        });
        begin.push_str(&format!(
            "; SELECT UNIX_TIMESTAMP(SYSDATE(6)), {SERVER} /*!80016 , @@GLOBAL.partial_revokes */"
        ));
        for _ in 0..TRIES {
            let pools = self.pools();
            let mut session = self.session(&pools.main).await?;
            let sets = session.several(&begin).await?;
            let Some(row) = sets.last().and_then(|rows| rows.first()) else {
                return Err(Error::Internal("the server does not say what time it is".to_owned()));
            };
            let literal = row.len() > 2 && get::<u64>(row, 2)? != 0;
            let grants = Grants::of(sets.first().map(Vec::as_slice).unwrap_or_default(), literal)?;
            if pools.granted == Some(grants.hash()) {
                session.begun = get::<String>(row, 0)?.parse().unwrap_or(0.0);
                session.server = get(row, 1)?;
                session.grants = Arc::new(grants);
                return Ok(session);
            }
            let new = Arc::new(Pools::new(&self.opts, &self.limits, Some(grants.hash())));
            let mut current = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&current, &pools) {
                *current = new;
            }
        }
        Err(Error::Unreachable(format!(
            "{}: what its account may do changes all the time; try again when that has settled",
            self.target
        )))
    }

    /// A connection that looks from outside at what is done on `server`: each of its reads sees what is
    /// committed at that moment.
    pub(super) async fn observer(&self, server: &str) -> Result<Session, Error> {
        let mut session = self.session(&self.pools().side).await?;
        let sql = format!("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT {SERVER}");
        let sets = session.several(&sql).await?;
        let found: Option<String> =
            sets.last().and_then(|rows| rows.first()).map(|row| get(row, 0)).transpose()?;
        if found.as_deref() == Some(server) {
            return Ok(session);
        }
        Err(Error::Unmeasurable(format!(
            "the connections of {} lead to different servers, so what a transaction does on one is not seen on the other; give the address of one server",
            self.target
        )))
    }

    async fn session(&self, pool: &Pool) -> Result<Session, Error> {
        match tokio::time::timeout(self.limits.connect, pool.get_conn()).await {
            Ok(Ok(conn)) => {
                let version = conn.server_version();
                let mariadb = version.0 >= 10;
                let returning = mariadb && version >= (10, 5, 0);
                let skips = if mariadb { version >= (10, 6, 0) } else { version >= (8, 0, 1) };
                Ok(Session {
                    conn,
                    mariadb,
                    files: mariadb || version < (8, 0, 0),
                    returning,
                    skips,
                    begun: 0.0,
                    grants: Arc::default(),
                    server: String::new(),
                })
            }
            Ok(Err(mysql_async::Error::Server(e))) => {
                Err(Error::Unreachable(format!("{}: the server refuses the connection: {e}", self.target)))
            }
            Ok(Err(e)) => Err(Error::Unreachable(format!("{}: cannot connect: {e}", self.target))),
            Err(_) => Err(Error::Unreachable(format!(
                "{}: no connection within {:?}; the server cannot be reached, or all {} connections are in use",
                self.target, self.limits.connect, self.limits.connections
            ))),
        }
    }

    const fn limit(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Count => self.limits.count,
            Purpose::Execute => self.limits.execute,
            Purpose::Snapshot | Purpose::Undo => self.limits.snapshot,
        }
    }

    /// The work, unless it takes longer than this purpose may.
    pub(super) async fn within<T>(
        &self,
        purpose: Purpose,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.limit(purpose);
        let what = match purpose {
            Purpose::Count => "counting",
            Purpose::Execute => "the execution",
            Purpose::Snapshot => "the snapshot",
            Purpose::Undo => "the rollback",
        };
        match tokio::time::timeout(limit, work).await {
            // The server's own time-out knows no names.
            Ok(Err(Error::TimedOut { .. })) | Err(_) => Err(Error::TimedOut { what, limit }),
            Ok(result) => result,
        }
    }

    /// The name of a table within the target.
    pub(super) fn resource(&self, schema: &str, table: &str) -> String {
        if schema == self.database { table.to_owned() } else { format!("{schema}.{table}") }
    }
}

/// Ends what the server does for a connection, when the wait for it is given up: MySQL would go on to the end, with all
/// its locks, before it notices. MariaDB has a time limit of its own.
pub(super) struct Stop(Option<(Opts, u32)>);

impl Stop {
    /// Until [`Stop::not`], whoever drops this stops the connection.
    pub(super) fn of(session: &Session) -> Self {
        Self((!session.mariadb).then(|| (session.conn.opts().clone(), session.conn.id())))
    }

    pub(super) fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        let (Some((opts, id)), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            if let Ok(mut conn) = Conn::new(opts).await {
                // It may have ended meanwhile.
                let _stopped = conn.query_drop(format!("KILL {id}")).await;
                let _closed = conn.disconnect().await;
            }
        });
    }
}

impl Session {
    /// For a transaction that has ended and left nothing behind: the connection is used again as it is, with
    /// the statements that it has prepared.
    pub(super) fn reuse(&mut self) {
        self.conn.reset_connection(false);
    }

    /// Runs texts of our own that return nothing.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Error> {
        self.conn.query_drop(sql).await.map_err(meaning)
    }

    /// The rows that `sql` returns, in the exact binary form.
    pub(super) async fn rows(
        &mut self,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<Vec<Row>, Error> {
        self.conn.exec(sql, params.into()).await.map_err(meaning)
    }

    /// The rows of several queries of our own, in one round trip, as text.
    pub(super) async fn several(&mut self, sql: &str) -> Result<Vec<Vec<Row>>, Error> {
        let mut result = self.conn.query_iter(sql).await.map_err(meaning)?;
        let mut sets = Vec::new();
        while !result.is_empty() {
            sets.push(result.collect().await.map_err(meaning)?);
        }
        // Where one of them failed, the sets simply end; only this says so.
        result.drop_result().await.map_err(meaning)?;
        Ok(sets)
    }

    /// The first column of the first row.
    pub(super) async fn first<T: mysql_async::prelude::FromValue + Send + 'static>(
        &mut self,
        sql: &str,
        params: impl Into<Params> + Send,
    ) -> Result<Option<T>, Error> {
        let row: Option<Row> = self.conn.exec_first(sql, params.into()).await.map_err(meaning)?;
        Ok(row.and_then(|r| r.get_opt::<T, usize>(0)).and_then(Result::ok))
    }

    /// Runs `sql` and answers how many rows the server says were changed.
    pub(super) async fn change(&mut self, sql: &str, params: impl Into<Params> + Send) -> Result<u64, Error> {
        self.conn.exec_drop(sql, params.into()).await.map_err(meaning)?;
        Ok(self.conn.affected_rows())
    }
}

/// The address, with `ssl_ca` for a certificate of the operator's own.
fn options(target: &str, address: &str) -> Result<Opts, Error> {
    // The parser's errors may hold the address, and with it the password.
    let wrong = |why: &str| Error::Config(format!("{target}: the address makes no sense: {why}"));
    let mut url = url::Url::parse(address).map_err(|e| wrong(&e.to_string()))?;
    if url.scheme() == "mariadb" {
        url.set_scheme("mysql").map_err(|()| wrong("its scheme"))?;
    }
    let (ours, theirs): (Vec<_>, Vec<_>) =
        url.query_pairs().into_owned().partition(|(name, _)| name == "ssl_ca");
    if theirs.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(theirs);
    }
    let opts = Opts::from_url(url.as_str()).map_err(|_| {
        wrong("write mysql://user:password@host:3306/database?require_ssl=true&verify_ca=true&verify_identity=true")
    })?;
    let Some((_, file)) = ours.first() else { return Ok(opts) };
    let ssl: SslOpts = opts.ssl_opts().cloned().unwrap_or_default();
    let ssl = ssl.with_root_certs(vec![PathBuf::from(file).into()]);
    Ok(OptsBuilder::from_opts(opts).ssl_opts(ssl).into())
}

/// What every session has, whatever the server's defaults or an earlier use. A key that MySQL made of itself must be
/// seen, or its table would seem to have none.
fn settings(limits: &Limits) -> String {
    let mode = READING_MODES
        .iter()
        .fold("@@SESSION.sql_mode".to_owned(), |mode, word| format!("REPLACE({mode}, '{word}', '')"));
    let lock = limits.lock.as_secs().max(1);
    // A transaction that nobody holds any more must not keep its locks for the server's eight hours.
    let idle = limits.execute.max(limits.snapshot).as_secs().saturating_add(60);
    format!(
        "SET SESSION sql_mode = {mode}; SET SESSION autocommit = 1, foreign_key_checks = 1, unique_checks = 1, \
         sql_safe_updates = 0, sql_select_limit = DEFAULT, innodb_lock_wait_timeout = {lock}, \
         lock_wait_timeout = {lock}, wait_timeout = {idle}, group_concat_max_len = 1048576 \
         /*!80030 , show_gipk_in_create_table_and_information_schema = ON */; \
         SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
    )
}

/// What an error of the server or the connection means.
pub(super) fn meaning(error: mysql_async::Error) -> Error {
    let mysql_async::Error::Server(e) = error else {
        return Error::Unreachable(format!(
            "the connection broke: {error}; nothing was changed; try again once the server answers"
        ));
    };
    match e.code {
        1317 => Error::Unreachable(format!(
            "{}: somebody ended the statement (KILL QUERY); nothing was changed; try again once it is known why",
            e.message
        )),
        1053 | 1927 => Error::Unreachable(format!(
            "{}: somebody ended the connection (KILL), or the server stops; nothing was changed; try again once it answers",
            e.message
        )),
        1205 | 1213 => Error::Statement {
            code: e.state,
            message: format!(
                "{} (error {}): somebody else works on the same records; nothing was changed; try again later",
                e.message, e.code
            ),
        },
        1969 | 3024 => Error::TimedOut { what: "the statement", limit: Duration::ZERO },
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 => {
            Error::Forbidden(format!("{}; `checkrein target grants` prints what is needed", e.message))
        }
        1046 | 1049 | 1051 | 1052 | 1054 | 1064 | 1066 | 1109 | 1146 | 1149 | 1305 | 1210 => {
            Error::Invalid(e.message)
        }
        _ => Error::Statement { code: e.state, message: format!("{} (error {})", e.message, e.code) },
    }
}
