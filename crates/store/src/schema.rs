//! The database: connections, schema, migrations. `docs/action-log.md` documents the schema for readers.

use crate::{error::StoreError, folder::Folder};
use checkrein_core::{
    chain::{Broken, Hash, Walk},
    event::Entry,
    time::Timestamp,
};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, params};
use std::{collections::BTreeSet, time::Duration};

/// "ChkR": tells a store from any other SQLite file.
const APPLICATION_ID: i64 = 0x4368_6b52;

/// One step a version; a step that has been released is never changed.
const MIGRATIONS: &[&str] = &[
    concat!(include_str!("schema/1.sql"), include_str!("schema/1-projections.sql")),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/approvals.sql"),
    concat!(include_str!("schema/signals.sql"), include_str!("schema/outbox.sql")),
    include_str!("schema/listing.sql"),
];

/// The tables that derive from the log, apart, so that `verify` can build them anew elsewhere.
pub(crate) const PROJECTIONS: &str = concat!(
    include_str!("schema/1-projections.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/signals.sql"),
);

/// Bytes of a page. Larger ones would hold entries of 1 to 2 KB with less waste, but each commit writes the
/// last page of every tree that it touched anew.
pub(crate) const PAGE_BYTES: u32 = 4096;

/// A connection is used by one thread at a time, which `Connection` itself makes sure of.
const ALONE: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;

/// A row of the table `chain`.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// The last entry written.
    Head,
    /// The last entry removed by retention; entry 0 when there is none.
    Base,
}

impl Mark {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Base => "base",
        }
    }
}

/// Opens the store for writing; creates and migrates the schema. The caller holds the folder's lock.
pub(crate) fn open_writer(folder: &Folder) -> Result<Connection, StoreError> {
    let damaged = |e: rusqlite::Error| fault(folder, &e);
    let mut db = Connection::open_with_flags(&folder.db, OpenFlags::SQLITE_OPEN_READ_WRITE | ALONE)
        .map_err(damaged)?;
    db.busy_timeout(Duration::from_secs(2)).map_err(damaged)?;
    // Before anything is written: is this ours, and not from the future?
    check_version(&db, folder)?;
    db.pragma_update(None, "page_size", PAGE_BYTES).map_err(damaged)?;
    let mode: String =
        db.pragma_update_and_check(None, "journal_mode", "wal", |r| r.get(0)).map_err(damaged)?;
    if mode != "wal" {
        return Err(StoreError::Unusable {
            path: folder.db.clone(),
            cause: format!("SQLite cannot use its write-ahead log here (journal mode {mode})"),
        });
    }
    // NORMAL: a power cut can take the last commits, never tear one. The journal has what they held; see
    // `journal`. Checkpoints run on a thread of their own.
    db.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -8192;
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;",
    )
    .map_err(damaged)?;
    migrate(&mut db).map_err(damaged)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// A second connection that only copies the write-ahead log into the database.
pub(crate) fn open_checkpointer(folder: &Folder) -> Result<Connection, StoreError> {
    let open = || {
        let db = Connection::open_with_flags(&folder.db, OpenFlags::SQLITE_OPEN_READ_WRITE | ALONE)?;
        db.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")?;
        Ok(db)
    };
    open().map_err(|e| fault(folder, &e))
}

/// Opens the store for reading, beside a running server or without one.
pub(crate) fn open_reader(folder: &Folder) -> Result<Connection, StoreError> {
    if !folder.db.exists() {
        return Err(StoreError::Absent { folder: folder.path.clone() });
    }
    let open = |immutable: bool| -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | ALONE;
        let db = Connection::open_with_flags(uri(folder, immutable), flags)?;
        db.busy_timeout(Duration::from_secs(2))?;
        db.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -4096;")?;
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(db)
    };
    let db = match open(false) {
        // A copy on a medium that cannot be written: complete in itself when there is no WAL beside it.
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::CannotOpen) && !folder.wal.exists() => open(true),
        other => other,
    }
    .map_err(|e| fault(folder, &e))?;
    let version = check_version(&db, folder)?;
    if version == 0 {
        return Err(StoreError::Absent { folder: folder.path.clone() });
    }
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

fn uri(folder: &Folder, immutable: bool) -> String {
    use std::{fmt::Write as _, os::unix::ffi::OsStrExt as _};
    let mut uri = String::from("file:");
    for byte in folder.db.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _infallible = write!(uri, "%{byte:02x}");
        }
    }
    uri.push_str(if immutable { "?immutable=1" } else { "?mode=ro" });
    uri
}

/// The schema version; 0 for an empty file.
fn check_version(db: &Connection, folder: &Folder) -> Result<i64, StoreError> {
    let read = |name| db.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
    let damaged = |e: rusqlite::Error| fault(folder, &e);
    let application = read("application_id").map_err(damaged)?;
    let version = read("user_version").map_err(damaged)?;
    let objects: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(damaged)?;
    if application != APPLICATION_ID && (objects > 0 || version != 0) {
        return Err(StoreError::Damaged {
            file: folder.db.clone(),
            cause: "it is the database of another program".into(),
        });
    }
    let known = known_version();
    if version > known {
        return Err(StoreError::Newer { file: folder.db.clone(), found: version, known });
    }
    Ok(version)
}

fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn migrate(db: &mut Connection) -> Result<(), rusqlite::Error> {
    let version: i64 = db.pragma_query_value(None, "user_version", |r| r.get(0))?;
    let done = usize::try_from(version).unwrap_or(0);
    if done >= MIGRATIONS.len() {
        return Ok(());
    }
    let tx = db.transaction()?;
    for (index, step) in MIGRATIONS.iter().enumerate().skip(done) {
        tx.execute_batch(step)?;
        if index == 0 {
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
    }
    tx.pragma_update(None, "user_version", known_version())?;
    tx.commit()
}

/// The first table, index, view or trigger that is not what the migrations make; an index that is missing, a
/// trigger that somebody added, a view that tells something else. What ANALYZE keeps is no part of it.
pub(crate) fn altered(db: &Connection) -> Result<Option<String>, rusqlite::Error> {
    let made = Connection::open_in_memory()?;
    let version: i64 = db.pragma_query_value(None, "user_version", |r| r.get(0))?;
    // One that an older Checkrein wrote, and no server has opened since, is whole as it is.
    for step in MIGRATIONS.iter().take(usize::try_from(version).unwrap_or(usize::MAX)) {
        made.execute_batch(step)?;
    }
    let objects = |db: &Connection| -> Result<BTreeSet<(String, String, String)>, rusqlite::Error> {
        db.prepare(
            "SELECT name, type || ' on ' || tbl_name, coalesce(sql, '') FROM sqlite_schema
             WHERE name NOT LIKE 'sqlite!_stat%' ESCAPE '!'",
        )?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
        .collect()
    };
    let (found, made) = (objects(db)?, objects(&made)?);
    Ok(found.symmetric_difference(&made).next().map(|(name, ..)| name.escape_debug().to_string()))
}

/// What SQLite says about a file, as what it means for a person.
pub(crate) fn fault(folder: &Folder, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { file: folder.db.clone(), cause: error.to_string() }
        }
        _ => StoreError::Unusable { path: folder.db.clone(), cause: error.to_string() },
    }
}

/// Reads a mark.
pub(crate) fn mark(db: &Connection, mark: Mark) -> Result<Walk, rusqlite::Error> {
    db.prepare_cached("SELECT seq, hash FROM chain WHERE mark = ?1")?
        .query_row([mark.as_str()], |r| {
            Ok(Walk { seq: seq(r.get(0)?), hash: hash(&r.get::<_, Vec<u8>>(1)?) })
        })
        .optional()
        .map(Option::unwrap_or_default)
}

/// Moves a mark.
pub(crate) fn set_mark(db: &Connection, mark: Mark, walk: &Walk) -> Result<(), rusqlite::Error> {
    db.prepare_cached("UPDATE chain SET seq = ?2, hash = ?3 WHERE mark = ?1")?
        .execute(params![mark.as_str(), walk.seq.cast_signed(), walk.hash.0])
        .map(drop)
}

/// How many of the last entries are walked when the store is opened.
const TAIL: i64 = 100;

/// Compares the end of the log with the recorded head, and gives the head and the time of the last entry.
/// Cheap: reads a few entries, whatever the length of the log.
pub(crate) fn check_tail(db: &Connection) -> Result<Result<(Walk, Timestamp), Broken>, rusqlite::Error> {
    let (head, base) = (mark(db, Mark::Head)?, mark(db, Mark::Base)?);
    let mut last = db.prepare(
        "SELECT seq, at, kind, subject, agent, body, hash FROM log
         WHERE seq > (SELECT max(seq) FROM log) - ?1 ORDER BY seq",
    )?;
    let tail = last.query_map([TAIL], entry)?.collect::<Result<Vec<_>, _>>()?;
    let mut walk = base;
    let mut at = Timestamp::from_micros(i64::MIN);
    for (index, entry) in tail.iter().enumerate() {
        at = entry.at;
        if index == 0 && entry.seq != base.seq + 1 {
            // What came before the first of these is not looked at: its hash is taken as it stands.
            walk = Walk { seq: entry.seq, hash: entry.hash };
        } else if let Err(broken) = walk.step(entry) {
            return Ok(Err(broken));
        }
    }
    if walk.seq > head.seq {
        return Ok(Err(Broken::Reordered { expected: head.seq, found: walk.seq }));
    }
    Ok(walk.end(&head).map(|()| (head, at)))
}

/// A row `seq, at, kind, subject, agent, body, hash`.
pub(crate) fn entry(row: &Row<'_>) -> Result<Entry, rusqlite::Error> {
    Ok(Entry {
        seq: seq(row.get(0)?),
        at: Timestamp::from_micros(row.get(1)?),
        kind: row.get(2)?,
        subject: row.get(3)?,
        agent: row.get(4)?,
        body: row.get(5)?,
        hash: hash(row.get_ref(6)?.as_blob().unwrap_or_default()),
    })
}

/// A sequence number. One below zero was never written: it becomes 0, which no entry has.
pub(crate) fn seq(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A hash. One of another length was never written: it becomes zeros, which no entry has.
fn hash(bytes: &[u8]) -> Hash {
    Hash(bytes.try_into().unwrap_or_default())
}
