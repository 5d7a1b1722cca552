//! The one thread that writes.
//!
//! Natural group commit: the thread takes whatever has gathered while the last sync ran, applies it to the
//! database within an open transaction, writes it into the journal with one sync, and answers everybody. No
//! delay is added. The database's transaction is committed behind that, for many batches at once: when nothing
//! has come for a moment, when much has gathered, and when somebody wants to read.
//!
//! A call is all or nothing; a call that is refused does not disturb the others; a batch that fails fails
//! everybody in it and changes nothing. What was answered before a failure is in the journal, and is applied
//! again before anything else is recorded.

use crate::{
    checkpoint::{self, Checkpointer},
    error::{AppendError, StoreError},
    folder::{Folder, Lock},
    head::Head,
    journal::{self, Failed, Frame, Journal},
    outbox,
    postman::Postman,
    project::Fault,
    prune,
    queue::{Found, Queue},
    schema::{self, Mark},
    store::{Pruned, Stamp},
    tx::{self, Tx},
};
use checkrein_core::{
    chain::{Broken, Walk},
    event::Event,
    signal::OutboxChanges,
    time::Timestamp,
};
use rusqlite::Connection;
use std::{
    collections::VecDeque,
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// What the writer is asked for.
pub(crate) enum Request {
    Append(Call),
    Prune {
        older_than: Timestamp,
        at: Timestamp,
        reply: oneshot::Sender<Result<Option<Pruned>, AppendError>>,
    },
    /// Keep a step of the dispatcher of signals.
    Outbox {
        changes: Box<OutboxChanges>,
        reply: oneshot::Sender<Result<(), AppendError>>,
    },
    /// Let readers see everything that is on record.
    Show(oneshot::Sender<Result<(), AppendError>>),
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

impl Call {
    fn texts(&self) -> usize {
        let length = |(event, body): &(Event, String)| {
            event.kind().len() + event.subject().len() + event.agent().len() + body.len()
        };
        self.events.iter().map(length).sum()
    }
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

/// How much one batch may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

/// How long nothing must have come before the database's transaction is committed.
const PAUSE: Duration = Duration::from_millis(3);
/// How old that transaction may become.
const AGE: Duration = Duration::from_millis(50);
/// How many bytes it may hold.
const BYTES: usize = 2 * 1024 * 1024;

/// The writer and all that it owns.
pub(crate) struct Writer {
    pub(crate) folder: Folder,
    pub(crate) db: Connection,
    /// The write-ahead log of the database, to sync it.
    pub(crate) wal: File,
    pub(crate) journal: Journal,
    pub(crate) frame: Frame,
    /// The last entry on record, and its time.
    pub(crate) last: (Walk, Timestamp),
    /// Since when the database's transaction is open with entries that are on record, and their bytes.
    pub(crate) open: Option<(Instant, usize)>,
    /// The database may lack entries that are on record.
    pub(crate) behind: bool,
    pub(crate) head: Head,
    pub(crate) limits: Limits,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) postman: Postman,
    /// Released last, when nothing is written any more.
    pub(crate) lock: Lock,
}

impl Writer {
    /// Serves requests until it is closed or nobody is left to ask.
    pub(crate) fn run(mut self, requests: &Arc<Queue<Request>>) {
        let mut closing = None;
        let (mut todo, mut batch) = (VecDeque::new(), Vec::with_capacity(self.limits.calls));
        loop {
            if todo.is_empty() {
                let patience = self.open.map(|(since, _)| PAUSE.min(AGE.saturating_sub(since.elapsed())));
                match requests.take(&mut todo, patience) {
                    Found::Something => {}
                    Found::Nothing => {
                        // A failure is kept in mind and named to whoever comes next.
                        let _tried_again_then = self.show();
                        continue;
                    }
                    Found::Closed => break,
                }
            }
            match todo.pop_front() {
                None => {}
                Some(Request::Append(call)) => {
                    let mut bytes = call.texts();
                    batch.push(call);
                    while batch.len() < self.limits.calls
                        && bytes < self.limits.bytes
                        && let Some(Request::Append(_)) = todo.front()
                        && let Some(Request::Append(call)) = todo.pop_front()
                    {
                        bytes += call.texts();
                        batch.push(call);
                    }
                    self.append(&mut batch, bytes);
                }
                Some(Request::Prune { older_than, at, reply }) => {
                    let pruned = self.prune(older_than, at).map_err(|error| self.failed(error));
                    // Whoever asked may have gone; what was done is on record.
                    let _gone = reply.send(pruned);
                }
                Some(Request::Outbox { changes, reply }) => {
                    let kept = self.keep(&changes).map_err(|error| self.failed(error));
                    let _gone = reply.send(kept);
                }
                Some(Request::Show(reply)) => {
                    let _gone = reply.send(self.show());
                }
                Some(Request::FinishCheckpoint) => self.finish_checkpoint(),
                Some(Request::Close(done)) => {
                    // What was sent before the close but received after it is answered, too.
                    requests.close();
                    closing = Some(done);
                }
            }
        }
        self.end();
        if let Some(done) = closing {
            let _gone = done.send(());
        }
    }

    /// Brings everything into the one file and releases the folder.
    fn end(mut self) {
        let shown = self.show();
        let Self { db, lock, mut checkpointer, mut journal, .. } = self;
        checkpointer.stop();
        match db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0)) {
            // All of it is in the database file, synced: nothing is left to be read from elsewhere.
            Ok(0) if shown.is_ok() => {
                if let Err(error) = journal.forget() {
                    tracing::warn!(%error, "the journal could not be emptied; the next start reads it in vain");
                }
            }
            Ok(_) => {
                tracing::warn!("the write-ahead log stays for the next start: somebody is reading it");
            }
            Err(error) => {
                tracing::warn!(%error, "the write-ahead log stays for the next start: it could not be merged");
            }
        }
        drop(db);
        drop(lock);
    }

    /// Records a batch and answers everybody in it.
    fn append(&mut self, batch: &mut Vec<Call>, bytes: usize) {
        let mut answers = Vec::with_capacity(batch.len());
        match self.record(batch, bytes, &mut answers) {
            Ok(()) => {
                let answered = batch.drain(..).zip(answers);
                self.postman
                    .deliver(answered.map(|(call, answer)| (call.reply, (answer, call.events))).collect());
            }
            Err(error) => {
                let error = self.failed(error);
                let failed = || Err(Rejection::Error(error.clone()));
                self.postman
                    .deliver(batch.drain(..).map(|call| (call.reply, (failed(), call.events))).collect());
            }
        }
        // After the answers: nobody waits for this.
        if self.open.is_some_and(|(since, bytes)| bytes >= BYTES || since.elapsed() >= AGE) {
            let _tried_again_then = self.show();
        }
    }

    fn record(&mut self, batch: &[Call], bytes: usize, answers: &mut Vec<Answer>) -> Result<(), Failure> {
        self.catch_up()?;
        let room = Frame::room_for(batch.iter().map(|call| call.events.len()).sum(), bytes);
        if !self.journal.fits(room) {
            self.turn()?;
        }
        if self.db.is_autocommit() {
            self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        let mut tx = Tx::new(&self.db, self.last, &mut self.frame)?;
        for call in batch {
            answers.push(tx.call(call)?);
        }
        let (before, last) = (self.last.0, tx.last);
        drop(tx);
        if last.0 == before {
            // Every call was refused: nothing to write, nothing to sync.
            if self.open.is_none() {
                self.db.prepare_cached("ROLLBACK")?.execute([])?;
            }
            return Ok(());
        }
        self.journal.write(&mut self.frame, &before, &last.0)?;
        let (since, gathered) = self.open.unwrap_or_else(|| (Instant::now(), 0));
        self.open = Some((since, gathered + bytes));
        self.last = last;
        self.head.ended(None);
        self.head.set(last.0);
        Ok(())
    }

    /// Takes the other file of the journal, once the database holds what is in it.
    fn turn(&mut self) -> Result<(), Failure> {
        self.commit()?;
        if self.journal.last_in_next() > self.head.kept() {
            self.sync()?;
        }
        self.journal.turn();
        self.checkpointer.wake(self.journal.length());
        Ok(())
    }

    /// One step of retention. Its entry is in no journal: the database is synced before it is acknowledged.
    fn prune(&mut self, older_than: Timestamp, at: Timestamp) -> Result<Option<Pruned>, Failure> {
        self.catch_up()?;
        self.commit()?;
        let Some(cut) = prune::cut(&self.db, older_than)? else { return Ok(None) };
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        prune::remove(&self.db, &cut)?;
        let event =
            Event::LogPruned { through: cut.base.seq, hash: cut.base.hash.to_string(), removed: cut.removed };
        let body = event.body().map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        let mut tx = Tx::new(&self.db, self.last, &mut self.frame)?;
        tx.insert(&event, &body, at)?;
        let last = tx.last;
        drop(tx);
        let before = std::mem::replace(&mut self.last, last);
        self.open = Some((Instant::now(), body.len()));
        if let Err(error) = self.commit() {
            self.last = before;
            return Err(error);
        }
        self.sync()?;
        self.checkpointer.wake(self.journal.length());
        self.head.ended(None);
        self.head.set(self.last.0);
        Ok(Some(Pruned { through: cut.base.seq, removed: cut.removed, done: cut.last }))
    }

    /// Keeps a step of the dispatcher, with the entries that wait to be committed anyway.
    fn keep(&mut self, changes: &OutboxChanges) -> Result<(), Failure> {
        self.catch_up()?;
        if self.db.is_autocommit() {
            self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        outbox::keep(&self.db, changes)?;
        self.open.get_or_insert_with(|| (Instant::now(), 0));
        self.commit()
    }

    /// Lets readers see everything that is on record.
    fn show(&mut self) -> Result<(), AppendError> {
        self.catch_up().and_then(|()| self.commit()).map_err(|error| self.failed(error))
    }

    fn finish_checkpoint(&mut self) {
        // Not within a transaction. A failure is named to whoever comes next.
        if self.show().is_ok() {
            checkpoint::finish(&self.db);
        }
    }

    /// Commits the database's transaction, where one is open.
    fn commit(&mut self) -> Result<(), Failure> {
        if self.open.is_some() {
            schema::set_mark(&self.db, Mark::Head, &self.last.0)?;
            self.db.prepare_cached("COMMIT")?.execute([])?;
            self.open = None;
            self.head.show(self.last.0.seq);
        }
        Ok(())
    }

    /// Makes sure that a power cut cannot take from the database what was committed.
    fn sync(&mut self) -> Result<(), Failure> {
        let shown = self.head.shown();
        self.wal.sync_data()?;
        self.head.keep(shown);
        Ok(())
    }

    /// What a failure means for those who wait; the database goes back to what is committed.
    fn failed(&mut self, failure: Failure) -> AppendError {
        let error = failure.into_append_error();
        if !self.behind {
            tracing::error!(%error, "recording in the action log failed");
        }
        self.head.ended(Some(&error));
        if !self.db.is_autocommit()
            && let Err(error) = self.db.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the failed transaction could not be rolled back");
        }
        self.open = None;
        self.behind = true;
        error
    }

    /// Brings the database to what is on record, after a failure.
    fn catch_up(&mut self) -> Result<(), Failure> {
        if !self.behind {
            return Ok(());
        }
        self.journal.settle()?;
        let found = schema::check_tail(&self.db)?.map_err(Failure::Tail)?;
        let mut last = found;
        if found.0.seq < self.last.0.seq {
            let entries = journal::beyond(&self.folder, &found.0)?.entries;
            self.db.execute_batch("BEGIN IMMEDIATE")?;
            for entry in entries.iter().take_while(|entry| entry.seq <= self.last.0.seq) {
                tx::redo(&self.db, entry)?;
                last = (Walk { seq: entry.seq, hash: entry.hash }, entry.at);
            }
            if last.0 != self.last.0 {
                return Err(Failure::Tail(Broken::Truncated {
                    expected: self.last.0.seq,
                    found: last.0.seq,
                }));
            }
            schema::set_mark(&self.db, Mark::Head, &last.0)?;
            self.db.execute_batch("COMMIT")?;
        }
        // Should a commit have failed and yet have happened, the database knows best.
        self.last = (last.0, last.1.max(self.last.1));
        self.head.set(last.0);
        self.head.show(last.0.seq);
        self.sync()?;
        self.behind = false;
        self.head.ended(None);
        Ok(())
    }
}

/// Why nothing could be recorded.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(rusqlite::Error),
    Io(std::io::Error),
    Journal(Failed),
    Redo(Fault),
    Tail(Broken),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Self::Journal(failed)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Redo(fault)
    }
}

impl Failure {
    fn into_append_error(self) -> AppendError {
        match self {
            Self::Sql(error) | Self::Redo(Fault::Sql(error)) => AppendError::of(&error),
            Self::Io(error) => AppendError::of_io(&error),
            Self::Journal(Failed { error, in_doubt: false }) => AppendError::of_io(&error),
            Self::Journal(Failed { error, in_doubt: true }) => AppendError::Doubt(error.to_string()),
            Self::Redo(fault) => AppendError::Io(format!("the journal cannot be applied: {fault:?}")),
            Self::Tail(broken) => AppendError::Io(broken.to_string()),
        }
    }
}

/// Reads the end of the log, brings the database to what the journal holds, and refuses to start on a log
/// that was tampered with.
pub(crate) fn last(db: &Connection, wal: &File, folder: &Folder) -> Result<(Walk, Timestamp), StoreError> {
    let fault = |e: rusqlite::Error| schema::fault(folder, &e);
    let tail = |broken| StoreError::Tail { folder: folder.path.clone(), broken };
    let unusable =
        |path: &std::path::Path, cause: String| StoreError::Unusable { path: path.to_owned(), cause };
    let mut last = schema::check_tail(db).map_err(fault)?.map_err(tail)?;
    let [journal, _] = &folder.journals;
    let beyond = journal::beyond(folder, &last.0).map_err(|e| unusable(journal, e.to_string()))?;
    if let Some(found) = beyond.stray {
        return Err(StoreError::Stray { folder: folder.path.clone(), last: last.0.seq, found });
    }
    let mut redo = || -> Result<(), Fault> {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for entry in &beyond.entries {
            tx::redo(db, entry)?;
            last = (Walk { seq: entry.seq, hash: entry.hash }, entry.at);
        }
        schema::set_mark(db, Mark::Head, &last.0)?;
        Ok(db.execute_batch("COMMIT")?)
    };
    if !beyond.entries.is_empty() {
        redo().map_err(|fault| match fault {
            Fault::Sql(e) => schema::fault(folder, &e),
            other => StoreError::Damaged { file: journal.clone(), cause: format!("{other:?}") },
        })?;
        tracing::info!(entries = beyond.entries.len(), "brought the database to the end of the journal");
    }
    // What was committed before a crash is only now known to stay.
    wal.sync_data().map_err(|e| unusable(&folder.wal, e.to_string()))?;
    Ok(last)
}
