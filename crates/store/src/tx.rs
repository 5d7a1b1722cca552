//! What an append does to the database.

use crate::{
    error::AppendError,
    journal::Frame,
    project::{self, Fault, Refusal},
    store::Stamp,
    writer::{Answer, Call, Rejection},
};
use checkrein_core::{
    chain::{Hash, Walk, link},
    event::{Entry, Event},
    time::Timestamp,
};
use rusqlite::{CachedStatement, Connection, ErrorCode, params};

/// An open transaction, and the end of the log within it.
pub(crate) struct Tx<'a> {
    db: &'a Connection,
    /// The last entry, and its time.
    pub(crate) last: (Walk, Timestamp),
    /// What is to go into the journal.
    frame: &'a mut Frame,
    add: Add<'a>,
}

impl<'a> Tx<'a> {
    /// At the end `last` of the log, with an empty frame.
    pub(crate) fn new(
        db: &'a Connection,
        last: (Walk, Timestamp),
        frame: &'a mut Frame,
    ) -> Result<Self, rusqlite::Error> {
        frame.clear();
        Ok(Self { db, last, frame, add: Add::to(db)? })
    }

    /// Writes a call, or says why not and leaves no trace of it. An error fails the whole transaction.
    pub(crate) fn call(&mut self, call: &Call) -> Result<Answer, rusqlite::Error> {
        // A single event that is refused has left nothing but its entry; only several need a savepoint.
        let several = call.events.len() > 1;
        if several {
            self.db.prepare_cached("SAVEPOINT call")?.execute([])?;
        }
        let (last, mark) = (self.last, self.frame.mark());
        let mut stamps = Vec::with_capacity(call.events.len());
        let mut fault = None;
        for (event, body) in &call.events {
            match self.event(event, body, call.at) {
                Ok(stamp) => stamps.push(stamp),
                Err(Fault::Sql(error)) => return Err(error),
                Err(other) => {
                    fault = Some(other);
                    break;
                }
            }
        }
        let rejection = match fault {
            None => None,
            Some(Fault::Refused(refusal)) => Some(self.rejection(refusal)?),
            Some(Fault::Json(e)) => Some(Rejection::Error(AppendError::Invalid(e.to_string()))),
            Some(Fault::Sql(error)) => return Err(error),
        };
        if rejection.is_some() {
            self.last = last;
            self.frame.back_to(mark);
            if several {
                self.db.prepare_cached("ROLLBACK TO call")?.execute([])?;
            } else {
                self.db
                    .prepare_cached("DELETE FROM log WHERE seq > ?1")?
                    .execute([last.0.seq.cast_signed()])?;
            }
        }
        if several {
            self.db.prepare_cached("RELEASE call")?.execute([])?;
        }
        Ok(rejection.map_or(Ok(stamps), Err))
    }

    fn event(&mut self, event: &Event, body: &str, at: Timestamp) -> Result<Stamp, Fault> {
        if let Event::Outcome(outcome) = event {
            let known = self
                .db
                .prepare_cached("SELECT 1 FROM log WHERE kind = 'check' AND subject = ?1")?
                .exists([&outcome.check_id])?;
            if !known {
                return Err(Refusal::NotFound(format!("check {}", outcome.check_id)).into());
            }
        }
        let stamp = self.insert(event, body, at).map_err(|error| {
            // The only constraint that a well-formed entry can break: two checks with one id.
            if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
                Fault::Refused(Refusal::Exists(format!("{} {}", event.kind(), event.subject())))
            } else {
                Fault::Sql(error)
            }
        })?;
        project::apply(self.db, stamp.seq, stamp.at, event)?;
        Ok(stamp)
    }

    /// Adds an entry at the end of the chain.
    pub(crate) fn insert(
        &mut self,
        event: &Event,
        body: &str,
        at: Timestamp,
    ) -> Result<Stamp, rusqlite::Error> {
        let (walk, before) = self.last;
        let seq = walk.seq + 1;
        // A clock that goes back does not make the log go back.
        let at = before.max(at);
        let (kind, subject, agent) = (event.kind(), event.subject(), event.agent());
        let hash = link(&walk.hash, seq, at, kind, subject, agent, body);
        self.add.entry(seq, at, [kind, subject, agent, body], &hash)?;
        self.frame.push(at, [kind, subject, agent, body]);
        self.last = (Walk { seq, hash }, at);
        Ok(Stamp { seq, at, hash })
    }

    fn rejection(&self, refusal: Refusal) -> Result<Rejection, rusqlite::Error> {
        Ok(match refusal {
            Refusal::Duplicate(seq) => Rejection::Duplicate(
                self.db
                    .prepare_cached("SELECT body FROM log WHERE seq = ?1")?
                    .query_row([seq.cast_signed()], |r| r.get(0))?,
            ),
            Refusal::Approval(refused) => Rejection::Error(AppendError::Refused(refused)),
            Refusal::Grant(refused) => Rejection::Error(AppendError::Grant(refused)),
            Refusal::NotFound(what) => Rejection::Error(AppendError::NotFound(what)),
            Refusal::Exists(what) => Rejection::Error(AppendError::Exists(what)),
        })
    }
}

/// Adds rows to the log.
struct Add<'a>(CachedStatement<'a>);

impl<'a> Add<'a> {
    fn to(db: &'a Connection) -> Result<Self, rusqlite::Error> {
        db.prepare_cached(
            "INSERT INTO log (seq, at, kind, subject, agent, body, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .map(Self)
    }

    fn entry(
        &mut self,
        seq: u64,
        at: Timestamp,
        [kind, subject, agent, body]: [&str; 4],
        hash: &Hash,
    ) -> Result<(), rusqlite::Error> {
        let row = params![seq.cast_signed(), at.as_micros(), kind, subject, agent, body, hash.0];
        self.0.execute(row).map(drop)
    }
}

/// Does again what an entry of the journal did, which was permitted then.
///
/// # Errors
/// When it is not permitted now: then something has changed the database since.
pub(crate) fn redo(db: &Connection, entry: &Entry) -> Result<(), Fault> {
    let texts = [&*entry.kind, &*entry.subject, &*entry.agent, &*entry.body];
    Add::to(db)?.entry(entry.seq, entry.at, texts, &entry.hash)?;
    project::apply_entry(db, entry)
}
