//! Snapshots, guarded executions that are not settled, and rollbacks: how events change their tables, and
//! what can be asked of them.

use crate::{
    error::StoreError,
    listing::Listing,
    project::{Fault, Refusal, unless},
    read::{bodies, count, parse},
    schema,
    store::Store,
};
use checkrein_core::{
    event::Outcome,
    name::Pattern,
    snapshot::{
        Execution, Origin, RollbackRecord, RollbackState, RollbackStatus, SnapshotRecord, SnapshotState,
    },
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Value as Sql};

/// Which snapshots.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    /// Whose.
    pub agent: Option<Pattern>,
    /// Of this target.
    pub target: Option<String>,
    /// Those that are there, or those that are gone.
    pub live: Option<bool>,
}

/// Some snapshots, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPage {
    /// The snapshots; as with [`crate::CheckPage::rows`], possibly fewer than asked for.
    pub rows: Vec<SnapshotState>,
    /// What to pass as `before` for the next page; none at the end.
    pub next: Option<u64>,
}

/// A guarded execution of which it is not on record how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenExecution {
    /// `chk_…`.
    pub check_id: String,
    /// The target's name.
    pub target: String,
    /// Names the transaction for the target.
    pub token: String,
    /// What it captured.
    pub snapshot_id: Option<String>,
}

/// A snapshot that is there, as far as keeping it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSnapshot {
    /// `snp_…`.
    pub id: String,
    /// Whose action it belongs to.
    pub agent: String,
    /// The key that it was taken with.
    pub key_id: String,
    /// Why it was taken.
    pub origin: Origin,
    /// When it was taken.
    pub created_at: Timestamp,
    /// Size of its files.
    pub bytes: u64,
}

/// A check is on record whose transaction is committed next.
pub(crate) fn executing(
    db: &Connection,
    seq: u64,
    check_id: &str,
    execution: Option<&Execution>,
) -> Result<(), Fault> {
    let Some(Execution { target, token: Some(token), snapshot_id }) = execution else { return Ok(()) };
    db.prepare_cached(
        "INSERT INTO executions (seq, check_id, target, token, snapshot_id) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![seq.cast_signed(), check_id, target, token, snapshot_id])?;
    Ok(())
}

/// An outcome settles an execution, whichever it is: who writes `unknown` knows that nobody can tell.
pub(crate) fn settled(db: &Connection, outcome: &Outcome) -> Result<(), Fault> {
    db.prepare_cached("DELETE FROM executions WHERE check_id = ?1")?.execute([&outcome.check_id])?;
    Ok(())
}

pub(crate) fn taken(db: &Connection, seq: u64, at: Timestamp, record: &SnapshotRecord) -> Result<(), Fault> {
    let state = SnapshotState::taken(record.clone(), at);
    let added = db
        .prepare_cached(
            "INSERT INTO snapshots (seq, id, agent, target, check_id, live, body)
             VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            seq.cast_signed(),
            record.id,
            record.agent,
            record.target,
            record.check_id,
            serde_json::to_string(&state)?,
        ])?;
    unless(added == 0, || Refusal::Exists(format!("snapshot {}", record.id)))
}

/// Changes the snapshot `id`; `change` says whether it can.
pub(crate) fn changed(
    db: &Connection,
    id: &str,
    change: impl FnOnce(&mut SnapshotState) -> bool,
) -> Result<(), Fault> {
    let body = db
        .prepare_cached("SELECT body FROM snapshots WHERE id = ?1")?
        .query_row([id], |r| r.get::<_, String>(0))
        .optional()?
        .ok_or_else(|| Refusal::NotFound(format!("snapshot {id}")))?;
    let mut state: SnapshotState = serde_json::from_str(&body)?;
    unless(!change(&mut state), || Refusal::Exists(format!("this change of snapshot {id}")))?;
    db.prepare_cached("UPDATE snapshots SET live = ?2, body = ?3 WHERE id = ?1")?.execute(params![
        id,
        state.live(),
        serde_json::to_string(&state)?
    ])?;
    Ok(())
}

pub(crate) fn begun(
    db: &Connection,
    seq: u64,
    at: Timestamp,
    record: &RollbackRecord,
) -> Result<RollbackState, Fault> {
    let other: Option<String> = db
        .prepare_cached("SELECT id FROM rollbacks WHERE open = 1 AND snapshot_id = ?1")?
        .query_row([&record.snapshot_id], |r| r.get(0))
        .optional()?;
    if let Some(other) = other {
        return Err(Refusal::Exists(format!("the unfinished rollback {other} of this snapshot")).into());
    }
    let state = RollbackState { record: record.clone(), started_at: at, status: None, reason: None };
    let added = db
        .prepare_cached(
            "INSERT INTO rollbacks (seq, id, snapshot_id, open, body) VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![seq.cast_signed(), record.id, record.snapshot_id, serde_json::to_string(&state)?])?;
    unless(added == 0, || Refusal::Exists(format!("rollback {}", record.id)))?;
    Ok(state)
}

pub(crate) fn ended(
    db: &Connection,
    id: &str,
    status: RollbackStatus,
    reason: Option<&str>,
) -> Result<RollbackState, Fault> {
    let body = db
        .prepare_cached("SELECT body FROM rollbacks WHERE id = ?1")?
        .query_row([id], |r| r.get::<_, String>(0))
        .optional()?
        .ok_or_else(|| Refusal::NotFound(format!("rollback {id}")))?;
    let mut state: RollbackState = serde_json::from_str(&body)?;
    unless(state.status.is_some(), || Refusal::Exists(format!("the end of rollback {id}")))?;
    state.status = Some(status);
    state.reason = reason.map(str::to_owned);
    db.prepare_cached("UPDATE rollbacks SET open = 0, body = ?2 WHERE id = ?1")?
        .execute(params![id, serde_json::to_string(&state)?])?;
    Ok(state)
}

/// The first entry that retention must leave: of a snapshot that is there (with its check), of an execution
/// or a rollback that is not settled.
pub(crate) fn first_needed(db: &Connection) -> Result<Option<i64>, rusqlite::Error> {
    db.query_row(
        "SELECT min(seq) FROM (
             SELECT min(seq) AS seq FROM snapshots WHERE live = 1
             UNION ALL SELECT min(log.seq) FROM snapshots
                 JOIN log ON log.kind = 'check' AND log.subject = snapshots.check_id WHERE live = 1
             UNION ALL SELECT min(seq) FROM executions
             UNION ALL SELECT min(seq) FROM rollbacks WHERE open = 1)",
        [],
        |r| r.get(0),
    )
}

/// Removes what derives from entries up to `through` and from nothing later.
pub(crate) fn prune(db: &Connection, through: i64) -> Result<(), rusqlite::Error> {
    db.prepare_cached("DELETE FROM snapshots WHERE seq <= ?1 AND live = 0")?.execute([through])?;
    db.prepare_cached("DELETE FROM rollbacks WHERE seq <= ?1 AND open = 0")?.execute([through])?;
    Ok(())
}

fn page(
    db: &Connection,
    filter: &SnapshotFilter,
    before: Option<u64>,
    limit: usize,
) -> Result<SnapshotPage, StoreError> {
    let listing = Listing {
        table: "snapshots",
        agent: filter.agent.as_ref(),
        standing: &[
            ("target", filter.target.clone().map(Sql::Text)),
            ("live", filter.live.map(|live| Sql::Integer(i64::from(live)))),
        ],
        along: if filter.live == Some(true) { "INDEXED BY snapshots_live WHERE live = 1" } else { "WHERE 1" },
        direct: filter.agent.is_none() && filter.target.is_none() && filter.live != Some(false),
    };
    listing.page(db, before, limit).map(|(rows, next)| SnapshotPage { rows, next })
}

fn open_execution(row: &Row<'_>) -> Result<OpenExecution, rusqlite::Error> {
    Ok(OpenExecution {
        check_id: row.get(0)?,
        target: row.get(1)?,
        token: row.get(2)?,
        snapshot_id: row.get(3)?,
    })
}

impl Store {
    /// The snapshot `id`, gone or not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshot(&self, id: &str) -> Result<Option<SnapshotState>, StoreError> {
        let id = id.to_owned();
        let sql = "SELECT body FROM snapshots WHERE id = ?1";
        self.read(move |db| bodies(db, sql, [id], "snapshots").map(|mut found| found.pop())).await
    }

    /// Snapshots, newest first: those taken before the entry `before`, or the newest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshots(
        &self,
        filter: SnapshotFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<SnapshotPage, StoreError> {
        self.read(move |db| page(db, &filter, before, limit)).await
    }

    /// The snapshots that belong to the check `id` and are there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshots_of_check(&self, id: &str) -> Result<Vec<SnapshotState>, StoreError> {
        let id = id.to_owned();
        let sql = "SELECT body FROM snapshots WHERE check_id = ?1 AND live = 1 ORDER BY seq LIMIT 100";
        self.read(move |db| bodies(db, sql, [id], "snapshots")).await
    }

    /// The snapshots that belong to the check `id`, gone or not, oldest first; at most 100.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn all_snapshots_of_check(&self, id: &str) -> Result<Vec<SnapshotState>, StoreError> {
        let id = id.to_owned();
        let sql = "SELECT body FROM snapshots WHERE check_id = ?1 ORDER BY seq LIMIT 100";
        self.read(move |db| bodies(db, sql, [id], "snapshots")).await
    }

    /// Every snapshot that is there, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn live_snapshots(&self) -> Result<Vec<LiveSnapshot>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT body FROM snapshots WHERE live = 1 ORDER BY seq")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
                let state: SnapshotState = parse(0, body)?;
                found.push(LiveSnapshot {
                    id: state.record.id,
                    agent: state.record.agent,
                    key_id: state.record.key_id,
                    origin: state.record.origin,
                    created_at: state.created_at,
                    bytes: state.record.bytes,
                });
            }
            Ok(found)
        })
        .await
    }

    /// Every snapshot that is there, with the number of its files.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn live_snapshot_parts(&self) -> Result<Vec<(String, u32)>, StoreError> {
        self.read(|db| {
            let sql = "SELECT id, body ->> '$.parts' FROM snapshots WHERE live = 1";
            let mut statement = db.prepare_cached(sql)?;
            let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Whether an execution or a rollback that is not settled needs the snapshot `id`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshot_needed(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.read(move |db| {
            let sql = "SELECT 1 FROM executions WHERE snapshot_id = ?1
                UNION ALL SELECT 1 FROM rollbacks
                WHERE open = 1 AND (snapshot_id = ?1 OR body ->> '$.undo_snapshot_id' = ?1)";
            Ok(db.prepare_cached(sql)?.exists([id])?)
        })
        .await
    }

    /// The guarded execution of the check `id`, if it is not settled.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_execution(&self, id: &str) -> Result<Option<OpenExecution>, StoreError> {
        let id = id.to_owned();
        self.read(move |db| {
            let sql = "SELECT check_id, target, token, snapshot_id FROM executions WHERE check_id = ?1";
            Ok(db.prepare_cached(sql)?.query_row([id], open_execution).optional()?)
        })
        .await
    }

    /// Guarded executions that are not settled, oldest first, each with the number of its entry: those after
    /// the entry `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_executions(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, OpenExecution)>, StoreError> {
        self.read(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT check_id, target, token, snapshot_id, seq FROM executions WHERE seq > ?1
                 ORDER BY seq LIMIT ?2",
            )?;
            let row = |row: &Row<'_>| Ok((schema::seq(row.get(4)?), open_execution(row)?));
            let rows = statement.query_map([after.cast_signed(), count(limit)], row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Rollbacks that are not settled, oldest first, each with the number of its entry: those after the entry
    /// `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_rollbacks(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, RollbackState)>, StoreError> {
        self.read(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT seq, body FROM rollbacks WHERE open = 1 AND seq > ?1 ORDER BY seq LIMIT ?2",
            )?;
            let mut rows = statement.query([after.cast_signed(), count(limit)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let seq = schema::seq(row.get(0)?);
                found.push((seq, parse(seq, row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?));
            }
            Ok(found)
        })
        .await
    }

    /// The rollbacks of the snapshot `id`, oldest first; at most 100.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn rollbacks_of(&self, id: &str) -> Result<Vec<RollbackState>, StoreError> {
        let id = id.to_owned();
        let sql = "SELECT body FROM rollbacks WHERE snapshot_id = ?1 ORDER BY seq LIMIT 100";
        self.read(move |db| bodies(db, sql, [id], "rollbacks")).await
    }

    /// The last rollback of the snapshot `id`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn rollback_of(&self, id: &str) -> Result<Option<RollbackState>, StoreError> {
        Ok(self.rollbacks_last_of(vec![id.to_owned()]).await?.pop().flatten())
    }

    /// The last rollback of each of the snapshots `ids`, in their order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn rollbacks_last_of(
        &self,
        ids: Vec<String>,
    ) -> Result<Vec<Option<RollbackState>>, StoreError> {
        let sql = "SELECT body FROM rollbacks WHERE snapshot_id = ?1 ORDER BY seq DESC LIMIT 1";
        self.read(move |db| ids.iter().map(|id| Ok(bodies(db, sql, [id], "rollbacks")?.pop())).collect())
            .await
    }
}
