//! Connections: how a file is opened, how long it may take, and what its errors mean.

use crate::{Error, TargetConfig};
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, limits::Limit};
use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Steps of SQLite's machine between two looks at the clock: well under a millisecond.
const STEPS: i32 = 1_000;

/// The largest text, blob or record, in bytes: what a snapshot can hold.
const MOST_BYTES: i32 = (64 << 20) - (64 << 10);

/// What can go wrong inside; becomes an [`Error`] at the border, where the limits are known.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    Other(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// How long the present piece of work may take, and whether anybody still waits for it.
pub(super) struct Clock {
    until: Mutex<(Instant, &'static str, Duration)>,
    given_up: AtomicBool,
    lock: Duration,
}

impl Clock {
    pub(super) fn new(what: &'static str, limit: Duration, lock: Duration) -> Arc<Self> {
        let until = Mutex::new((Instant::now() + limit, what, limit));
        Arc::new(Self { until, given_up: AtomicBool::new(false), lock })
    }

    /// Starts again, for the next piece of work.
    pub(super) fn restart(&self, what: &'static str, limit: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now() + limit, what, limit);
    }

    fn up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
            || Instant::now() > self.until.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Stops the work when the future that waits for it is dropped.
    pub(super) fn guard(self: &Arc<Self>) -> Guard {
        Guard(Some(Arc::clone(self)))
    }

    /// An error when the time is over, for loops of our own.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.up() { Err(self.late().into()) } else { Ok(()) }
    }

    fn late(&self) -> Error {
        let (_, what, limit) = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        Error::TimedOut { what, limit }
    }

    /// What a fault means to the caller.
    pub(super) fn explain(&self, fault: Fault) -> Error {
        match fault {
            Fault::Other(error) => error,
            Fault::Sql(error) => self.translate(error),
        }
    }

    fn translate(&self, error: rusqlite::Error) -> Error {
        let (failure, message) = match error {
            rusqlite::Error::SqliteFailure(failure, message) => {
                let text = message.unwrap_or_else(|| failure.to_string());
                (failure, text)
            }
            rusqlite::Error::SqlInputError { error, msg, .. } => (error, msg),
            rusqlite::Error::MultipleStatement => {
                return Error::Invalid("the text holds several statements; send one at a time".to_owned());
            }
            other => return Error::Internal(other.to_string()),
        };
        match failure.code {
            ErrorCode::OperationInterrupted => self.late(),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                Error::TimedOut { what: "waiting for somebody else's lock on the file", limit: self.lock }
            }
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Error::Forbidden(format!(
                "{message}; the account that Checkrein runs as needs read and write permission on the file and its folder"
            )),
            ErrorCode::CannotOpen | ErrorCode::NotADatabase => Error::Unreachable(message),
            _ => Error::Statement { code: code_name(failure.extended_code), message },
        }
    }
}

/// See [`Clock::guard`].
pub(super) struct Guard(Option<Arc<Clock>>);

impl Guard {
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(clock) = &self.0 {
            clock.given_up.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether the statement makes no sense, rather than being refused when it ran.
pub(super) fn is_nonsense(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqlInputError { .. } => true,
        rusqlite::Error::SqliteFailure(failure, _) => failure.extended_code == rusqlite::ffi::SQLITE_ERROR,
        _ => false,
    }
}

fn code_name(code: i32) -> String {
    use rusqlite::ffi;
    match code {
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_ROWID => "SQLITE_CONSTRAINT_ROWID",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "SQLITE_CONSTRAINT_FOREIGNKEY",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        ffi::SQLITE_MISMATCH => "SQLITE_MISMATCH",
        ffi::SQLITE_FULL => "SQLITE_FULL",
        ffi::SQLITE_TOOBIG => "SQLITE_TOOBIG",
        ffi::SQLITE_CORRUPT => "SQLITE_CORRUPT",
        ffi::SQLITE_ERROR => "SQLITE_ERROR",
        other => return format!("SQLITE_{other}"),
    }
    .to_owned()
}

/// Where the file really is. It must exist: nothing here ever creates a database.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, Error> {
    let real = std::fs::canonicalize(path).map_err(|e| {
        Error::Unreachable(format!("the SQLite file {} cannot be opened: {e}", path.display()))
    })?;
    // Never opened by ourselves: closing a second handle would drop SQLite's locks on it.
    if real.is_file() {
        Ok(real)
    } else {
        Err(Error::Unreachable(format!("{} is not a file", path.display())))
    }
}

/// Opens the file. A fresh connection each time, so that nothing is left over from an earlier use.
///
/// Reading and writing even where only reading is meant, so that a hot journal can be rolled back; what may
/// be done is limited by the authorizer and `query_only`.
pub(super) fn open(config: &TargetConfig, path: &Path, clock: &Arc<Clock>) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(config.limits.lock)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_BYTES)?;
    let watch = Arc::clone(clock);
    connection.progress_handler(STEPS, Some(move || watch.up()))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Not only the log but each commit is synced, whatever this build's default is.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Begins a transaction that may write, and fixes what is seen by an observer of the state before it.
fn begin(connection: &Connection, foreign_keys: bool) -> Result<(), Fault> {
    connection.pragma_update(None, "foreign_keys", foreign_keys)?;
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode != "wal" {
        // With a rollback journal, pages that spill need an exclusive lock, which the observer's own
        // shared lock would refuse: keep them in memory.
        connection.pragma_update(None, "cache_spill", false)?;
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let encoding: String = connection.pragma_query_value(None, "encoding", |row| row.get(0))?;
    if encoding != "UTF-8" {
        return Err(Error::Unsupported(format!(
            "the file keeps its texts in {encoding}, in which not every text can be restored bit for bit; convert it to UTF-8"
        ))
        .into());
    }
    Ok(())
}

/// A connection that holds the write lock, and an observer of the state before.
pub(super) struct Pair {
    pub(super) writer: Connection,
    pub(super) observer: Connection,
    pub(super) file: File,
}

/// Which file a path leads to.
pub(super) struct File {
    path: PathBuf,
    identity: (u64, u64),
}

impl File {
    fn at(path: PathBuf) -> Result<Self, Error> {
        Ok(Self { identity: identity(&path)?, path })
    }

    /// That it is still the same: an application may put another file in its place, and work on the old one
    /// would be lost without a word.
    pub(super) fn same(&self) -> Result<(), Error> {
        if identity(&self.path)? == self.identity {
            return Ok(());
        }
        Err(Error::Unreachable(format!(
            "{} was replaced by another file meanwhile; nothing was changed, try again",
            self.path.display()
        )))
    }
}

fn identity(path: &Path) -> Result<(u64, u64), Error> {
    let data = std::fs::metadata(path)
        .map_err(|e| Error::Unreachable(format!("the SQLite file {} is gone: {e}", path.display())))?;
    Ok((data.dev(), data.ino()))
}

impl Pair {
    pub(super) fn open(
        config: &TargetConfig,
        path: &Path,
        clock: &Arc<Clock>,
        foreign_keys: bool,
    ) -> Result<Self, Fault> {
        let file = File::at(real_path(path)?)?;
        let writer = open(config, &file.path, clock)?;
        begin(&writer, foreign_keys)?;
        let observer = observe(config, &file.path, clock)?;
        file.same()?;
        Ok(Self { writer, observer, file })
    }
}

/// Looks at the state that is committed, and keeps seeing it.
fn observe(config: &TargetConfig, path: &Path, clock: &Arc<Clock>) -> Result<Connection, Fault> {
    let connection = open(config, path, clock)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.execute_batch("BEGIN")?;
    // Only the first read takes the snapshot.
    let _tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(connection)
}
