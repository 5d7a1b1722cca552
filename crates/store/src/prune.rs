//! Retention: removes the oldest entries such that what remains can still be verified.
//!
//! The chain then begins at the hash of the last entry removed, which is kept twice: in the table `chain`
//! as `base`, and in a `log.pruned` entry inside the chain itself, written in the same transaction.

use crate::{
    grants, outbox,
    schema::{self, Mark},
    snapshots,
};
use checkrein_core::{
    chain::{Hash, Walk},
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _};

/// Entries removed in one transaction, so that nobody waits long behind it.
const STEP: i64 = 5_000;

/// A prefix of the log that may go.
pub(crate) struct Cut {
    /// The last entry that goes, where the chain then begins.
    pub(crate) base: Walk,
    /// How many go.
    pub(crate) removed: u64,
    /// Whether nothing else may go after them.
    pub(crate) last: bool,
}

/// The next prefix older than `older_than` that no open approval, grant, snapshot or unsettled
/// execution or rollback refers to; none when there is none.
pub(crate) fn cut(db: &Connection, older_than: Timestamp) -> Result<Option<Cut>, rusqlite::Error> {
    let base = schema::mark(db, Mark::Base)?;
    let needed: Option<i64> = db.query_row(
        "SELECT min(log.seq) FROM approvals JOIN log ON log.kind = 'check' AND log.subject = approvals.check_id
         WHERE approvals.open = 1",
        [],
        |r| r.get(0),
    )?;
    // An open approval's own entries stay, whether or not its check is there.
    let asked: Option<i64> =
        db.query_row("SELECT min(seq) FROM approvals WHERE open = 1", [], |r| r.get(0))?;
    let kept = snapshots::first_needed(db)?;
    let silences = outbox::first_needed(db, older_than)?;
    let granted = grants::first_needed(db)?;
    let kept = kept.into_iter().chain(granted).chain(silences);
    let stop = needed.into_iter().chain(asked).chain(kept).min().unwrap_or(i64::MAX);
    let mut rows = db.prepare_cached("SELECT seq, at, kind FROM log WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
    let mut rows = rows.query([base.seq.cast_signed(), STEP])?;
    let (mut through, mut removed, mut last, mut useful) = (base.seq, 0, true, false);
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        if row.get::<_, i64>(1)? >= older_than.as_micros() || seq >= stop {
            break;
        }
        useful |= row.get_ref(2)?.as_str().is_ok_and(|kind| kind != "log.pruned");
        through = schema::seq(seq);
        removed += 1;
        last = removed < STEP.cast_unsigned();
    }
    // Removing nothing but the marks of earlier prunes would only write another one, for ever.
    if !useful {
        return Ok(None);
    }
    let hash: [u8; 32] = db
        .query_row("SELECT hash FROM log WHERE seq = ?1", [through.cast_signed()], |r| r.get(0))
        .optional()?
        .unwrap_or_default();
    Ok(Some(Cut { base: Walk { seq: through, hash: Hash(hash) }, removed, last }))
}

/// Removes it, and what derives from it and from nothing else.
pub(crate) fn remove(db: &Connection, cut: &Cut) -> Result<(), rusqlite::Error> {
    let through = cut.base.seq.cast_signed();
    db.prepare_cached(
        "DELETE FROM idempotency WHERE (key_id, key) IN
         (SELECT body ->> '$.key_id', body ->> '$.check.idempotency_key' FROM log WHERE seq <= ?1 AND kind = 'check')",
    )?
    .execute([through])?;
    db.prepare_cached("DELETE FROM approvals WHERE seq <= ?1 AND open = 0")?.execute([through])?;
    grants::prune(db, through)?;
    snapshots::prune(db, through)?;
    outbox::forget(db, through)?;
    db.prepare_cached("DELETE FROM log WHERE seq <= ?1")?.execute([through])?;
    schema::set_mark(db, Mark::Base, &cut.base)
}
