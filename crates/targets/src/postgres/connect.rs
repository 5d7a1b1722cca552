//! Connections: pooled, encrypted as asked, bounded in time, and clean whenever they are handed out.

use super::{
    sql::{ask, ask_list, ask_one, failed, millis, words},
    tls::{self, Mode},
};
use crate::{Error, Limits, Place, TargetConfig};
use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult, TimeoutType},
};
use secrecy::ExposeSecret as _;
use std::{
    collections::HashMap,
    ops::Deref,
    path::PathBuf,
    str::FromStr as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_postgres::{
    Client, Config, Row, Statement,
    config::SslMode,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Before 14 a table cannot be read in ranges of its blocks.
const OLDEST: u32 = 140_000;
/// From 15 the counters of a session can be handed over at once, so that it can be used again.
const FLUSHES: u32 = 150_000;

/// A connection that was used or cleaned so recently is not asked whether it is still there.
const FRESH: Duration = Duration::from_secs(10);

/// How long that may take.
const CLEANED: Duration = Duration::from_secs(5);

/// What makes a connection as good as new. Prepared statements stay: the driver's own are among them, and
/// nothing that an agent may run can make one.
const CLEAN: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
    SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Who is there: the process, the server, the database; the tables of its catalogue; and a setting that the
/// connection asked for.
const WHO: &str = "SELECT pg_catalog.pg_backend_pid(); \
    SELECT system_identifier FROM pg_catalog.pg_control_system(); \
    SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database(); \
    SELECT pg_catalog.array_agg(oid) FROM pg_catalog.pg_class WHERE oid < 16384 AND relkind = 'r'; \
    SELECT setting FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'";

/// Why nothing runs through a pooler that may change servers between statements.
fn pooled(why: &str) -> Error {
    Error::Unsupported(format!(
        "a pooler such as PgBouncer stands in between ({why}), and settings that keep a measurement exact do not \
         last there: give the target the address of PostgreSQL itself"
    ))
}

/// The connections to one database.
pub(super) struct Connections {
    /// For what agents run.
    work: managed::Pool<Manager>,
    /// For looking at it from outside, and for what never runs an agent's words. Apart from the others, so
    /// that whoever holds one of those never waits for another of them.
    watch: managed::Pool<Manager>,
    limits: Limits,
}

pub(super) struct Manager {
    config: Config,
    tls: MakeRustlsConnect,
    limits: Limits,
    /// Whether agents' statements run in these.
    work: bool,
}

/// One connection.
pub(super) struct Connection {
    client: Client,
    tls: MakeRustlsConnect,
    version: u32,
    /// The process that serves it, to notice a pooler in between that changes it.
    pid: String,
    /// Which server and which database it is, which a connection never changes.
    system: String,
    database: String,
    /// The tables of the server's own catalogue.
    catalogue: String,
    /// When it was last made as good as new; none while somebody uses it.
    clean: Option<Instant>,
    /// Questions of ours that the server has planned already.
    known: Mutex<HashMap<&'static str, Statement>>,
}

impl Connection {
    /// Makes it as good as new.
    async fn clean(&mut self) -> Result<(), tokio_postgres::Error> {
        // Handing over the counters now makes them start from nothing in the next transaction.
        let flush =
            if self.version >= FLUSHES { "; SELECT pg_catalog.pg_stat_force_next_flush()" } else { "" };
        ask(&self.client, &format!("{CLEAN}{flush}")).await?;
        self.clean = Some(Instant::now());
        Ok(())
    }
}

impl Connections {
    /// Reads the address. Nothing is connected yet.
    pub(super) fn new(config: &TargetConfig) -> Result<Self, Error> {
        let Place::Postgres(url) = &config.place else {
            return Err(Error::Config(format!("{} is no PostgreSQL", config.name)));
        };
        let limits = &config.limits;
        let (mut address, tls) = address(url.expose_secret(), limits.connect)
            .map_err(|e| Error::Config(format!("the url of target {}: {e}", config.name)))?;
        // Also outside of transactions, where a statement is only looked at. To compile our questions takes far
        // longer than to answer them.
        let options = address.get_options().unwrap_or_default();
        address.options(format!("{options} -c lock_timeout={} -c jit=off", millis(limits.lock)));
        let most = usize::try_from(limits.connections).unwrap_or(usize::MAX).max(2);
        let pool = |work: bool, size: usize| {
            let manager = Manager { config: address.clone(), tls: tls.clone(), limits: limits.clone(), work };
            managed::Pool::builder(manager)
                .max_size(size.max(1))
                .runtime(Runtime::Tokio1)
                .wait_timeout(Some(limits.connect))
                .create_timeout(Some(limits.connect))
                .recycle_timeout(Some(limits.connect))
                .build()
                .map_err(|e| Error::Internal(format!("connections: {e}")))
        };
        Ok(Self {
            work: pool(true, most.div_ceil(2))?,
            watch: pool(false, most / 2)?,
            limits: limits.clone(),
        })
    }

    /// A connection for what an agent runs, or for a rollback.
    pub(super) async fn work(&self) -> Result<Session, Error> {
        self.get(&self.work).await
    }

    /// A connection that looks on.
    pub(super) async fn watch(&self) -> Result<Session, Error> {
        self.get(&self.watch).await
    }

    async fn get(&self, pool: &managed::Pool<Manager>) -> Result<Session, Error> {
        let limit = self.limits.connect;
        let connection = pool.get().await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => Error::Unreachable(format!(
                "no connection became free within {limit:?}: {} are in use; raise the target's limits.connections",
                self.limits.connections
            )),
            PoolError::Timeout(_) => Error::Unreachable(format!("PostgreSQL does not answer within {limit:?}")),
            PoolError::Backend(error) => error,
            other => Error::Internal(format!("connections: {other}")),
        })?;
        let mut connection = connection;
        connection.clean = None;
        let work = std::ptr::eq(pool, &raw const self.work);
        Ok(Session { connection: Some(connection), idle: true, work })
    }
}

/// A connection in use. Dropped in the midst of work, it is cancelled and closed rather than used again.
pub(super) struct Session {
    connection: Option<Object<Manager>>,
    idle: bool,
    /// Whether agents' statements run in it.
    work: bool,
}

impl Session {
    /// From here on it is not to be used again, unless [`Session::finished`] is called.
    pub(super) const fn busy(&mut self) {
        self.idle = false;
    }

    /// It is outside of any transaction again.
    pub(super) const fn finished(&mut self) {
        self.idle = true;
    }

    /// The server's version: 150018.
    pub(super) fn version(&self) -> u32 {
        self.connection.as_ref().map_or(0, |c| c.version)
    }

    /// Asks a question of ours. Where no agent's words can have put another in its place, the server plans it
    /// once for many times.
    pub(super) async fn look_up(
        &self,
        sql: &'static str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Some(connection) = self.connection.as_ref().filter(|_| !self.work) else {
            return self.query_typed(sql, params).await;
        };
        let lock = || connection.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(sql).cloned();
        let known = match known {
            Some(known) => known,
            None => {
                let types: Vec<_> = params.iter().map(|(_, ty)| ty.clone()).collect();
                let new = self.prepare_typed(sql, &types).await?;
                lock().insert(sql, new.clone());
                new
            }
        };
        let params: Vec<_> = params.iter().map(|(value, _)| *value).collect();
        self.query(&known, &params).await
    }

    /// The process that serves this connection, as found when it was made.
    pub(super) fn pid(&self) -> &str {
        self.connection.as_ref().map_or("", |c| c.pid.as_str())
    }

    /// Which server it is.
    pub(super) fn system(&self) -> &str {
        self.connection.as_ref().map_or("", |c| c.system.as_str())
    }

    /// The number of the database.
    pub(super) fn database(&self) -> &str {
        self.connection.as_ref().map_or("", |c| c.database.as_str())
    }

    /// The tables of the server's own catalogue, as the text of an array.
    pub(super) fn catalogue(&self) -> &str {
        self.connection.as_ref().map_or("", |c| c.catalogue.as_str())
    }
}

/// A closed client stands in where there is none; it cannot happen, since only the drop takes it away.
impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        match &self.connection {
            Some(connection) => &connection.client,
            #[expect(clippy::unreachable, reason = "only Drop takes the connection away")]
            None => unreachable!("a session that was dropped"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // Counters cannot be handed over before 15, and a session that starts with some measures wrongly.
        let again =
            connection.version >= FLUSHES || !Object::pool(&connection).is_some_and(|p| p.manager().work);
        if self.idle && again {
            if let (true, Ok(runtime)) = (self.work, tokio::runtime::Handle::try_current()) {
                // Now, so that the next one need not wait for it.
                runtime.spawn(async move {
                    let mut connection = connection;
                    if !matches!(tokio::time::timeout(CLEANED, connection.clean()).await, Ok(Ok(()))) {
                        drop(Object::take(connection));
                    }
                });
            }
            return;
        }
        let connection = Object::take(connection);
        if self.idle {
            return;
        }
        // Closing alone would let a statement run to its end before the server notices.
        let cancel = connection.client.cancel_token();
        let tls = connection.tls.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let asked = tokio::time::timeout(Duration::from_secs(5), cancel.cancel_query(tls)).await;
                if !matches!(asked, Ok(Ok(()))) {
                    tracing::debug!("a statement could not be cancelled; it ends with its connection");
                }
                drop(connection);
            });
        }
    }
}

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        let (client, connection) =
            self.config.connect(self.tls.clone()).await.map_err(|e| match words(&e) {
                words if words.contains("unsupported startup parameter") => pooled(&words),
                words => Error::Unreachable(format!("PostgreSQL cannot be reached: {words}")),
            })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %words(&error), "a connection to PostgreSQL ended");
            }
        });
        let limit = self.limits.connect;
        let started = |e| failed(&e, "connecting", limit);
        let version = ask_one(&client, "SHOW server_version_num").await.map_err(started)?;
        let version = version.and_then(|v| v.parse().ok()).unwrap_or(0);
        if version < OLDEST {
            return Err(Error::Unsupported(format!(
                "PostgreSQL 14 or newer is needed, and this is {version}"
            )));
        }
        let told = ask_list(&client, WHO).await.map_err(started)?;
        let Ok([pid, system, database, catalogue, lock]) = <[String; 5]>::try_from(told) else {
            return Err(Error::Internal("PostgreSQL does not say which server it is".to_owned()));
        };
        // Whoever leaves this out would also run one statement of ours here and the next one there.
        if lock != millis(self.limits.lock).to_string() {
            return Err(pooled("the settings of this connection did not reach PostgreSQL"));
        }
        let (tls, known) = (self.tls.clone(), Mutex::default());
        let clean = Some(Instant::now());
        Ok(Connection { client, tls, version, pid, system, database, catalogue, clean, known })
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        if connection.client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        let limit = self.limits.connect;
        let failed = |e| RecycleError::Backend(failed(&e, "cleaning up", limit));
        match connection.clean {
            _ if !self.work => Ok(()),
            Some(clean) if clean.elapsed() < FRESH => Ok(()),
            _ => connection.clean().await.map_err(failed),
        }
    }
}

/// What a URL says. `sslmode` and `sslrootcert` are libpq's; the driver knows only some of them.
fn address(url: &str, connect: Duration) -> Result<(Config, MakeRustlsConnect), Error> {
    // Errors of the parsers below could quote the password.
    let mut parsed = url::Url::parse(url).map_err(|e| Error::Config(format!("is not a URL: {e}")))?;
    if !matches!(parsed.scheme(), "postgres" | "postgresql") {
        return Err(Error::Config("must begin with postgres://".to_owned()));
    }
    let (mut mode, mut roots, mut rest) = (Mode::Prefer, None, Vec::new());
    for (key, value) in parsed.query_pairs() {
        match key.as_ref() {
            "sslmode" => {
                mode = Mode::read(&value).ok_or_else(|| {
                    Error::Config(
                        "sslmode must be disable, prefer, require, verify-ca or verify-full".to_owned(),
                    )
                })?;
            }
            "sslrootcert" if value == "system" => mode = Mode::VerifyFull,
            "sslrootcert" => roots = Some(PathBuf::from(value.as_ref())),
            _ => rest.push((key.into_owned(), value.into_owned())),
        }
    }
    parsed.set_query(None);
    if !rest.is_empty() {
        parsed.query_pairs_mut().extend_pairs(rest);
    }
    let mut config =
        Config::from_str(parsed.as_str()).map_err(|e| Error::Config(format!("makes no sense: {e}")))?;
    config.ssl_mode(match mode {
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        _ => SslMode::Require,
    });
    config.connect_timeout(connect);
    if config.get_application_name().is_none() {
        config.application_name("checkrein");
    }
    Ok((config, MakeRustlsConnect::new(tls::config(mode, roots.as_deref())?)))
}
