//! The one thread that writes.
//!
//! Natural group commit: the thread takes the first call, then whatever else has gathered while the last
//! sync ran, writes all of it as one transaction with one sync, and answers everybody. No delay is added.
//! A call is all or nothing; a call that is refused does not disturb the others; a commit that fails fails
//! everybody in it and changes nothing.

use crate::{
    checkpoint::{self, Checkpointer},
    error::{AppendError, StoreError},
    folder::Lock,
    postman::Postman,
    project::{self, Fault, Refusal},
    prune,
    schema::{self, Mark},
    store::{Pruned, Stamp},
};
use checkrein_core::{
    chain::{Walk, link},
    event::Event,
    time::Timestamp,
};
use rusqlite::{Connection, ErrorCode, params};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};

/// What the writer is asked for.
pub(crate) enum Request {
    Append(Call),
    Prune {
        older_than: Timestamp,
        at: Timestamp,
        reply: oneshot::Sender<Result<Option<Pruned>, AppendError>>,
    },
    /// The checkpointer has copied the bulk of the write-ahead log; only its end is left.
    FinishCheckpoint,
    /// Stop, once everything that was asked before is done.
    Close(oneshot::Sender<()>),
}

/// Events that go on record together or not at all.
pub(crate) struct Call {
    /// With their bodies, which the caller wrote so that the writer need not.
    pub(crate) events: Spent,
    pub(crate) at: Timestamp,
    pub(crate) reply: oneshot::Sender<(Answer, Spent)>,
}

/// Events go back to the caller with the answer: freeing their many small parts is work, too, and the writer
/// is the one thread that everybody waits for.
pub(crate) type Spent = Vec<(Event, String)>;

pub(crate) type Answer = Result<Vec<Stamp>, Rejection>;

/// Why a call is not on record.
pub(crate) enum Rejection {
    Error(AppendError),
    /// The body of the check that used the idempotency key before. Parsed by the caller.
    Duplicate(String),
}

/// The end of the log, for everybody else.
#[derive(Clone)]
pub(crate) struct Head {
    walk: Arc<Mutex<Walk>>,
    /// When and why the last transaction failed, if it did.
    failure: Arc<Mutex<Option<(Instant, AppendError)>>>,
    seq: watch::Sender<u64>,
}

impl Head {
    pub(crate) fn new(walk: Walk) -> Self {
        Self { walk: Arc::new(Mutex::new(walk)), failure: Arc::default(), seq: watch::Sender::new(walk.seq) }
    }

    pub(crate) fn get(&self) -> Walk {
        *self.walk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last transaction failed, if it did within `recently`.
    pub(crate) fn failure(&self, recently: Duration) -> Option<AppendError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().filter(|(at, _)| at.elapsed() < recently).map(|(_, error)| error.clone())
    }

    fn ended(&self, error: Option<&AppendError>) {
        let failure = error.map(|error| (Instant::now(), error.clone()));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.seq.subscribe()
    }

    fn set(&self, walk: Walk) {
        *self.walk.lock().unwrap_or_else(PoisonError::into_inner) = walk;
        self.seq.send_replace(walk.seq);
    }
}

/// How much one transaction may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

/// The writer and all that it owns.
pub(crate) struct Writer {
    pub(crate) db: Connection,
    /// The last entry on record, and its time.
    pub(crate) last: (Walk, Timestamp),
    pub(crate) head: Head,
    pub(crate) limits: Limits,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) postman: Postman,
    /// Released last, when nothing is written any more.
    pub(crate) lock: Lock,
}

impl Writer {
    /// Serves requests until it is closed or nobody is left to ask.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closing = None;
        let mut batch = Vec::with_capacity(self.limits.calls);
        while closing.is_none() {
            let Some(first) = requests.blocking_recv() else { break };
            let mut next = Some(first);
            let mut bytes = 0;
            while let Some(Request::Append(call)) = next {
                bytes += call.events.iter().map(|(_, body)| body.len()).sum::<usize>();
                batch.push(call);
                let full = batch.len() >= self.limits.calls || bytes >= self.limits.bytes;
                next = if full { None } else { requests.try_recv().ok() };
            }
            if !batch.is_empty() {
                self.append(&mut batch);
                self.checkpointer.written(bytes);
            }
            match next {
                None | Some(Request::Append(_)) => {}
                Some(Request::Prune { older_than, at, reply }) => {
                    let pruned = self.prune(older_than, at);
                    // Whoever asked may have gone; what was done is on record.
                    let _gone = reply.send(pruned);
                }
                Some(Request::FinishCheckpoint) => checkpoint::finish(&self.db),
                Some(Request::Close(done)) => closing = Some(done),
            }
        }
        // What was sent before the close but received after it is answered, too.
        requests.close();
        while let Ok(request) = requests.try_recv() {
            if let Request::Append(call) = request {
                self.append(&mut vec![call]);
            }
        }
        let Self { db, lock, mut checkpointer, .. } = self;
        checkpointer.stop();
        if let Err(error) = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the write-ahead log stays for the next start: it could not be merged");
        }
        drop(db);
        drop(lock);
        if let Some(done) = closing {
            let _gone = done.send(());
        }
    }

    /// Writes a batch and answers everybody in it.
    fn append(&mut self, batch: &mut Vec<Call>) {
        let mut answers = Vec::with_capacity(batch.len());
        match self.transaction(|tx| {
            for call in batch.iter() {
                answers.push(tx.call(call)?);
            }
            Ok(())
        }) {
            Ok(()) => {
                let answered = batch.drain(..).zip(answers);
                self.postman
                    .deliver(answered.map(|(call, answer)| (call.reply, (answer, call.events))).collect());
            }
            Err(error) => {
                let failed = || Err(Rejection::Error(error.clone()));
                self.postman
                    .deliver(batch.drain(..).map(|call| (call.reply, (failed(), call.events))).collect());
            }
        }
    }

    /// One step of retention.
    fn prune(&mut self, older_than: Timestamp, at: Timestamp) -> Result<Option<Pruned>, AppendError> {
        self.transaction(|tx| {
            let Some(cut) = prune::cut(tx.db, older_than)? else { return Ok(None) };
            prune::remove(tx.db, &cut)?;
            let event = Event::LogPruned {
                through: cut.base.seq,
                hash: cut.base.hash.to_string(),
                removed: cut.removed,
            };
            let body = event.body().map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
            tx.insert(&event, &body, at)?;
            Ok(Some(Pruned { through: cut.base.seq, removed: cut.removed, done: cut.last }))
        })
    }

    /// Runs `work` in a transaction that ends with the head's move and the sync. When anything in it fails,
    /// nothing has happened.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, AppendError> {
        let before = self.last.0;
        let mut tx = Tx { db: &self.db, walk: before, at: self.last.1 };
        let attempt = || {
            tx.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let value = work(&mut tx)?;
            if tx.walk == before {
                // Every call was refused: nothing to write, nothing to sync.
                tx.db.prepare_cached("ROLLBACK")?.execute([])?;
            } else {
                schema::set_mark(tx.db, Mark::Head, &tx.walk)?;
                tx.db.prepare_cached("COMMIT")?.execute([])?;
            }
            Ok(value)
        };
        match attempt() {
            Ok(value) => {
                self.head.ended(None);
                self.last = (tx.walk, tx.at);
                if tx.walk != before {
                    self.head.set(tx.walk);
                }
                Ok(value)
            }
            Err(error) => {
                tracing::error!(%error, "a commit to the action log failed; nothing in it was recorded");
                let error = AppendError::of(&error);
                self.head.ended(Some(&error));
                self.recover();
                Err(error)
            }
        }
    }

    /// Back to what is on record, after a transaction that failed.
    fn recover(&mut self) {
        if !self.db.is_autocommit()
            && let Err(error) = self.db.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the failed transaction could not be rolled back");
        }
        // The database knows best what is on record: should a commit have failed and yet have happened, the
        // next entry must follow it.
        match schema::check_tail(&self.db) {
            Ok(Ok(last)) => {
                self.last = (last.0, last.1.max(self.last.1));
                self.head.set(last.0);
            }
            Ok(Err(broken)) => tracing::error!(%broken, "the end of the action log is not what was written"),
            // Then the next transaction fails as well, or proves that the head has not moved.
            Err(error) => tracing::error!(%error, "the head of the action log cannot be read"),
        }
    }
}

/// An open transaction, and the end of the log within it.
struct Tx<'a> {
    db: &'a Connection,
    walk: Walk,
    at: Timestamp,
}

impl Tx<'_> {
    /// Writes a call, or says why not and leaves no trace of it. An error fails the whole transaction.
    fn call(&mut self, call: &Call) -> Result<Answer, rusqlite::Error> {
        // A single event that is refused has left nothing but its entry; only several need a savepoint.
        let several = call.events.len() > 1;
        if several {
            self.db.prepare_cached("SAVEPOINT call")?.execute([])?;
        }
        let (walk, at) = (self.walk, self.at);
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
            (self.walk, self.at) = (walk, at);
            if several {
                self.db.prepare_cached("ROLLBACK TO call")?.execute([])?;
            } else {
                self.db
                    .prepare_cached("DELETE FROM log WHERE seq > ?1")?
                    .execute([walk.seq.cast_signed()])?;
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
    fn insert(&mut self, event: &Event, body: &str, at: Timestamp) -> Result<Stamp, rusqlite::Error> {
        let seq = self.walk.seq + 1;
        // A clock that goes back does not make the log go back.
        let at = self.at.max(at);
        let (kind, subject, agent) = (event.kind(), event.subject(), event.agent());
        let hash = link(&self.walk.hash, seq, at, kind, subject, agent, body);
        self.db
            .prepare_cached(
                "INSERT INTO log (seq, at, kind, subject, agent, body, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![seq.cast_signed(), at.as_micros(), kind, subject, agent, body, hash.0])?;
        self.walk = Walk { seq, hash };
        self.at = at;
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
            Refusal::NotFound(what) => Rejection::Error(AppendError::NotFound(what)),
            Refusal::Exists(what) => Rejection::Error(AppendError::Exists(what)),
        })
    }
}

/// Reads the end of the log, or refuses to start on one that was tampered with.
pub(crate) fn last(db: &Connection, folder: &crate::folder::Folder) -> Result<(Walk, Timestamp), StoreError> {
    schema::check_tail(db)
        .map_err(|e| schema::fault(folder, &e))?
        .map_err(|broken| StoreError::Tail { folder: folder.path.clone(), broken })
}
