//! Whether the log is what was written, and the tables are what the log says.
//!
//! The chain is walked from the base (the last entry that retention removed; nothing, at first) to the
//! recorded head, and on through the journal where that goes further. Beside it, the tables are built anew by the same code that writes them, in a temporary
//! database, and then compared row by row.

use crate::{
    error::{Difference, StoreError, VerifyError},
    outbox,
    project::{self, Fault, Refusal},
    schema::{self, Mark},
};
use checkrein_core::{
    chain::{Broken, Walk},
    event::{Entry, Event},
};
use rusqlite::{Connection, Row, types::Value as Sql};
use std::{collections::HashSet, fmt::Write as _};

/// A log that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Where it begins: the last entry that retention removed, or entry 0.
    pub base: Walk,
    /// Where it ends. Noted elsewhere, this is an anchor for later.
    pub head: Walk,
    /// How many entries it has.
    pub entries: u64,
}

/// How often progress is told, in entries.
const STEP: u64 = 10_000;

/// A table to compare, and the number of columns that are its key, from the first.
const TABLES: &[(&str, usize, &str)] = &[
    ("policies", 1, "SELECT name, body FROM policies ORDER BY name"),
    ("keys", 1, "SELECT id, body FROM keys ORDER BY id"),
    (
        "approvals",
        1,
        "SELECT seq, id, check_id, agent, fingerprint, state, open, expires_at, body FROM approvals ORDER BY seq",
    ),
    ("grants", 1, "SELECT seq, id, agent, open, expires_at, body FROM grants ORDER BY seq"),
    ("snapshots", 1, "SELECT seq, id, agent, target, check_id, live, body FROM snapshots ORDER BY seq"),
    ("executions", 1, "SELECT seq, check_id, target, token, snapshot_id FROM executions ORDER BY seq"),
    ("rollbacks", 1, "SELECT seq, id, snapshot_id, open, body FROM rollbacks ORDER BY seq"),
    ("breakers", 1, "SELECT scope, revision, state, body FROM breakers ORDER BY scope"),
    ("signals", 2, "SELECT seq, n, kind, severity, agent, body FROM signals ORDER BY seq, n"),
    ("silences", 1, "SELECT seq, id, until, body FROM silences ORDER BY seq"),
    ("idempotency", 2, "SELECT key_id, key, seq FROM idempotency ORDER BY key_id, key"),
];

pub(crate) fn verify(
    db: &Connection,
    anchor: Option<Walk>,
    beyond: impl FnOnce(&Walk) -> Result<Vec<Entry>, StoreError>,
    mut progress: impl FnMut(u64),
) -> Result<Verified, VerifyError> {
    // One state, however much a server adds meanwhile.
    let tx = db.unchecked_transaction()?;
    let (base, head) = (schema::mark(&tx, Mark::Base)?, schema::mark(&tx, Mark::Head)?);
    let mut anchor = Anchor::new(anchor, &base)?;
    let mut rebuilt = Rebuilt::new(base.seq)?;
    let mut walk = base;
    let mut statement =
        tx.prepare("SELECT seq, at, kind, subject, agent, body, hash FROM log ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let entry = schema::entry(row).map_err(|e| VerifyError::Entry {
            seq: row.get(0).map(schema::seq).unwrap_or_default(),
            cause: e.to_string(),
        })?;
        if entry.seq > head.seq {
            return Err(VerifyError::Beyond { head: head.seq, found: entry.seq });
        }
        walk.step(&entry)?;
        anchor.passes(&walk)?;
        rebuilt.take(&entry)?;
        if walk.seq % STEP == 0 {
            progress(walk.seq);
        }
    }
    walk.end(&head)?;
    // What is on record and in no table yet.
    for entry in beyond(&head)? {
        walk.step(&entry)?;
        anchor.passes(&walk)?;
    }
    anchor.end(&walk)?;
    if base.seq > 0 && rebuilt.attested != Some((base.seq, base.hash.to_string())) {
        return Err(VerifyError::Unattested { base: base.seq });
    }
    if let Some(name) = schema::altered(&tx)? {
        return Err(VerifyError::Schema(name));
    }
    rebuilt.compare(&tx)?;
    progress(walk.seq);
    Ok(Verified { base, head: walk, entries: walk.seq - base.seq })
}

/// An entry that is known from elsewhere, to be met on the way.
struct Anchor(Option<Walk>);

impl Anchor {
    fn new(anchor: Option<Walk>, base: &Walk) -> Result<Self, VerifyError> {
        if let Some(anchor) = anchor
            && anchor.seq < base.seq
        {
            return Err(VerifyError::AnchorPruned { anchor: anchor.seq, base: base.seq });
        }
        let mut anchor = Self(anchor);
        anchor.passes(base)?;
        Ok(anchor)
    }

    fn passes(&mut self, walk: &Walk) -> Result<(), VerifyError> {
        match self.0 {
            Some(anchor) if anchor.seq == walk.seq => {
                if anchor.hash != walk.hash {
                    return Err(VerifyError::Anchor(anchor.seq));
                }
                self.0 = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end(&self, walk: &Walk) -> Result<(), VerifyError> {
        match self.0 {
            Some(anchor) => Err(Broken::Truncated { expected: anchor.seq, found: walk.seq }.into()),
            None => Ok(()),
        }
    }
}

/// The tables as the log makes them.
struct Rebuilt {
    db: Connection,
    /// Retention removed the log's beginning: what was made there is not known.
    pruned: bool,
    base: u64,
    /// Policies, keys and breakers about which the log that is left says something.
    known: HashSet<String>,
    /// What the last `log.pruned` entry says about the base.
    attested: Option<(u64, String)>,
}

impl Rebuilt {
    fn new(base: u64) -> Result<Self, VerifyError> {
        // The empty name is a temporary database, on disk once it grows.
        let db = Connection::open("")?;
        db.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;")?;
        db.execute_batch(schema::PROJECTIONS)?;
        db.execute_batch("BEGIN")?;
        Ok(Self { db, pruned: base > 0, base, known: HashSet::new(), attested: None })
    }

    fn take(&mut self, entry: &Entry) -> Result<(), VerifyError> {
        let wrong = |cause: String| VerifyError::Entry { seq: entry.seq, cause };
        let applied = match &*entry.kind {
            // Nearly all entries are checks, of which little need be read.
            "check" => project::apply_entry(&self.db, entry),
            kind => {
                let event = Event::from_parts(kind, &entry.body).map_err(|e| wrong(e.to_string()))?;
                match &event {
                    Event::LogPruned { through, hash, .. } => self.attested = Some((*through, hash.clone())),
                    Event::PolicyPut { name, .. } | Event::PolicyDeleted { name, .. } => {
                        self.known.insert(name.clone());
                    }
                    Event::KeyCreated { key, .. } => {
                        self.known.insert(key.id.clone());
                    }
                    Event::KeyRevoked { id, .. } => {
                        self.known.insert(id.clone());
                    }
                    Event::BreakerChanged(changed) => {
                        self.known.insert(changed.scope.as_str().to_owned());
                    }
                    _ => {}
                }
                project::apply(&self.db, entry.seq, entry.at, &event)
            }
        };
        match applied {
            Ok(()) => Ok(()),
            // What it is about was made in the part that retention removed.
            Err(Fault::Refused(Refusal::NotFound(_))) if self.pruned => Ok(()),
            Err(Fault::Refused(refusal)) => Err(wrong(match refusal {
                Refusal::Duplicate(first) => format!("it repeats the idempotency key of entry {first}"),
                Refusal::Approval(refused) => refused.to_string(),
                Refusal::Grant(refused) => refused.to_string(),
                Refusal::NotFound(what) => format!("there is no {what} for it"),
                Refusal::Exists(what) => format!("{what} exists already"),
            })),
            Err(Fault::Json(e)) => Err(wrong(e.to_string())),
            Err(Fault::Sql(e)) => Err(e.into()),
        }
    }

    fn compare(&self, db: &Connection) -> Result<(), VerifyError> {
        for (table, keys, sql) in TABLES {
            // The schema is known to be that of its version, and an older one has fewer tables.
            if db.table_exists(None, *table)? {
                if *table == "signals" {
                    // Kept for a while only.
                    self.db.execute("DELETE FROM signals WHERE seq <= ?1", [outbox::kept(db)?])?;
                }
                self.compare_table(db, table, *keys, sql)?;
            }
        }
        Ok(())
    }

    /// Whether a signal rests on what retention removed: its entry, while nobody has routed it, or the approval
    /// or rollback that it is about.
    fn signals_before(&self, row: &[Sql]) -> bool {
        let removed = matches!(row.first(), Some(Sql::Integer(seq)) if schema::seq(*seq) <= self.base);
        let about = |kind: &str| kind.starts_with("approval.") || kind.starts_with("rollback.");
        removed || (self.pruned && matches!(row.get(2), Some(Sql::Text(kind)) if about(kind)))
    }

    /// Walks both tables in the order of their keys.
    fn compare_table(
        &self,
        db: &Connection,
        table: &'static str,
        keys: usize,
        sql: &str,
    ) -> Result<(), VerifyError> {
        let differs = |row: &[Sql], what| VerifyError::Projection { table, row: name(row, keys), what };
        let (mut theirs, mut ours) = (db.prepare(sql)?, self.db.prepare(sql)?);
        let (mut theirs, mut ours) = (theirs.query([])?, ours.query([])?);
        let (mut there, mut here) = (values(theirs.next()?)?, values(ours.next()?)?);
        loop {
            match (&there, &here) {
                (None, None) => return Ok(()),
                (Some(row), other) if other.as_ref().is_none_or(|other| before(row, other, keys)) => {
                    // Policies, keys and breakers from before the base are on record nowhere else.
                    let from_before = self.pruned
                        && matches!(table, "policies" | "keys" | "breakers")
                        && matches!(row.first(), Some(Sql::Text(key)) if !self.known.contains(key));
                    let known_nowhere = from_before || (table == "signals" && self.signals_before(row));
                    if !known_nowhere {
                        return Err(differs(row, Difference::Added));
                    }
                    there = values(theirs.next()?)?;
                }
                (Some(row), Some(other)) if row.get(..keys) == other.get(..keys) => {
                    if row != other {
                        return Err(differs(row, Difference::Changed));
                    }
                    (there, here) = (values(theirs.next()?)?, values(ours.next()?)?);
                }
                (_, Some(row)) => return Err(differs(row, Difference::Missing)),
                (Some(row), None) => return Err(differs(row, Difference::Added)),
            }
        }
    }
}

fn values(row: Option<&Row<'_>>) -> Result<Option<Vec<Sql>>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let columns = row.as_ref().column_count();
    Ok(Some((0..columns).map(|i| row.get(i)).collect::<Result<_, _>>()?))
}

/// Whether `a` comes before `b` in the order of their keys, which SQLite compares by bytes.
fn before(a: &[Sql], b: &[Sql], keys: usize) -> bool {
    for (a, b) in a.iter().zip(b).take(keys) {
        let order = match (a, b) {
            (Sql::Integer(a), Sql::Integer(b)) => a.cmp(b),
            (Sql::Text(a), Sql::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            _ => std::cmp::Ordering::Equal,
        };
        if order.is_ne() {
            return order.is_lt();
        }
    }
    false
}

/// A row's key, for a person. What was tampered with may hold anything: escaped.
fn name(row: &[Sql], keys: usize) -> String {
    row.iter().take(keys).fold(String::new(), |mut out, value| {
        if !out.is_empty() {
            out.push('/');
        }
        let _infallible = match value {
            Sql::Integer(n) => write!(out, "{n}"),
            Sql::Text(text) => write!(out, "{}", text.escape_debug()),
            other => write!(out, "{other:?}"),
        };
        out
    })
}
