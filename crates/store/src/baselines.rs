//! What agents normally do, as it is kept between runs: `drift.db`, beside the database of the log.
//!
//! It derives from the log, but not quickly, and it is written behind what it tells of: a crash loses what was
//! learnt in the last moments. So it is no projection and no transaction of the log waits for it. The trips of
//! breakers are in the log.

use crate::{error::StoreError, folder::Folder};
use checkrein_core::{name::Pattern, time::Timestamp};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// "ChkD": tells it from any other SQLite file.
const APPLICATION_ID: i64 = 0x4368_6b44;
/// Of the tables below.
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE agents (
        agent    TEXT NOT NULL UNIQUE,
        seen     INTEGER NOT NULL,      -- its last action, microseconds since 1970-01-01 UTC
        watched  INTEGER NOT NULL,      -- 1 while something of it has to be looked after without an action
        baseline BLOB,                  -- what it normally does
        before   BLOB,                  -- the same, from before its breaker opened last
        rest     TEXT NOT NULL          -- JSON
    ) STRICT;
    CREATE INDEX agents_watched ON agents (agent) WHERE watched = 1;
    CREATE TABLE groups (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE secrets (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// What is kept of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedAgent {
    /// Whose.
    pub agent: String,
    /// When it acted last.
    pub seen: Timestamp,
    /// Whether something of it has to be looked after without an action of its own.
    pub watched: bool,
    /// Its baseline; none while it has not acted.
    pub baseline: Option<Vec<u8>>,
    /// Its baseline from before its breaker opened.
    pub before: Option<Vec<u8>>,
    /// The rest, JSON.
    pub rest: String,
}

/// An agent of which something is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAgent {
    /// Its name.
    pub agent: String,
    /// When it acted last, as far as that is written down.
    pub seen: Timestamp,
}

/// The file, open for the server. Every call blocks.
pub struct Baselines {
    path: PathBuf,
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

impl Baselines {
    pub(crate) fn open(folder: &Folder) -> Result<Self, StoreError> {
        let path = folder.drift.clone();
        let unusable = |cause: String| StoreError::Unusable { path: path.clone(), cause };
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| unusable(e.to_string()))?;
        let writer = connect(&path).and_then(|db| prepare(&db).map(|known| (db, known)));
        let (writer, known) = writer.map_err(|e| fault(&path, &e))?;
        if !known {
            let cause = "it is the file of another program or of another version of Checkrein; move it away, \
                         start again, and run `checkrein drift rebuild`";
            return Err(StoreError::Damaged { file: path, cause: cause.into() });
        }
        let reader = connect(&path).map_err(|e| fault(&path, &e))?;
        Ok(Self { writer: Mutex::new(writer), reader: Mutex::new(reader), path })
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>) -> Result<T, StoreError> {
        let db = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        read(&db).map_err(|e| fault(&self.path, &e))
    }

    /// The secret of this installation: `fresh`, the first time.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn secret(&self, fresh: u64) -> Result<u64, StoreError> {
        let db = self.writer();
        db.execute("INSERT OR IGNORE INTO secrets (name, value) VALUES ('salt', ?1)", [fresh.cast_signed()])
            .and_then(|_| {
                db.query_row("SELECT value FROM secrets WHERE name = 'salt'", [], |r| r.get::<_, i64>(0))
            })
            .map(i64::cast_unsigned)
            .map_err(|e| fault(&self.path, &e))
    }

    /// What is kept of `agent`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn agent(&self, agent: &str) -> Result<Option<SavedAgent>, StoreError> {
        self.read(|db| {
            db.prepare_cached("SELECT seen, watched, baseline, before, rest FROM agents WHERE agent = ?1")?
                .query_row([agent], |r| {
                    Ok(SavedAgent {
                        agent: agent.to_owned(),
                        seen: Timestamp::from_micros(r.get(0)?),
                        watched: r.get(1)?,
                        baseline: r.get(2)?,
                        before: r.get(3)?,
                        rest: r.get(4)?,
                    })
                })
                .optional()
        })
    }

    /// Keeps agents and groups, all or none, in place of what was kept of them.
    ///
    /// # Errors
    /// When the file cannot be written: then nothing of it is.
    pub fn keep(&self, agents: &[SavedAgent], groups: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        let keep = |db: &mut Connection| -> Result<(), rusqlite::Error> {
            let tx = db.transaction()?;
            {
                let mut add = tx.prepare_cached(
                    "INSERT INTO agents (agent, seen, watched, baseline, before, rest)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (agent) DO UPDATE SET
                     seen = excluded.seen, watched = excluded.watched, baseline = excluded.baseline,
                     before = excluded.before, rest = excluded.rest",
                )?;
                for a in agents {
                    let seen = a.seen.as_micros();
                    add.execute(params![a.agent, seen, a.watched, a.baseline, a.before, a.rest])?;
                }
                let mut add =
                    tx.prepare_cached("INSERT OR REPLACE INTO groups (name, body) VALUES (?1, ?2)")?;
                for (name, body) in groups {
                    add.execute(params![name, body])?;
                }
            }
            tx.commit()
        };
        keep(&mut self.writer()).map_err(|e| fault(&self.path, &e))
    }

    /// What groups have in common, by name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn groups(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|db| {
            let mut rows = db.prepare("SELECT name, body FROM groups")?;
            rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
        })
    }

    /// The first `limit` agents of which something has to be looked after.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn watched(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        self.read(|db| {
            let mut rows =
                db.prepare("SELECT agent FROM agents WHERE watched = 1 ORDER BY agent LIMIT ?1")?;
            rows.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |r| r.get(0))?.collect()
        })
    }

    /// How many agents are known.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn count(&self) -> Result<u64, StoreError> {
        self.read(|db| db.query_row("SELECT count(*) FROM agents", [], |r| r.get::<_, i64>(0)))
            .map(|n| u64::try_from(n).unwrap_or(0))
    }

    /// At most `limit` agents after `after`, by name, that fit `pattern`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn page(
        &self,
        after: &str,
        limit: usize,
        pattern: Option<&Pattern>,
    ) -> Result<Vec<KnownAgent>, StoreError> {
        self.read(|db| {
            let mut rows =
                db.prepare_cached("SELECT agent, seen FROM agents WHERE agent > ?1 ORDER BY agent")?;
            let mut rows = rows.query([after])?;
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(row) = rows.next()?
            {
                let known = KnownAgent { agent: row.get(0)?, seen: Timestamp::from_micros(row.get(1)?) };
                if pattern.is_none_or(|pattern| pattern.matches(&known.agent)) {
                    found.push(known);
                }
            }
            Ok(found)
        })
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(2))?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "wal", |r| r.get(0))?;
    // NORMAL: a power cut takes the last moments, and never tears what was there.
    db.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -2048; PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 16777216;",
    )?;
    tracing::trace!(mode, "opened what agents normally do");
    Ok(db)
}

/// Creates the tables where there are none. Whether the file is one of this version.
fn prepare(db: &Connection) -> Result<bool, rusqlite::Error> {
    let read = |name| db.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
    match (read("application_id")?, read("user_version")?) {
        (0, 0) => {
            let objects: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))?;
            if objects > 0 {
                return Ok(false);
            }
            let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};");
            db.execute_batch(&format!("BEGIN; {TABLES} {marks} COMMIT;"))?;
            Ok(true)
        }
        (application, version) => Ok(application == APPLICATION_ID && version == VERSION),
    }
}

fn fault(path: &Path, error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => StoreError::Damaged {
            file: path.to_owned(),
            cause: format!(
                "{error}; it holds what agents normally do, not the log: move it away, start again, and run \
                 `checkrein drift rebuild`"
            ),
        },
        _ => StoreError::Unusable { path: path.to_owned(), cause: error.to_string() },
    }
}
