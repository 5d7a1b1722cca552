//! The tables that derive from the log: what each event does to them.

use crate::{grants, outbox, snapshots};
use checkrein_core::{
    approval::{Approval, Refused},
    decision::Verdict,
    event::{Checked, Entry, Event},
    grant,
    signal::About,
    snapshot::{Execution, Seal},
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, de::IgnoredAny};

/// Why an event has no effect.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not permitted from what is on record. Nothing was written.
    Refused(Refusal),
    /// The database failed.
    Sql(rusqlite::Error),
    /// Something on record, or the event, is not the JSON that it should be.
    Json(serde_json::Error),
}

/// Why an event is not permitted.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The idempotency key was used by the check with this number.
    Duplicate(u64),
    Approval(Refused),
    Grant(grant::Refused),
    NotFound(String),
    Exists(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Applies the event of entry `seq`. Pure but for the tables: the same log gives the same tables, so the
/// entry's own time is the only clock.
///
/// # Errors
/// A refusal leaves the tables as they were.
pub(crate) fn apply(db: &Connection, seq: u64, at: Timestamp, event: &Event) -> Result<(), Fault> {
    match event {
        Event::Check(checked) => {
            if let Some(key) = &checked.check.idempotency_key {
                remember_key(db, seq, &checked.key_id, key)?;
            }
            snapshots::executing(db, seq, &checked.decision.id, checked.execution.as_ref())?;
            outbox::note(db, seq, at, event, About::Nothing)
        }
        Event::Outcome(outcome) => snapshots::settled(db, outcome),
        Event::SnapshotTaken(record) => snapshots::taken(db, seq, at, record),
        Event::SnapshotSealed { id, bytes, key_id } => {
            let seal = (!key_id.is_empty()).then(|| Seal { at, key_id: key_id.clone() });
            snapshots::changed(db, id, |s| s.seal(*bytes, seal))
        }
        Event::SnapshotRemoved { id, reason } => snapshots::changed(db, id, |s| s.remove(reason)),
        Event::RollbackStarted(record) => {
            let state = snapshots::begun(db, seq, at, record)?;
            outbox::note(db, seq, at, event, About::Rollback(&state))
        }
        Event::RollbackFinished { id, status, reason } => {
            let state = snapshots::ended(db, id, *status, reason.as_deref())?;
            outbox::note(db, seq, at, event, About::Rollback(&state))
        }
        Event::ApprovalRequested(approval) => {
            let added = db
                .prepare_cached(
                    "INSERT INTO approvals (seq, id, check_id, agent, fingerprint, state, open, expires_at, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
                )?
                .execute(params![
                    seq.cast_signed(),
                    approval.id,
                    approval.check_id,
                    &*approval.action.agent,
                    approval.fingerprint.0,
                    approval.state.as_str(),
                    approval.open(),
                    approval.expires_at.as_micros(),
                    serde_json::to_string(approval)?,
                ])?;
            unless(added == 0, || Refusal::Exists(format!("approval {}", approval.id)))
        }
        Event::ApprovalChanged { id, transition } => {
            let body = db
                .prepare_cached("SELECT body FROM approvals WHERE id = ?1")?
                .query_row([id], |r| r.get::<_, String>(0))
                .optional()?
                .ok_or_else(|| Refusal::NotFound(format!("approval {id}")))?;
            let approval: Approval = serde_json::from_str(&body)?;
            let next = approval.after(transition, at).map_err(Refusal::Approval)?;
            db.prepare_cached("UPDATE approvals SET state = ?2, open = ?3, body = ?4 WHERE id = ?1")?
                .execute(params![id, next.state.as_str(), next.open(), serde_json::to_string(&next)?])?;
            outbox::note(db, seq, at, event, About::Approval(&next))
        }
        Event::BreakerChanged(changed) => {
            outbox::note(db, seq, at, event, About::Nothing)?;
            // Changes that came about at once may be recorded in any order; the last one holds.
            db.prepare_cached(
                "INSERT INTO breakers (scope, revision, state, body) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (scope) DO UPDATE
                 SET revision = excluded.revision, state = excluded.state, body = excluded.body
                 WHERE excluded.revision > breakers.revision",
            )?
            .execute(params![
                changed.scope.as_str(),
                changed.revision.cast_signed(),
                changed.breaker.state().as_str(),
                serde_json::to_string(changed)?,
            ])?;
            Ok(())
        }
        Event::GrantGiven(grant) => grants::given(db, seq, grant),
        Event::GrantChanged { id, transition } => grants::changed(db, id, transition, at),
        Event::PolicyPut { name, policy, .. } => {
            db.prepare_cached(
                "INSERT INTO policies (name, body) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET body = excluded.body",
            )?
            .execute(params![name, serde_json::to_string(policy)?])?;
            Ok(())
        }
        Event::PolicyDeleted { name, .. } => {
            let gone = db.prepare_cached("DELETE FROM policies WHERE name = ?1")?.execute([name])?;
            unless(gone == 0, || Refusal::NotFound(format!("policy {name}")))
        }
        Event::KeyCreated { key, .. } => {
            let added = db
                .prepare_cached("INSERT INTO keys (id, body) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![key.id, serde_json::to_string(key)?])?;
            unless(added == 0, || Refusal::Exists(format!("key {}", key.id)))
        }
        Event::KeyRevoked { id, .. } => {
            let gone = db.prepare_cached("DELETE FROM keys WHERE id = ?1")?.execute([id])?;
            unless(gone == 0, || Refusal::NotFound(format!("key {id}")))
        }
        Event::SilenceCreated { silence, .. } => outbox::silenced(db, seq, silence),
        Event::SilenceEnded { id, .. } => outbox::unsilenced(db, id),
        Event::SinkChanged { .. } => outbox::note(db, seq, at, event, About::Nothing),
        Event::DriftEnded { .. } => outbox::note(db, seq, at, event, About::Nothing),
        Event::ApprovalSampled { .. }
        | Event::DriftAccepted { .. }
        | Event::PoliciesLoaded { .. }
        | Event::ServerStarted { .. }
        | Event::ServerStopped {}
        | Event::LogPruned { .. } => Ok(()),
    }
}

/// As much of a check as the tables hold.
#[derive(Deserialize)]
struct SlimChecked {
    key_id: String,
    check: SlimCheck,
    #[serde(default)]
    execution: Option<Execution>,
    decision: SlimDecision,
}

#[derive(Deserialize)]
struct SlimDecision {
    verdict: Verdict,
    #[serde(default)]
    policies: Vec<IgnoredAny>,
    blast_radius: SlimRadius,
    #[serde(default)]
    drift: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct SlimRadius {
    #[serde(default)]
    understated: bool,
}

#[derive(Deserialize)]
struct SlimCheck {
    #[serde(default)]
    idempotency_key: Option<String>,
}

/// [`apply`] for an entry as it is kept. Nearly all are checks, of which little need be read.
///
/// # Errors
/// As [`apply`], and when the entry cannot be understood.
pub(crate) fn apply_entry(db: &Connection, entry: &Entry) -> Result<(), Fault> {
    match &*entry.kind {
        "check" => {
            let SlimChecked { key_id, check, execution, decision } = serde_json::from_str(&entry.body)?;
            if let Some(key) = check.idempotency_key {
                remember_key(db, entry.seq, &key_id, &key)?;
            }
            snapshots::executing(db, entry.seq, &entry.subject, execution.as_ref())?;
            let plain = decision.verdict == Verdict::Allow && decision.policies.is_empty();
            if plain && decision.drift.is_none() && !decision.blast_radius.understated {
                return Ok(());
            }
            let checked: Checked = serde_json::from_str(&entry.body)?;
            outbox::note(db, entry.seq, entry.at, &Event::Check(Box::new(checked)), About::Nothing)
        }
        kind => apply(db, entry.seq, entry.at, &Event::from_parts(kind, &entry.body)?),
    }
}

/// Notes that the check of entry `seq` used an idempotency key.
///
/// # Errors
/// When another check did.
fn remember_key(db: &Connection, seq: u64, key_id: &str, key: &str) -> Result<(), Fault> {
    let added = db
        .prepare_cached(
            "INSERT INTO idempotency (key_id, key, seq) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![key_id, key, seq.cast_signed()])?;
    if added > 0 {
        return Ok(());
    }
    let first: i64 = db
        .prepare_cached("SELECT seq FROM idempotency WHERE key_id = ?1 AND key = ?2")?
        .query_row([key_id, key], |r| r.get(0))?;
    Err(Refusal::Duplicate(crate::schema::seq(first)).into())
}

pub(crate) fn unless(refused: bool, refusal: impl FnOnce() -> Refusal) -> Result<(), Fault> {
    if refused { Err(refusal().into()) } else { Ok(()) }
}
